"""How a request's body becomes lines, and what is refused on the way."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator

import pytest
import zstandard
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient, Response

from stream.api import problems
from stream.api.body import Line, read_body, split_lines
from stream.api.problems import Problem

LIMIT = 10_000


def test_each_line_keeps_its_number() -> None:
    lines = split_lines(b'\n {"a":1} \r\n\n\t\n{"b":2}\n', "application/x-ndjson; charset=utf-8")
    assert [(line.number, line.data) for line in lines] == [(2, b'{"a":1}'), (5, b'{"b":2}')]


def test_an_array_is_a_line_an_element() -> None:
    body = b'\n[ {"a": 1,\n "b": [2,\n 3]} , "x\\n\xc3\xa9", null ]'
    lines = split_lines(body, "application/json")
    assert [line.data for line in lines] == [b'{"a":1,"b":[2,3]}', b'"x\\n\xc3\xa9"', b"null"]


def test_an_object_may_be_laid_out_over_several_lines() -> None:
    assert split_lines(b'{\n "a": 1\n}\n', "application/json")[0].data == b'{"a":1}'


def test_lines_under_the_name_of_json_are_lines() -> None:
    assert len(split_lines(b'{"a":1}\n{"a":2}\n{"a"', "application/json")) == 3


def test_without_a_media_type_lines_are_expected() -> None:
    assert len(split_lines(b"{}\n{}", None)) == 2


def test_nothing_is_no_line() -> None:
    assert split_lines(b" \n\n", "application/json") == []
    assert split_lines(b"[]", "application/json") == []


def test_a_broken_array_says_where() -> None:
    with pytest.raises(Problem, match=r"not a valid JSON array.*truncated") as raised:
        split_lines(b'[{"a":1}, {"a"', "application/json")
    assert raised.value.status == 400


def test_a_first_line_that_is_an_array_does_not_take_the_others_with_it() -> None:
    lines = split_lines(b'[{"a":1}]\n{"a":2}\n', "application/x-ndjson")
    assert lines == [Line(1, b'[{"a":1}]'), Line(2, b'{"a":2}')]
    assert len(split_lines(b'[{"a":1},\n{"a":2}]\n', "application/x-ndjson")) == 2
    with pytest.raises(Problem, match="not a valid JSON array"):
        split_lines(b'[{"a":1},\n{"a"', "application/json")


def test_other_media_types_are_refused_with_what_is_allowed() -> None:
    # The default of curl.
    assert split_lines(b'\xef\xbb\xbf{"a":1}', "application/x-www-form-urlencoded") == [
        Line(1, b'{"a":1}')
    ]
    with pytest.raises(Problem, match=r"'text/plain' is not supported; allowed: application/json"):
        split_lines(b"{}", "text/plain")


def post(
    content: bytes | AsyncIterator[bytes], encoding: str | None = None, timeout_s: float = 60.0
) -> Response:
    """Post a body to an application that answers with its length."""
    app = FastAPI()
    problems.install(app)

    @app.post("/")
    async def answer(request: Request) -> int:
        return len(await read_body(request, limit=LIMIT, timeout_s=timeout_s))

    async def send() -> Response:
        headers = {} if encoding is None else {"content-encoding": encoding}
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            return await client.post("/", content=content, headers=headers)

    return asyncio.run(send())


async def in_pieces(*pieces: bytes, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(pause_s)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_streamed(data: bytes) -> bytes:
    # Without the size in its header, as a streaming client writes it.
    codec = zstandard.ZstdCompressor().compressobj()
    return codec.compress(data) + codec.flush()


PLAIN = b"x" * LIMIT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, PLAIN),
        ("identity", PLAIN),
        ("gzip", gzip.compress(PLAIN)),
        ("X-GZIP", gzip.compress(PLAIN)),
        ("gzip", gzip.compress(PLAIN[:4]) + gzip.compress(PLAIN[4:])),
        ("zstd", zstd(PLAIN)),
        ("zstd", zstd(PLAIN[:4]) + zstd(PLAIN[4:])),
        ("zstd", zstd_streamed(PLAIN)),
    ],
)
def test_every_encoding_gives_the_same_bytes(encoding: str | None, body: bytes) -> None:
    response = post(body, encoding)
    assert (response.status_code, response.json()) == (200, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        (None, PLAIN + b"x", 413, "10001 bytes; at most 10000"),
        ("gzip", gzip.compress(PLAIN + b"x"), 413, "more than 10000 bytes once decompressed"),
        ("gzip", gzip.compress(b"0" * 5_000_000), 413, "once decompressed"),
        ("zstd", zstd(PLAIN + b"x"), 413, "once decompressed"),
        ("zstd", zstd_streamed(b"0" * 50_000_000), 413, "once decompressed"),
        ("gzip", os.urandom(LIMIT + 1), 413, "at most 10000"),
        ("gzip", b"no gzip", 400, "not valid gzip"),
        ("gzip", gzip.compress(os.urandom(500))[:-20], 400, "cut off"),
        ("zstd", b"no zstd", 400, "not valid zstd"),
        ("zstd", zstd(os.urandom(500))[:-20], 400, "cut off"),
        ("br", b"", 415, "'br' is not supported; allowed: gzip, zstd"),
        ("gzip, zstd", b"", 415, "is not supported"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    encoding: str | None, body: bytes, status: int, words: str
) -> None:
    response = post(body, encoding)
    assert response.status_code == status
    assert words in response.json()["detail"]


def test_a_body_of_unknown_length_is_bounded_too() -> None:
    assert post(in_pieces(PLAIN)).json() == LIMIT
    assert post(in_pieces(PLAIN, b"x")).status_code == 413


def test_a_slow_body_is_given_up() -> None:
    response = post(in_pieces(*[b"x"] * 10, pause_s=0.05), timeout_s=0.2)
    assert response.status_code == 408
    assert "within 0.2 s" in response.json()["detail"]
