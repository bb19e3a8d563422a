"""A reward head: the chance, or the amount, that an exposure brings, learned as it arrives.

Waiting for a window to close makes a model a window old; learning a negative at once makes it
believe that nothing sells until the sales come in. Here the negative is learned at once *as it
matures*: its mass flows into the weights along the delay curve of the outcome, so that at every
moment the negatives that count are those of which an outcome would have been seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.delay import DelayCurve
from models.formats import refuse_newer
from models.rewards.kernels import AMOUNT, ARRIVED, EXPOSED, UNDONE, WIDTH, bring_up, learn_rows
from models.rewards.score import HeadScore
from models.rewards.table_chunks import TableChunks

__all__ = [
    "ARRIVED",
    "EXPOSED",
    "FEATURES",
    "HEAD_STATE",
    "NO_FEATURE",
    "UNDONE",
    "HeadConfig",
    "RewardHead",
]

FEATURES: Final = 6
"""Features of an exposure; the first is the one that every exposure of a kind has."""

NO_FEATURE: Final = 0xFFFFFFFF
"""Stands where an exposure lacks a feature."""

HEAD_STATE: Final = "state"
"""Chunk of all of a head but its table: curve and score, which is small."""

_FORMAT: Final = 2
"""1: the table as blocks alone; 2: rows that changed since beside them."""
_LAST: Final = WIDTH - 1
_FIT_LEAST: Final = 16
_FIT_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What one head predicts, and its size.

    Parameters
    ----------
    window_s
        An outcome that comes later does not count.
    linear
        Regress on an amount (given the outcome) instead of predicting a chance.
    half_life_s
        After how much event time a row counts half.
    bits
        The table has 2**bits rows of 80 bytes; features beyond share rows.
    base_rate
        Chance (linear: amount) before anything was learned.
    precision
        How many rows' worth of doubt a new feature meets.
    """

    window_s: float
    linear: bool = False
    half_life_s: float = 14 * 86_400.0
    bits: int = 15
    base_rate: float = 0.05
    precision: float = 4.0


