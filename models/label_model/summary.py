"""What a label model believes, in plain values, for people and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.label_model.layout import LF
from models.label_model.state import CLOCK, OWN, LabelState
from models.triplet import triplet_accuracies

__all__ = ["summarise", "triplet_gaps"]

BINARY = 2
LEAST_TOGETHER = 100.0
"""Examples on which two columns voted, for their agreement to say something."""
LEAST_MINORITY = 0.02
"""Share of a column's rarer vote: one that votes one class only agrees by what it is."""


def summarise(state: LabelState, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return class balance, temperature, and by column coverage, accuracies and correlations.

    ``estimated_accuracy`` is P(vote = class | voted), ``gold_accuracy`` the same on answers
    weighted by 1 / inclusion, or None without any.
    """
    state.derive()
    tables, own, other = state.tables, state.own, state.other
    balance = np.exp(tables.log_prior)
    balance /= balance.sum()
    theta = np.exp(tables.log_like)
    hits = own.gold_hits + other.gold_hits
    examples = own.mass[-1].sum() + other.mass[-1].sum()
    started = own.before[:, -1].sum(axis=1) + other.before[:, -1].sum(axis=1)
    cast = (own.counts + other.counts)[:, :, -1].sum(axis=(1, 2))
    lfs: dict[str, Any] = {}
    for w, name in enumerate(state.lfs):
        right = float(np.diagonal(theta[w]) @ balance)
        any_vote = float(theta[w].sum(axis=0) @ balance)
        lfs[name] = {
            "form": "lf" if state.forms[w] == LF else "crowd",
            "coverage": min(max(float(cast[w] / max(examples - started[w], 1.0)), 0.0), 1.0),
            "votes": float(own.cast[w] + other.cast[w]),
            "estimated_accuracy": right / any_vote,
            "gold_accuracy": float(hits[w, 0] / hits[w, 1]) if hits[w, 1] > 0 else None,
            "correlated_with": {
                state.lfs[v]: float(tables.rho[w, v]) for v in np.flatnonzero(tables.rho[w])
            },
        }
    gold = float(own.gold_size[2] + other.gold_size[2])
    return {
        "classes": list(classes),
        "clock": int(state.counters[CLOCK]),
        "examples": int(state.counters[OWN]),
        "class_balance": dict(zip(classes, balance.tolist(), strict=True)),
        "temperature": float(tables.scalars[0]),
        "corrector_on": bool(tables.scalars[1] > 0.0),
        "gold": round(gold),
        "lfs": lfs,
    }


def triplet_gaps(state: LabelState) -> dict[str, float]:
    """Return, by column, the estimated accuracy less the triplet estimate of the same sums.

    Two classes only. The triplet estimate uses nothing but how often pairs agree: no class
    balance, no posterior. Left out are pairs found correlated, pairs seen together seldom, and
    columns that vote one class only or have fewer than two partners.

    *Complexity* — columns³: for monitoring, once in a while.
    """
    if state.own.mass.shape[1] != BINARY:
        return {}
    state.derive()
    m = len(state.lfs)
    pairs = (state.own.pairs + state.other.pairs) / state.tables.scalars[3]
    width = 0
    while width < m and (width + 1) * width // 2 <= len(pairs):
        width += 1
    cast = (state.own.counts + state.other.counts)[:, :, -1].sum(axis=2)
    minority = cast.min(axis=1) / np.maximum(cast.sum(axis=1), 1.0)
    together = np.zeros((m, m))
    moments = np.zeros((m, m))
    rows, columns = np.tril_indices(width, -1)
    # Expected agreements and their room add up to the examples that both voted on.
    number = pairs[:, 1] + pairs[:, 2]
    usable = (
        (number >= LEAST_TOGETHER)
        & (state.tables.rho[rows, columns] == 0.0)
        & (minority[rows] >= LEAST_MINORITY)
        & (minority[columns] >= LEAST_MINORITY)
    )
    together[rows, columns] = np.where(usable, number, 0.0)
    moments[rows, columns] = np.where(usable, 2.0 * pairs[:, 0] - number, 0.0)
    together += together.T
    moments += moments.T
    partners = (together > 0.0).sum(axis=1)
    accuracies = triplet_accuracies(moments, together)
    believed = summarise(state, ("0", "1"))["lfs"]
    return {
        name: float(believed[name]["estimated_accuracy"] - accuracies[w])
        for w, name in enumerate(state.lfs)
        if partners[w] >= BINARY
    }
