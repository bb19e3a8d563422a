"""What recent values are compared with: frozen, versioned, and readable by people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

__all__ = ["Reference", "merged_references", "references_from_bytes", "references_to_bytes"]

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


def merged_references(parts: Iterable[Iterable[Reference]]) -> list[Reference]:
    """Return the references of several partitions as one of each signal, weighted by their values.

    Of the same signal with other categories or another tag, the first counts.
    """
    found: dict[str, list[Reference]] = {}
    for part in parts:
        for reference in part:
            known = found.setdefault(reference.signal, [])
            if not known or (known[0].tag, known[0].categories) == (
                reference.tag,
                reference.categories,
            ):
                known.append(reference)
    return [_merged(references) for references in found.values()]


def _merged(references: Sequence[Reference]) -> Reference:
    values = sum(reference.values for reference in references)

    def mean(columns: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
        weighted = zip(references, columns, strict=True)
        rows = [[one.values / values * x for x in column] for one, column in weighted]
        return tuple(sum(column) for column in zip(*rows, strict=True))

    return Reference(
        references[0].signal,
        references[0].tag,
        references[0].categories,
        max(reference.version for reference in references),
        max(reference.since for reference in references),
        values,
        mean(reference.shares for reference in references),
        mean(reference.design_effects for reference in references),
        sum(reference.freedom for reference in references),
    )
