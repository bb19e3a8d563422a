"""The recommender as one process serves it: every partition's contribution, added up."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.content import ContentIndex
from models.recommender import HISTORY, Config, unpack_histories
from models.recommender.borrowing import Borrowing
from models.recommender.core import RecommenderCore
from models.recommender.tables import Cell
from models.recommender.vocabulary import SEGMENT_MARK, UNKNOWN

__all__ = ["NOBODY", "Person", "ServedModel", "merged", "person_from"]

_POPULAR: Final = 1_000


class Person(NamedTuple):
    """Who asks, as far as it is known: the history by the indexes of ``partition``."""

    partition: int
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    length: int
    segment: str | None


def person_from(partition: int, packed: bytes, segment: str | None) -> Person:
    """Return a person from the packed history and the segment."""
    items, weights, length = unpack_histories([packed])
    return Person(partition, items[0], weights[0], int(length[0]), segment)


NOBODY = Person(-1, np.full(HISTORY, -1, np.int32), np.zeros(HISTORY, np.float32), 0, None)
"""A person of whom nothing is known."""


class ServedModel:
    """What all partitions learned up to some moment; it does not change any more.

    Scoring uses scratch space of the model's own: only one thread may ask it.

    Parameters
    ----------
    core
        The sum.
    places
        Index in ``core`` of each partition's items, by the partition's own index; a partition
        that is missing has the same indexes.
    version
        Names what was added up, for whoever compares recommendations.
    """

    def __init__(
        self, core: RecommenderCore, places: Mapping[int, NDArray[np.int32]], version: str
    ) -> None:
        self.core = core
        self.version = version
        # Behind each partition's items stands what an index beyond them, or none, leads to.
        self._places = {
            partition: np.append(place, np.int32(UNKNOWN)) for partition, place in places.items()
        }
        self._items = len(core.vocabulary)
        self._popular: dict[str, float] = {}

    @property
    def n_items(self) -> int:
        """Items that the model may be asked about."""
        return self._items

    def index(self, item_id: str) -> int:
        """Return the item's index, -1 where the model does not know it."""
        found = self.core.vocabulary.find(item_id)
        return found if found < self._items else UNKNOWN

    def segment(self, person: Person) -> int:
        """Return the index of the person's segment, -1 where the model does not know it."""
        found = self.core.segment_index(person.segment)
        return found if found < self._items else UNKNOWN

    def popular(self, n: int) -> dict[str, float]:
        """Return the items engaged with most, each with its count, as far as they are known."""
        if len(self._popular) < min(n, self._items):
            # Looked for once a model: all items are gone through.
            n = min(max(n, _POPULAR), self._items)
            counts = self.core.tables.cells[: self._items, Cell.COUNT]
            best = np.argpartition(-counts, n - 1)[:n]
            best = best[np.lexsort((best, -counts[best]))]
            ids = self.core.item_ids(best.astype(np.int32))
            self._popular = {
                name: count
                for name, count in zip(ids, counts[best].tolist(), strict=True)
                if not name.startswith(SEGMENT_MARK)
            }
        return dict(islice(self._popular.items(), n))

    def history(self, person: Person) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
        """Return the person's (items, weights, length) by this model's indexes."""
        place = self._places.get(person.partition)
        items = person.items
        if place is not None:
            items = place[np.minimum(items, len(place) - 1)]
        known = (items >= 0) & (items < self._items)
        if int(known[: person.length].sum()) == person.length:
            return items, person.weights, person.length
        # What was learned after this model was made is not in it yet.
        kept = np.flatnonzero(known[: person.length])
        shorter = np.full(HISTORY, -1, np.int32)
        weights = np.zeros(HISTORY, np.float32)
        shorter[: len(kept)], weights[: len(kept)] = items[kept], person.weights[kept]
        return shorter, weights, len(kept)


def merged(
    parts: Mapping[int, RecommenderCore],
    config: Config,
    version: str,
    content: ContentIndex | None = None,
) -> ServedModel:
    """Return the sum of the partitions' contributions; they stay as they are, and may go on.

    With ``content``, items that are new borrow from items like them; where a single part borrows
    already, so does its copy.

    *Complexity* — a copy for one partition; about 1 µs an item and partition for several.
    """
    places = {}
    if len(parts) == 1:
        (only,) = parts.values()
        if content is None:
            return ServedModel(only.copy_learned(share_vocabulary=True), {}, version)
        core = only.copy_learned()
    else:
        core = RecommenderCore(config)
        for partition, part in sorted(parts.items()):
            places[partition] = core.item_indexes(part.vocabulary.part(0, len(part.vocabulary)))
            core.merge(part)
    if content is not None:
        Borrowing(content, config.max_items // 2).catch_up(core)
    return ServedModel(core, places, version)
