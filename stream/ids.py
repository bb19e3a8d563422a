"""Identifiers derived from content, so that every replay and every process derives the same."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from stream.events import Interaction

__all__ = [
    "KEY_BYTES",
    "event_hash",
    "event_hashes",
    "example_id",
    "exposure_hash",
    "exposure_hashes",
    "user_key",
]

_ENCODING = ("utf-8", "surrogatepass")
"""JSON may escape half a surrogate pair; an id must exist for it all the same."""

KEY_BYTES = 10
"""Width of a user's key: 80 bits leave a collision among 10⁹ users to a chance of 4·10⁻⁷."""


def user_key(user_id: str, secret: bytes = b"") -> bytes:
    """Return the fixed-width key under which a user's state is kept.

    Parameters
    ----------
    user_id
        The user's id as events carry it.
    secret
        Keys the hash, so that who lacks it cannot confirm a guessed id. BLAKE2b takes at most
        64 bytes of key.

    Raises
    ------
    ValueError
        If ``secret`` is longer than 64 bytes.

    Examples
    --------
    >>> user_key("u1").hex()
    'a40fc8c38e450006ec5a'
    >>> user_key("u1", b"pepper") == user_key("u1")
    False
    """
    return blake2b(user_id.encode(*_ENCODING), digest_size=KEY_BYTES, key=secret).digest()


def example_id(key: bytes, request_id: str | None, item_id: str, event_id: str) -> str:
    """Return the id of one exposure: the user's key, then what the user was exposed to.

    Two events of one user about the same item under the same request are the same exposure;
    without a request, the event itself is the exposure.

    Parameters
    ----------
    key
        The user's key, from :func:`user_key`; the id begins with it, so an example leads to its
        user's state without an index.
    request_id
        The recommendation or page; None or empty where the feed has none.
    item_id, event_id
        As the event that opens the example carries them.

    Examples
    --------
    >>> key = user_key("u1")
    >>> example_id(key, "r1", "i1", "e1") == example_id(key, "r1", "i1", "e2")
    True
    >>> example_id(key, None, "i1", "e1") == example_id(key, None, "i1", "e2")
    False
    """
    name = exposure_hash(request_id, item_id) if request_id else event_hash(event_id)
    return f"{key.hex()}{name:016x}"


def exposure_hash(request_id: str, item_id: str) -> int:
    """Return the second half of the id of an exposure that a request names."""
    return xxhash.xxh3_64_intdigest(f"{request_id}\0{item_id}".encode(*_ENCODING))


def exposure_hashes(events: Sequence[Interaction], otherwise: Sequence[int]) -> list[int]:
    r"""Return the `exposure_hash` of each event, the other hash if it names no request.

    Examples
    --------
    >>> from stream.events import Interaction
    >>> events = [Interaction("e", "view", 0.0, "u", "i", request) for request in ("r", None)]
    >>> exposure_hashes(events, [7, 8]) == [exposure_hash("r", "i"), 8]
    True
    """
    digest = xxhash.xxh3_64_intdigest
    try:
        return [
            digest(f"{event.request_id}\0{event.item_id}".encode()) if event.request_id else name
            for event, name in zip(events, otherwise, strict=True)
        ]
    except UnicodeEncodeError:
        return [
            exposure_hash(event.request_id, event.item_id) if event.request_id else name
            for event, name in zip(events, otherwise, strict=True)
        ]


def event_hashes(event_ids: Sequence[str]) -> list[int]:
    r"""Return the hash of each event, as `event_hash` does.

    Examples
    --------
    >>> event_hashes(["e1", "\ud800"]) == [event_hash("e1"), event_hash("\ud800")]
    True
    """
    try:
        return list(map(xxhash.xxh3_64_intdigest, map(str.encode, event_ids)))
    except UnicodeEncodeError:
        return [event_hash(event_id) for event_id in event_ids]


def event_hash(event_id: str) -> int:
    """Return what an event is remembered by; also names an exposure that no request names."""
    return xxhash.xxh3_64_intdigest(event_id.encode(*_ENCODING))
