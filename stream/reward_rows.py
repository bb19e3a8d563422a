"""One batch of the reward stage as columns: exposures, outcomes, and their way through a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.rewards import ARRIVED, EXPOSED, FEATURES, NO_FEATURE, RewardHead
from stream.rows import Happened
from stream.user_state import Example

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
    """An outcome on its way to its head; ``fresh`` is its exposure's row in this batch, or -1."""

    place: int
    kind: int
    ts: float
    age_s: float
    fresh: int
    features: NDArray[np.uint32] | None
    p0: float
    number: float | None


class Fresh:
    """The exposures of one batch, as columns, in order.

    Attributes
    ----------
    place
        Position of each in what happened, (e,).
    kinds
        Type of the event that each was.
    features
        Hashed features, (e, FEATURES).
    state
        What has become of each outcome, (e, outcomes): of this batch.
    """

    def __init__(
        self, opened: Sequence[tuple[int, Happened]], outcomes: int, hashes: FeatureHashes
    ) -> None:
        self.place = np.array([place for place, _ in opened], dtype=np.int64)
        self.users = [one[0] for _, one in opened]
        self.examples = [one[1] for _, one in opened]
        self.kinds = [one[3] for _, one in opened]
        self.ts = np.array([one[4] for _, one in opened])
        self.features = hashes.features(opened)
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

    def features(self, opened: Sequence[tuple[int, Happened]]) -> NDArray[np.uint32]:
        """Return what heads are told of exposures: (e, FEATURES) hashes.

        How it came about, item, segment, position, how active the person was, item and segment.
        """
        items, segments = self._items, self._segments
        table = np.empty((len(opened), FEATURES), dtype=np.uint32)
        shown = [one[3] == "impression" for _, one in opened]
        table[:, 0] = np.where(np.array(shown, dtype=np.bool_), _SHOWN, _ORGANIC)
        table[:, 1] = [
            items.get(one[1].item_id) or _hashed(items, one[1].item_id, _ITEM) for _, one in opened
        ]
        table[:, 2] = [
            segments.get(one[1].segment) or _hashed(segments, one[1].segment or "", _SEGMENT)
            for _, one in opened
        ]
        position = np.array([_NO_POSITION if one[5] is None else one[5] for _, one in opened])
        code = (position.astype(np.int64) & _LOW).astype(np.uint32) * _POSITION
        table[:, 3] = np.where(position == _NO_POSITION, NO_FEATURE, code & _LOW)
        active = np.frexp(np.array([one[6] for _, one in opened]))[1]
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
    about = np.array(
        [fresh.features[a.fresh] if a.features is None else a.features for a in arrivals],
        dtype=np.uint32,
    ).reshape(-1, FEATURES)
    # What arrives at the place of a new exposure was before it.
    order = np.argsort(
        np.concatenate((np.array([a.place for a in arrivals], dtype=np.int64), place)),
        kind="stable",
    )
    row_of = np.empty(came + len(ts), dtype=np.int64)
    row_of[order] = np.arange(len(order))
    # The last place stands for exposures of earlier batches.
    of_exposure = np.full(len(fresh) + 1, NONE, dtype=np.int64)
    of_exposure[slice(len(fresh)) if mine is None else mine] = row_of[came:]
    origin = of_exposure[[a.fresh for a in arrivals]]
    none = np.full(len(ts), NONE, dtype=np.int64)
    zeros = np.zeros(len(ts))
    out = head.learn_many(
        np.concatenate((about, features))[order],
        np.concatenate((np.array([a.ts for a in arrivals]), ts))[order],
        np.concatenate(
            (
                np.array([a.kind for a in arrivals], dtype=np.int8),
                np.full(len(ts), EXPOSED, dtype=np.int8),
            )
        )[order],
        age_s=np.concatenate((np.array([a.age_s for a in arrivals]), zeros))[order],
        p0=np.concatenate((np.array([a.p0 for a in arrivals]), zeros))[order],
        origin=np.concatenate((origin, none))[order],
        learn=learn,
    )
    return out[row_of[came:]]


def regress(
    head: RewardHead, arrivals: Sequence[Arrival], features: NDArray[np.uint32], learn: bool
) -> None:
    """Teach a head the amounts that came with an outcome."""
    paid = [a for a in arrivals if a.kind == ARRIVED and a.number is not None]
    if paid:
        head.learn_many(
            np.array([features[a.fresh] if a.features is None else a.features for a in paid]),
            [a.ts for a in paid],
            np.full(len(paid), ARRIVED, dtype=np.int8),
            value=[a.number or 0.0 for a in paid],
            learn=learn,
        )
