"""Sum up how well each event was predicted before it was learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.recommender.snapshot import pack, unpack

__all__ = ["OTHER", "PrequentialMetrics"]

OTHER = "other"
"""Segment of everything beyond the segments that are kept apart."""

_CUT = 10
# Columns of the counters.
_N, _HITS, _GAIN, _RECIPROCAL, _BITS = range(5)
_COLUMNS = 5
_GAINS = 1.0 / np.log2(np.arange(_CUT) + 2.0)
_NO_CODES: NDArray[np.int32] = np.zeros(0, np.int32)


@njit(cache=True)
def _add_rows(
    sums: NDArray[np.float64],
    rank: NDArray[np.int32],
    novelty_bits: NDArray[np.float32],
    codes: NDArray[np.int32],
) -> None:
    """Add rows to the sums, one by one, so that these do not depend on how rows were batched."""
    for row in range(len(rank)):
        place = rank[row]
        if place < -1:
            continue
        hit, gain, reciprocal = 0.0, 0.0, 0.0
        if place >= 0:
            reciprocal = 1.0 / (place + 1.0)
            if place < _CUT:
                hit, gain = 1.0, _GAINS[place]
        inside = 1 + (len(codes) > 0 and codes[row] > 0)
        for which in range(inside):
            target = sums[codes[row]] if which else sums[0]
            target[_N] += 1.0
            target[_HITS] += hit
            target[_GAIN] += gain
            target[_RECIPROCAL] += reciprocal
            target[_BITS] += novelty_bits[row]


class PrequentialMetrics:
    """Hit rate, nDCG, MRR and novelty over all events and by segment.

    Parameters
    ----------
    segments
        Segments known beforehand; further ones are kept as they appear.
    max_segments
        Segments kept apart. Events of later ones count in `OTHER`.

    State
    -----
    Five sums a segment, and the catalogue's size and coverage. Sums add up, so partitions merge.

    Examples
    --------
    >>> import numpy as np
    >>> metrics = PrequentialMetrics()
    >>> metrics.update_many(np.array([0, 3, -1], np.int32), np.zeros(3, np.float32))
    >>> metrics.as_dict()["hit@10"]
    0.6666666666666666
    """

    def __init__(self, segments: Sequence[str] = (), max_segments: int = 20) -> None:
        self.max_segments = max_segments
        self._codes: dict[str, int] = {}
        # The first row is everything, the second one `OTHER`.
        self._sums = np.zeros((2, _COLUMNS))
        self.n_items = 0
        self.covered = 0
        for segment in segments:
            self.segment_code(segment)

    def segment_code(self, segment: str) -> int:
        """Return the code of a segment, for ``segment_codes``; no segment is -1."""
        if not segment:
            return -1
        code = self._codes.get(segment)
        if code is not None:
            return code
        if segment == OTHER or len(self._codes) >= self.max_segments:
            return 1
        code = self._codes[segment] = len(self._sums)
        self._sums = np.concatenate([self._sums, np.zeros((1, _COLUMNS))])
        return code

    def update_many(
        self,
        rank: NDArray[np.int32],
        novelty_bits: NDArray[np.float32],
        segment_codes: NDArray[np.int32] | None = None,
        n_items: int | None = None,
        covered: int | None = None,
    ) -> None:
        """Add rows.

        Parameters
        ----------
        rank
            0-based rank of what came, -1 a miss; rows of rank -2 are no predictions.
        novelty_bits
            Mean self-information of what was recommended.
        segment_codes
            Of each row, from `segment_code`.
        n_items, covered
            Items seen so far, and items that were ever in a top 10.
        """
        if n_items is not None:
            self.n_items = n_items
        if covered is not None:
            self.covered = covered
        if len(rank):
            codes = _NO_CODES if segment_codes is None else segment_codes
            _add_rows(self._sums, rank, novelty_bits, codes)

    def merge(self, other: PrequentialMetrics) -> None:
        """Add another partition's sums; catalogues overlap, so the larger one counts."""
        self._sums[:2] += other._sums[:2]
        for segment, code in other._codes.items():
            mine = self.segment_code(segment)  # may make the sums longer: before they are read
            self._sums[mine] += other._sums[code]
        self.n_items = max(self.n_items, other.n_items)
        self.covered = max(self.covered, other.covered)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under the names of the report."""
        result: dict[str, Any] = self._figures(0)
        result["catalogue_coverage"] = self.covered / self.n_items if self.n_items else 0.0
        segments = {segment: self._figures(code) for segment, code in self._codes.items()}
        if self._sums[1, _N]:
            segments[OTHER] = self._figures(1)
        result["segments"] = segments
        return result

    def _figures(self, row: int) -> dict[str, Any]:
        n = self._sums[row, _N]
        means = self._sums[row] / max(n, 1.0)
        return {
            "n": int(n),
            "hit@10": float(means[_HITS]),
            "ndcg@10": float(means[_GAIN]),
            "mrr": float(means[_RECIPROCAL]),
            "novelty_bits": float(means[_BITS]),
        }

    def to_bytes(self) -> bytes:
        """Return everything as versioned bytes."""
        head = {
            "segments": list(self._codes),
            "max_segments": self.max_segments,
            "n_items": self.n_items,
            "covered": self.covered,
        }
        return pack(head, {"sums": self._sums})

    @classmethod
    def from_bytes(cls, data: bytes) -> PrequentialMetrics:
        """Return the metrics that `to_bytes` wrote."""
        head, arrays = unpack(data)
        metrics = cls(head["segments"], max_segments=int(head["max_segments"]))
        metrics._sums = arrays["sums"]
        metrics.n_items = int(head["n_items"])
        metrics.covered = int(head["covered"])
        return metrics
