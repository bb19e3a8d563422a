"""What the learning thread of the same process knows, handed over whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from stream.partitioning import partition_for
from stream.pipeline import PartitionPipeline
from stream.serving.model import Person, ServedModel
from stream.serving.sources import StoreSource, person_of

__all__ = ["EngineSource"]

_REST: Final = 20.0


class EngineSource:
    """Serve copies of what the pipelines of this process have learned.

    The learning thread makes a copy now and then and puts it in place; who is served never waits
    for it. A person's history is read from memory, or from the store for whom it is not there.

    Parameters
    ----------
    pipelines
        The partitions' pipelines.
    store
        Reads people whom the pipelines hold no longer.
    refresh_s
        How often to copy, at most.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self,
        pipelines: Mapping[int, PartitionPipeline],
        store: StoreSource,
        refresh_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipelines = dict(pipelines)
        self._store = store
        self._refresh_s = refresh_s
        self._clock = clock
        self._due = float("-inf")
        # What was restored is to be served, too.
        self._changed = True
        self._copies = 0
        self._model: ServedModel | None = None

    @property
    def model(self) -> ServedModel | None:
        """Return the newest copy."""
        return self._model

    def stepped(self, learned: bool) -> None:
        """Copy what was learned, if it is time to: called by the learning thread, between steps."""
        self._changed |= learned
        for pipeline in self._pipelines.values():
            # Histories are served as they stand.
            pipeline.learning.flush()
        began = self._clock()
        if not self._changed or began < self._due:
            return
        self._changed = False
        learned_by = {number: p.learning for number, p in self._pipelines.items()}
        core = next(iter(learned_by.values())).predicting
        places = {number: one.places for number, one in learned_by.items()}
        self._copies += 1
        self._model = ServedModel(
            core.copy_learned(share_vocabulary=True),
            {number: place for number, place in places.items() if place is not None},
            f"{len(places)}.{self._copies}",
        )
        now = self._clock()
        self._due = now + max(self._refresh_s, _REST * (now - began))

    def resident(self, user_id: str) -> Person | None:
        """Return a person whom a pipeline has in memory."""
        partition = partition_for(user_id.encode("utf-8", "surrogatepass"), len(self._pipelines))
        user = self._pipelines[partition].join.resident.get(user_id)
        return None if user is None else person_of(user, partition)

    def person(self, user_id: str, partition: int | None = None) -> Person:
        """Return what the last checkpoint knows of a person."""
        return self._store.person(user_id, partition)

    def start(self) -> None:
        """Do nothing: the learning thread calls `stepped`."""

    def stop(self) -> None:
        """Do nothing."""
