"""Rows run through the compiled loop: what goes in, what comes out, how late answers go in."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from models.label_model.entry import gold, step
from models.label_model.layout import FloatArray
from models.label_model.replay import find_recent
from models.label_model.state import AT_HAND, CLOCK, LabelState

__all__ = [
    "StepResult",
    "answer_example",
    "answer_row",
    "judge_rows",
    "learn_rows",
    "run_rows",
]

LONGEST_AGE = 1e15
"""Examples ago beyond which an answer's votes are as old as can be: more would be no number."""
LEAST_INCLUSION = 1e-9
"""Of what was drawn more seldom, one answer counts for a billion at most."""

Column = TypeVar(
    "Column",
    npt.NDArray[np.int8],
    npt.NDArray[np.int32],
    npt.NDArray[np.int64],
    npt.NDArray[np.bool_],
    FloatArray,
)


class StepResult(NamedTuple):
    """Outcome of rows, in order.

    ``proba`` (n, K) are calibrated probabilities; ``weights`` (n, m) each column's part, in
    log-odds of the most probable class: with the prior's log-odds they sum to the posterior's.
    ``clock`` (n,) is the stream's count of examples at each row.
    """

    proba: FloatArray
    weights: FloatArray
    clock: npt.NDArray[np.int64]


def _own_layout(array: Column) -> Column:
    """Return the array in the one layout that the loop is compiled for, or a copy in it."""
    return array if array.flags.carray else array.copy()


class _Table(NamedTuple):
    """Examples that rows are stages of, and which rows are learned; see `LabelModel.step_many`."""

    example: npt.NDArray[np.int32]
    emit: npt.NDArray[np.bool_]
    votes: npt.NDArray[np.int8]
    proba: FloatArray
    clock: npt.NDArray[np.int64]


def run_rows(
    state: LabelState,
    votes: npt.NDArray[np.int8],
    example: npt.NDArray[np.int32],
    emit: npt.NDArray[np.bool_],
    ex_votes: npt.NDArray[np.int8],
    ex_proba: FloatArray,
    ex_clock: npt.NDArray[np.int64],
    *,
    learn: bool,
) -> StepResult:
    """Judge rows and learn those that are emitted; see `LabelModel.step_many`."""
    n, m = votes.shape
    result = StepResult(
        np.empty((n, len(state.prior))), np.empty((n, m)), np.empty(n, dtype=np.int64)
    )
    if not len(ex_clock):
        return result
    table = _Table(
        _own_layout(example), _own_layout(emit), _own_layout(ex_votes), _own_layout(ex_proba),
        _own_layout(ex_clock),
    )  # fmt: skip
    _run(state, votes, table, learn, result)
    if table.votes is not ex_votes:
        ex_votes[...] = table.votes
    if table.proba is not ex_proba:
        ex_proba[...] = table.proba
    if table.clock is not ex_clock:
        ex_clock[...] = table.clock
    return result


def learn_rows(state: LabelState, votes: npt.NDArray[np.int8]) -> None:
    """Learn rows, each of an example that was not there before."""
    _run(state, votes, _NO_TABLE, True, _NO_RESULT)


def judge_rows(
    state: LabelState, votes: npt.NDArray[np.int8], *, weights: bool = False
) -> StepResult:
    """Judge rows and change nothing; the result has ``weights`` if asked for."""
    n, m = votes.shape
    result = StepResult(
        np.empty((n, len(state.prior))),
        np.empty((n if weights else 0, m)),
        np.full(n, state.counters[CLOCK]),
    )
    _run(state, votes, _NO_TABLE, False, result)
    return result


_NO_TABLE = _Table(
    np.empty(0, dtype=np.int32),
    np.empty(0, dtype=np.bool_),
    np.empty((0, 0), dtype=np.int8),
    np.empty((0, 0)),
    np.empty(0, dtype=np.int64),
)
_NO_RESULT = StepResult(np.empty((0, 0)), np.empty((0, 0)), np.empty(0, dtype=np.int64))


def _run(
    state: LabelState,
    votes: npt.NDArray[np.int8],
    table: _Table,
    learn: bool,
    result: StepResult,
) -> None:
    votes = _own_layout(votes)
    row = 0
    while True:
        row = step(
            state.handle(), row, votes, table.example, table.emit, table.votes, table.proba,
            table.clock, learn, result.proba, result.weights, result.clock,
        )  # fmt: skip
        state.take_in_waiting()
        if row >= len(votes):
            break


def answer_example(
    state: LabelState,
    votes: npt.NDArray[np.int8],
    label: int,
    ex_proba: FloatArray,
    ex_clock: int,
    inclusion: float,
) -> FloatArray:
    """Learn one late answer of an example of the table; see `LabelModel.gold_step`."""
    believed = np.array(ex_proba, dtype=np.float64)
    known = ex_clock >= 0
    age = float(state.counters[CLOCK] - ex_clock) if known else 0.0
    recent = state.recent
    place = find_recent(recent, int(state.counters[AT_HAND]), int(ex_clock))
    if place >= 0:
        believed = recent.posterior[place].copy()
    row = np.ascontiguousarray(votes, dtype=np.int8)
    answer_row(state, row, int(label), believed, known=known, age=age, inclusion=inclusion)
    if place >= 0:
        recent.posterior[place] = believed
    return believed


def answer_row(
    state: LabelState,
    row: npt.NDArray[np.int8],
    label: int,
    believed: FloatArray,
    *,
    known: bool,
    age: float,
    inclusion: float,
) -> None:
    """Replace what the sums hold of votes by their answer, and write it into ``believed``."""
    if not 0 <= label < len(state.prior):
        message = f"label {label} is not the position of one of {len(state.prior)} classes"
        raise ValueError(message)
    if inclusion > 0.0:
        inclusion = max(inclusion, LEAST_INCLUSION)
    age = min(max(age, 0.0), LONGEST_AGE)
    gold(state.handle(), row, label, believed, known, age, inclusion)