class RewardHead:
    """The head of one outcome: an online logistic (or linear) model on hashed features.

    *Math* — every weight is a ratio of sums, w = s/(λ₀ + λ). A row at chance p, with curvature
    h = p(1 − p) and its share c among the row's features,

        exposed:  λ += c·h,   s += c·(h·w − p),  of which −p matures along the delay curve,
        arrived:  s += c,     undone:  s −= c,

    all decayed by event time. The delay curve is everybody's; a weight with outcomes of its own
    leans towards theirs, so that what sells slowly is not taken for unloved. An arrival adds
    exactly what "a positive instead of a negative at the same point" would have, so a correction
    needs nothing but the features; repeats are kept away by the caller, who has the journal.

    *State* — 2**bits rows, a delay curve, and a score; nothing else grows.
    *Complexity* — one pass over the features of a row, about 0.3 µs.
    *Replay* — rows are learned in order; the curve is fitted anew after its own count of
    outcomes, so that the result does not depend on how rows are split into calls.

    Examples
    --------
    >>> head = RewardHead(HeadConfig(window_s=3600.0, base_rate=0.2))
    >>> rows = np.zeros((1, FEATURES), dtype=np.uint32)
    >>> before = head.learn_many(rows, [0.0], [EXPOSED])
    >>> _ = head.learn_many(rows, [60.0], [ARRIVED], age_s=[60.0])
    >>> bool(head.predict_many(rows, 60.0)[0] > before[0])
    True

    References
    ----------
    Chapelle (2014), "Modeling delayed feedback in display advertising"; Ktena et al. (2019),
    "Addressing delayed feedback for continuous training", whose fake negatives this matures.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.config = config
        self.curve = DelayCurve(config.window_s)
        self.score = HeadScore()
        self.table = np.zeros((1 << config.bits, WIDTH))
        self.rows = 0
        rate = config.base_rate
        self._offset = rate if config.linear else log(rate / (1.0 - rate))
        self._mask = np.uint32((1 << config.bits) - 1)
        self._prior = np.full(FEATURES, config.precision)
        self._prior[0] = min(1.0, config.precision)
        self._fade = log(2.0) / config.half_life_s
        self._until_fit = _FIT_LEAST
        self._stored = TableChunks(len(self.table))

    @property
    def version(self) -> int:
        """Return the number of rows learned, as 32 bits of it."""
        return self.rows & 0xFFFFFFFF

    # --- rows -----------------------------------------------------------------------------

    def predict_many(self, features: ArrayLike, ts: float) -> NDArray[np.float64]:
        """Return the prediction for hashed features (n, FEATURES) at a time; change nothing."""
        rows = self._indexes(features)
        n = len(rows)
        out = np.empty(n)
        self._run(rows, np.full(n, ts), np.zeros(n, np.int8), np.zeros(n), False, out)
        return out

    def learn_many(
        self,
        features: ArrayLike,
        ts: ArrayLike,
        kind: ArrayLike,
        *,
        age_s: ArrayLike | None = None,
        p0: ArrayLike | None = None,
        origin: ArrayLike | None = None,
        value: ArrayLike | None = None,
        learn: bool = True,
    ) -> NDArray[np.float64]:
        """Predict rows, then learn them, in order; return the predictions (n,).

        Parameters
        ----------
        features
            (n, FEATURES) hashes of the exposure that a row is about.
        ts
            (n,) event time of what happened.
        kind
            (n,) `EXPOSED`, `ARRIVED` or `UNDONE`; a linear head takes amounts, whatever the kind.
        age_s, p0
            (n,) for outcomes: how long after the exposure, and what was predicted then. Exposures
            are scored with the prediction that is returned.
        origin
            (n,) for outcomes whose exposure is a row of this call: that row, before theirs; its
            prediction is then taken for ``p0``. -1 otherwise.
        value
            (n,) amounts, for a linear head.
        learn
            False: predict and score only.
        """
        rows = self._indexes(features)
        n = len(rows)
        when = np.asarray(ts, dtype=np.float64)
        kinds = np.asarray(kind, dtype=np.int8)
        ages = np.zeros(n) if age_s is None else np.asarray(age_s, dtype=np.float64)
        out = np.empty(n)
        detail = ages
        if self.config.linear:
            kinds = np.full(n, AMOUNT, dtype=np.int8)
            detail = np.zeros(n) if value is None else np.asarray(value, dtype=np.float64)
        arrived = np.flatnonzero(kinds == ARRIVED)
        start = 0
        while start < n:
            due = len(arrived) > self._until_fit - 1
            stop = int(arrived[self._until_fit - 1]) + 1 if due and learn else n
            part = slice(start, stop)
            self._run(rows[part], when[part], kinds[part], detail[part], learn, out[part])
            if learn:
                came = arrived[: self._until_fit] if due else arrived
                self._count(when, ages, kinds, part, came)
                self._until_fit -= len(came)
                arrived = arrived[len(came) :]
                if self._until_fit == 0:
                    self.curve.fit()
                    self._until_fit = max(_FIT_LEAST, int(_FIT_SHARE * self.curve.outcomes))
            start = stop
        if learn:
            self.rows += n
            self._stored.touch(rows)
        if not self.config.linear:
            first = out if p0 is None else np.asarray(p0, dtype=np.float64)
            if origin is not None:
                row = np.asarray(origin, dtype=np.int64)
                first = np.where(row >= 0, out[row], first)
            self.score.observe(kinds, np.where(kinds == EXPOSED, out, first))
        return out

    def eventual(self, p0: ArrayLike, age_s: ArrayLike) -> NDArray[np.float64]:
        """Return the chance that an open example of this age still brings the outcome."""
        return self.curve.eventual(p0, age_s)

    # --- add and keep ---------------------------------------------------------------------

    def merge(self, other: RewardHead) -> None:
        """Add what another partition learned: sums add, brought to the later of the two times.

        Raises
        ------
        ValueError
            If it is a head of another configuration.
        """
        if other.config != self.config:
            raise ValueError("heads of different configurations do not add")
        theirs = other.table.copy()
        ts = float(max(self.table[:, _LAST].max(), theirs[:, _LAST].max()))
        bring_up(self.table, ts, self.curve.rates, self._fade)
        bring_up(theirs, ts, self.curve.rates, self._fade)
        last = np.maximum(self.table[:, _LAST], theirs[:, _LAST])
        self.table += theirs
        self.table[:, _LAST] = last
        self.rows += other.rows
        self.curve.merge(other.curve)
        self.score.add(other.score)
        self._stored.touch_all()

    def dirty_chunks(self) -> dict[str, bytes]:
        """Return the chunks that changed since the last call: the state, and rows of the table."""
        return {HEAD_STATE: self._state(), **self._stored.written(self.table)}

    def load_chunks(self, chunks: Mapping[str, bytes]) -> None:
        """Take stored chunks up; a head of another configuration is of no use and is left out.

        Raises
        ------
        ValueError
            If they are of a newer format than this program reads.
        """
        if HEAD_STATE not in chunks:
            if chunks:
                # A head of that name was given up: what is left of its table is of no use.
                self._stored.supersede(chunks)
            return
        stored: list[Any] = msgspec.msgpack.decode(chunks[HEAD_STATE])
        refuse_newer("a reward head", stored[0], _FORMAT)
        rows = {name: data for name, data in chunks.items() if name != HEAD_STATE}
        if stored[1] != _described(self.config):
            self._stored.supersede(rows)
            return
        self.rows, self._until_fit = stored[2], stored[3]
        self.curve = DelayCurve.from_bytes(stored[4])
        self.score = HeadScore.from_bytes(stored[5])
        self._stored.read(self.table, rows)

    def to_bytes(self) -> bytes:
        """Return the whole state as versioned bytes."""
        chunks = {HEAD_STATE: self._state(), **self._stored.everything(self.table)}
        return msgspec.msgpack.encode((_FORMAT, _described(self.config), chunks))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the head that was written.

        Raises
        ------
        ValueError
            If it is of a newer format than this program reads.
        """
        stored: list[Any] = msgspec.msgpack.decode(data)
        refuse_newer("a reward head", stored[0], _FORMAT)
        made = cls(HeadConfig(*stored[1]))
        made.load_chunks(stored[2])
        return made

    # --- inside ---------------------------------------------------------------------------

    def _indexes(self, features: ArrayLike) -> NDArray[np.int64]:
        hashes = np.asarray(features, dtype=np.uint32).reshape(-1, FEATURES)
        return np.where(hashes == NO_FEATURE, -1, (hashes & self._mask).astype(np.int64))

    def _run(
        self,
        rows: NDArray[np.int64],
        ts: NDArray[np.float64],
        kind: NDArray[np.int8],
        detail: NDArray[np.float64],
        learn: bool,
        out: NDArray[np.float64],
    ) -> None:
        learn_rows(
            rows,
            ts,
            kind,
            detail,
            self.table,
            self._prior,
            self._offset,
            self.curve.rates,
            self.curve.shares,
            self.curve.at_once_s,
            self._fade,
            self.config.linear,
            learn,
            out,
        )

    def _count(
        self,
        ts: NDArray[np.float64],
        age_s: NDArray[np.float64],
        kind: NDArray[np.int8],
        part: slice,
        arrived: NDArray[np.intp],
    ) -> None:
        self.curve.expose(ts[part][kind[part] == EXPOSED])
        if len(arrived):
            self.curve.arrive(ts[arrived], age_s[arrived])

    def _state(self) -> bytes:
        return msgspec.msgpack.encode(
            (
                _FORMAT,
                _described(self.config),
                self.rows,
                self._until_fit,
                self.curve.to_bytes(),
                self.score.to_bytes(),
            )
        )


def _described(config: HeadConfig) -> list[float | int | bool]:
    return [
        config.window_s,
        config.linear,
        config.half_life_s,
        config.bits,
        config.base_rate,
        config.precision,
    ]
