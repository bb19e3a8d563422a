"""Sum up how well each event was predicted before it was learned."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.recommender.snapshot import pack, unpack
from models.recommender.step import StepOutput

__all__ = ["OTHER", "PrequentialMetrics"]

OTHER = "other"
"""Segment of everything beyond the segments that are kept apart."""

_CUT = 10
# Columns of the counters: of every event, and, which came later, of those since.
_N, _HITS, _GAIN, _RECIPROCAL, _BITS = range(5)
_FIRST_COLUMNS = 5
_JUDGED, _LOSS, _POPULAR_HITS, _POPULAR_GAIN, _POPULAR_RECIPROCAL, _SPREADS, _SPREAD = range(5, 12)
_COLUMNS = 12
_FLOOR = 1e-6
_GAINS = 1.0 / np.log2(np.arange(_CUT) + 2.0)
_NO_CODES: NDArray[np.int32] = np.zeros(0, np.int32)


@njit(cache=True)
def _credit(place: int) -> tuple[float, float, float]:
    """Return what a 0-based rank is worth: hit, gain, reciprocal rank."""
    if place < 0:
        return 0.0, 0.0, 0.0
    if place >= _CUT:
        return 0.0, 0.0, 1.0 / (place + 1.0)
    return 1.0, _GAINS[place], 1.0 / (place + 1.0)


@njit(cache=True)
def _add_rows(
    sums: NDArray[np.float64],
    rank: NDArray[np.int32],
    predicted: NDArray[np.float32],
    novelty_bits: NDArray[np.float32],
    popular_rank: NDArray[np.int32],
    diversity: NDArray[np.float32],
    codes: NDArray[np.int32],
) -> None:
    """Add rows to the sums, one by one, so that these do not depend on how rows were batched."""
    for row in range(len(rank)):
        place = rank[row]
        if place < -1:
            continue
        hit, gain, reciprocal = _credit(place)
        popular_hit, popular_gain, popular_reciprocal = _credit(popular_rank[row])
        loss = -log(max(predicted[row], _FLOOR))
        inside = 1 + (len(codes) > 0 and codes[row] > 0)
        for which in range(inside):
            target = sums[codes[row]] if which else sums[0]
            target[_N] += 1.0
            target[_HITS] += hit
            target[_GAIN] += gain
            target[_RECIPROCAL] += reciprocal
            target[_BITS] += novelty_bits[row]
            target[_JUDGED] += 1.0
            target[_LOSS] += loss
            target[_POPULAR_HITS] += popular_hit
            target[_POPULAR_GAIN] += popular_gain
            target[_POPULAR_RECIPROCAL] += popular_reciprocal
            if diversity[row] >= 0.0:
                target[_SPREADS] += 1.0
                target[_SPREAD] += diversity[row]


class PrequentialMetrics:
    """Hit rate, nDCG, MRR, loss, novelty and diversity over all events and by segment.

    Beside them stands what popularity alone would have had.

    Parameters
    ----------
    segments
        Segments known beforehand; further ones are kept as they appear.
    max_segments
        Segments kept apart. Events of later ones count in `OTHER`.

    State
    -----
    Twelve sums a segment, and the catalogue's size and coverage. Sums add up, so partitions merge.

    Examples
    --------
    >>> import numpy as np
    >>> metrics = PrequentialMetrics()
    >>> rank, some = np.array([0, 3, -1], np.int32), np.full(3, 0.5, np.float32)
    >>> metrics.update_many(StepOutput(rank, some, some, rank - 1, some, n_items=9))
    >>> found = metrics.as_dict()
    >>> found["hit@10"], found["popularity"]["hit@10"]
    (0.6666666666666666, 0.3333333333333333)
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
        rows: StepOutput,
        segment_codes: NDArray[np.int32] | None = None,
        covered: int | None = None,
    ) -> None:
        """Add rows.

        Parameters
        ----------
        rows
            What was predicted; rows that are no predictions are passed over.
        segment_codes
            Of each row, from `segment_code`.
        covered
            Items that were ever in a top 10.
        """
        self.n_items = rows.n_items
        if covered is not None:
            self.covered = covered
        if len(rows.rank):
            codes = _NO_CODES if segment_codes is None else segment_codes
            _add_rows(
                self._sums,
                rows.rank,
                rows.predicted,
                rows.novelty_bits,
                rows.popular_rank,
                rows.diversity,
                codes,
            )

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
        sums = self._sums[row]
        n, judged, spreads = sums[_N], sums[_JUDGED], sums[_SPREADS]
        means = sums / max(n, 1.0)
        since = sums / max(judged, 1.0)
        return {
            "n": int(n),
            "hit@10": float(means[_HITS]),
            "ndcg@10": float(means[_GAIN]),
            "mrr": float(means[_RECIPROCAL]),
            "novelty_bits": float(means[_BITS]),
            "log_loss": float(since[_LOSS]) if judged else None,
            "intra_list_diversity": float(sums[_SPREAD] / spreads) if spreads else None,
            "popularity": {
                "hit@10": float(since[_POPULAR_HITS]),
                "ndcg@10": float(since[_POPULAR_GAIN]),
                "mrr": float(since[_POPULAR_RECIPROCAL]),
            },
        }

    def to_bytes(self) -> bytes:
        """Return everything as versioned bytes."""
        head = {
            "segments": list(self._codes),
            "max_segments": self.max_segments,
            "n_items": self.n_items,
            "covered": self.covered,
        }
        # What is newer stands apart, where an earlier program does not look.
        first, later = self._sums[:, :_FIRST_COLUMNS], self._sums[:, _FIRST_COLUMNS:]
        return pack(head, {"sums": first, "judged": later})

    @classmethod
    def from_bytes(cls, data: bytes) -> PrequentialMetrics:
        """Return the metrics that `to_bytes` wrote."""
        head, arrays = unpack(data)
        metrics = cls(head["segments"], max_segments=int(head["max_segments"]))
        first, later = arrays["sums"], arrays.get("judged")
        metrics._sums = np.zeros((len(first), _COLUMNS))
        metrics._sums[:, :_FIRST_COLUMNS] = first
        if later is not None:
            metrics._sums[:, _FIRST_COLUMNS:] = later
        metrics.n_items = int(head["n_items"])
        metrics.covered = int(head["covered"])
        return metrics
