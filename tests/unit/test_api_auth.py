"""Who is let in: tokens and roles, and this machine only where there are none."""

import asyncio
from hashlib import sha256

import pytest
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st

from stream.api import problems
from stream.api.auth import LoopbackOnly, Role, TokenTable, is_loopback, require

TOKENS = TokenTable.from_tokens(
    {"ingest-token": ["ingest"], "admin-token": ["admin"], "other-token": ["annotate", "recommend"]}
)


def get(
    tokens: TokenTable,
    headers: dict[str, str] | None = None,
    *,
    base_url: str = "http://localhost:8080",
    client: tuple[str, int] = ("127.0.0.1", 1),
) -> Response:
    app = FastAPI()
    app.state.tokens = tokens
    problems.install(app)

    @app.get("/", dependencies=[Depends(require(Role.INGEST))])
    async def answer() -> str:
        return "in"

    if not tokens:
        app.add_middleware(LoopbackOnly)

    async def send() -> Response:
        transport = ASGITransport(app, client=client)
        async with AsyncClient(transport=transport, base_url=base_url) as http:
            return await http.get("/", headers=headers)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("authorization", "status", "words"),
    [
        ("Bearer ingest-token", 200, ""),
        ("bearer  ingest-token", 200, ""),
        ("Bearer admin-token", 200, ""),
        ("Bearer other-token", 403, "roles annotate, recommend; this needs ingest or admin"),
        ("Bearer guess", 401, "not known"),
        ("Bearer", 401, "a token is needed"),
        ("Basic ingest-token", 401, "a token is needed"),
        (None, 401, "role ingest or admin"),
    ],
)
def test_a_token_needs_the_role(authorization: str | None, status: int, words: str) -> None:
    headers = None if authorization is None else {"authorization": authorization}
    response = get(TOKENS, headers, base_url="http://shop.example")
    assert response.status_code == status
    assert words in response.text
    if status != 200:
        assert response.headers["content-type"] == "application/problem+json"
    assert (status == 401) == ("www-authenticate" in response.headers)


def test_no_token_is_kept_in_the_clear() -> None:
    assert "ingest-token" not in repr(TOKENS)
    assert sha256(b"ingest-token").digest() in [digest for digest, _ in TOKENS.entries]


@given(st.text())
def test_any_other_text_is_no_token(text: str) -> None:
    assert TOKENS.roles(text) is None or text in {"ingest-token", "admin-token", "other-token"}


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="owner"):
        TokenTable.from_tokens({"t": ["owner"]})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "LOCALHOST."])
def test_without_tokens_this_machine_is_served(host: str) -> None:
    assert get(TokenTable(), base_url=f"http://{host}:8080").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""]
)
def test_without_tokens_a_rebound_name_is_refused(host: str) -> None:
    response = get(TokenTable(), {"host": host})
    assert response.status_code == 403
    assert "set api.tokens" in response.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example", 403),
    ],
)
def test_without_tokens_other_sites_pages_are_refused(origin: str, status: int) -> None:
    assert get(TokenTable(), {"origin": origin}).status_code == status


def test_without_tokens_other_machines_are_refused() -> None:
    response = get(TokenTable(), client=("192.0.2.7", 5))
    assert response.status_code == 403


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("::", False),
        ("10.0.0.0", False),
        ("0x7f.1", False),
        ("localhost@evil.example", False),
    ],
)
def test_only_what_can_mean_nothing_else_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
