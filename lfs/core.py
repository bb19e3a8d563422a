"""Labeling functions: what they are, what they see, and how a task's functions vote together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lfs.columns import Columns, are_votes, spread
from stream.evidence import COLUMNS, DEFAULTS

__all__ = [
    "ABSTAIN",
    "Example",
    "ExampleBatch",
    "LabelingFunction",
    "LabelingFunctionError",
    "Votes",
    "labeling_function",
    "vote_matrix",
]

ABSTAIN: Final = -1
"""A labeling function that has nothing to say about an example returns this."""

Votes = NDArray[np.int8]

T = TypeVar("T")

_CONTEXT: Final = "context."
_ITEM: Final = "item"
_SECTIONS: Final = ("Rationale", "Sources", "Known errors")
_TEMPLATE: Final = '''
    """Say in one line what is voted, and when.

    Rationale: why this signal tells something about the class.
    Sources: the events, catalogue fields or models it reads.
    Known errors: when it is wrong, as far as is known.
    """
'''


class LabelingFunctionError(ValueError):
    """A labeling function that cannot be registered, or a set of them that cannot vote."""


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
        column: NDArray[np.float64] = self.by_column()[position]
        return column

    def by_column(self) -> NDArray[np.float64]:
        """Return the evidence laid out by column, (columns, n), not to be written to."""
        return self.once("columns", _columns).table

    def observed(self) -> frozenset[str]:
        """Return what is known of any row: columns, `context.KEY` for each key, and `item`."""
        return self.once("observed", _observed)

    def once(self, name: str, compute: Callable[[ExampleBatch], T]) -> T:
        """Return what ``compute`` makes of this batch; computed once a batch, under its name."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = compute(self)
        return cast(T, found)

    def reading(self, name: str, compute: Callable[[ExampleBatch], NDArray[Any]]) -> NDArray[Any]:
        """Return what ``compute`` makes of this batch, shape (n,); computed once a batch.

        Functions that look at the same fact share it so; the result must not be written to.
        """
        found = self.once(name, compute)
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
_NEEDED: Final = frozenset({*COLUMNS, _ITEM})


def _columns(batch: ExampleBatch) -> Columns:
    return spread(batch.evidence)


def _observed(batch: ExampleBatch) -> frozenset[str]:
    found = _named(batch.once("columns", _columns).seen.tobytes())
    if any(batch.contexts):
        found |= {_CONTEXT + key for key in set().union(*batch.contexts)}
    if any(map(batch.items, set(batch.item_ids))):
        found |= {_ITEM}
    return found


@lru_cache(maxsize=1024)
def _named(seen: bytes) -> frozenset[str]:
    return frozenset(name for name, known in zip(COLUMNS, seen, strict=True) if known)


RowFunction = Callable[[Example], str | int]
ColumnFunction = Callable[[ExampleBatch], Votes]


@dataclass(frozen=True, slots=True)
class LabelingFunction:
    """A named, versioned, documented signal about one task.

    Attributes
    ----------
    name, task, version, family
        Family is the module that it lives in. Statistics belong to (name, version).
    form
        ``lf``: its silence says something too; ``crowd``: judged only when it votes.
    needs
        Evidence without which it abstains, any of it will do: columns, `context.KEY`, `item`.
        A batch in which nothing of it is known is not shown to the function at all. Empty: it
        is always asked.
    vectorised
        Whether ``function`` takes an `ExampleBatch` and returns an int8 array of class indexes.
    """

    name: str
    task: str
    version: int
    family: str
    doc: str
    function: RowFunction | ColumnFunction
    vectorised: bool
    form: str = "lf"
    needs: frozenset[str] = frozenset()

    def columns(self, batch: ExampleBatch) -> Votes | None:
        """Return the answer of a vectorised function, unchecked; None where `vote` must be asked.

        That is, of a function of one example, and of one that raises or answers in another form.
        """
        if not self.vectorised:
            return None
        try:
            answer: object = cast(ColumnFunction, self.function)(batch)
        except Exception:  # a team's function may raise anything; `vote` finds out where
            return None
        if not isinstance(answer, np.ndarray) or answer.dtype != np.int8:
            return None
        return answer if answer.shape == (len(batch),) else None

    def vote(self, batch: ExampleBatch, classes: Sequence[str]) -> tuple[Votes, dict[int, str]]:
        """Return the votes (n,) on the batch, and for rows where it failed the reason.

        A row on which the function raises, or answers what is no class, abstains. A vectorised
        function that raises is asked row by row, so that one bad row costs one vote however
        the stream was cut.
        """
        n = len(batch)
        votes = np.full(n, ABSTAIN, dtype=np.int8)
        if self.vectorised:
            # Every answer is looked at here; `vote_matrix` looks at all functions' together.
            try:
                answer = np.asarray(cast(ColumnFunction, self.function)(batch))
                if answer.shape == (n,) and answer.dtype.kind in "iu":
                    if n == 0 or (answer.min() >= ABSTAIN and answer.max() < len(classes)):
                        return answer.astype(np.int8, copy=False), {}
                reason = "answer"
            except Exception as error:  # a team's function may raise anything
                reason = type(error).__name__
            if n == 1:
                return votes, {0: reason}
            failed: dict[int, str] = {}
            for row in range(n):
                one, problem = self.vote(batch.at(row), classes)
                votes[row] = one[0]
                if problem:
                    failed[row] = problem[0]
            return votes, failed
        failures: dict[int, str] = {}
        numbers = {name: number for number, name in enumerate(classes)}
        for row, example in enumerate(batch.rows()):
            try:
                said = cast(RowFunction, self.function)(example)
            except Exception as error:  # a team's function may raise anything
                failures[row] = type(error).__name__
                continue
            if isinstance(said, str):
                if said in numbers:
                    votes[row] = numbers[said]
                else:
                    failures[row] = "answer"
            elif said != ABSTAIN:
                failures[row] = "answer"
        return votes, failures


