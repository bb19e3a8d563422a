"""What labeling functions see: one example, or a batch of them as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lfs.columns import Columns, spread
from stream.evidence import COLUMNS, DEFAULTS

__all__ = ["CONTEXT", "ITEM", "NEEDED", "Example", "ExampleBatch"]

T = TypeVar("T")

CONTEXT: Final = "context."
"""How the name of a key of the context begins, among what a function needs."""
ITEM: Final = "item"
NEEDED: Final = frozenset({*COLUMNS, ITEM})
"""Names of what a function may need, keys of the context aside."""


class Example:
    """One row of an `ExampleBatch`: each column as an attribute, ``None`` where nothing is known.

    Examples
    --------
    >>> batch = ExampleBatch.of([{"dwell_s": 40.0}], item_ids=["i1"])
    >>> example = next(batch.rows())
    >>> example.dwell_s, example.rating, example.item_id
    (40.0, None, 'i1')
    """

    __slots__ = ("_batch", "_row")

    def __init__(self, batch: ExampleBatch, row: int) -> None:
        self._batch = batch
        self._row = row

    @property
    def batch(self) -> ExampleBatch:
        """Return the batch that the row is of."""
        return self._batch

    @property
    def item_id(self) -> str:
        """Return the item that was shown or used."""
        return self._batch.item_ids[self._row]

    @property
    def item(self) -> Mapping[str, Any]:
        """Return the item's catalogue entry, empty if there is none yet."""
        return self._batch.items(self._batch.item_ids[self._row])

    @property
    def context(self) -> Mapping[str, str | float | bool]:
        """Return the context of the event that opened the example, later events added."""
        return self._batch.contexts[self._row]

    @property
    def segment(self) -> str | None:
        """Return the segment of the user, if the product sends one."""
        return self._batch.segments[self._row]

    def __getattr__(self, name: str) -> float | None:
        try:
            value = float(self._batch.column(name)[self._row])
        except KeyError as unknown:
            raise AttributeError(
                f"an example has no column {name!r}; it has {', '.join(COLUMNS)}"
            ) from unknown
        return None if value != value else value  # noqa: PLR0124 - NaN is unequal to itself


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _no_item(item_id: str) -> Mapping[str, Any]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class ExampleBatch:
    """Examples as columns: what a vectorised labeling function takes.

    Parameters
    ----------
    evidence
        Float64 of shape (n, number of `stream.evidence.COLUMNS`).
    item_ids, contexts, segments
        One entry an example.
    items
        Looks an item's catalogue entry up; an empty mapping if there is none.

    Notes
    -----
    A vectorised function must treat each row on its own: a statistic over the batch would make
    the vote depend on how the stream was cut, and fails the conformance tests.
    """

    evidence: NDArray[np.float64]
    item_ids: Sequence[str]
    contexts: Sequence[Mapping[str, str | float | bool]]
    segments: Sequence[str | None]
    items: Callable[[str], Mapping[str, Any]] = field(default=_no_item)
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.evidence)

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, float]],
        *,
        item_ids: Sequence[str] | None = None,
        contexts: Sequence[Mapping[str, str | float | bool]] | None = None,
        items: Callable[[str], Mapping[str, Any]] = _no_item,
    ) -> ExampleBatch:
        """Return a batch from rows that name only the columns they set: for tests and docs."""
        evidence = np.tile(np.asarray(DEFAULTS), (len(rows), 1))
        for row, values in enumerate(rows):
            for name, value in values.items():
                evidence[row, COLUMNS.index(name)] = value
        n = len(rows)
        return cls(
            evidence,
            item_ids if item_ids is not None else [""] * n,
            contexts if contexts is not None else [{}] * n,
            [None] * n,
            items,
        )

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a column by name, shape (n,); KeyError names what there is."""
        position = _POSITION.get(name)
        if position is None:
            raise KeyError(f"no column {name!r}; there are {', '.join(COLUMNS)}")
        table: NDArray[np.float64] | None = self._made.get("table")
        column: NDArray[np.float64] = (self.by_column() if table is None else table)[position]
        return column

    def by_column(self) -> NDArray[np.float64]:
        """Return the evidence laid out by column, (columns, n), not to be written to."""
        return self.once("table", _table)

    def observed(self, *, columns: bool = True) -> frozenset[str]:
        """Return what is known of any row: `context.KEY` for each key, `item`, and columns."""
        if columns:
            return self.once("observed", _observed)
        return self.once("around", _around)

    def once(self, name: str, compute: Callable[[ExampleBatch], T]) -> T:
        """Return what ``compute`` makes of this batch; computed once a batch, under its name."""
        found: T | None = self._made.get(name)
        if found is None:
            found = self._made[name] = compute(self)
        return found

    def reading(self, name: str, compute: Callable[[ExampleBatch], NDArray[Any]]) -> NDArray[Any]:
        """Return what ``compute`` makes of this batch, shape (n,); computed once a batch.

        Functions that look at the same fact share it so; the result must not be written to.
        """
        # Not under a name that the batch itself uses, whatever a team's function calls it.
        found = self.once(f"reading {name}", compute)
        found.flags.writeable = False
        return found

    def rows(self) -> Iterator[Example]:
        """Yield each example by itself."""
        return (Example(self, row) for row in range(len(self)))

    def at(self, row: int) -> ExampleBatch:
        """Return the batch that holds only this row."""
        return ExampleBatch(
            self.evidence[row : row + 1],
            self.item_ids[row : row + 1],
            self.contexts[row : row + 1],
            self.segments[row : row + 1],
            self.items,
        )


_POSITION: Final = {name: position for position, name in enumerate(COLUMNS)}


def _columns(batch: ExampleBatch) -> Columns:
    return spread(batch.evidence)


def _table(batch: ExampleBatch) -> NDArray[np.float64]:
    return batch.once("columns", _columns).table


def _observed(batch: ExampleBatch) -> frozenset[str]:
    return _named(batch.once("columns", _columns).seen.tobytes()) | batch.observed(columns=False)


def _around(batch: ExampleBatch) -> frozenset[str]:
    keys = frozenset().union(*batch.contexts) if any(batch.contexts) else _NO_KEYS
    item = batch.items is not _no_item and any(map(batch.items, set(batch.item_ids)))
    return (_kept_around if len(keys) <= _FEW else _around_named)(keys, item)


_NO_KEYS: Final[frozenset[str]] = frozenset()
_FEW: Final = 64
"""Sets of more keys are not kept: whoever sends events makes them up."""


def _around_named(keys: frozenset[str], item: bool) -> frozenset[str]:
    return frozenset([CONTEXT + key for key in keys] + [ITEM] * item)


_kept_around = lru_cache(maxsize=1024)(_around_named)


@lru_cache(maxsize=1024)
def _named(seen: bytes) -> frozenset[str]:
    return frozenset(name for name, known in zip(COLUMNS, seen, strict=True) if known)
