"""Hold what the recommender has learned as flat arrays that compiled code mutates in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHUNK_ROWS",
    "HISTORY",
    "IN_TOP",
    "POPULAR_LISTED",
    "SEEN",
    "Config",
    "Parameters",
    "Tables",
    "Total",
    "allocate",
    "grown",
]

HISTORY = 20
"""Items of a user's own history that are kept, newest first."""

CHUNK_ROWS = 16
"""Items that are checkpointed together."""

# Bits of ``Tables.flags``.
SEEN = 1
POPULAR_LISTED = 2
IN_TOP = 4


class Total:
    """Positions in ``Tables.totals``."""

    COUNT_EPOCH = 0
    POPULARITY_EPOCH = 1
    COUNT = 2
    SEEN = 3
    COVERED = 4
    POPULAR = 5
    SIZE = 6


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes and rates of a recommender. The defaults need no tuning; sizes bound its memory.

    Parameters
    ----------
    max_items
        Items that the vocabulary admits; later ones are dropped and counted.
    neighbours
        Neighbours kept per item.
    popular
        Length of the list of items popular now, candidates for everybody.
    window
        Items of the history that a new engagement is paired with.
    pair_decay, score_decay
        Factor per step back in the history, when learning pairs and when scoring.
    target_power, source_power
        Exponents of the counts that a score is divided by: of the candidate, and of the item in
        the history that brings it up.
    popularity_share
        Weight of popularity beside co-visitation, in units of one expected pair.
    refusal
        Part of a pair's strength that one certain refusal takes away.
    half_life_s, popularity_half_life_s
        Event time after which what was learned counts half.
    """

    max_items: int = 1_000_000
    neighbours: int = 32
    popular: int = 128
    window: int = 5
    pair_decay: float = 0.7
    score_decay: float = 0.5
    target_power: float = 0.3
    source_power: float = 0.7
    popularity_share: float = 1e-4
    refusal: float = 0.05
    half_life_s: float = 30 * 86_400.0
    popularity_half_life_s: float = 86_400.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration in ``values``; names that this version lacks are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def parameters(self) -> Parameters:
        """Return what the compiled code reads."""
        return Parameters(
            int(self.window),
            float(self.pair_decay),
            float(self.score_decay),
            float(self.target_power),
            float(self.source_power),
            float(self.popularity_share),
            float(self.refusal),
            float(self.half_life_s),
            float(self.popularity_half_life_s),
        )


class Parameters(NamedTuple):
    """Rates of a `Config`, as compiled code takes them."""

    window: int
    pair_decay: float
    score_decay: float
    target_power: float
    source_power: float
    popularity_share: float
    refusal: float
    half_life_s: float
    popularity_half_life_s: float


class Tables(NamedTuple):
    """Everything learned, and scratch space.

    Counts and popularity are kept in units that grow with time (``2 ** ((ts - epoch) / half
    life)``), so that nothing has to be touched to decay and comparisons need no clock. Pair
    strengths are float32 and would overflow; each row decays from its own ``row_ts`` instead.

    ``neighbour``, ``strength`` (items, K): the first ``filled`` slots of a row are in use.
    ``inverse`` is ``counts ** -target_power``, kept because a power costs more than all the rest.
    ``lag_hits``, ``lag_seen``: how often the next item was the one ``lag`` steps back.
    """

    neighbour: NDArray[np.int32]
    strength: NDArray[np.float32]
    filled: NDArray[np.int32]
    row_ts: NDArray[np.float64]
    counts: NDArray[np.float64]
    inverse: NDArray[np.float64]
    popularity: NDArray[np.float64]
    flags: NDArray[np.uint8]
    dirty: NDArray[np.uint8]
    popular: NDArray[np.int32]
    lag_hits: NDArray[np.float64]
    lag_seen: NDArray[np.float64]
    totals: NDArray[np.float64]
    score: NDArray[np.float64]
    marked: NDArray[np.uint8]
    touched: NDArray[np.int32]


def allocate(config: Config, capacity: int) -> Tables:
    """Return empty tables for ``capacity`` items."""
    k = config.neighbours
    chunks = -(-capacity // CHUNK_ROWS)
    totals = np.zeros(Total.SIZE)
    totals[Total.COUNT_EPOCH] = totals[Total.POPULARITY_EPOCH] = np.nan
    return Tables(
        neighbour=np.full((capacity, k), -1, np.int32),
        strength=np.zeros((capacity, k), np.float32),
        filled=np.zeros(capacity, np.int32),
        row_ts=np.zeros(capacity),
        counts=np.zeros(capacity),
        inverse=np.zeros(capacity),
        popularity=np.zeros(capacity),
        flags=np.zeros(capacity, np.uint8),
        dirty=np.zeros(chunks, np.uint8),
        popular=np.full(config.popular, -1, np.int32),
        lag_hits=np.zeros(HISTORY),
        lag_seen=np.zeros(HISTORY),
        totals=totals,
        score=np.zeros(capacity),
        marked=np.zeros(capacity, np.uint8),
        touched=np.zeros(capacity, np.int32),
    )


_PER_ITEM = (
    "neighbour",
    "strength",
    "filled",
    "row_ts",
    "counts",
    "inverse",
    "popularity",
    "flags",
    "dirty",
)


def grown(tables: Tables, config: Config, capacity: int) -> Tables:
    """Return tables for ``capacity`` items that hold what ``tables`` held."""
    larger = allocate(config, capacity)
    for name in _PER_ITEM:
        old = getattr(tables, name)
        getattr(larger, name)[: len(old)] = old
    return larger._replace(
        popular=tables.popular,
        lag_hits=tables.lag_hits,
        lag_seen=tables.lag_seen,
        totals=tables.totals,
    )
