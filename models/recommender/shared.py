"""Recommend by what all partitions learned, and contribute what this one learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Config
from models.recommender.core import RecommenderCore
from models.recommender.snapshot import pack, unpack
from models.recommender.step import StepOutput
from models.recommender.sums import NO_SUMS, Epochs, Sums
from models.recommender.tables import Flag
from models.recommender.update_entry import record_updates
from models.recommender.update_kernels import NEIGHBOURHOOD
from models.recommender.updates import NO_ROWS, LearnedRows, Updates
from models.recommender.world import UNBORN, Contribution, World

__all__ = ["POSITION", "SharedRecommender", "contribution_of"]

POSITION = "position"
"""Chunk that says how far in its life a contribution is."""


class SharedRecommender:
    """One partition's recommender among several.

    It steps like a `Recommender`. Predictions come from the process's `World`, which learns every
    event at once. Apart from it stands the contribution, which holds only what came here: the
    partition's chunks, and what other processes add up.

    Parameters
    ----------
    config
        The same one for every partition.
    partition
        Its number.
    world
        Of the process; one of its own if None.

    State
    -----
    The tables of the contribution, and the rows learned since the last `publish`.

    Complexity
    ----------
    Beside a step, what it learns is learned a second time, without a prediction.
    `python -m bench.partitions`.
    """

    def __init__(
        self, config: Config | None = None, partition: int = 0, world: World | None = None
    ) -> None:
        self.own = RecommenderCore(config)
        self.partition = partition
        self.position = 0
        self.since = UNBORN
        self.sums = NO_SUMS
        self._world = world or World(self.own.config)
        self._log: list[LearnedRows] = []
        self._settled = 0
        self._told_items = 0
        self._told_position = 0
        self._world.join(self)

    @property
    def world(self) -> World:
        """Return what predictions come from."""
        return self._world

    @property
    def predicting(self) -> RecommenderCore:
        """Return what predictions come from, as of now."""
        self._world.get_ready()
        return self._world.core

    @property
    def places(self) -> NDArray[np.int32]:
        """Return the index of each item here in what predictions come from."""
        self._world.get_ready()
        return self._world.places(self)

    @property
    def n_items(self) -> int:
        """Items that anybody engaged with, as far as it is known here."""
        return self._world.core.n_items

    @property
    def covered(self) -> int:
        """Items that were ever in a top 10, as far as it is known here."""
        return self._world.core.covered

    def item_indexes(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting new ones in order; -1 where there is no room."""
        self._world.get_ready()
        return self.own.item_indexes(item_ids)

    def indexes(
        self, item_ids: Sequence[str], segments: Sequence[str | None]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the indexes of items and of segments; see `RecommenderCore.indexes`."""
        self._world.get_ready()
        return self.own.indexes(item_ids, segments)

    def item_ids(self, indexes: Sequence[int] | NDArray[np.int32]) -> list[str]:
        """Return the ids of these indexes."""
        return self.own.item_ids(indexes)

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
        """Predict, learn and push rows, strictly in order; see `RecommenderCore.step_many`."""
        self._world.get_ready()
        if segment is None:
            segment = np.full(len(user), -1, np.int32)
        places = self._world.places(self, with_none=True)
        core = self._world.core
        before = Sums.of(core.tables)
        out = core.step_many(
            places[hist_items],
            hist_weights.copy(),
            hist_len.copy(),
            user,
            places[item],
            example,
            ex_weight.copy(),
            weight,
            ts,
            kind,
            learn,
            places[segment],
        )
        n = len(user)
        amount, size, long = np.zeros(n), np.empty(n, np.int32), np.zeros(n, np.int8)
        room = n * (NEIGHBOURHOOD * self.own.config.window + 1)
        near_items, near_weights = np.empty(room, np.int32), np.empty(room, np.float32)
        kind = np.ascontiguousarray(kind, np.int8)
        item = np.ascontiguousarray(item, np.int32)
        used = record_updates(
            self.own.parameters,
            hist_items,
            hist_weights,
            hist_len,
            np.ascontiguousarray(user, np.int32),
            item,
            np.ascontiguousarray(example, np.int32),
            ex_weight,
            np.ascontiguousarray(weight, np.float64),
            kind,
            amount,
            size,
            long,
            near_items,
            near_weights,
        )
        told = size >= 0
        if learn and told.any():
            rows = LearnedRows(
                item[told],
                kind[told],
                amount[told],
                np.asarray(ts, np.float64)[told],
                size[told],
                long[told],
                near_items[:used].copy(),
                near_weights[:used].copy(),
                np.ascontiguousarray(segment, np.int32)[told],
            )
            if np.isnan(self.since):
                self.since = float(rows.ts[0])
                self.sums = NO_SUMS._replace(epochs=Epochs(self.since, self.since))
            self._log.append(rows)
            self.position += len(rows.item)
            self.sums = self.sums.plus(Sums.of(core.tables), before, self.own.config)
        return out

    # ---- others

    def publish(self) -> Updates | None:
        """Return what was learned since the last call, for the others; None if nothing was."""
        self.settle()
        items = len(self.own.vocabulary)
        if self.position == self._told_position and items == self._told_items:
            return None
        log, self._log, self._settled = self._log, [], 0
        updates = Updates(
            self.since,
            self._told_position,
            self.position,
            self._told_items,
            self.own.vocabulary.part(self._told_items, items),
            LearnedRows.joined(log) if log else NO_ROWS,
            self.sums,
        )
        self._told_items, self._told_position = items, self.position
        return updates

    def contribution(self) -> Contribution:
        """Return the contribution as it is now; it goes on changing."""
        self.settle()
        return Contribution(self.own, self.since, self.position)

    def settle(self) -> None:
        """Bring the contribution up to date."""
        fresh = self._log[self._settled :]
        if not fresh:
            return
        self._settled = len(self._log)
        self.own.learn_rows(LearnedRows.joined(fresh))
        own, world = self.own.tables, self._world.core.tables
        self.sums.put(own, self.own.config)
        places = self._world.places(self)
        covered = (places >= 0) & (world.flags[places] & np.uint8(Flag.IN_TOP) != 0)
        self.own.mark_covered(np.flatnonzero(covered))

    def leave(self) -> None:
        """Leave the process: what is learned here is another's from now on."""
        self._world.leave(self)

    # ---- checkpoints

    def dirty_chunks(self) -> dict[str, bytes | None]:
        """Return what changed of the contribution since `mark_clean`; None is to be deleted."""
        self.settle()
        chunks = self.own.dirty_chunks()
        if chunks:
            chunks[POSITION] = self._position_chunk()
        return chunks

    def mark_clean(self) -> None:
        """Take note that what `dirty_chunks` returned is stored."""
        self.own.mark_clean()

    def all_chunks(self) -> dict[str, bytes]:
        """Return the whole contribution, by name of chunk."""
        self.settle()
        return {**self.own.all_chunks(), POSITION: self._position_chunk()}

    def load_chunks(self, chunks: Mapping[str, bytes]) -> None:
        """Replace the contribution; the world must know it, or is drawn up anew."""
        self._world.leave(self)
        self.own.load_chunks(chunks)
        self.since, self.position = _position(chunks)
        self.sums = Sums.of(self.own.tables)
        self._log, self._settled = [], 0
        self._told_items, self._told_position = len(self.own.vocabulary), self.position
        self._world.join(self)

    def _position_chunk(self) -> bytes:
        taken = {str(p): at for p, at in self._world.positions().items() if p != self.partition}
        return pack({"since": self.since, "position": self.position, "taken": taken}, {})


def contribution_of(chunks: Mapping[str, bytes], config: Config) -> Contribution:
    """Return the contribution in all chunks of a partition."""
    core = RecommenderCore(config)
    core.load_chunks(chunks)
    return Contribution(core, *_position(chunks))


def _position(chunks: Mapping[str, bytes]) -> tuple[float, int]:
    """Return (since, position); a contribution from before there were updates has none."""
    if POSITION not in chunks:
        return UNBORN, 0
    head, _ = unpack(chunks[POSITION])
    return float(head["since"]), int(head["position"])
