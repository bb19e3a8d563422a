"""Read a request's body: bounded in bytes and in time, decompressed, cut into JSON lines."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Final, NamedTuple

import msgspec
import zstandard
from fastapi import Request
from starlette.requests import ClientDisconnect

from stream.api.problems import Problem

__all__ = ["MAX_BODY_BYTES", "Line", "read_body", "split_lines"]

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Largest body, compressed or not."""

_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024
_GZIP_WBITS: Final = 31
_JSON_SPACE: Final = b" \t\r\n"
_ONE_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"
_TYPES: Final = (
    _ONE_JSON,
    _NDJSON,
    "application/ndjson",
    "application/jsonl",
    # What curl and others say of any body. A page of another site, which may say so too, names
    # its Origin, or has no token.
    "application/x-www-form-urlencoded",
    "application/octet-stream",
)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_raw_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_raw_value: Final = msgspec.json.Decoder(msgspec.Raw)


class Line(NamedTuple):
    """One JSON value of the body: where it stood (from 1), and its bytes without newlines."""

    number: int
    data: bytes


async def read_body(request: Request, *, limit: int = MAX_BODY_BYTES, timeout_s: float) -> bytes:
    """Return the whole decompressed body.

    Raises
    ------
    Problem
        413 above ``limit`` bytes, before or after decompression; 408 for a client that takes
        longer than ``timeout_s``; 415 for an encoding that is not known; 400 for one that is
        broken.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(f"{int(declared)} bytes", limit)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(f"more than {limit} bytes", limit)
    except TimeoutError:
        raise Problem(
            408, f"the body did not arrive within {timeout_s:g} s; send less at a time"
        ) from None
    except ClientDisconnect:
        raise Problem(400, "the client left before the body was complete") from None
    decompress = _decompressor(request.headers.get("content-encoding", "identity"))
    if decompress is None:
        return bytes(body)
    # Decompression releases the interpreter: other requests go on meanwhile.
    return await asyncio.to_thread(decompress, bytes(body), limit)


def _decompressor(encoding: str) -> Callable[[bytes, int], bytes] | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _gunzip
        case "zstd":
            return _unzstd
        case _:
            raise Problem(
                415,
                f"Content-Encoding {encoding!r} is not supported; allowed: gzip, zstd, identity",
                headers={"Accept-Encoding": "gzip, zstd, identity"},
            )


def _gunzip(data: bytes, limit: int) -> bytes:
    out = bytearray()
    try:
        while data:
            member = zlib.decompressobj(wbits=_GZIP_WBITS)
            out += member.decompress(data, limit + 1 - len(out))
            if len(out) > limit:
                raise _too_large(f"more than {limit} bytes once decompressed", limit)
            if not member.eof:
                raise Problem(400, "the gzip body is cut off")
            data = member.unused_data
    except zlib.error as error:
        raise Problem(400, f"the body is not valid gzip: {error}") from None
    return bytes(out)


def _unzstd(data: bytes, limit: int) -> bytes:
    codec = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    try:
        with codec.stream_reader(BytesIO(data), read_across_frames=True) as reader:
            out = reader.read(limit + 1)
        if len(out) > limit:
            raise _too_large(f"more than {limit} bytes once decompressed", limit)
        # The reader, which alone can be bounded, takes a cut for the end.
        while data:
            frame = codec.decompressobj()
            frame.decompress(data)
            if not frame.eof:
                raise Problem(400, "the zstd body is cut off")
            data = frame.unused_data
    except zstandard.ZstdError as error:
        raise Problem(400, f"the body is not valid zstd: {error}") from None
    return out


def _too_large(found: str, limit: int) -> Problem:
    return Problem(413, f"the body has {found}; at most {limit} are allowed in one request")


def split_lines(body: bytes, content_type: str | None) -> list[Line]:
    r"""Return the JSON values of a body: an array's, an object, or those of its lines.

    Raises
    ------
    Problem
        415 for a media type that cannot hold them, 400 for an array that is not valid JSON and
        cannot be several lines.

    Examples
    --------
    >>> split_lines(b'{"a":1}\n\n{"a":2}', "application/x-ndjson")
    [Line(number=1, data=b'{"a":1}'), Line(number=3, data=b'{"a":2}')]
    >>> split_lines(b'[{"a":\n1}, 2]', "application/json")
    [Line(number=1, data=b'{"a":1}'), Line(number=2, data=b'2')]
    """
    media_type = (content_type or _NDJSON).partition(";")[0].strip().lower()
    if media_type not in _TYPES:
        raise Problem(
            415,
            f"Content-Type {media_type!r} is not supported; allowed: {', '.join(_TYPES[:2])}",
            headers={"Accept": ", ".join(_TYPES[:2])},
        )
    body = body.removeprefix(_BYTE_ORDER_MARK)
    start = body.lstrip(_JSON_SPACE)[:1]
    if start == b"[":
        try:
            return _elements(body)
        except msgspec.DecodeError as error:
            # Of several lines, a bad first one must not take the good ones with it.
            if media_type == _ONE_JSON or b"\n" not in body.strip(_JSON_SPACE):
                raise Problem(400, f"the body is not a valid JSON array: {error}") from None
    if media_type == _ONE_JSON and b"\n" in body.strip(_JSON_SPACE):
        try:
            return [Line(1, _one_line(_raw_value.decode(body)))]
        except msgspec.DecodeError:
            # Several lines sent under the wrong name are still lines.
            pass
    lines = (Line(number, line.strip(_JSON_SPACE)) for number, line in _numbered(body))
    return [line for line in lines if line.data]


def _numbered(body: bytes) -> enumerate[bytes]:
    # Not splitlines(): a carriage return alone ends no line of JSON.
    return enumerate(body.split(b"\n"), start=1)


def _elements(body: bytes) -> list[Line]:
    values = _raw_array.decode(body)
    return [Line(number, _one_line(value)) for number, value in enumerate(values, start=1)]


def _one_line(value: msgspec.Raw) -> bytes:
    data = bytes(value)
    return msgspec.json.format(data, indent=-1) if b"\n" in data else data
