"""Versioned bytes of arrays and plain values: MessagePack around raw little-endian arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lz4.block
import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "SNAPSHOT_VERSION",
    "SnapshotError",
    "pack",
    "pack_arrays",
    "pack_small",
    "unpack",
    "unpack_arrays",
]

SNAPSHOT_VERSION = 2
"""Version of the label model's bytes. Every version up to this one is read; newer is refused.

1: everything in one.
2: compressed, and without the answers at hand, which stand apart; `pack_small` writes it.
"""
_PLAIN = 1


class SnapshotError(ValueError):
    """The bytes are not a label model's, or a newer version wrote them."""


def pack_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
    """Return plain values that `unpack_arrays` turns back into equal arrays."""
    return {
        name: [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]
        for name, array in arrays.items()
    }


def unpack_arrays(packed: Mapping[str, list[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return writable arrays from what `pack_arrays` made."""
    return {
        name: np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape).copy()
        for name, (dtype, shape, data) in packed.items()
    }


def pack(kind: str, content: Mapping[str, Any]) -> bytes:
    """Return bytes that say what they are and which version wrote them."""
    return msgspec.msgpack.encode({"kind": kind, "version": _PLAIN, **content})


def pack_small(kind: str, content: Mapping[str, Any]) -> bytes:
    """Return bytes like those of `pack`, compressed: most pairs of columns never met."""
    packed = lz4.block.compress(msgspec.msgpack.encode(content))
    return msgspec.msgpack.encode({"kind": kind, "version": SNAPSHOT_VERSION, "packed": packed})


def unpack(kind: str, data: bytes) -> dict[str, Any]:
    """Return the content of `pack`, or raise `SnapshotError` saying why not."""
    try:
        content = msgspec.msgpack.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        message = f"not a {kind}: {error}"
        raise SnapshotError(message) from error
    if content.get("kind") != kind:
        message = f"expected a {kind}, found {content.get('kind')!r}"
        raise SnapshotError(message)
    version = content.get("version")
    if not isinstance(version, int) or version > SNAPSHOT_VERSION:
        message = (
            f"{kind} of version {version!r} was written by a newer program; "
            f"this one reads versions up to {SNAPSHOT_VERSION}"
        )
        raise SnapshotError(message)
    if version == _PLAIN:
        return content
    try:
        return msgspec.msgpack.decode(lz4.block.decompress(content["packed"]), type=dict[str, Any])
    except (KeyError, lz4.block.LZ4BlockError, msgspec.DecodeError) as error:
        message = f"a damaged {kind}: {error}"
        raise SnapshotError(message) from error
