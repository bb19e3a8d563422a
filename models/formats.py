"""Refuse state that a newer version of this program wrote."""

from __future__ import annotations

__all__ = ["refuse_newer"]


def refuse_newer(what: str, found: int, known: int) -> None:
    """Raise if a format is newer than this program knows.

    Raises
    ------
    ValueError
        With what it is, both formats, and what to do.

    Examples
    --------
    >>> refuse_newer("a delay curve", 1, 1)
    >>> refuse_newer("a delay curve", 2, 1)
    Traceback (most recent call last):
    ...
    ValueError: a delay curve has format 2, this program reads up to 1: run the newer version
    """
    if found > known:
        raise ValueError(
            f"{what} has format {found}, this program reads up to {known}: run the newer version"
        )
