"""The hot loop of expected labels: rows in, probabilities out.

Everything a compiled entry point calls is in this file, so that its cache is never stale.
"""

from __future__ import annotations

from math import exp, log
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BETWEEN",
    "CONTEXTS",
    "FACTS",
    "FINAL",
    "MOST_OUTCOMES",
    "NO_MEMORY",
    "await_rows",
    "foresee_rows",
]

CONTEXTS: Final = 2
"""Open examples without feedback, and with."""

FINAL: Final = CONTEXTS
BETWEEN: Final = CONTEXTS + 1
"""Kinds of rows: the last one of an example, and one between the first and that; first ones are
their contexts, from 0."""

MOST_OUTCOMES: Final = 12
"""So many outcomes find room in a memory."""

NO_MEMORY: Final = 0
"""Nothing was foreseen of the example. Else: 1 + context, from bit 8 on what is awaited, and from
bit 20 on what of this has come."""

FACTS: Final = 5
"""By context: labels foreseen and judged, log-loss of posteriors and of what was foreseen, and the
same two losses as they count now."""

_N: Final = 0
_RAW: Final = 1
_SEEN_AHEAD: Final = 2
_RAW_NOW: Final = 3
_AHEAD_NOW: Final = 4
_AWAITED: Final = 8
_CAME: Final = _AWAITED + MOST_OUTCOMES
_AT_ARRIVAL: Final = 0.25
"""What a posterior at an outcome's arrival counts beside a final label, which may take weeks."""
_DOUBT: Final = 1.0
_COMMON: Final = 8.0
"""So many labels of examples on which an outcome came are needed to believe their mean half."""
_KEPT: Final = 1.0 - 1.0 / 5_000.0
_LEAST: Final = 1e-6
_CLOSES: Final = 2
"""Stage of a row that closes its example."""


@numba.njit(cache=True)
def await_rows(
    evidence: NDArray[np.float64],
    ts: NDArray[np.float64],
    opened: int,
    first_feedback: int,
    stage: NDArray[np.int8],
    early: NDArray[np.bool_],
    example: NDArray[np.int32],
    remembered: NDArray[np.bool_],
    columns: NDArray[np.int64],
    p0: NDArray[np.float64],
    curve: NDArray[np.int64],
    windows_s: NDArray[np.float64],
    incidence: NDArray[np.float64],
    ages_s: NDArray[np.float64],
    cdf: NDArray[np.float64],
    kind: NDArray[np.int8],
    came: NDArray[np.bool_],
    chance: NDArray[np.float64],
) -> None:
    """Fill in what rows are, which outcomes have come, and the chance of the others.

    Parameters
    ----------
    evidence, ts
        (n, columns) of the examples, of which column ``opened`` is when they began and
        ``first_feedback`` when they were first answered; and when each is looked at, (n,).
    stage, early, example
        (n,) 2 for the final label, 1 for a provisional one, else a row between them or after;
        whether it gives the first label; and the place of its example.
    remembered
        (e,) of which examples something is foreseen; changed by rows that foresee.
    columns
        (o, c) columns of the evidence that count what brings an outcome about; -1 is none.
    p0
        (n, o) what was predicted at the exposure; NaN where the incidence must do.
    curve
        (n,) which of the curves holds for a row.
    windows_s
        (o,) how long each is waited for.
    incidence, ages_s, cdf
        Of the delay curves: (v, o), (o, b + 1), (v, o, b + 1).
    kind, came, chance
        Filled in: (n,) as `foresee_rows` takes it, (n, o), (n, o).
    """
    n_outcomes = len(columns)
    bins = ages_s.shape[1]
    for row in range(len(ts)):
        kind[row] = -1
        age_s = ts[row] - evidence[row, opened]
        if early[row]:
            kind[row] = 0 if np.isnan(evidence[row, first_feedback]) else 1
            remembered[example[row]] = True
        elif remembered[example[row]] and stage[row] != 1:
            # A revised label of an open example, one annotator's, ends nothing.
            kind[row] = FINAL if stage[row] == _CLOSES else BETWEEN
        else:
            continue
        for o in range(n_outcomes):
            here = False
            for place in range(columns.shape[1]):
                at = columns[o, place]
                if at >= 0 and evidence[row, at] > 0.0:
                    here = True
            came[row, o] = here
            chance[row, o] = 0.0
            if here or age_s > windows_s[o] or not early[row]:
                continue
            v = curve[row]
            first = p0[row, o]
            if not first >= 0.0:
                first = incidence[v, o]
            share = 1.0
            for b in range(1, bins):
                if age_s < ages_s[o, b]:
                    low, high = ages_s[o, b - 1], ages_s[o, b]
                    part = (age_s - low) / (high - low)
                    share = cdf[v, o, b - 1] + part * (cdf[v, o, b] - cdf[v, o, b - 1])
                    break
            left = first * (1.0 - share)
            chance[row, o] = left / max(1.0 - first + left, 1e-300)


@numba.njit(inline="always")
def _loss(said: NDArray[np.float64], final: NDArray[np.float64]) -> float:
    total = 0.0
    for k in range(len(said)):
        total -= final[k] * log(max(said[k], _LEAST))
    return total


