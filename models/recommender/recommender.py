"""Recommend from what users did lately and what went together lately, learning at every event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.recommender.counting import units
from models.recommender.histories import Histories
from models.recommender.scoring import clear, gather
from models.recommender.snapshot import (
    META,
    SnapshotError,
    frame,
    pack,
    pack_rows,
    row_chunk_name,
    unframe,
    unpack,
    unpack_rows,
)
from models.recommender.step import ENGAGE, NEGATIVE, StepOutput, step_rows
from models.recommender.tables import (
    CHUNK_ROWS,
    GLOBAL_ARRAYS,
    Cell,
    Config,
    Flag,
    Tables,
    Total,
    allocate,
    grown,
)
from models.recommender.vocabulary import UNKNOWN, Vocabulary

__all__ = ["Recommender"]

_HISTORIES = "histories"
_FIRST_CAPACITY = 64 * CHUNK_ROWS
_NOTHING: NDArray[np.int32] = np.zeros(0, np.int32)


class Recommender:
    """Next-item recommender: decayed co-visitation, learned repeats, popularity.

    Parameters
    ----------
    config
        Sizes and rates; the defaults need no tuning.
    max_users
        Histories kept by the methods that take a user's id (`learn_many`, `recommend`). The
        stepwise interface keeps none: its caller passes them.

    Math
    ----
    s(i) = Σ_k γ^k·w_k·C[j_k→i] / ((n_{j_k}^β + 1)·n_i^α) + M·Σ_k w_k·r_k·[i = j_k] + ε·pop(i),
    where j_k is the item k steps back in the history, C, n and pop decay with event time, M is
    the mass of the first term, and r_k the learned chance that the next item is the one k steps
    back: a stream without repeats teaches r = 0.

    State
    -----
    About 330 bytes an item, up to ``config.max_items``; later items are dropped and counted.

    Complexity
    ----------
    Some 160 neighbours and 128 popular items are looked at an event: about 1 µs on 18,000 items.

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
        self.config = config or Config()
        self._parameters = self.config.parameters()
        self._vocabulary = Vocabulary(self.config.max_items)
        self._tables: Tables = allocate(self.config, min(_FIRST_CAPACITY, self._capacity_limit()))
        self._meta_dirty = False
        self._histories = Histories(max_users)
        self._last_ts = 0.0

    def _capacity_limit(self) -> int:
        return -(-self.config.max_items // CHUNK_ROWS) * CHUNK_ROWS

    # ---- vocabulary

    @property
    def n_items(self) -> int:
        """Items seen engaged with so far."""
        return int(self._tables.totals[Total.SEEN])

    @property
    def covered(self) -> int:
        """Items that were ever in a top 10."""
        return int(self._tables.totals[Total.COVERED])

    @property
    def dropped_items(self) -> int:
        """Times that an item was refused because the vocabulary was full."""
        return self._vocabulary.dropped

    @property
    def forgotten_users(self) -> int:
        """Histories given up because there were too many users."""
        return self._histories.dropped

    def item_index(self, item_id: str) -> int:
        """Return the item's index, admitting it; -1 where the vocabulary is full."""
        return int(self.item_indexes([item_id])[0])

    def item_indexes(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting new ones in order; -1 where there is no room."""
        before, dropped = len(self._vocabulary), self._vocabulary.dropped
        found = self._vocabulary.admit(item_ids)
        after = len(self._vocabulary)
        if after != before:
            self._reserve(after)
            self._tables.dirty[before // CHUNK_ROWS : (after - 1) // CHUNK_ROWS + 1] = 1
        if after != before or self._vocabulary.dropped != dropped:
            self._meta_dirty = True
        return found

    def item_ids(self, indexes: Sequence[int] | NDArray[np.int32]) -> list[str]:
        """Return the ids of these indexes."""
        return self._vocabulary.ids(
            indexes.tolist() if isinstance(indexes, np.ndarray) else indexes
        )

    def _reserve(self, items: int) -> None:
        capacity = len(self._tables.filled)
        if items <= capacity:
            return
        while capacity < items:
            capacity *= 2
        self._tables = grown(self._tables, self.config, min(capacity, self._capacity_limit()))

    # ---- the stepwise interface: histories belong to the caller

    def step_many(
        self,
        hist_items: NDArray[np.int32],
        hist_weights: NDArray[np.float32],
        hist_len: NDArray[np.int32],
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        example: NDArray[np.int32],
        ex_weight: NDArray[np.float64],
        weight: NDArray[np.float64],
        ts: NDArray[np.float64],
        kind: NDArray[np.int8],
        learn: bool = True,
    ) -> StepOutput:
        """Predict, learn and push rows, strictly in order.

        Parameters
        ----------
        hist_items, hist_weights, hist_len
            Histories of the users in this batch, newest first: (u, HISTORY), (u, HISTORY), (u,).
            Mutated in place.
        user, item
            Row of each event's user in the histories; index of its item (-1: not admitted).
        example, ex_weight
            Row of each event's example in ``ex_weight``, which holds the weight that was learned
            for the example so far (-1: never pushed) and is mutated in place.
        weight
            Probability that the engagement was meant, in [0, 1]; for ``NEGATIVE`` how sure the
            refusal is.
        ts
            Event time, seconds since the epoch.
        kind
            ``ENGAGE``: predict the item, learn it, push it on the history. ``CORRECT``: the
            label of an engagement changed; learn the difference to ``ex_weight``. ``NEGATIVE``:
            shown and not wanted; weakens its pairs, and its repeat for this user.
        learn
            False freezes the model: ranks and histories only.
        """
        _require_in_place(hist_items, np.int32, "hist_items")
        _require_in_place(hist_weights, np.float32, "hist_weights")
        _require_in_place(hist_len, np.int32, "hist_len")
        _require_in_place(ex_weight, np.float64, "ex_weight")
        n = len(user)
        rank = np.empty(n, np.int32)
        predicted = np.empty(n, np.float32)
        novelty = np.empty(n, np.float32)
        step_rows(
            self._tables,
            self._parameters,
            hist_items,
            hist_weights,
            hist_len,
            np.ascontiguousarray(user, np.int32),
            np.ascontiguousarray(item, np.int32),
            np.ascontiguousarray(example, np.int32),
            ex_weight,
            np.ascontiguousarray(weight, np.float64),
            np.ascontiguousarray(ts, np.float64),
            np.ascontiguousarray(kind, np.int8),
            learn,
            rank,
            predicted,
            novelty,
        )
        if learn and n:
            self._meta_dirty = True
        return StepOutput(rank, predicted, novelty, self.n_items)

    def recommend_for(
        self,
        hist_items: NDArray[np.int32],
        hist_weights: NDArray[np.float32],
        hist_len: int,
        k: int,
        exclude: NDArray[np.int32] = _NOTHING,
        ts: float = 0.0,
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the k best items for a history and their scores, without the excluded ones.

        ``ts`` before everything learned (as 0 is) means now, as far as the model knows.
        """
        t = self._tables
        p = self._parameters
        n = gather(t, p, hist_items, hist_weights, hist_len, ts, *units(t, p, ts))
        candidates = t.touched[:n].copy()
        scores = t.cells[candidates, Cell.SCORE]
        clear(t, n)
        usable = (scores > 0.0) & ((t.flags[candidates] & Flag.SEEN) != 0)
        if len(exclude):
            usable &= ~np.isin(candidates, exclude)
        candidates, scores = candidates[usable], scores[usable]
        if len(scores) > k:
            # Ties at the edge are kept, and cut by index below.
            near = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
            candidates, scores = candidates[near], scores[near]
        order = np.lexsort((candidates, -scores))[:k]
        return candidates[order], scores[order]

    # ---- checkpoints

    def dirty_chunks(self) -> dict[str, bytes]:
        """Return what changed since `mark_clean`, by name of chunk."""
        chunks: dict[str, bytes] = {}
        for chunk in np.flatnonzero(self._tables.dirty).tolist():
            ids = self._vocabulary.part(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
            if ids:
                chunks[row_chunk_name(chunk)] = pack_rows(self._tables, chunk, ids)
        if chunks or self._meta_dirty:
            chunks[META] = self._meta()
        return chunks

    def mark_clean(self) -> None:
        """Take note that what `dirty_chunks` returned is stored."""
        self._tables.dirty[:] = 0
        self._meta_dirty = False

    def _meta(self) -> bytes:
        t = self._tables
        head = {
            "config": self.config.as_dict(),
            "items": len(self._vocabulary),
            "dropped": self._vocabulary.dropped,
            "last_ts": self._last_ts,
        }
        arrays: dict[str, NDArray[Any]] = {name: getattr(t, name) for name in GLOBAL_ARRAYS}
        return pack(head, arrays)

    def load_chunks(self, chunks: Mapping[str, bytes]) -> None:
        """Replace everything learned by the chunks, all of them together.

        Sizes and rates stay as configured.

        Raises
        ------
        SnapshotError
            The chunks are damaged, incomplete, or (`NewerSnapshotError`) of a newer version.
        """
        if META not in chunks:
            raise SnapshotError("the recommender's snapshot has no meta chunk")
        head, arrays = unpack(chunks[META])
        items = int(head["items"])
        if items > self.config.max_items:
            raise SnapshotError(
                f"the snapshot holds {items} items, and max_items is {self.config.max_items}"
            )
        vocabulary = Vocabulary(self.config.max_items)
        self._tables = allocate(self.config, min(_FIRST_CAPACITY, self._capacity_limit()))
        self._reserve(items)
        t = self._tables
        for name in sorted(name for name in chunks if name.startswith("rows/")):
            start, ids = unpack_rows(t, chunks[name])
            if start != len(vocabulary):
                raise SnapshotError(f"chunk {name} of the recommender's snapshot is out of place")
            vocabulary.admit(ids)
        if len(vocabulary) != items:
            raise SnapshotError(f"the snapshot has {len(vocabulary)} of {items} items")
        vocabulary.dropped = int(head["dropped"])
        self._vocabulary = vocabulary
        self._last_ts = float(head["last_ts"])
        for name in GLOBAL_ARRAYS:
            own = getattr(t, name)
            if arrays[name].shape != own.shape:
                raise SnapshotError(f"{name} of the recommender's snapshot has another size")
            own[:] = arrays[name]
        self._meta_dirty = False

    def to_bytes(self) -> bytes:
        """Return everything, the users' histories included, as versioned bytes."""
        dirty, meta_dirty = self._tables.dirty.copy(), self._meta_dirty
        self._tables.dirty[:] = 1
        self._meta_dirty = True
        chunks = self.dirty_chunks()
        self._tables.dirty[:] = dirty
        self._meta_dirty = meta_dirty
        users, arrays = self._histories.export()
        chunks[_HISTORIES] = pack(
            {
                "users": users,
                "max_users": self._histories.max_users,
                "dropped": self._histories.dropped,
            },
            arrays,
        )
        return frame(chunks)

    @classmethod
    def from_bytes(cls, data: bytes) -> Recommender:
        """Return the recommender that `to_bytes` wrote."""
        chunks = unframe(data)
        if META not in chunks or _HISTORIES not in chunks:
            raise SnapshotError("the recommender's snapshot is incomplete")
        head, _ = unpack(chunks[META])
        histories, arrays = unpack(chunks[_HISTORIES])
        model = cls(Config.from_dict(head["config"]), max_users=int(histories["max_users"]))
        model.load_chunks(chunks)
        model._histories.load(
            histories["users"], arrays["items"], arrays["weights"], arrays["lengths"]
        )
        model._histories.dropped = int(histories["dropped"])
        return model

    # ---- by user id: histories are kept here

    def learn_many(
        self,
        users: Sequence[str],
        items: Sequence[str],
        weights: Sequence[float] | NDArray[np.float64] | None = None,
        ts: Sequence[float] | NDArray[np.float64] | None = None,
        kinds: Sequence[int] | NDArray[np.int8] | None = None,
    ) -> StepOutput:
        """Predict each event, then learn it; return ranks as `step_many` does.

        Without ``ts`` events happen when the last one did.
        """
        n = len(users)
        index = self.item_indexes(items)
        weight = np.ones(n) if weights is None else np.asarray(weights, np.float64)
        when = np.full(n, self._last_ts) if ts is None else np.asarray(ts, np.float64)
        kind = np.zeros(n, np.int8) if kinds is None else np.asarray(kinds, np.int8)
        histories = self._histories
        rank = np.empty(n, np.int32)
        predicted = np.empty(n, np.float32)
        novelty = np.empty(n, np.float32)
        start = 0
        while start < n:
            # Users admitted in one go must not evict each other's rows.
            stop = min(n, start + max(1, histories.max_users))
            rows = np.array([histories.admit(user) for user in users[start:stop]], np.int32)
            part = slice(start, stop)
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
            )
            rank[part], predicted[part], novelty[part] = out.rank, out.predicted, out.novelty_bits
            start = stop
        if n:
            self._last_ts = max(self._last_ts, float(when.max()))
        return StepOutput(rank, predicted, novelty, self.n_items)

    def recommend(
        self, user: str, k: int = 10, exclude: Sequence[str] = (), ts: float | None = None
    ) -> list[tuple[str, float]]:
        """Return the k best items for the user with their scores, best first."""
        items, weights, length = self._histories.find(user)
        out = np.array([self._vocabulary.find(item) for item in exclude], np.int32)
        found, scores = self.recommend_for(
            items, weights, length, k, out, self._last_ts if ts is None else ts
        )
        return list(zip(self.item_ids(found), scores.tolist(), strict=True))

    def learn_one(
        self, user: str, item: str, y: float | bool, x: Mapping[str, Any] | None = None
    ) -> None:
        """Learn that the user engaged with the item (y > 0, at most 1) or refused it (0).

        ``x["ts"]`` is the event's time.
        """
        ts = self._last_ts if x is None or "ts" not in x else float(x["ts"])
        weight = float(y)
        kind = ENGAGE if weight > 0.0 else NEGATIVE
        self.learn_many([user], [item], [weight if weight > 0.0 else 1.0], [ts], [kind])

    def predict_one(self, user: str, item: str, x: Mapping[str, Any] | None = None) -> float:
        """Return the item's score for the user, 0 where nothing speaks for it."""
        index = self._vocabulary.find(item)
        if index == UNKNOWN:
            return 0.0
        ts = self._last_ts if x is None or "ts" not in x else float(x["ts"])
        items, weights, length = self._histories.find(user)
        t = self._tables
        p = self._parameters
        n = gather(t, p, items, weights, length, ts, *units(t, p, ts))
        score = float(t.cells[index, Cell.SCORE]) if t.cells[index, Cell.MARK] else 0.0
        clear(t, n)
        return score

    def rank(
        self, user: str, items: Sequence[str], x: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Return the items, best first; equally good ones in the order given."""
        return sorted(items, key=lambda item: -self.predict_one(user, item, x))


def _require_in_place(array: NDArray[Any], dtype: type[np.generic], name: str) -> None:
    """Refuse what compiled code could not mutate in place."""
    if array.dtype != dtype or not array.flags.c_contiguous or not array.flags.writeable:
        raise TypeError(f"{name} must be a writable C-contiguous array of {np.dtype(dtype)}")
