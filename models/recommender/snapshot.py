"""Turn tables into versioned chunks of bytes, and back without losing a bit.

A chunk of rows holds `CHUNK_ROWS` items with their ids; ``meta`` holds what belongs to none.
The layout is little-endian arrays after a JSON header: data, never code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.recommender.tables import CHUNK_ROWS, Cell, Tables

__all__ = [
    "META",
    "ROWS",
    "VERSION",
    "NewerSnapshotError",
    "SnapshotError",
    "frame",
    "pack",
    "pack_rows",
    "row_chunk_name",
    "unframe",
    "unpack",
    "unpack_rows",
]

VERSION = 1
"""Version of the layout. Every version up to this one is read; a newer one is refused."""

META = "meta"
ROWS = "rows/"
_CHUNK_MAGIC = b"HRrc"
_FRAME_MAGIC = b"HRrf"
_HEAD = struct.Struct("<4sHxxI")
_U32 = struct.Struct("<I")


class SnapshotError(ValueError):
    """The bytes are not a snapshot of a recommender, or are damaged."""


class NewerSnapshotError(SnapshotError):
    """The snapshot was written by a newer version than this program reads."""


def row_chunk_name(chunk: int) -> str:
    """Return the name of the chunk that holds items ``chunk * CHUNK_ROWS`` and on."""
    return f"{ROWS}{chunk:06d}"


def _headed(head: bytes, parts: Sequence[bytes]) -> bytes:
    return b"".join((_HEAD.pack(_CHUNK_MAGIC, VERSION, len(head)), head, *parts))


def _head_of(data: bytes) -> tuple[dict[str, Any], int]:
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
    stop = _HEAD.size + size
    return json.loads(data[_HEAD.size : stop]), stop


def pack(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a chunk that holds ``head`` (JSON) and the arrays."""
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    body_head = {"head": dict(head), "arrays": shapes}
    return _headed(
        json.dumps(body_head, separators=(",", ":"), sort_keys=True).encode(),
        [array.tobytes() for array in arrays.values()],
    )


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the head and the (writable) arrays of `pack`."""
    head, at = _head_of(data)
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in head["arrays"]:
        size = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, np.dtype(dtype), size, at).reshape(shape).copy()
        arrays[name] = array
        at += array.nbytes
    return head["head"], arrays


def pack_rows(t: Tables, chunk: int, ids: Sequence[str]) -> bytes:
    """Return the chunk of rows number ``chunk``, whose items are ``ids``."""
    start = chunk * CHUNK_ROWS
    rows = slice(start, start + len(ids))
    names = [item_id.encode() for item_id in ids]
    filled = t.filled[rows]
    used = np.arange(t.neighbour.shape[1]) < filled[:, None]
    return _headed(
        # Written by hand: there are hundreds of chunks a checkpoint.
        b'{"first":%d,"rows":%d}' % (start, len(ids)),
        [
            t.cells[rows, : Cell.STORED].tobytes(),
            filled.tobytes(),
            t.flags[rows].tobytes(),
            t.neighbour[rows][used].tobytes(),
            t.strength[rows][used].tobytes(),
            np.array([len(name) for name in names], "<u4").tobytes(),
            *names,
        ],
    )


def unpack_rows(t: Tables, data: bytes) -> tuple[int, list[str]]:
    """Fill the rows of a chunk; return the index of its first item, and its ids.

    Where the chunk's rows are longer than the table's, the first and strongest neighbours stay.
    """
    head, at = _head_of(data)
    start, n = int(head["first"]), int(head["rows"])
    rows = slice(start, start + n)
    cells = np.frombuffer(data, "<f8", n * Cell.STORED, at)
    filled = np.frombuffer(data, "<i4", n, at + cells.nbytes)
    at += cells.nbytes + filled.nbytes
    flags = np.frombuffer(data, "u1", n, at)
    at += flags.nbytes
    t.cells[rows, : Cell.STORED] = cells.reshape(n, Cell.STORED)
    t.filled[rows] = filled
    t.flags[rows] = flags
    slots = int(t.filled[rows].sum())
    neighbour = np.frombuffer(data, "<i4", slots, at)
    strength = np.frombuffer(data, "<f4", slots, at + neighbour.nbytes)
    at += neighbour.nbytes + strength.nbytes
    room = t.neighbour.shape[1]
    first = 0
    for i in range(start, start + n):
        size = int(t.filled[i])
        row, weight = neighbour[first : first + size], strength[first : first + size]
        first += size
        if size > room:
            row, weight = row[:room], weight[:room]
            t.filled[i] = size = room
        t.neighbour[i, :size] = row
        t.strength[i, :size] = weight
    lengths = np.frombuffer(data, "<u4", n, at)
    at += lengths.nbytes
    ids = []
    for length in lengths.tolist():
        ids.append(data[at : at + length].decode())
        at += length
    return start, ids


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
