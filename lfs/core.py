"""Labeling functions: what they are, what they see, and how a task's functions vote together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lfs.columns import are_votes
from lfs.examples import CONTEXT, ITEM, NEEDED, Example, ExampleBatch
from stream.evidence import COLUMNS

__all__ = [
    "ABSTAIN",
    "Asked",
    "Example",
    "ExampleBatch",
    "LabelingFunction",
    "LabelingFunctionError",
    "Pass",
    "Votes",
    "labeling_function",
    "vote_matrix",
]

ABSTAIN: Final = -1
"""A labeling function that has nothing to say about an example returns this."""

Votes = NDArray[np.int8]

_SECTIONS: Final = ("Rationale", "Sources", "Known errors")
_REMEMBERED: Final = 512
_FEW: Final = 128
"""Sets of more names are not remembered: products make names of context up."""
_TEMPLATE: Final = '''
    """Say in one line what is voted, and when.

    Rationale: why this signal tells something about the class.
    Sources: the events, catalogue fields or models it reads.
    Known errors: when it is wrong, as far as is known.
    """
'''


class LabelingFunctionError(ValueError):
    """A labeling function that cannot be registered, or a set of them that cannot vote."""


RowFunction = Callable[[Example], str | int]
ColumnFunction = Callable[[ExampleBatch], Votes]


class Pass(NamedTuple):
    """Functions that vote together, in one look at a batch: each of them alone would cost as much.

    Parameters
    ----------
    names
        Of the functions, which say that they are in it.
    vote
        Given evidence (n, columns), the column of each function in a vote matrix (-1: not asked),
        and the matrix, fills in the votes of those that do not abstain.
    """

    names: tuple[str, ...]
    vote: Callable[[NDArray[np.float64], NDArray[np.int64], Votes], None]


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
    joint
        The pass in which it votes together with others, if it does: says the same as `function`.
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
    joint: Pass | None = None

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
                said: object = cast(RowFunction, self.function)(example)
            except Exception as error:  # a team's function may raise anything
                failures[row] = type(error).__name__
                continue
            if isinstance(said, str):
                if said in numbers:
                    votes[row] = numbers[said]
                else:
                    failures[row] = "answer"
            elif not _abstains(said):
                failures[row] = "answer"
        return votes, failures


def _abstains(said: object) -> bool:
    # What is no number, as an array or a frame, may not even compare.
    return isinstance(said, int | float | np.number) and bool(said == ABSTAIN)


def labeling_function(
    *,
    task: str = "relevance",
    version: int = 1,
    name: str | None = None,
    form: str = "lf",
    family: str | None = None,
    needs: Sequence[str] = (),
    joint: Pass | None = None,
) -> Callable[[RowFunction | ColumnFunction], LabelingFunction]:
    """Make a labeling function of a plain one.

    A function whose parameter is annotated `ExampleBatch` gets columns and answers with an int8
    array of class indexes; any other gets one `Example` and answers with a class name or
    `ABSTAIN`. The family is the function's module unless another one is named. What a function
    ``needs`` (columns, `context.KEY`, `item`; any of it will do) spares it the batches in which
    it could only abstain. One that votes in a pass with others (``joint``) answers by itself what
    the pass says.

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
        if one not in NEEDED and not one.startswith(CONTEXT):
            raise LabelingFunctionError(
                f"needs: found {one!r}, allowed: context.KEY, {ITEM}, {', '.join(COLUMNS)}"
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
        if joint is not None and own_name not in joint.names:
            raise LabelingFunctionError(
                f"labeling function {own_name!r}: joint: its pass has {', '.join(joint.names)}"
            )
        return LabelingFunction(
            own_name, task, version, own_family, doc, function, vectorised, form,
            frozenset(needs), joint,
        )  # fmt: skip

    return decorate


class Asked:
    """Which of several functions have anything to look at, by what is known of a batch.

    Attributes
    ----------
    passes
        Those that vote together, always asked: pass, column of each function in it (-1: it is not
        among these), and the columns that it fills.

    *State* — at most some hundreds of the small sets that occur, each with its functions.
    """

    def __init__(self, lfs: Sequence[LabelingFunction]) -> None:
        self._needs = [(column, lf.needs) for column, lf in enumerate(lfs) if lf.joint is None]
        self._of_columns = any(not needs.isdisjoint(COLUMNS) for _, needs in self._needs)
        self._known: dict[frozenset[str], list[int]] = {}
        joints: list[Pass] = []
        for lf in lfs:
            if lf.joint is not None and lf.joint not in joints:
                joints.append(lf.joint)
        self.passes: list[tuple[Pass, NDArray[np.int64], NDArray[np.int64]]] = []
        for joint in joints:
            members = {lf.name: column for column, lf in enumerate(lfs) if lf.joint == joint}
            columns = np.array([members.get(name, -1) for name in joint.names], dtype=np.int64)
            self.passes.append((joint, columns, columns[columns >= 0]))

    def columns(self, batch: ExampleBatch) -> list[int]:
        """Return the columns of the functions by themselves that need what is known, or nothing."""
        observed = batch.observed(columns=self._of_columns)
        found = self._known.get(observed)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = [
                column
                for column, needs in self._needs
                if not needs or not needs.isdisjoint(observed)
            ]
            if len(observed) <= _FEW:
                self._known[observed] = found
        return found


def vote_matrix(
    lfs: Sequence[LabelingFunction],
    batch: ExampleBatch,
    classes: Sequence[str],
    *,
    timer: Callable[[], float] | None = None,
    enabled: Sequence[bool] | None = None,
    asked: Asked | None = None,
) -> tuple[Votes, dict[str, dict[int, str]], NDArray[np.float64]]:
    """Return the votes of every function on every row, who failed where, and what each took.

    Parameters
    ----------
    timer
        A clock that the shell lends to measure durations; nothing else depends on it.
    enabled
        Which functions are on; one that is off abstains.
    asked
        Of the same functions, kept between calls; spares looking at what each of them needs.

    Returns
    -------
    votes
        int8, shape (n, m).
    failures
        LF name to row to reason.
    seconds
        float64, shape (m,); zeros without a timer. Those of a pass that are on have equal parts.
    """
    n, m = len(batch), len(lfs)
    votes = np.empty((n, m), dtype=np.int8)
    votes.fill(ABSTAIN)
    seconds = np.zeros(m)
    failures: dict[str, dict[int, str]] = {}
    again: list[int] = []
    asked = asked or Asked(lfs)
    for joint, places, filled in asked.passes:
        columns, members = places, filled
        if enabled is not None and not all(enabled):
            on = np.array([*enabled, False])  # The last is that of column -1.
            columns = np.where(on[places], places, -1)
            members = columns[columns >= 0]
            if not len(members):
                continue
        started = timer() if timer is not None else 0.0
        try:
            joint.vote(batch.evidence, columns, votes)
        except Exception:  # a team's pass may raise anything; `vote` finds out where
            votes[:, members] = ABSTAIN
            again += members.tolist()
        if timer is not None:
            seconds[members] = (timer() - started) / len(members)
    for column in asked.columns(batch):
        if enabled is not None and not enabled[column]:
            continue
        lf = lfs[column]
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