@numba.njit(inline="always")
def _staying(
    posterior: NDArray[np.float64], shift: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Fill in what is expected if nothing more comes."""
    total = 0.0
    for k in range(len(posterior)):
        out[k] = max(posterior[k], _LEAST) * exp(shift[k])
        total += out[k]
    for k in range(len(posterior)):
        out[k] /= total


@numba.njit(inline="always")
def _learn_arrival(arrived: NDArray[np.float64], proba: NDArray[np.float64], weight: float) -> None:
    """Count what the label is of an example on which the outcome came."""
    n_classes = len(proba)
    for k in range(n_classes + 1):
        arrived[k] *= _KEPT
    for k in range(n_classes):
        arrived[k] += weight * proba[k]
    arrived[n_classes] += weight


@numba.njit(cache=True)
def foresee_rows(
    kind: NDArray[np.int8],
    example: NDArray[np.int32],
    answered: NDArray[np.bool_],
    proba: NDArray[np.float64],
    chance: NDArray[np.float64],
    came: NDArray[np.bool_],
    memory: NDArray[np.float64],
    at: int,
    shift: NDArray[np.float64],
    bend: NDArray[np.float64],
    arrived: NDArray[np.float64],
    facts: NDArray[np.float64],
    learn: bool,
    out: NDArray[np.float64],
) -> None:
    """Look ahead from the first rows of examples, and learn from those that follow, in order.

    Parameters
    ----------
    kind, example
        (n,) a context, `BETWEEN`, `FINAL`, or -1 for none of them; and the place of its example
        among (e,).
    answered
        (n,) what a person has said is neither foreseen nor learned from.
    proba
        (n, K) posteriors.
    chance, came
        (n, o) as `await_rows` tells.
    memory
        (e, columns) from ``at`` on, of each example whose early label waits for its final one:
        what it was (0: nothing was foreseen), its posterior then (K), and what was foreseen (K).
        Changed in place.
    shift, bend, arrived, facts
        The state, changed in place: (c, K), (c, K), (o, K + 1), (c, FACTS).
    out
        (n, K), filled with ``proba``: what to say of each row.
    """
    n_classes = proba.shape[1]
    n_outcomes = chance.shape[1]
    posterior, ahead = at + 1, at + 1 + n_classes
    stay = np.empty(n_classes)
    for row in range(len(kind)):
        e = example[row]
        if kind[row] < 0:
            continue
        if answered[row]:
            if kind[row] == FINAL:
                memory[e, at] = NO_MEMORY
            continue
        if kind[row] < CONTEXTS:
            context = np.int64(kind[row])
            _staying(proba[row], shift[context], stay)
            most = whole = 0.0
            awaited = 0
            for o in range(n_outcomes):
                if chance[row, o] > 0.0:
                    awaited |= 1 << (_AWAITED + o)
                    whole += chance[row, o]
                    most = max(most, chance[row, o])
            better = facts[context, _AHEAD_NOW] < facts[context, _RAW_NOW]
            for k in range(n_classes):
                coming = 0.0
                for o in range(n_outcomes):
                    if chance[row, o] > 0.0:
                        mean = arrived[o, k] + _COMMON * stay[k]
                        mean /= arrived[o, n_classes] + _COMMON
                        coming += chance[row, o] / whole * mean
                said = (1.0 - most) * stay[k] + most * coming
                memory[e, ahead + k] = said
                memory[e, posterior + k] = proba[row, k]
                if better:
                    out[row, k] = said
            memory[e, at] = float((1 + context) | awaited)
            continue
        held = np.int64(memory[e, at])
        if held == NO_MEMORY:
            continue
        context = (held & 0xFF) - 1
        first = held >> _CAME == 0
        for o in range(n_outcomes):
            bit = 1 << (_AWAITED + o)
            if came[row, o] and held & bit:
                held ^= bit
                held |= 1 << (_CAME + o)
                if learn:
                    _learn_arrival(arrived[o], proba[row], _AT_ARRIVAL)
        have_come = held >> _CAME
        # Judged when it is first known what came of it: those on which something did would else
        # be missing for as long as their windows are longer.
        if learn and first and (have_come != 0 or kind[row] == FINAL):
            raw = _loss(memory[e, posterior : posterior + n_classes], proba[row])
            said = _loss(memory[e, ahead : ahead + n_classes], proba[row])
            facts[context, _N] += 1.0
            facts[context, _RAW] += raw
            facts[context, _SEEN_AHEAD] += said
            facts[context, _RAW_NOW] = facts[context, _RAW_NOW] * _KEPT + raw
            facts[context, _AHEAD_NOW] = facts[context, _AHEAD_NOW] * _KEPT + said
        if kind[row] == BETWEEN:
            memory[e, at] = float(held)
            continue
        memory[e, at] = NO_MEMORY
        if not learn:
            continue
        for o in range(n_outcomes):
            if (have_come >> o) & 1:
                _learn_arrival(arrived[o], proba[row], 1.0)
        if have_come == 0:
            _staying(memory[e, posterior : posterior + n_classes], shift[context], stay)
            for k in range(n_classes):
                bend[context, k] = bend[context, k] * _KEPT + stay[k] * (1.0 - stay[k])
                shift[context, k] += (proba[row, k] - stay[k]) / (_DOUBT + bend[context, k])
