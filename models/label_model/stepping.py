"""Rows run through the compiled loop: what goes in, what comes out, how late answers go in."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from models.label_model.entry import gold, step
from models.label_model.layout import FloatArray
from models.label_model.replay import find_recent
from models.label_model.state import AT_HAND, CLOCK, LabelState

__all__ = ["StepResult", "answer_example", "answer_row", "run_rows"]

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
    publish: bool,
) -> StepResult:
    """Judge rows and learn those that are emitted; see `LabelModel.step_many`.

    Without ``publish``, neither probabilities nor weights are written: the result has none.
    """
    n, m = votes.shape
    votes, example, emit = _own_layout(votes), _own_layout(example), _own_layout(emit)
    in_votes, in_proba, in_clock = ex_votes, ex_proba, ex_clock
    ex_votes, ex_proba = _own_layout(ex_votes), _own_layout(ex_proba)
    ex_clock = _own_layout(ex_clock)
    shown = n if publish else 0
    proba = np.empty((shown, len(state.prior)))
    weights = np.empty((shown, m))
    clock = np.empty(n, dtype=np.int64)
    row = 0
    while True:
        row = step(
            state.handle(), row, votes, example, emit, ex_votes, ex_proba, ex_clock, learn,
            proba, weights, clock,
        )  # fmt: skip
        state.take_in_waiting()
        if row >= n:
            break
    if ex_votes is not in_votes:
        in_votes[...] = ex_votes
    if ex_proba is not in_proba:
        in_proba[...] = ex_proba
    if ex_clock is not in_clock:
        in_clock[...] = ex_clock
    return StepResult(proba, weights, clock)


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