def labeling_function(
    *,
    task: str = "relevance",
    version: int = 1,
    name: str | None = None,
    form: str = "lf",
    family: str | None = None,
    needs: Sequence[str] = (),
) -> Callable[[RowFunction | ColumnFunction], LabelingFunction]:
    """Make a labeling function of a plain one.

    A function whose parameter is annotated `ExampleBatch` gets columns and answers with an int8
    array of class indexes; any other gets one `Example` and answers with a class name or
    `ABSTAIN`. The family is the function's module unless another one is named. What a function
    ``needs`` (columns, `context.KEY`, `item`; any of it will do) spares it the batches in which
    it could only abstain.

    Raises
    ------
    LabelingFunctionError
        If the docstring lacks *Rationale*, *Sources* or *Known errors*, or something that is
        needed does not exist.

    Examples
    --------
    >>> @labeling_function(task="relevance")
    ... def stayed(example):
    ...     '''Vote positive after a minute.
    ...
    ...     Rationale: who stays reads. Sources: dwell events. Known errors: an open tab.
    ...     '''
    ...     return "positive" if (example.dwell_s or 0) >= 60 else ABSTAIN
    >>> batch = ExampleBatch.of([{"dwell_s": 90.0}, {}])
    >>> stayed.vote(batch, ("negative", "positive"))[0].tolist()
    [1, -1]
    """
    if version < 1:
        raise LabelingFunctionError(f"version: found {version}, allowed: a number from 1")
    if form not in ("lf", "crowd"):
        raise LabelingFunctionError(f"form: found {form!r}, allowed: 'lf' or 'crowd'")
    for one in needs:
        if one not in _NEEDED and not one.startswith(_CONTEXT):
            raise LabelingFunctionError(
                f"needs: found {one!r}, allowed: context.KEY, {_ITEM}, {', '.join(COLUMNS)}"
            )

    def decorate(function: RowFunction | ColumnFunction) -> LabelingFunction:
        own_name = name or str(getattr(function, "__name__", "labeling_function"))
        doc = inspect.getdoc(function) or ""
        missing = [section for section in _SECTIONS if section.lower() not in doc.lower()]
        if missing:
            raise LabelingFunctionError(
                f"labeling function {own_name!r}: its docstring lacks {', '.join(missing)}; "
                f"write it like this:\n{_TEMPLATE}"
            )
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) != 1:
            raise LabelingFunctionError(
                f"labeling function {own_name!r} takes {len(parameters)} parameters; "
                "allowed: one, an Example or an ExampleBatch"
            )
        annotation = parameters[0].annotation
        vectorised = annotation is ExampleBatch or annotation == "ExampleBatch"
        own_family = family or function.__module__.rsplit(".", 1)[-1]
        return LabelingFunction(
            own_name, task, version, own_family, doc, function, vectorised, form, frozenset(needs)
        )

    return decorate


def vote_matrix(
    lfs: Sequence[LabelingFunction],
    batch: ExampleBatch,
    classes: Sequence[str],
    *,
    timer: Callable[[], float] | None = None,
    enabled: Sequence[bool] | None = None,
) -> tuple[Votes, dict[str, dict[int, str]], NDArray[np.float64]]:
    """Return the votes of every function on every row, who failed where, and what each took.

    Parameters
    ----------
    timer
        A clock that the shell lends to measure durations; nothing else depends on it.
    enabled
        Which functions are on; one that is off abstains.

    Returns
    -------
    votes
        int8, shape (n, m).
    failures
        LF name to row to reason.
    seconds
        float64, shape (m,); zeros without a timer.
    """
    n, m = len(batch), len(lfs)
    votes = np.empty((n, m), dtype=np.int8)
    votes.fill(ABSTAIN)
    seconds = np.zeros(m)
    failures: dict[str, dict[int, str]] = {}
    observed = batch.observed()
    again: list[int] = []
    for column, lf in enumerate(lfs):
        if lf.needs and lf.needs.isdisjoint(observed):
            continue
        if enabled is not None and not enabled[column]:
            continue
        started = timer() if timer is not None else 0.0
        answer = lf.columns(batch)
        if answer is None:
            again.append(column)
        else:
            votes[:, column] = answer
        if timer is not None:
            seconds[column] = timer() - started
    if not are_votes(votes, len(classes)):
        strange = ((votes >= len(classes)) | (votes < ABSTAIN)).any(axis=0)
        again += np.flatnonzero(strange).tolist()
    for column in again:
        started = timer() if timer is not None else 0.0
        votes[:, column], failed = lfs[column].vote(batch, classes)
        if timer is not None:
            seconds[column] += timer() - started
        if failed:
            failures[lfs[column].name] = failed
    return votes, failures, seconds
