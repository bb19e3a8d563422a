"""What a label model believes, in plain values, for people and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.label_layout import LF
from models.label_state import CLOCK, OWN, LabelState

__all__ = ["summarise"]


def summarise(state: LabelState, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return class balance, temperature, and by column coverage, accuracies and correlations.

    ``estimated_accuracy`` is P(vote = class | voted), ``gold_accuracy`` the same on answers
    weighted by 1 / inclusion, or None without any.
    """
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
