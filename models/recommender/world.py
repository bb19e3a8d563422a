"""What all partitions learned, as one process knows it: every prediction comes from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Config
from models.recommender.core import RecommenderCore
from models.recommender.guard import hold_gains
from models.recommender.sums import NO_SUMS, Sums
from models.recommender.updates import Updates

__all__ = ["UNBORN", "Contribution", "Home", "World"]

UNBORN = float("nan")
"""``since`` of a partition that never learned a row."""


class Contribution(NamedTuple):
    """What a partition learned, and after how many rows; see `Updates` for ``since``."""

    core: RecommenderCore
    since: float
    position: int


class Home(Protocol):
    """A partition that is learned in this process."""

    partition: int
    own: RecommenderCore
    since: float
    position: int
    sums: Sums

    def contribution(self) -> Contribution:
        """Return what it learned so far."""
        ...


@dataclass(slots=True)
class _Followed:
    """How far a partition of another process was followed, and its items' indexes here."""

    since: float = UNBORN
    position: int = 0
    places: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    sums: Sums = NO_SUMS
    _with_none: NDArray[np.int32] | None = None
    _of: NDArray[np.int32] | None = None

    @property
    def with_none(self) -> NDArray[np.int32]:
        """The indexes, and -1 behind them: where -1 leads to."""
        # Whatever changes the indexes makes another array of them.
        if self._with_none is None or self._of is not self.places:
            self._of, self._with_none = self.places, np.append(self.places, np.int32(-1))
        return self._with_none


class World:
    """The recommender that the partitions of one process share.

    Its own partitions step it directly. Others are followed by `Updates`: the rows that they
    learned, which cost far less to send and to learn than the rows of tables that they change.
    Whoever missed some draws the world up anew from the contributions.

    Parameters
    ----------
    config
        The deployment's.
    awaits
        Whether somebody brings all contributions when something is lacking: until then it goes on
        with what is known. Else it is drawn up from the partitions of this process alone.

    Attributes
    ----------
    core
        What was learned; indexes are the world's own.
    lacking
        Whether something is missing that only the whole contributions hold.

    State
    -----
    One set of tables, and an index for each item of each partition. Rebuilt, not stored.

    Replay
    ------
    Depends on which rows of which partitions came in which order, and on nothing else.
    """

    def __init__(self, config: Config | None = None, *, awaits: bool = False) -> None:
        self.core = RecommenderCore(config)
        self.lacking = False
        self._awaits = awaits
        self._homes: dict[int, Home] = {}
        self._followed: dict[int, _Followed] = {}

    def is_home(self, partition: int) -> bool:
        """Return whether a partition is learned in this process."""
        return partition in self._homes

    def positions(self) -> dict[int, int]:
        """Return how far each partition is known here, by partition."""
        known = {partition: one.position for partition, one in self._followed.items()}
        known |= {partition: home.position for partition, home in self._homes.items()}
        return dict(sorted(known.items()))

    # ---- partitions of this process

    def join(self, home: Home) -> None:
        """Take a partition in: what it knows must be known here, or is lacking."""
        followed = self._followed.setdefault(home.partition, _Followed())
        self._homes[home.partition] = home
        if followed.position != home.position or not _same_life(followed.since, home.since):
            self.lacking = True
            # In another life, or further back in this one, items have other indexes.
            followed.places = np.zeros(0, np.int32)

    def leave(self, home: Home) -> None:
        """Let a partition go: from here on it is followed, if it was here."""
        if self._homes.get(home.partition) is home:
            del self._homes[home.partition]
            followed = self._followed[home.partition]
            followed.since, followed.position = home.since, home.position
            followed.sums = home.sums

    def get_ready(self) -> None:
        """Go on with what is known; call before anything new comes here."""
        if self.lacking and not self._awaits:
            self.draw_up({})

    def places(self, home: Home, *, with_none: bool = False) -> NDArray[np.int32]:
        """Return the index here of each item of a partition of this process.

        With ``with_none`` one entry more, so that the index -1 leads to -1. Not to be written to.
        """
        followed = self._followed[home.partition]
        known, items = len(followed.places), len(home.own.vocabulary)
        if known < items:
            fresh = self.core.item_indexes(home.own.vocabulary.part(known, items))
            followed.places = np.append(followed.places, fresh)
        return followed.with_none if with_none else followed.places

    # ---- partitions of others

    def take_in(self, updates: Iterable[tuple[int, Updates]]) -> None:
        """Learn what other processes' partitions did, in order; known ones are passed over."""
        grown = False
        for partition, one in updates:
            if partition in self._homes or self.lacking:
                continue
            followed = self._followed.setdefault(partition, _Followed())
            if np.isnan(followed.since):
                followed.since = one.since
            known = len(followed.places)
            if not _same_life(followed.since, one.since):
                self.lacking = True
            elif one.stop > followed.position or one.known + len(one.ids) > known:
                if one.start != followed.position or one.known != known:
                    self.lacking = True
                    continue
                followed.places = np.append(followed.places, self.core.item_indexes(one.ids))
                self.core.learn_rows(one.rows.moved(followed.places))
                tables = self.core.tables
                config = self.core.config
                Sums.of(tables).plus(one.sums, followed.sums, config).put(tables, config)
                followed.position, followed.sums = one.stop, one.sums
                grown = True
        if grown:
            # What every process lifts by itself must not be lifted by each of them again.
            hold_gains(self.core.tables)

    def draw_up(self, others: Mapping[int, Contribution]) -> None:
        """Add all partitions' contributions up anew; what is learned here counts as it is now."""
        self.lacking = False
        here = {partition: home.contribution() for partition, home in self._homes.items()}
        core = RecommenderCore(self.core.config)
        followed = {}
        for partition, (part, since, position) in sorted({**others, **here}.items()):
            places = core.item_indexes(part.vocabulary.part(0, len(part.vocabulary)))
            core.merge(part)
            followed[partition] = _Followed(since, position, places, Sums.of(part.tables))
        _lend_on(self.core, core)
        self.core, self._followed = core, followed
        hold_gains(core.tables)


def _same_life(one: float, other: float) -> bool:
    return one == other or bool(np.isnan(one)) or bool(np.isnan(other))


def _lend_on(old: RecommenderCore, new: RecommenderCore) -> None:
    """Let what borrows in the old one borrow in the new one: the catalogue says it only once."""
    lending = old.tables.lending
    slots = np.flatnonzero(lending.item >= 0)
    if len(slots):
        moved = new.item_indexes(old.vocabulary.part(0, len(old.vocabulary)))
        places = np.append(moved, np.int32(-1))
        new.set_lenders(
            places[lending.item[slots]],
            places[lending.lender[slots]],
            lending.alike[slots],
            lending.since[slots],
        )
