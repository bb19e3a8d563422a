"""Recommend from what users did lately and what went together lately, learning at every event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.recommender.audiences import refuse_marked
from models.recommender.config import Config
from models.recommender.core import RecommenderCore
from models.recommender.entry import Part
from models.recommender.histories import Histories
from models.recommender.inputs import (
    read_column,
    read_id,
    read_ids,
    read_kinds,
    read_reward,
    read_time,
    read_times,
)
from models.recommender.snapshot import META, SnapshotError, frame, pack, unframe, unpack
from models.recommender.step import ENGAGE, NEGATIVE, StepOutput
from models.recommender.vocabulary import UNKNOWN

__all__ = ["Recommender"]

_HISTORIES = "histories"


class Recommender(RecommenderCore):
    """Next-item recommender: co-visitation, repeats and popularity, mixed as the stream teaches.

    Parameters
    ----------
    config
        Sizes and rates; the defaults need no tuning.
    max_users
        Histories kept by the methods that take a user's id (`learn_many`, `recommend`). The
        stepwise interface keeps none: its caller passes them.

    Math
    ----
    p(i) = (1 - R)·Σ_e a_e·p_e(i) for items that are not in the user's history, and the learned
    chance of a repeat for those that are, R in all. The experts p_e and repeats are described
    in `models.recommender.scoring`, the mixture's guard in `models.recommender.guard`. What
    differs between sessions and long histories, and whether people repeat, is learned.

    State
    -----
    Per item 34 bytes, and 8 a neighbour in whole cache lines: 46 MB for 100,000 items of 32
    neighbours, up to ``config.max_items``; later items are dropped and counted.

    Complexity
    ----------
    A few hundred candidates an event: 350,000 events/s predicted and learned on a busy core
    (18,000 items, sessions), 60,000 with histories of a hundred items; the top 100 of 100,000
    items in 0.2 ms (p99). A checkpoint costs what changed: 0.4 ms and 0.2 to 0.4 MB after 156
    events (18,000 to 100,000 items). `python -m bench.recommender`.

    Replay
    ------
    Rows are handled strictly in order with plain arithmetic: any split into calls gives the
    same bits.

    Examples
    --------
    >>> model = Recommender()
    >>> for user in "abcdef":
    ...     model.learn_one(user, "tea", True)
    ...     model.learn_one(user, "pot", True)
    >>> model.learn_one("new", "tea", True)
    >>> [item for item, _ in model.recommend("new", 1)]
    ['pot']
    """

    def __init__(self, config: Config | None = None, *, max_users: int = 100_000) -> None:
        if max_users < 1:
            message = f"max_users must be at least 1; found {max_users}"
            raise ValueError(message)
        super().__init__(config)
        self.histories = Histories(max_users)

    @property
    def is_contextual(self) -> bool:
        """Return whether a context is needed, as river asks: one that says the time is welcome."""
        return False

    @property
    def _supervised(self) -> bool:
        # Asked by river's wrappers, through which its evaluation takes rankers.
        return True

    @property
    def predicting(self) -> RecommenderCore:
        """Return what predictions come from: itself."""
        return self

    @property
    def forgotten_users(self) -> int:
        """Histories given up because there were too many users."""
        return self.histories.dropped

    # ---- by user id: histories are kept here

    def learn_many(
        self,
        users: Sequence[str],
        items: Sequence[str],
        weights: Sequence[float] | NDArray[np.float64] | None = None,
        ts: Sequence[float] | NDArray[np.float64] | None = None,
        kinds: Sequence[int] | NDArray[np.int8] | None = None,
        segments: Sequence[str | None] | None = None,
    ) -> StepOutput:
        """Predict each event, then learn it; return ranks as `step_many` does.

        Without ``ts`` events happen when the last one did.
        """
        n = len(users)
        users, items = read_ids("user", users), read_ids("item", items)
        if len(items) != n:
            message = f"{len(items)} items beside {n} users"
            raise ValueError(message)
        refuse_marked(items)
        weight = np.ones(n) if weights is None else read_column("weights", weights, np.float64, n)
        when = np.full(n, self._last_ts) if ts is None else read_times(ts, n)
        kind = np.zeros(n, np.int8) if kinds is None else read_kinds(kinds, n)
        index, segment = self.indexes(items, [None] * n if segments is None else segments)
        histories = self.histories
        parts: list[StepOutput] = []
        start = 0
        while start < n or not parts:
            # Users admitted in one go must not evict each other's rows.
            stop = min(n, start + max(1, histories.max_users))
            rows = np.array([histories.admit(user) for user in users[start:stop]], np.int32)
            part = slice(start, stop)
            histories.make_room(rows)
            out = self.step_many(
                histories.items,
                histories.weights,
                histories.lengths,
                rows,
                index[part],
                np.arange(stop - start, dtype=np.int32),
                np.full(stop - start, -1.0),
                weight[part],
                when[part],
                kind[part],
                segment=segment[part],
            )
            parts.append(out)
            start = stop
        if n:
            self._last_ts = max(self._last_ts, float(when.max()))
        return StepOutput.joined(parts)

    def recommend(
        self,
        user: str,
        k: int = 10,
        exclude: Sequence[str] = (),
        ts: float | None = None,
        segment: str | None = None,
    ) -> list[tuple[str, float]]:
        """Return the k best items for the user with their scores, best first."""
        if k < 0:
            message = f"k must be at least 0; found {k}"
            raise ValueError(message)
        if k == 0:
            return []
        items, weights, length = self.histories.find(read_id("user", user))
        out = np.array([self.vocabulary.find(item) for item in read_ids("item", exclude)], np.int32)
        found, scores = self.recommend_for(
            items,
            weights,
            length,
            k,
            out,
            self._last_ts if ts is None else ts,
            self.segment_index(segment),
        )
        return list(zip(self.item_ids(found), scores.tolist(), strict=True))

    def learn_one(
        self, user: str, item: str, y: float | bool, x: Mapping[str, Any] | None = None
    ) -> None:
        """Learn that the user engaged with the item (y > 0, at most 1) or refused it (0).

        ``x["ts"]`` is the event's time.
        """
        ts = read_time(x, self._last_ts)
        weight = read_reward(y)
        kind = ENGAGE if weight > 0.0 else NEGATIVE
        self.learn_many([user], [item], [weight if weight > 0.0 else 1.0], [ts], [kind])

    def predict_one(self, user: str, item: str, x: Mapping[str, Any] | None = None) -> float:
        """Return the item's score for the user, 0 where nothing speaks for it."""
        index = self.vocabulary.find(read_id("item", item))
        items, weights, length = self.histories.find(read_id("user", user))
        ts = read_time(x, self._last_ts)
        if index == UNKNOWN:
            return 0.0
        found, parts = self.score(items, weights, length, ts)
        at = np.flatnonzero(found == index)
        return float(parts[at[0], Part.SCORE]) if len(at) else 0.0

    def rank(
        self, user: str, items: Sequence[str] | Set[str], x: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Return the items, best first; equally good ones in the order given, a set's by name."""
        given = sorted(items, key=str) if isinstance(items, Set) else items
        return sorted(given, key=lambda item: -self.predict_one(user, item, x))

    # ---- whole

    def merge(self, other: RecommenderCore) -> None:
        """Add what the other learned from other events, and the users that only it knows."""
        super().merge(other)
        if isinstance(other, Recommender):
            known = other.vocabulary.part(0, len(other.vocabulary))
            self.histories.merge(other.histories, self.item_indexes(known))

    def to_bytes(self) -> bytes:
        """Return everything, the users' histories included, as versioned bytes."""
        chunks = self.all_chunks()
        users, arrays = self.histories.export()
        chunks[_HISTORIES] = pack(
            {
                "users": users,
                "max_users": self.histories.max_users,
                "dropped": self.histories.dropped,
            },
            arrays,
        )
        return frame(chunks)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the recommender that `to_bytes` wrote."""
        chunks = unframe(data)
        if META not in chunks or _HISTORIES not in chunks:
            raise SnapshotError("the recommender's snapshot is incomplete")
        head, _ = unpack(chunks[META])
        histories, arrays = unpack(chunks[_HISTORIES])
        model = cls(Config.from_dict(head["config"]), max_users=int(histories["max_users"]))
        model.load_chunks(chunks)
        model.histories.load(
            histories["users"], arrays["items"], arrays["weights"], arrays["lengths"]
        )
        model.histories.dropped = int(histories["dropped"])
        return model
