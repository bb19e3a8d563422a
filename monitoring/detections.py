"""What drift detection found, as plain values."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Detection"]


class Detection(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A share that left its reference by more than noise does.

    Parameters
    ----------
    ts
        Event time of the value with which it became certain.
    signal, category
        What changed.
    z
        By how many deviations, with its sign.
    share, reference
        Decayed share now, and what it was.
    version
        Of the reference.
    """

    ts: float
    signal: str
    detector: str
    category: str
    z: float
    share: float
    reference: float
    version: int

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values, as a report has them."""
        return {name: getattr(self, name) for name in self.__struct_fields__}
