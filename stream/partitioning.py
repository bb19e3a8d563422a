"""Which partition a key belongs to, as every Kafka producer with default settings decides it."""

from __future__ import annotations

import struct
from functools import lru_cache

__all__ = ["murmur2", "partition_for"]

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C
_WORDS = [struct.Struct(f"<{n}I") for n in range(33)]


def murmur2(data: bytes) -> int:
    """Return Kafka's murmur2 of the bytes, as an unsigned 32-bit number.

    References
    ----------
    ``org.apache.kafka.common.utils.Utils.murmur2``, which returns the same 32 bits, signed.

    Examples
    --------
    >>> murmur2(b"foobar") - 2**32
    -790332482
    """
    length = len(data)
    h = _SEED ^ length
    words = length >> 2
    layout = _WORDS[words] if words < len(_WORDS) else struct.Struct(f"<{words}I")
    for word in layout.unpack_from(data):
        k = word * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    tail = data[words << 2 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=65_536)
def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition of a key among ``partitions``.

    Examples
    --------
    >>> [partition_for(key, 8) for key in (b"u1", b"u2", b"u3")]
    [0, 6, 6]
    """
    # Kafka clears the sign bit rather than taking the absolute value.
    return (murmur2(key) & 0x7FFFFFFF) % partitions
