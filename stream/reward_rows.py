"""One batch of the reward stage as columns: exposures, outcomes, and their way through a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.rewards import ARRIVED, EXPOSED, FEATURES, NO_FEATURE, RewardHead
from stream.rows import Happened
from stream.user_state import Example, UserState

__all__ = ["NONE", "Arrival", "FeatureHashes", "Fresh", "regress", "run_head"]

NONE: Final = -1
"""In the place of a row: the exposure is of an earlier batch."""

_CACHED: Final = 65_536
_ITEM, _SEGMENT = 1, 2
_SHOWN: Final = np.uint32(1)
_ORGANIC: Final = np.uint32(2)
_NO_POSITION: Final = -(2.0**53)
_LOW: Final = np.uint32(0x7FFFFFFF)
_POSITION: Final = np.uint32(0x9E3779B1)
_ACTIVE: Final = np.uint32(0xC2B2AE3D)
_FIRST: Final = np.uint32(0x85EBCA77)
_SECOND: Final = np.uint32(0x27D4EB2F)


class Arrival(NamedTuple):
    """An outcome on its way to its head.

    ``fresh`` is its exposure's row in this batch, or -1: then ``features`` are its hashes, and
    ``p0`` what was predicted of it.
    """

    place: int
    kind: int
    ts: float
    age_s: float
    fresh: int
    features: bytes
    p0: float
    number: float | None


class Fresh:
    """The exposures of one batch, as columns, in order.

    Attributes
    ----------
    place
        Position of each in what happened, (e,).
    users, examples, kinds
        Whose each is, of what, and the type of the event that it was.
    ts
        When each was, (e,).
    features
        Hashed features, (e, FEATURES).
    state
        What has become of each outcome, (e, outcomes): of this batch.
    """

    def __init__(self, happened: Sequence[Happened], outcomes: int, hashes: FeatureHashes) -> None:
        opened = [one for one in happened if one[2]]
        if len(opened) == len(happened):
            self.place = np.arange(len(opened))
        else:
            places = [place for place, one in enumerate(happened) if one[2]]
            self.place = np.array(places, dtype=np.int64)
        columns: list[tuple[Any, ...]] = list(zip(*opened, strict=True)) or [()] * 7
        self.users: tuple[UserState, ...] = columns[0]
        self.examples: tuple[Example, ...] = columns[1]
        self.kinds: tuple[str, ...] = columns[3]
        self.times: tuple[float, ...] = columns[4]
        self.ts = np.array(self.times, dtype=np.float64)
        self.features = hashes.features(self.examples, self.kinds, columns[5], columns[6])
        self.state = np.zeros((len(opened), outcomes), dtype=np.uint8)
        self._rows: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def row(self, example: Example) -> int:
        """Return the row of an exposure, or `NONE` if it is of an earlier batch."""
        if self._rows is None:
            self._rows = {id(one): row for row, one in enumerate(self.examples)}
        return self._rows.get(id(example), NONE)


class FeatureHashes:
    """Hashes of features; those of names are kept for a while."""

    def __init__(self) -> None:
        self._items: dict[str, int] = {}
        self._segments: dict[str | None, int] = {None: NO_FEATURE}

    def features(
        self,
        examples: Sequence[Example],
        kinds: Sequence[str],
        positions: Sequence[float | None],
        rates: Sequence[float],
    ) -> NDArray[np.uint32]:
        """Return what heads are told of exposures: (e, FEATURES) hashes.

        How it came about, item, segment, position, how active the person was, item and segment.
        """
        items, segments = self._items, self._segments
        table = np.empty((len(examples), FEATURES), dtype=np.uint32)
        shown = np.array([kind == "impression" for kind in kinds], dtype=np.bool_)
        table[:, 0] = np.where(shown, _SHOWN, _ORGANIC)
        table[:, 1] = [
            items.get(one.item_id) or _hashed(items, one.item_id, _ITEM) for one in examples
        ]
        table[:, 2] = [
            segments.get(one.segment) or _hashed(segments, one.segment or "", _SEGMENT)
            for one in examples
        ]
        position = np.array([_NO_POSITION if at is None else at for at in positions])
        code = (position.astype(np.int64) & _LOW).astype(np.uint32) * _POSITION
        table[:, 3] = np.where(position == _NO_POSITION, NO_FEATURE, code & _LOW)
        active = np.frexp(np.array(rates, dtype=np.float64))[1]
        table[:, 4] = active.astype(np.uint32) * _ACTIVE & _LOW
        pair = (table[:, 1] * _FIRST) ^ (table[:, 2] * _SECOND)
        table[:, 5] = np.where(table[:, 2] == NO_FEATURE, NO_FEATURE, pair & _LOW)
        return table


def _hashed(known: dict[Any, int], name: str, seed: int) -> int:
    if len(known) >= _CACHED:
        known.clear()
        known[None] = NO_FEATURE
    # Never the number that stands for no feature.
    found = known[name] = xxhash.xxh32_intdigest(name.encode(), seed) & 0x7FFFFFFF
    return found


def run_head(
    head: RewardHead,
    mine: NDArray[np.int64] | None,
    fresh: Fresh,
    arrivals: Sequence[Arrival],
    learn: bool,
) -> NDArray[np.float64]:
    """Pass exposures through a head, and arrivals, in order; return the predictions of the first.

    ``mine`` are rows of ``fresh``; None: all of them.
    """
    features, ts, place = fresh.features, fresh.ts, fresh.place
    if mine is not None:
        features, ts, place = features[mine], ts[mine], place[mine]
    if not arrivals:
        if not len(ts):
            return np.empty(0)
        return head.learn_many(features, ts, np.zeros(len(ts), dtype=np.int8), learn=learn)
    came = len(arrivals)
    places, kinds, times, ages_s, rows, _, p0s, _ = zip(*arrivals, strict=True)
    came_place, of_row = np.array(places, dtype=np.int64), np.array(rows, dtype=np.int64)
    # Both are in order; what arrives at the place of a new exposure was before it.
    at_arrival = np.arange(came) + np.searchsorted(place, came_place, side="left")
    at_exposure = np.arange(len(ts)) + np.searchsorted(came_place, place, side="right")
    # The last place stands for exposures of earlier batches.
    of_exposure = np.full(len(fresh) + 1, NONE, dtype=np.int64)
    of_exposure[slice(len(fresh)) if mine is None else mine] = at_exposure
    n = came + len(ts)
    table = np.empty((n, FEATURES), dtype=np.uint32)
    table[at_exposure], table[at_arrival] = features, _about(arrivals, fresh, of_row)
    when, kind = np.empty(n), np.full(n, EXPOSED, dtype=np.int8)
    when[at_exposure], when[at_arrival] = ts, times
    kind[at_arrival] = kinds
    age_s, p0, origin = np.zeros(n), np.zeros(n), np.full(n, NONE, dtype=np.int64)
    age_s[at_arrival], p0[at_arrival], origin[at_arrival] = ages_s, p0s, of_exposure[of_row]
    out = head.learn_many(table, when, kind, age_s=age_s, p0=p0, origin=origin, learn=learn)
    predicted: NDArray[np.float64] = out[at_exposure]
    return predicted


def _about(
    arrivals: Sequence[Arrival], fresh: Fresh, rows: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Return the features of the exposures that arrivals are of, (a, FEATURES)."""
    about = np.empty((len(rows), FEATURES), dtype=np.uint32)
    known = rows != NONE
    about[known] = fresh.features[rows[known]]
    if not known.all():
        joined = b"".join([a.features for a in arrivals if a.fresh == NONE])
        about[~known] = np.frombuffer(joined, dtype="<u4").reshape(-1, FEATURES)
    return about


def regress(
    head: RewardHead, arrivals: Sequence[Arrival], features: NDArray[np.uint32], learn: bool
) -> None:
    """Teach a head the amounts that came with an outcome."""
    paid = [a for a in arrivals if a.kind == ARRIVED and a.number is not None]
    if paid:
        head.learn_many(
            np.array(
                [
                    np.frombuffer(a.features, dtype="<u4") if a.fresh == NONE else features[a.fresh]
                    for a in paid
                ]
            ),
            [a.ts for a in paid],
            np.full(len(paid), ARRIVED, dtype=np.int8),
            value=[a.number or 0.0 for a in paid],
            learn=learn,
        )
