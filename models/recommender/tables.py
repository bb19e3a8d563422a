"""Hold what the recommender has learned as flat arrays that compiled code mutates in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHUNK_ROWS",
    "CONTEXTS",
    "EXPERTS",
    "GLOBAL_ARRAYS",
    "HISTORY",
    "Cell",
    "Config",
    "Flag",
    "Parameters",
    "Tables",
    "Total",
    "allocate",
    "grown",
]

HISTORY = 100
"""Items of a user's own history that are kept, newest first.

Scoring looks at the latest 20; the others are there so that what the user had is not
recommended again where users do not repeat (films: 20 kept items reach 86 % of the nDCG that
100 reach, and 100 reach 95 % of what 400 do).
"""

CHUNK_ROWS = 16
"""Items that are checkpointed together."""

CONTEXTS = 5
"""Lengths of history whose mixtures are learned apart: 0, 1-2, 3-7, 8-19, 20 and more."""

EXPERTS = ("near", "far", "fresh", "steady")
"""What is mixed: co-visitation with the last few items, with many; popularity lately, over long."""

_PRIOR = (0.6, 0.2, 0.1, 0.1)


class Cell:
    """Columns of ``Tables.cells``: what scoring reads and writes of an item, in one cache line.

    ``COUNT`` and ``FRESH`` are engagements decayed slowly and fast, ``INVERSE`` is
    ``COUNT ** -target_power``, kept because a power costs more than all the rest, ``ROW_TS`` the
    epoch of the item's pairs. The others are scratch space of one scoring.
    """

    COUNT = 0
    INVERSE = 1
    FRESH = 2
    ROW_TS = 3
    NEAR = 4
    FAR = 5
    SCORE = 6
    MARK = 7
    SIZE = 8
    STORED = 4


class Flag:
    """Bits of ``Tables.flags``."""

    SEEN = 1
    IN_TOP = 2
    FRESH = 4
    STEADY = 8


class Total:
    """Positions in ``Tables.totals``."""

    COUNT_EPOCH = 0
    FRESH_EPOCH = 1
    COUNT = 2
    FRESH = 3
    SEEN = 4
    COVERED = 5
    LISTED_FRESH = 6
    LISTED_STEADY = 7
    LOWEST_FRESH = 8
    LOWEST_STEADY = 9
    LATEST_UNIT = 10
    EVENTS = 11
    SIZE = 12


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes and rates of a recommender. The defaults need no tuning; sizes bound its memory.

    Parameters
    ----------
    max_items
        Items that the vocabulary admits; later ones are dropped and counted.
    neighbours, min_neighbours, slots
        Neighbours kept per item: as many as ``slots`` allow for all items, within these bounds.
        A small catalogue with long histories needs long rows, a large one cannot have them.
    popular
        Length of the two lists of popular items, candidates for everybody.
    window, near_window
        Items of the history that a new engagement is paired with and that the far expert looks
        at; that the near expert looks at.
    pair_decay, near_decay, far_decay
        Factor per step back in the history: when learning pairs, and in each expert.
    target_power, source_power
        Exponents of the counts that a score is divided by: of the candidate, and of the item in
        the history that brings it up.
    mixture_prior
        Events after which evidence weighs as much as the prior mixture of experts.
    refusal
        Part of a pair's strength that one certain refusal takes away.
    half_life_s, fresh_half_life_s
        Event time after which what was learned counts half; the same of what is popular lately.
    experts
        Which of `EXPERTS` are mixed. Fewer are for measuring what each contributes.
    """

    max_items: int = 1_000_000
    neighbours: int = 256
    min_neighbours: int = 32
    slots: int = 1 << 22
    popular: int = 64
    window: int = 20
    near_window: int = 5
    pair_decay: float = 0.8
    near_decay: float = 0.5
    far_decay: float = 0.85
    target_power: float = 0.3
    source_power: float = 0.7
    mixture_prior: float = 50.0
    refusal: float = 0.05
    half_life_s: float = 365 * 86_400.0
    fresh_half_life_s: float = 86_400.0
    experts: tuple[str, ...] = EXPERTS

    def __post_init__(self) -> None:
        """Refuse a mixture of nothing, or of what there is not."""
        object.__setattr__(self, "experts", tuple(self.experts))
        if not self.experts or not set(self.experts) <= set(EXPERTS):
            raise ValueError(f"experts are some of {', '.join(EXPERTS)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration in ``values``; names that this version lacks are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def row_slots(self, capacity: int) -> int:
        """Return the neighbours kept per item when there is room for ``capacity`` items."""
        return max(self.min_neighbours, min(self.neighbours, self.slots // max(1, capacity)))

    def parameters(self) -> Parameters:
        """Return what the compiled code reads."""
        return Parameters(
            window=int(self.window),
            near_window=int(self.near_window),
            pair_decay=float(self.pair_decay),
            near_decay=float(self.near_decay),
            far_decay=float(self.far_decay),
            target_power=float(self.target_power),
            source_power=float(self.source_power),
            mixture_prior=float(self.mixture_prior),
            refusal=float(self.refusal),
            half_life_s=float(self.half_life_s),
            fresh_half_life_s=float(self.fresh_half_life_s),
        )


class Parameters(NamedTuple):
    """Rates of a `Config`, as compiled code takes them."""

    window: int
    near_window: int
    pair_decay: float
    near_decay: float
    far_decay: float
    target_power: float
    source_power: float
    mixture_prior: float
    refusal: float
    half_life_s: float
    fresh_half_life_s: float


class Tables(NamedTuple):
    """Everything learned, and scratch space.

    Counts are kept in units that grow with time (``2 ** ((ts - epoch) / half life)``), so that
    nothing has to be touched to decay, and comparisons need no clock. Strengths of a row's pairs
    are float32 in units of the row's own epoch.

    ``neighbour``, ``strength`` (items, K): the first ``filled`` slots of a row, strongest first.
    ``cells`` (items, `Cell`). ``listed`` (2, popular): items popular lately, and over long.
    ``lag_hits``, ``lag_seen`` (contexts + all, lag): how often the next item was the one ``lag``
    steps back; ``lag_expected``: what co-visitation gave it. ``evidence`` (contexts, experts):
    events for which each expert was responsible. ``gains`` (contexts, mixture + experts): what
    the guard goes by.
    """

    neighbour: NDArray[np.int32]
    strength: NDArray[np.float32]
    filled: NDArray[np.int32]
    cells: NDArray[np.float64]
    flags: NDArray[np.uint8]
    dirty: NDArray[np.uint8]
    listed: NDArray[np.int32]
    lag_hits: NDArray[np.float64]
    lag_seen: NDArray[np.float64]
    lag_expected: NDArray[np.float64]
    evidence: NDArray[np.float64]
    gains: NDArray[np.float64]
    prior: NDArray[np.float64]
    totals: NDArray[np.float64]
    lag_near: NDArray[np.float64]
    mixture: NDArray[np.float64]
    single: NDArray[np.float64]
    blend: NDArray[np.float64]
    touched: NDArray[np.int32]


def allocate(config: Config, capacity: int) -> Tables:
    """Return empty tables for ``capacity`` items."""
    k = config.row_slots(capacity)
    chunks = -(-capacity // CHUNK_ROWS)
    totals = np.zeros(Total.SIZE)
    totals[Total.COUNT_EPOCH] = totals[Total.FRESH_EPOCH] = np.nan
    return Tables(
        neighbour=np.full((capacity, k), -1, np.int32),
        strength=np.zeros((capacity, k), np.float32),
        filled=np.zeros(capacity, np.int32),
        cells=np.zeros((capacity, Cell.SIZE)),
        flags=np.zeros(capacity, np.uint8),
        dirty=np.zeros(chunks, np.uint8),
        listed=np.full((2, config.popular), -1, np.int32),
        lag_hits=np.zeros((CONTEXTS + 1, HISTORY)),
        lag_seen=np.zeros((CONTEXTS + 1, HISTORY)),
        lag_expected=np.zeros(HISTORY),
        evidence=np.zeros((CONTEXTS, len(EXPERTS))),
        gains=np.zeros((CONTEXTS, 1 + len(EXPERTS))),
        prior=np.array([_PRIOR[x] * (EXPERTS[x] in config.experts) for x in range(len(EXPERTS))]),
        totals=totals,
        lag_near=np.zeros(HISTORY),
        mixture=np.zeros(len(EXPERTS)),
        single=np.zeros(len(EXPERTS)),
        blend=np.zeros(len(EXPERTS)),
        touched=np.zeros(capacity, np.int32),
    )


_PER_ITEM = ("filled", "cells", "flags", "dirty")

GLOBAL_ARRAYS = ("listed", "lag_hits", "lag_seen", "lag_expected", "evidence", "gains", "totals")
"""Arrays that belong to no item, in the order in which they are written."""


def grown(tables: Tables, config: Config, capacity: int) -> Tables:
    """Return tables for ``capacity`` items that hold what ``tables`` held.

    Rows may have fewer slots afterwards; the strongest neighbours come first, and stay.
    """
    larger = allocate(config, capacity)
    for name in _PER_ITEM:
        old = getattr(tables, name)
        getattr(larger, name)[: len(old)] = old
    rows, k = tables.neighbour.shape
    k = min(k, larger.neighbour.shape[1])
    larger.neighbour[:rows, :k] = tables.neighbour[:, :k]
    larger.strength[:rows, :k] = tables.strength[:, :k]
    cut = larger.filled[:rows] > k
    if cut.any():
        larger.neighbour[:rows][cut, k:] = -1
        larger.filled[:rows][cut] = k
        larger.dirty[np.unique(np.flatnonzero(cut) // CHUNK_ROWS)] = 1
    return larger._replace(**{name: getattr(tables, name) for name in GLOBAL_ARRAYS})
