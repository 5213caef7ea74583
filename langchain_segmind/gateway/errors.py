"""Answers that are no success, in the shapes that Segmind gives them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind.gateway.exchange import html_response, json_response

if TYPE_CHECKING:
    from langchain_segmind.gateway.exchange import Response

NOT_FOUND = "The requested URL does not exist"
SERVER_ERROR = "Server had some issue with processing"
POLLING_ERROR = "Internal Polling Error"
CONTENT_TYPE = "Invalid content type"
NO_KEY = "Missing Authorization or x-api-key in header"
BAD_KEY = "Invalid API key"
FORBIDDEN = "Your account or team is not allowed to call this model"

METHOD_NOT_ALLOWED_PAGE = """<!doctype html>
<html lang=en>
<title>405 Method Not Allowed</title>
<h1>Method Not Allowed</h1>
<p>The method is not allowed for the requested URL.</p>
</html>
"""

PROXY_STATUSES = {
    502: "Bad Gateway",
    504: "Gateway Time-out",
    520: "Web server is returning an unknown error",
    522: "Connection timed out",
    524: "A timeout occurred",
}
"""What nginx, a load balancer or Cloudflare answers when it gave up waiting."""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> Response:
        """Answer in the shape that Segmind gives an error of this status."""
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            return html_response(METHOD_NOT_ALLOWED_PAGE, self.status)
        body: dict[str, object] = {"error": self.message}
        if self.status == HTTPStatus.UNAUTHORIZED:
            body |= {"error_description": "User authentication failed", "status_code": 401}
        return json_response(body, self.status)


def proxy_page(status: int) -> str:
    """Write the page of a proxy that gave up."""
    title = f"{status} {PROXY_STATUSES[status]}"
    return f"<html><head><title>{title}</title></head>\n<body><h1>{title}</h1></body></html>\n"
