"""What the join remembers of an exposure until its outcomes: a compact record, packed by batch."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.rewards.head import FEATURES

__all__ = ["Exposure", "ExposureRecords"]


class Exposure(NamedTuple):
    """A record's fields: number, hashed features (uint32), and what is known of each outcome."""

    version: int
    features: bytes
    p0: tuple[float, ...]
    state: bytes


class ExposureRecords:
    """Packs exposures for a list of outcomes, and reads them again.

    A record holds the hashed features, what each head predicted (NaN: it was not asked), the
    number of the exposure, which is the version of what predicted it, and the state of each
    outcome, which is the journal: what has arrived arrives no second time. Records of other
    outcomes are told by their mark and are of no use. The propensity lies with the example's
    evidence already.

    Examples
    --------
    >>> records = ExposureRecords(["click", "purchase"])
    >>> features = np.arange(6, dtype=np.uint32)[None, :]
    >>> p0, state = np.array([[0.5, 0.25]]), np.zeros((1, 2), np.uint8)
    >>> packed = records.pack(features, p0, np.array([7]), state)
    >>> len(packed[0]), records.unpack(packed[0]).p0
    (42, (0.5, 0.25))
    >>> records.unpack(records.restated(packed[0], bytes([0, 2]))).state[1]
    2
    >>> ExposureRecords(["click"]).unpack(packed[0]) is None
    True
    """

    def __init__(self, outcomes: list[str]) -> None:
        n = len(outcomes)
        self.mark = xxhash.xxh32_intdigest("\0".join(outcomes).encode())
        self.dtype = np.dtype(
            [
                ("mark", "<u4"),
                ("version", "<u4"),
                ("features", "<u4", (FEATURES,)),
                ("p0", "<f4", (n,)),
                ("state", "u1", (n,)),
            ]
        )
        self.said_at = 8 + 4 * FEATURES
        """Where the predictions lie in a record, each a float; mark and version lead it."""
        self._fields = Struct(f"<II{4 * FEATURES}s{n}f{n}s")
        self._state_at = self.said_at + 4 * n

    def pack(
        self,
        features: NDArray[np.uint32],
        p0: NDArray[np.float64],
        version: NDArray[np.int64],
        state: NDArray[np.uint8],
    ) -> list[bytes]:
        """Return a record an exposure.

        Features (e, FEATURES), version (e,), p0 and state (e, outcomes).
        """
        table = np.empty(len(features), dtype=self.dtype)
        table["mark"], table["version"] = self.mark, version
        table["features"], table["p0"], table["state"] = features, p0, state
        data, size = table.tobytes(), self.dtype.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def unpack(self, record: bytes) -> Exposure | None:
        """Return a record's fields, or None if it is of other outcomes."""
        if len(record) != self._fields.size:
            return None
        mark, version, features, *p0, state = self._fields.unpack(record)
        return Exposure(version, features, tuple(p0), state) if mark == self.mark else None

    def restated(self, record: bytes, state: bytes) -> bytes:
        """Return the record with other states of its outcomes."""
        return record[: self._state_at] + state
