"""Frame versioned chunks of bytes: a JSON head and little-endian arrays; data, never code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "META",
    "VERSION",
    "NewerSnapshotError",
    "SnapshotError",
    "body_of",
    "frame",
    "headed",
    "pack",
    "pack_text",
    "taken",
    "unframe",
    "unpack",
    "version_of",
]

VERSION = 2
"""Version of the layout. Every version up to this one is read; a newer one is refused.

1: rows of neighbours in chunks of 16 items, each row's strengths in units of its own epoch.
2: segments of a journal; ids apart.
"""

META = "meta"
_CHUNK_MAGIC = b"HRrc"
_FRAME_MAGIC = b"HRrf"
_HEAD = struct.Struct("<4sHxxI")
_U32 = struct.Struct("<I")


class SnapshotError(ValueError):
    """The bytes are not a snapshot of a recommender, or are damaged."""


class NewerSnapshotError(SnapshotError):
    """The snapshot was written by a newer version than this program reads."""


def headed(head: bytes, parts: Sequence[bytes]) -> bytes:
    """Return a chunk of this version: ``head`` and what follows it."""
    return b"".join((_HEAD.pack(_CHUNK_MAGIC, VERSION, len(head)), head, *parts))


def version_of(data: bytes) -> int:
    """Return the version in which a chunk is written."""
    return _opened(data)[0]


def _opened(data: bytes) -> tuple[int, int]:
    if len(data) < _HEAD.size:
        raise SnapshotError("a chunk of a recommender's snapshot is cut short")
    magic, version, size = _HEAD.unpack_from(data)
    if magic != _CHUNK_MAGIC:
        raise SnapshotError("this is not a chunk of a recommender's snapshot")
    if version > VERSION:
        raise NewerSnapshotError(
            f"the recommender's snapshot has version {version}, and this program reads up to "
            f"{VERSION}: upgrade the program, or reset the state"
        )
    return version, size


def body_of(data: bytes) -> tuple[bytes, int]:
    """Return a chunk's head, and where what follows it begins."""
    stop = _HEAD.size + _opened(data)[1]
    return data[_HEAD.size : stop], stop


def taken(data: bytes, dtype: str, n: int, at: int) -> tuple[NDArray[Any], int]:
    """Return an array of a chunk, and where the next one begins."""
    size = np.dtype(dtype).itemsize * n
    if n < 0 or at + size > len(data):
        raise SnapshotError("a chunk of a recommender's snapshot is cut short")
    return np.frombuffer(data, dtype, n, at), at + size


def pack(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a chunk that holds ``head`` (JSON) and the arrays."""
    return pack_text(json.dumps(head, separators=(",", ":"), sort_keys=True), arrays)


def pack_text(head: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a chunk that holds ``head``, JSON already, and the arrays."""
    shapes = ",".join(
        f'["{name}","{array.dtype.str}",{list(array.shape)}]' for name, array in arrays.items()
    )
    return headed(
        f'{{"arrays":[{shapes}],"head":{head}}}'.encode(),
        [array.tobytes() for array in arrays.values()],
    )


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the head and the (writable) arrays of `pack`."""
    encoded, at = body_of(data)
    head = json.loads(encoded)
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in head["arrays"]:
        array, at = taken(data, dtype, int(np.prod(shape, dtype=np.int64)), at)
        arrays[name] = array.reshape(shape).copy()
    return head["head"], arrays


def frame(chunks: Mapping[str, bytes]) -> bytes:
    """Return the chunks as one run of bytes, in order of name."""
    parts = [_HEAD.pack(_FRAME_MAGIC, VERSION, len(chunks))]
    for name in sorted(chunks):
        key, data = name.encode(), chunks[name]
        parts += (_U32.pack(len(key)), key, _U32.pack(len(data)), data)
    return b"".join(parts)


def unframe(data: bytes) -> dict[str, bytes]:
    """Return the chunks in a run of bytes from `frame`."""
    if len(data) < _HEAD.size:
        raise SnapshotError("the recommender's snapshot is cut short")
    magic, version, n = _HEAD.unpack_from(data)
    if magic != _FRAME_MAGIC:
        raise SnapshotError("this is not a recommender's snapshot")
    if version > VERSION:
        raise NewerSnapshotError(
            f"the recommender's snapshot has version {version}, and this program reads up to "
            f"{VERSION}: upgrade the program, or reset the state"
        )
    at = _HEAD.size
    chunks = {}
    for _ in range(n):
        pair = []
        for _ in range(2):
            if at + _U32.size > len(data):
                raise SnapshotError("the recommender's snapshot is cut short")
            (size,) = _U32.unpack_from(data, at)
            at += _U32.size
            pair.append(data[at : at + size])
            if len(pair[-1]) != size:
                raise SnapshotError("the recommender's snapshot is cut short")
            at += size
        chunks[pair[0].decode()] = pair[1]
    return chunks
