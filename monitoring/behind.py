"""Which labeling functions stand behind a segment that goes wrong.

A function is named for a segment if it is unlike it is in *any* other segment: it votes more or
less there, or it goes against the labels more. Comparing with the nearest other segment, not with
their mean, keeps one broken segment from making all the others look odd.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfs.crowd import is_annotator
from monitoring.recent import TaskRecent

__all__ = ["Behind", "behind_segment"]

_FEWEST: Final = 50.0
_ERRORS: Final = 3.0
_MOST: Final = 3


class Behind(NamedTuple):
    """A function that is otherwise in a segment than in any other.

    ``affected``: the share of the segment's labels that it concerns, less three standard errors.
    ``disagreement``: how often it goes against the label, where it votes.
    """

    name: str
    affected: float
    reason: str
    coverage: float
    coverage_elsewhere: float
    disagreement: float | None
    disagreement_elsewhere: float | None
    conflict: float | None


def behind_segment(task: TaskRecent, part: int) -> list[Behind]:
    """Return the functions behind a segment, the one that concerns most of its labels first.

    Parameters
    ----------
    part
        Of the segment: 1 is the first. Segments with fewer than 50 labels say nothing.
    """
    labels = task.head[:, 0]
    others = [at for at in range(1, len(labels)) if at != part and labels[at] >= _FEWEST]
    if part == 0 or not others or labels[part] < _FEWEST:
        return []
    found = []
    for column, name in enumerate(task.lfs):
        if is_annotator(name):
            continue
        votes, against = task.functions[:, column, 0], task.functions[:, column, 2]
        coverage, elsewhere, more = _apart(votes, labels, part, others)
        voting = [at for at in others if votes[at] >= _FEWEST]
        wrong, wrong_elsewhere, excess = _ratio(against, votes, part), None, 0.0
        if voting and votes[part] >= _FEWEST:
            wrong, wrong_elsewhere, excess = _apart(against, votes, part, voting)
        # Going with the labels more than elsewhere is nothing to look after.
        affected = max(abs(more), coverage * max(excess, 0.0))
        if affected <= 0.0:
            continue
        reason = "votes more here" if more > 0.0 else "votes less here"
        if coverage * excess >= abs(more):
            reason = "against the labels here"
        found.append(
            Behind(
                name,
                affected,
                reason,
                coverage,
                elsewhere,
                wrong,
                wrong_elsewhere,
                _ratio(task.functions[:, column, 1], votes, part),
            )
        )
    return sorted(found, key=lambda one: (-one.affected, one.name))[:_MOST]


def _apart(
    hits: NDArray[np.float64], tried: NDArray[np.float64], part: int, others: list[int]
) -> tuple[float, float, float]:
    """Return the rate of a part, the nearest other one, and how far apart they surely are."""
    here = float(hits[part] / tried[part])
    rates = [(float(hits[at] / tried[at]), float(tried[at])) for at in others]
    there, size = min(rates, key=lambda rate: abs(rate[0] - here))
    mean = (here * float(tried[part]) + there * size) / (float(tried[part]) + size)
    error = sqrt(mean * (1.0 - mean) * (1.0 / float(tried[part]) + 1.0 / size))
    gap = max(abs(here - there) - _ERRORS * error, 0.0)
    return here, there, gap if here > there else -gap


def _ratio(hits: NDArray[np.float64], tried: NDArray[np.float64], part: int) -> float | None:
    return float(hits[part] / tried[part]) if tried[part] > 0.0 else None
