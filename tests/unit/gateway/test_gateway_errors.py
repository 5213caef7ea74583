"""Every status of Segmind's table, with the body it has there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind.gateway import Settings, serve, server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

PATH = "/v1/llama-v3p1-70b-instruct"
VISION = "/v1/llama-v3p2-11b-vision-instruct"
JSON = {"content-type": "application/json"}
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with client_of(gateway) as opened:
        yield opened


def client_of(gateway: RunningGateway) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.api_key})


def user(content: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


class TestMalformed:
    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"\xff", b"[1]", b'"x"', b"null", b"[" * 20_000, b'{"messages": NaN}']
    )
    def test_no_json_object(self, client: httpx.Client, raw: bytes) -> None:
        response = client.post(PATH, content=raw, headers=JSON)

        assert response.status_code == 400
        assert list(response.json()) == ["error"]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"messages": None},
            {"messages": "hi"},
            {"messages": []},
            {"messages": ["hi"]},
            {"messages": [{"content": "hi"}]},
            {"messages": [{"role": "tool", "content": "hi"}]},
            {"messages": [{"role": "user"}]},
            user(None),
            user(5),
            user([{"type": "text", "text": "hi"}]),
        ],
    )
    def test_bad_messages(
        self, gateway: RunningGateway, client: httpx.Client, body: dict[str, Any]
    ) -> None:
        before = gateway.account.remaining
        response = client.post(PATH, json=body)

        assert response.status_code == 400
        assert "messages" in response.json()["error"]
        assert gateway.account.remaining == before

    def test_a_vision_model_takes_parts(self, client: httpx.Client) -> None:
        parts = [{"type": "text", "text": "what is this?"}, IMAGE]
        answer = client.post(VISION, json=user(parts)).json()

        assert answer["choices"][0]["message"]["content"] == "You said: what is this?"

    @pytest.mark.parametrize(
        "part",
        [
            "text",
            {"type": "text"},
            {"type": "audio"},
            {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
            {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        ],
    )
    def test_a_vision_model_refuses_other_parts(self, client: httpx.Client, part: object) -> None:
        response = client.post(VISION, json=user([part]))

        assert response.status_code == 400
        assert response.json()["error"].startswith("messages[0].content[0]")


class TestAuthentication:
    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ({}, "Missing Authorization or x-api-key in header"),
            ({"x-api-key": "SG_wrong"}, "Invalid API key"),
            ({"authorization": "Bearer SG_0123456789abcdef"}, "Invalid API key"),
        ],
    )
    def test_a_missing_or_wrong_key(
        self, gateway: RunningGateway, headers: dict[str, str], message: str
    ) -> None:
        response = httpx.post(gateway.url + PATH, json=BODY, headers=headers)

        assert response.status_code == 401
        assert response.json() == {
            "error": message,
            "error_description": "User authentication failed",
            "status_code": 401,
        }

    @pytest.mark.parametrize("path", ["/v1/get-user-credits", "/v2/requests/x"])
    def test_the_gets_want_a_key_as_well(self, gateway: RunningGateway, path: str) -> None:
        assert httpx.get(gateway.url + path).status_code == 401


class TestModels:
    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize(
        ("slug", "status"),
        [
            ("no-such-model", 404),
            ("llama-v2-70b-chat", 410),
            ("llama-v3p1-405b-instruct-team", 403),
        ],
    )
    def test_not_every_model_can_be_called(
        self, client: httpx.Client, version: str, slug: str, status: int
    ) -> None:
        response = client.post(f"/{version}/{slug}", json=BODY)

        assert response.status_code == status
        assert list(response.json()) == ["error"]

    @pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v3/x", "/v1/a/b", "/v1/a%2Fb"])
    def test_an_unknown_url(self, client: httpx.Client, path: str) -> None:
        response = client.post(path, json=BODY)

        assert response.status_code == 404
        assert response.json() == {"error": "The requested URL does not exist"}


class TestMethods:
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", PATH), ("PUT", PATH), ("DELETE", "/v2/requests/x"), ("GET", "/v2/x")],
    )
    def test_another_method_is_refused_with_a_page(
        self, client: httpx.Client, method: str, path: str
    ) -> None:
        response = client.request(method, path)

        assert response.status_code == 405
        assert response.headers["content-type"].startswith("text/html")
        assert "<h1>Method Not Allowed</h1>" in response.text


class TestNotAcceptable:
    @pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_the_content_type_is_compulsory(
        self, client: httpx.Client, headers: dict[str, str], version: str
    ) -> None:
        path = f"/{version}/llama-v3p1-70b-instruct"
        response = client.post(path, content=b"{}", headers=headers)

        assert response.status_code == 406
        assert response.json() == {"error": "Invalid content type"}

    def test_a_charset_is_fine(self, client: httpx.Client) -> None:
        headers = {"content-type": "application/json; charset=utf-8"}

        assert client.post(PATH, json=BODY, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("temperature", 3),
            ("temperature", "hot"),
            ("top_p", -1),
            ("max_tokens", 0),
            ("max_tokens", 1.5),
            ("seed", True),
            ("stop", [1]),
            ("response_format", "json"),
            ("response_format", {"type": "json_schema"}),
        ],
    )
    def test_a_parameter_is_rejected(self, client: httpx.Client, name: str, value: object) -> None:
        response = client.post(PATH, json={**BODY, name: value})

        assert response.status_code == 406
        assert response.json()["error"].startswith(f"Invalid value for {name}")

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_spent_credits(self, version: str) -> None:
        settings = Settings(credits=0.5, prompt_price=1.0)
        with serve(settings) as gateway, client_of(gateway) as client:
            response = client.post(f"/{version}/llama-v3p1-70b-instruct", json=BODY)

        assert response.status_code == 406
        assert response.json() == {
            "error": "Not enough credits: you have 0.5000000000 credits left "
            "and this request needs 1.0000000000."
        }


class TestRateLimit:
    def test_the_answer_says_when_to_come_back(self) -> None:
        moment = 1_800_000_000.0
        with (
            serve(Settings(rpm=2), clock=lambda: moment) as gateway,
            client_of(gateway) as client,
        ):
            statuses = [client.post(PATH, json=BODY).status_code for _ in range(2)]
            refused = client.post(PATH, json=BODY)

        assert statuses == [200, 200]
        assert refused.status_code == 429
        assert refused.json() == {"error": "Rate limit exceeded: 2 requests per minute."}
        assert "retry-after" not in refused.headers
        reset = datetime.fromisoformat(refused.headers["x-rate-limit-reset-at-utc"])
        assert reset == datetime.fromtimestamp(moment + 60, UTC)

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_every_answer_says_what_is_left(self, version: str) -> None:
        """Also those of another status; a new window starts with the next request."""
        now = [1_800_000_000.0]
        with serve(Settings(rpm=3), clock=lambda: now[0]) as gateway, client_of(gateway) as client:
            answers = [
                client.get("/v1/get-user-credits"),
                client.post(f"/{version}/llama-v3p1-70b-instruct", json=BODY),
                client.post(f"/{version}/no-such-model", json=BODY),
                client.post(PATH, json={}),
                client.post(PATH, json=BODY),
                httpx.post(gateway.url + PATH),
            ]
            now[0] += 60
            answers.append(client.get("/v2/requests/none"))

        assert [answer.status_code for answer in answers] == [200, 200, 404, 400, 429, 401, 404]
        left = [answer.headers["x-rate-limit-remaining"] for answer in answers]
        assert left == ["3", "2", "1", "0", "0", "0", "3"]
        resets = {answer.headers["x-rate-limit-reset-at-utc"] for answer in answers[:-1]}
        assert resets == {"2027-01-15T08:01:00.000Z"}
        assert answers[-1].headers["x-rate-limit-reset-at-utc"] == "2027-01-15T08:02:00.000Z"

    def test_without_a_limit_nothing_is_said(self, client: httpx.Client) -> None:
        assert "x-rate-limit-remaining" not in client.post(PATH, json=BODY).headers

    def test_the_next_window_is_free(self) -> None:
        now = [0.0]
        with serve(Settings(rpm=1), clock=lambda: now[0]) as gateway, client_of(gateway) as client:
            first = [client.post(PATH, json=BODY).status_code for _ in range(2)]
            now[0] = 60.0
            second = client.post(PATH, json=BODY).status_code

        assert (first, second) == ([200, 429], 200)

    def test_polls_count_only_when_told(self) -> None:
        settings = Settings(rpm=1, rate_polls=True)
        with serve(settings) as gateway, client_of(gateway) as client:
            job = client.post("/v2/llama-v3p1-70b-instruct", json=BODY).json()
            refused = client.get(job["status_url"]).status_code

        assert refused == 429


@pytest.mark.parametrize("path", [PATH, PATH.replace("v1", "v2", 1)])
@pytest.mark.parametrize("given_whole", [False, True])
def test_a_body_that_would_fill_the_memory_is_refused(
    path: str,
    given_whole: bool,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "LONGEST_BODY", 1000)
    content = b"x" * 2000 if given_whole else iter([b"x" * 600] * 2)
    answer = client.post(path, content=content, headers=JSON)
    assert answer.status_code == 413
    assert answer.json() == {"error": "The request body is too large"}
