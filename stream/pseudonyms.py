"""Replace a person's id by a keyed hash, once: a pseudonym's pseudonym is itself."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from stream.ids import user_key

__all__ = ["GROWTH_BYTES", "pseudonym", "with_pseudonym"]

GROWTH_BYTES: Final = 1_024
"""By how much a line may grow when it is written under a pseudonym: a longer id, `1e5` in full."""

_MARK: Final = "~"
_FORM: Final = re.compile(r"~[0-9a-f]{20}")


def pseudonym(user_id: str, secret: bytes) -> str:
    """Return the pseudonym of a user id; of a pseudonym, the same.

    Parameters
    ----------
    user_id
        As a client sent it.
    secret
        Keys the hash: without it nobody can confirm a guessed id.

    Examples
    --------
    >>> name = pseudonym("ann", b"pepper")
    >>> name, pseudonym(name, b"pepper") == name
    ('~edd407dbf04b83e65d44', True)
    """
    if _FORM.fullmatch(user_id):
        return user_id
    return _MARK + user_key(user_id, secret).hex()


def with_pseudonym(line: bytes, user_id: str) -> bytes:
    """Return a valid line with another ``user_id``; everything else keeps its value and place.

    Examples
    --------
    >>> with_pseudonym(b'{"ts": 1.5, "user_id": "ann", "x": null}', "~0")
    b'{"ts":1.5,"user_id":"~0","x":null}'
    """
    document = msgspec.json.decode(line)
    document["user_id"] = user_id
    return msgspec.json.encode(document)
