"""Step through a stream: predict, learn, checkpoint, merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.recommender.audiences import interleaved, segment_in, segment_places
from models.recommender.checkpoint import Checkpoints, Meta
from models.recommender.config import Config, Parameters
from models.recommender.entry import Part, add, derive_items, score_history, step_through
from models.recommender.lenders import set_lenders, wider
from models.recommender.merging import merge_tables
from models.recommender.snapshot import SnapshotError
from models.recommender.step import StepOutput
from models.recommender.tables import Flag, Tables, Total, allocate, copied, grown
from models.recommender.update_entry import apply_updates
from models.recommender.updates import LearnedRows
from models.recommender.vocabulary import UNKNOWN, Vocabulary

__all__ = ["RecommenderCore", "Scored"]

_FIRST_CAPACITY = 1024
_NOTHING: NDArray[np.int32] = np.zeros(0, np.int32)


class Scored(NamedTuple):
    """Candidates, shapes (n,) and (n, `Part`): indexes, and what makes up their scores."""

    item: NDArray[np.int32]
    parts: NDArray[np.float64]


class RecommenderCore:
    """What was learned, and steps through a stream whose histories the caller keeps.

    Parameters
    ----------
    config
        Sizes and rates; the defaults need no tuning.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._parameters = self.config.parameters()
        self.vocabulary = Vocabulary(self.config.max_items)
        self._tables: Tables = allocate(self.config, self._first_capacity())
        self._checkpoints = Checkpoints(self.config)
        self._meta_dirty = False
        self._last_ts = 0.0

    def _first_capacity(self) -> int:
        # Memory that was never written costs none, and growing moves every row: 20 to 70 ms.
        capacity = max(_FIRST_CAPACITY, self.config.widest_rows())
        return min(capacity, self._capacity_limit())

    def _capacity_limit(self) -> int:
        return self.config.max_items

    @property
    def tables(self) -> Tables:
        """Everything learned, for compiled code beside this class; indexes stay as they are."""
        return self._tables

    @property
    def parameters(self) -> Parameters:
        """Rates, as compiled code takes them."""
        return self._parameters

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
        return self.vocabulary.dropped

    def item_index(self, item_id: str) -> int:
        """Return the item's index, admitting it; -1 where the vocabulary is full."""
        return int(self.item_indexes([item_id])[0])

    def item_indexes(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting new ones in order; -1 where there is no room."""
        before, dropped = len(self.vocabulary), self.vocabulary.dropped
        found = self.vocabulary.admit(item_ids)
        after = len(self.vocabulary)
        if after != before:
            self._reserve(after)
            self._tables.dirty[before:after] = 1
        if after != before or self.vocabulary.dropped != dropped:
            self._meta_dirty = True
        return found

    def indexes(
        self, item_ids: Sequence[str], segments: Sequence[str | None]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the indexes of items and of their people's segments, admitting new ones.

        -1 where there is no room, or no segment.
        """
        if not any(segments):
            return self.item_indexes(item_ids), np.full(len(item_ids), UNKNOWN, np.int32)
        return segment_places(self.item_indexes(interleaved(item_ids, segments)), segments)

    def segment_index(self, segment: str | None) -> int:
        """Return the index of a segment, -1 where nothing is known of it; admits nothing."""
        return segment_in(self.vocabulary, segment)

    def item_ids(self, indexes: Sequence[int] | NDArray[np.int32]) -> list[str]:
        """Return the ids of these indexes."""
        return self.vocabulary.ids(indexes.tolist() if isinstance(indexes, np.ndarray) else indexes)

    def _reserve(self, items: int) -> None:
        capacity = len(self._tables.flags)
        if items <= capacity:
            return
        while capacity < items:
            capacity *= 2
        self._tables = grown(self._tables, self.config, min(capacity, self._capacity_limit()))

    @property
    def lends(self) -> bool:
        """Whether lenders were ever set since the tables were made or loaded."""
        return len(self._tables.lending.item) > 0

    def set_lenders(
        self,
        items: NDArray[np.int32],
        lenders: NDArray[np.int32],
        alike: NDArray[np.float32],
        since: NDArray[np.float64],
    ) -> None:
        """Let items that are new borrow from those that are like them.

        Indexes of (n,) items and of (n, lenders) others, -1 for none, with squared cosines, and
        the (n,) times from which the catalogue has the items.
        Follows from the catalogue and is no part of what is learned, or stored.
        """
        lending = self._tables.lending
        if len(lending.head) < len(self._tables.flags):
            lending = wider(lending, len(self._tables.flags))
            self._tables = self._tables._replace(lending=lending)
        set_lenders(lending, items, lenders, alike, since)

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
        segment: NDArray[np.int32] | None = None,
    ) -> StepOutput:
        """Predict, learn and push rows, strictly in order.

        Parameters
        ----------
        hist_items, hist_weights, hist_len
            Histories of the users in this batch, newest first: (u, h), (u, h), (u,), as wide as
            `width_for` says or `HISTORY`; a full one loses its oldest item. Mutated in place.
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
        segment
            Index of each row's segment, from `indexes`; -1 for none.
        """
        _require_in_place(hist_items, np.int32, "hist_items")
        _require_in_place(hist_weights, np.float32, "hist_weights")
        _require_in_place(hist_len, np.int32, "hist_len")
        _require_in_place(ex_weight, np.float64, "ex_weight")
        n = len(user)
        if segment is None:
            segment = np.full(n, -1, np.int32)
        rank = np.empty(n, np.int32)
        predicted = np.empty(n, np.float32)
        novelty = np.empty(n, np.float32)
        popular_rank = np.empty(n, np.int32)
        diversity = np.empty(n, np.float32)
        step_through(
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
            np.ascontiguousarray(segment, np.int32),
            learn,
            rank,
            predicted,
            novelty,
            popular_rank,
            diversity,
        )
        if learn and n:
            self._meta_dirty = True
        return StepOutput(rank, predicted, novelty, popular_rank, diversity, self.n_items)

    def learn_rows(self, rows: LearnedRows) -> None:
        """Learn the counts and pairs that rows taught elsewhere; nothing is predicted."""
        if len(rows.item):
            apply_updates(self._tables, self._parameters, *rows)
            self._meta_dirty = True

    def mark_covered(self, items: NDArray[np.intp]) -> None:
        """Take note that these items, each given once, were in a top 10."""
        t = self._tables
        fresh = items[(t.flags[items] & Flag.IN_TOP) == 0]
        t.flags[fresh] |= np.uint8(Flag.IN_TOP)
        t.dirty[fresh] = 1
        t.totals[Total.COVERED] += len(fresh)

    def recommend_for(
        self,
        hist_items: NDArray[np.int32],
        hist_weights: NDArray[np.float32],
        hist_len: int,
        k: int,
        exclude: NDArray[np.int32] = _NOTHING,
        ts: float = 0.0,
        segment: int = -1,
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the k best items for a history and their scores, without the excluded ones.

        ``ts`` before everything learned (as 0 is) means now, as far as the model knows.
        """
        candidates, parts = self.score(hist_items, hist_weights, hist_len, ts, segment)
        scores = parts[:, Part.SCORE]
        if len(exclude):
            usable = ~np.isin(candidates, exclude)
            candidates, scores = candidates[usable], scores[usable]
        if len(scores) > k:
            # Ties at the edge are kept, and cut by index below.
            near = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
            candidates, scores = candidates[near], scores[near]
        order = np.lexsort((candidates, -scores))[:k]
        return candidates[order], scores[order]

    def score(
        self,
        items: NDArray[np.int32],
        weights: NDArray[np.float32],
        length: int,
        ts: float = 0.0,
        segment: int = -1,
    ) -> Scored:
        """Return every candidate for a history, in no order; arguments as for `recommend_for`."""
        room = len(self._tables.touched) + length
        found, parts = np.empty(room, np.int32), np.empty((room, Part.SIZE))
        n = score_history(
            self._tables, self._parameters, items, weights, length, ts, segment, found, parts
        )
        return Scored(found[:n], parts[:n])

    def merge(self, other: RecommenderCore) -> None:
        """Add what the other learned from other events; ``other`` stays as it is.

        Merging in another order gives the same sums, up to rounding and to which of equally
        strong neighbours stay.
        """
        if other.config != self.config:
            raise ValueError("recommenders of different configurations cannot be merged")
        count = len(other.vocabulary)
        target = self.item_indexes(other.vocabulary.part(0, count))
        merge_tables(
            self._tables,
            other._tables,
            target,
            len(self.vocabulary),
            self.config,
            add,
            derive_items,
        )
        self._last_ts = max(self._last_ts, other._last_ts)
        self._meta_dirty = True

    # ---- checkpoints

    def dirty_chunks(self) -> dict[str, bytes | None]:
        """Return what changed since `mark_clean`, by name of chunk; None is to be deleted."""
        if not self._meta_dirty and not self._tables.dirty.any():
            return {}
        return self._checkpoints.changed(self._tables, self.vocabulary, self._meta())

    def all_chunks(self) -> dict[str, bytes]:
        """Return everything learned, by name of chunk."""
        return self._checkpoints.everything(self._tables, self.vocabulary, self._meta())

    def mark_clean(self) -> None:
        """Take note that what `dirty_chunks` returned is stored."""
        self._checkpoints.commit(self._tables)
        self._meta_dirty = False

    def _meta(self) -> bytes:
        return self._checkpoints.meta(self._tables, self.vocabulary, self._last_ts)

    def load_chunks(self, chunks: Mapping[str, bytes | None]) -> None:
        """Replace everything learned by the chunks, all of them together.

        Sizes and rates stay as configured.

        Raises
        ------
        SnapshotError
            The chunks are damaged, incomplete, or (`NewerSnapshotError`) of a newer version.
        """
        items = Meta.read(chunks).items
        if items > self.config.max_items:
            raise SnapshotError(
                f"the snapshot holds {items} items, and max_items is {self.config.max_items}"
            )
        loaded = RecommenderCore(self.config)
        loaded.apply_chunks(chunks)
        self._tables, self.vocabulary = loaded._tables, loaded.vocabulary
        self._checkpoints = loaded._checkpoints
        self._last_ts = loaded._last_ts
        self._meta_dirty = loaded._meta_dirty

    def apply_chunks(self, chunks: Mapping[str, bytes | None]) -> None:
        """Overwrite the parts that ``chunks`` hold, as a copy that follows another does.

        Chunks of one checkpoint belong together; items that are new to the copy must come in
        whole chunks and in order, as `dirty_chunks` writes them.
        """
        meta = Meta.read(chunks)
        self._reserve(meta.items)
        self._checkpoints.read(self._tables, self.vocabulary, meta, chunks)
        self.vocabulary.dropped = meta.dropped
        self._last_ts = meta.last_ts
        self._meta_dirty = bool(self._tables.dirty.any())

    def copy_learned(self, *, share_vocabulary: bool = False) -> RecommenderCore:
        """Return a copy of what was learned.

        Indexes never change, so a copy that is only asked may share the vocabulary, which goes
        on growing: what lies beyond the copy's own number of items is not in it.
        """
        other = RecommenderCore(self.config)
        other._tables = copied(self._tables, self.config, len(self.vocabulary))
        if share_vocabulary:
            other.vocabulary = self.vocabulary
        else:
            other.vocabulary = self.vocabulary.copy()
        other._last_ts = self._last_ts
        return other


def _require_in_place(array: NDArray[Any], dtype: type[np.generic], name: str) -> None:
    """Refuse what compiled code could not mutate in place."""
    if array.dtype != dtype or not array.flags.c_contiguous or not array.flags.writeable:
        raise TypeError(f"{name} must be a writable C-contiguous array of {np.dtype(dtype)}")
