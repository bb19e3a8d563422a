"""Hold what the recommender has learned as flat arrays that compiled code mutates in place."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import EXPERTS, HISTORY, LAGS, Config
from models.recommender.lenders import Lending, no_lending, wider

__all__ = [
    "AGES",
    "BORROWED",
    "CONTENDERS",
    "CONTEXTS",
    "FIXED",
    "GLOBAL_ARRAYS",
    "LINE_WORDS",
    "NARROW",
    "NARROW_LINES",
    "NEVER_CHOSEN",
    "NOT_LENT",
    "RATIOS",
    "SHARES",
    "Cell",
    "Flag",
    "Row",
    "Tables",
    "Total",
    "Trait",
    "allocate",
    "copied",
    "grown",
    "rows_of",
]

CONTEXTS = 5
"""Lengths of history whose mixtures are learned apart: 0, 1-2, 3-7, 8-19, 20 and more."""

RATIOS = 24
"""Half octaves of how much more co-visitation expects an item of the history than on average."""

FIXED = 1
"""First place of a candidate. Place 0 means that an item is none."""

AGES = 5
"""Items that borrow, by what is known of them: announced lately and never chosen, never chosen
at all, chosen once, 2 to 4 times, more often."""

SHARES = 5
"""Items that borrow, by which part of those that they are like goes with the history: more than a
half, than a quarter, and so on."""

NEVER_CHOSEN = 2
"""The first so many of `AGES` were never chosen."""

NOT_LENT = AGES * SHARES
"""Group of what was given nothing this time."""

CONTENDERS = 8
"""Groups of newcomers that contend for the tenth place: by age, and by score against the tenth."""

BORROWED = 2 * (AGES * SHARES + CONTENDERS)
"""Numbers in ``Tables.borrowed``."""

_TOP = 10
_PRIOR = (0.6, 0.2, 0.1, 0.1)
_LINE_BYTES = 64

LINE_WORDS = _LINE_BYTES // 4
"""Words of a cache line."""


class Row:
    """Words of an item's row, in one run of memory so that a visit touches few lines.

    ``FILLED`` is the number of neighbours, ``SOURCE`` (a float) the item's ``count **
    source_power``. From ``FIRST`` on stand pairs of words, a neighbour's index and its strength
    (a float), strongest first.
    """

    FILLED = 0
    SOURCE = 1
    FIRST = 2


# An odd number: with an even one the first lines of all rows, which are all that most rows fill,
# would compete for a part of the cache.
NARROW_LINES = 3
"""Lines of a narrow row."""

NARROW = (NARROW_LINES * LINE_WORDS - Row.FIRST) // 2
"""Neighbours that a narrow row holds; an item that has more has a wide one."""


class Cell:
    """Columns of ``Tables.cells``: engagements of an item, decayed slowly and fast."""

    COUNT = 0
    FRESH = 1
    SIZE = 2


class Trait:
    """Columns of ``Tables.traits``: what scoring reads of a candidate, in one quarter of a line.

    ``INVERSE`` is ``count ** -target_power``, ``PLACE`` (an integer, in ``Tables.places``) where
    the item stands among the candidates.
    """

    INVERSE = 0
    COUNT = 1
    FRESH = 2
    PLACE = 3
    SIZE = 4


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


class Tables(NamedTuple):
    """Everything learned, and scratch space.

    Counts and strengths are kept in units that grow with time (``2 ** ((ts - epoch) / half
    life)``), so that nothing has to be touched to decay, and comparisons need no clock.

    ``pool`` (words,) holds the rows, each laid out as `Row` says, and ``strengths`` is the same
    memory as float32. An item's row begins at cache line ``lines`` of it. ``wide`` (2,) is the
    line of the next wide row, and how many lines one has; ``room`` how many neighbours.
    ``traits`` (items, `Trait`) repeats counts as float32, and ``places`` is the same memory as
    int32. ``listed`` (2, popular): items popular lately, and over long. ``lag_hits``, ``lag_seen``
    (contexts + all, `LAGS`): how often the next item was the one ``lag`` steps back;
    ``lag_expected``: what co-visitation gave it.
    ``again`` (2, `RATIOS`): what of the history came again, and what these lags let expect, by how
    much more co-visitation expects it than on average.
    ``evidence`` (contexts, experts): events for which each expert was responsible. ``gains``
    (contexts, mixture + experts): what the guard goes by.

    Candidates of one scoring stand side by side in ``touched`` (which item), ``near``, ``far``,
    ``fresh``, ``steady``, ``inverse`` and ``score``. The listed ones have places of their own at
    the front, those popular lately first, and stay there; a place that is not taken holds zeros.
    ``borrowed`` (2, `AGES` · `SHARES` + `CONTENDERS`): what new items were given by borrowing, and
    what came of it; then what came of the tenth place, and of newcomers that contend for it.
    ``lending``: from whom they borrow, which follows from the catalogue and is not stored.
    ``best`` and ``best_scores`` are the top 10, ``likely`` the places of the last one for nobody.
    ``powers`` (4, steps) are the decays of the near and the far expert, of pairs and of those of
    long histories.
    """

    pool: NDArray[np.int32]
    strengths: NDArray[np.float32]
    lines: NDArray[np.int32]
    wide: NDArray[np.int64]
    room: int
    cells: NDArray[np.float64]
    traits: NDArray[np.float32]
    places: NDArray[np.int32]
    flags: NDArray[np.uint8]
    dirty: NDArray[np.uint8]
    listed: NDArray[np.int32]
    lag_hits: NDArray[np.float64]
    lag_seen: NDArray[np.float64]
    lag_expected: NDArray[np.float64]
    again: NDArray[np.float64]
    evidence: NDArray[np.float64]
    gains: NDArray[np.float64]
    totals: NDArray[np.float64]
    prior: NDArray[np.float64]
    powers: NDArray[np.float64]
    mixture: NDArray[np.float64]
    single: NDArray[np.float64]
    blend: NDArray[np.float64]
    lag_near: NDArray[np.float64]
    lag_chance: NDArray[np.float64]
    lag_ratio: NDArray[np.int32]
    chance: NDArray[np.float32]
    touched: NDArray[np.int32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]
    fresh: NDArray[np.float32]
    steady: NDArray[np.float32]
    inverse: NDArray[np.float32]
    score: NDArray[np.float32]
    best: NDArray[np.int32]
    best_scores: NDArray[np.float32]
    borrowed: NDArray[np.float64]
    lending: Lending
    likely: NDArray[np.int32]


def _aligned(shape: tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
    """Return zeros that begin on a cache line, so that rows do not straddle more than they fill."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    raw = np.zeros(size + _LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % _LINE_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def _wide_lines(room: int) -> int:
    """Return the cache lines of a wide row: an odd number, as of narrow ones."""
    return -(-(Row.FIRST + 2 * room) // LINE_WORDS) | 1


def allocate(config: Config, capacity: int) -> Tables:
    """Return empty tables for ``capacity`` items."""
    room = config.row_slots(capacity)
    wide = _wide_lines(room)
    # There may be as many wide rows as items. The system gives memory to what is written to.
    pool = _aligned((capacity * (NARROW_LINES + wide), LINE_WORDS), np.int32).reshape(-1)
    traits = _aligned((capacity, Trait.SIZE), np.float32)
    totals = np.zeros(Total.SIZE)
    totals[Total.COUNT_EPOCH] = totals[Total.FRESH_EPOCH] = np.nan
    # Rows of a whole window, those behind its latest items, the lists, place 0, and one that is
    # written before it is counted.
    visited = config.window + config.indirect_window * config.indirect_through
    places = min(capacity, visited * room) + 2 * config.popular + FIXED + 1
    return Tables(
        pool=pool,
        strengths=pool.view(np.float32),
        lines=np.arange(0, capacity * NARROW_LINES, NARROW_LINES, dtype=np.int32),
        wide=np.array([capacity * NARROW_LINES, wide]),
        room=room,
        cells=_aligned((capacity, Cell.SIZE), np.float64),
        traits=traits,
        places=traits.view(np.int32),
        flags=np.zeros(capacity, np.uint8),
        dirty=np.zeros(capacity, np.uint8),
        listed=np.full((2, config.popular), -1, np.int32),
        lag_hits=np.zeros((CONTEXTS + 1, LAGS)),
        lag_seen=np.zeros((CONTEXTS + 1, LAGS)),
        lag_expected=np.zeros(LAGS),
        again=np.zeros((2, RATIOS)),
        evidence=np.zeros((CONTEXTS, len(EXPERTS))),
        gains=np.zeros((CONTEXTS, 1 + len(EXPERTS))),
        totals=totals,
        prior=np.array([_PRIOR[x] * (EXPERTS[x] in config.experts) for x in range(len(EXPERTS))]),
        powers=config.powers(),
        mixture=np.zeros(len(EXPERTS)),
        single=np.zeros(len(EXPERTS)),
        blend=np.zeros(len(EXPERTS)),
        lag_near=np.zeros(HISTORY),
        lag_chance=np.zeros(HISTORY),
        lag_ratio=np.zeros(HISTORY, np.int32),
        chance=np.zeros(HISTORY, np.float32),
        touched=np.full(places, -1, np.int32),
        near=np.zeros(places, np.float32),
        far=np.zeros(places, np.float32),
        fresh=np.zeros(places, np.float32),
        steady=np.zeros(places, np.float32),
        inverse=np.zeros(places, np.float32),
        score=np.zeros(places, np.float32),
        best=np.zeros(_TOP, np.int32),
        best_scores=np.zeros(_TOP, np.float32),
        borrowed=np.zeros((2, BORROWED // 2)),
        lending=no_lending(),
        likely=np.zeros(_TOP, np.int32),
    )


_PER_ITEM = ("cells", "traits", "flags", "dirty")

GLOBAL_ARRAYS = (
    "listed",
    "lag_hits",
    "lag_seen",
    "lag_expected",
    "again",
    "evidence",
    "gains",
    "totals",
    "borrowed",
)
"""Arrays that belong to no item, in the order in which they are written."""

_CANDIDATES = ("touched", "near", "far", "fresh", "steady", "inverse", "score")


def rows_of(t: Tables, items: NDArray[np.signedinteger]) -> NDArray[np.int64]:
    """Return where the rows of these items begin in ``Tables.pool``, (n,)."""
    starts: NDArray[np.int64] = t.lines[items].astype(np.int64) * LINE_WORDS
    return starts


def grown(tables: Tables, config: Config, capacity: int) -> Tables:
    """Return tables for ``capacity`` items that hold what ``tables`` held.

    Rows may have fewer slots afterwards; the strongest neighbours come first, and stay.
    """
    larger = allocate(config, capacity)
    items = len(tables.lines)
    _fill(larger, tables, items)
    filled = rows_of(larger, np.arange(items)) + Row.FILLED
    cut = larger.pool[filled] > larger.room
    larger.pool[filled[cut]] = larger.room
    larger.dirty[:items][cut] = 1
    return _borrowing_too(larger, tables)


def copied(tables: Tables, config: Config, items: int) -> Tables:
    """Return tables of the same size that hold the same of the first ``items``: all there are."""
    same = allocate(config, len(tables.lines))
    _fill(same, tables, items)
    return _borrowing_too(same, tables)


def _borrowing_too(target: Tables, source: Tables) -> Tables:
    if not len(source.lending.item):
        return target
    return target._replace(lending=wider(source.lending, len(target.lines)))


def _fill(target: Tables, source: Tables, items: int) -> None:
    for name in _PER_ITEM:
        getattr(target, name)[:items] = getattr(source, name)[:items]
    for name in GLOBAL_ARRAYS:
        getattr(target, name)[:] = getattr(source, name)
    _fill_rows(target, source, items)
    # Between two scorings only the places of what is listed are taken.
    fixed = FIXED + source.listed.size
    for name in _CANDIDATES:
        getattr(target, name)[:fixed] = getattr(source, name)[:fixed]


def _fill_rows(target: Tables, source: Tables, items: int) -> None:
    """Copy the rows of so many items, as far as there is room."""
    narrow = items * NARROW_LINES * LINE_WORDS
    target.pool[:narrow] = source.pool[:narrow]
    first, size = len(source.lines) * NARROW_LINES, int(source.wide[1])
    new_first, new_size = target.wide.tolist()
    used = (int(source.wide[0]) - first) // size
    words = min(size, new_size) * LINE_WORDS
    wide = _wide_rows(target, new_first, new_size, used)
    wide[:, :words] = _wide_rows(source, first, size, used)[:, :words]
    target.wide[0] = new_first + used * new_size
    moved = np.flatnonzero(source.lines[:items] >= first)
    target.lines[moved] = new_first + (source.lines[moved] - first) // size * new_size


def _wide_rows(t: Tables, first: int, size: int, used: int) -> NDArray[np.int32]:
    """Return so many wide rows of ``size`` lines, from line ``first`` on, (used, words)."""
    start, words = first * LINE_WORDS, size * LINE_WORDS
    return t.pool[start : start + used * words].reshape(used, words)
