"""What recent values are compared with: frozen, versioned, and readable by people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["Reference", "references_from_bytes", "references_to_bytes"]

_FORMAT: Final = 1
_TOLERANCE: Final = 0.01


class Reference(msgspec.Struct, frozen=True):
    """The distribution of one signal while all was well.

    Parameters
    ----------
    signal, tag, categories
        What it is of; a signal takes it only if all three agree.
    version
        How many references the signal has had, this one included.
    since
        Event time of the value that completed it.
    values
        How many it was taken from.
    shares, design_effects
        Share of each category, and by how much sessions widen the variance of its mean beyond that
        of independent values.
    freedom
        Degrees of freedom of those variances.
    """

    signal: str
    tag: str
    categories: tuple[str, ...]
    version: int
    since: float
    values: int
    shares: tuple[float, ...]
    design_effects: tuple[float, ...]
    freedom: float

    def __post_init__(self) -> None:
        k = len(self.categories)
        if len(self.shares) != k or len(self.design_effects) != k:
            raise ValueError(f"reference of {self.signal}: {k} categories, other numbers of shares")
        if self.values <= 0 or self.freedom <= 0.0 or min(self.design_effects) <= 0.0:
            raise ValueError(f"reference of {self.signal}: sizes must be above 0")
        if min(self.shares) < 0.0 or abs(sum(self.shares) - 1.0) > _TOLERANCE:
            raise ValueError(f"reference of {self.signal}: shares must add up to 1")


class _File(msgspec.Struct, frozen=True):
    format: int
    references: tuple[Reference, ...]


def references_to_bytes(references: Sequence[Reference]) -> bytes:
    """Return references as JSON that can be kept beside the code.

    Examples
    --------
    >>> calm = Reference("lf_votes/viewed", "1", ("no", "yes"), 1, 1.7e9, 4096, (0.8, 0.2),
    ...                  (3.0, 3.0), 127.0)
    >>> references_from_bytes(references_to_bytes([calm])) == [calm]
    True
    """
    return msgspec.json.format(msgspec.json.encode(_File(_FORMAT, tuple(references))), indent=1)


def references_from_bytes(data: bytes) -> list[Reference]:
    """Return the references that were written.

    Raises
    ------
    ValueError
        If the bytes are none, or of a newer format.
    """
    try:
        stored = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"these are no drift references: {error}") from error
    if stored.format > _FORMAT:
        raise ValueError(
            f"references have format {stored.format}, this program reads up to {_FORMAT}"
        )
    return list(stored.references)
