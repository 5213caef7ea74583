"""Answers that are no success, in the shapes that Segmind gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND = "The requested URL does not exist"
SERVER_ERROR = "Server had some issue with processing"
POLLING_ERROR = "Internal Polling Error"
CONTENT_TYPE = "Invalid content type"
NO_KEY = "Missing Authorization or x-api-key in header"
BAD_KEY = "Invalid API key"
TOO_LARGE = "The request body is too large"
FORBIDDEN = "Your account or team is not allowed to call this model"

METHOD_NOT_ALLOWED_PAGE = """<!doctype html>
<html lang=en>
<title>405 Method Not Allowed</title>
<h1>Method Not Allowed</h1>
<p>The method is not allowed for the requested URL.</p>
</html>
"""

PROXY_PAGE = """<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center></body>
</html>
"""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep what the answer will say."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """Give the documented shape of an error."""
        return {"error": self.message}


class AuthenticationError(ApiError):
    """A request whose key is missing or wrong."""

    def __init__(self, message: str) -> None:
        """Answer with 401."""
        super().__init__(401, message)

    def body(self) -> dict[str, object]:
        """Add what only the auth surface adds."""
        return {
            "error": self.message,
            "error_description": "User authentication failed",
            "status_code": 401,
        }


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON, in ASCII so that a lone surrogate in a text can't break it."""
    return Response(json.dumps(content), status, headers, "application/json")


def error_response(error: ApiError) -> Response:
    """Answer with an error."""
    return json_response(error.body(), error.status, error.headers)


def method_not_allowed() -> Response:
    """Answer with the one error that is an HTML page."""
    return HTMLResponse(METHOD_NOT_ALLOWED_PAGE, 405)


def broken_server(variant: int) -> Response:
    """Answer as a server, or a proxy before it, that has a bad moment."""
    if variant % 3 == 1:
        return HTMLResponse(PROXY_PAGE, 502)
    return json_response({"error": SERVER_ERROR}, 500 if variant % 3 == 0 else 503)
