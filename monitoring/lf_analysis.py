"""What each labeling function is worth on a sample: how often, how right, and what without it.

Votes and labels in, plain values out. Accuracy against gold is a count; what a function
contributes is measured by leaving it out: the label model learns the same votes without its
column, and its labels are scored on gold, or, without gold, against the labels that all gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import LabelModel
from monitoring.lf_advice import Advice, Evidence, SegmentFigures, advise
from monitoring.vote_counts import count_votes

__all__ = ["Analysis", "LfReport", "Sample", "Share", "analyse", "wilson"]

_Z: Final = 1.96
_FLOOR: Final = 1e-6
_LEAST_GOLD: Final = 30
_LEAST_SEGMENT: Final = 30
_CORRELATED: Final = 0.2
_REFIT_ROWS: Final = 6_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """The last label of each example of one task.

    Parameters
    ----------
    lfs
        (name, version) of each column.
    votes, proba
        Shapes (n, m) and (n, K); −1 abstains. ``proba`` is the label before any gold answer.
    gold
        Class of the gold answer, −1 without one, shape (n,).
    segments
        Names, (n,); None without one.
    estimated
        Accuracy that the label model estimates, (m,); NaN where it knows nothing.
    failures
        How often each function failed, (m,).
    balance
        Share of each class as the label model has it, (K,).
    correlation
        How far pairs agree beyond what their accuracies explain, as the label model found it:
        0 to 1, shape (m, m).
    stopped
        Functions that failed so often that they were switched off on the way.
    """

    task: str
    classes: tuple[str, ...]
    lfs: tuple[tuple[str, int], ...]
    votes: NDArray[np.int8]
    proba: Floats
    gold: NDArray[np.int64]
    segments: Sequence[str | None]
    estimated: Floats
    failures: NDArray[np.int64]
    balance: Floats
    correlation: Floats
    stopped: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.votes)


@dataclass(frozen=True, slots=True)
class Share:
    """A part out of a number, with its 95 % interval; None without any."""

    n: int
    ratio: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class LfReport:
    """One function's figures; ratios are of all examples unless they say otherwise.

    Attributes
    ----------
    polarity
        Classes that it voted for, and how often.
    conflict
        Examples on which it and another vote differently.
    agreement
        Of its votes, those for the class that the label found most probable.
    correlated_with
        Functions whose votes agree beyond what their accuracies explain, 0 to 1.
    contribution_nats, contribution_error
        Rise of the log-loss without it, per example judged, and its standard error; None where
        it was not refitted.
    judged_by
        ``gold`` or ``labels``: what the contribution is scored on.
    segments
        Coverage, agreement and accuracy on gold by segment.
    """

    name: str
    version: int
    coverage: float
    overlap: float
    conflict: float
    polarity: dict[str, int]
    agreement: float | None
    estimated_accuracy: float | None
    gold_accuracy: Share
    correlated_with: dict[str, float]
    contribution_nats: float | None
    contribution_error: float | None
    judged_by: str
    failures: int
    segments: dict[str, dict[str, float | int | None]]
    advice: Advice


@dataclass(frozen=True, slots=True)
class Analysis:
    """A task's functions, and who contradicts whom.

    Attributes
    ----------
    conflicts, overlaps
        Of the examples on which both vote, the share on which they differ (NaN without any), and
        how many those are; shape (m, m).
    """

    task: str
    classes: tuple[str, ...]
    examples: int
    gold: int
    lfs: list[LfReport]
    conflicts: Floats = field(repr=False)
    overlaps: NDArray[np.int64] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` writes them."""
        return {
            "task": self.task,
            "classes": list(self.classes),
            "examples": self.examples,
            "gold": self.gold,
            "lfs": [asdict(report) for report in self.lfs],
            "conflicts": [[None if x != x else x for x in row] for row in self.conflicts.tolist()],  # noqa: PLR0124 - NaN is unequal to itself
            "overlaps": self.overlaps.tolist(),
        }


def wilson(right: int, n: int) -> Share:
    """Return a share with Wilson's 95 % interval.

    Examples
    --------
    >>> share = wilson(9, 10)
    >>> share.ratio, round(share.low, 2), round(share.high, 2)
    (0.9, 0.6, 0.98)
    """
    if n == 0:
        return Share(0, None, None, None)
    p, z2 = right / n, _Z * _Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Share(n, p, max(middle - half, 0.0), min(middle + half, 1.0))


def analyse(sample: Sample) -> Analysis:
    """Return what each function of a sample is worth.

    *Complexity* — the counts are linear; leaving each function out fits the label model m + 1
    times on at most 6,000 examples.
    """
    n, m = sample.votes.shape
    k = len(sample.classes)
    counts = count_votes(sample.votes, k)
    agreeing, joint = _agreement(sample.votes, k)
    conflicts = np.where(joint > 0, 1.0 - agreeing / np.maximum(joint, 1), np.nan)
    correlation = sample.correlation
    losses, judged_by = _contributions(sample)
    best = sample.proba.argmax(axis=1)
    answered = sample.gold >= 0
    base = _base_shares(sample)
    names = [name for name, _ in sample.lfs]
    reports = []
    for j, (name, version) in enumerate(sample.lfs):
        vote = sample.votes[:, j]
        voted = vote >= 0
        cast = int(voted.sum())
        right = voted & answered & (vote == sample.gold)
        gold = wilson(int(right.sum()), int((voted & answered).sum()))
        estimated = float(sample.estimated[j])
        by_class = counts.votes[j]
        expected = float(by_class @ base / cast) if cast else None
        segments = _by_segment(sample, voted, vote == best, right, answered)
        loss = losses[j]
        near = {
            names[i]: round(float(correlation[j, i]), 3)
            for i in np.argsort(-correlation[j], kind="stable").tolist()
            if correlation[j, i] >= _CORRELATED
        }
        found = Evidence(
            name=name,
            examples=n,
            votes=cast,
            overruled=1.0 - float((vote == best)[voted].mean()) if cast else 0.0,
            by_chance=expected,
            estimated=None if np.isnan(estimated) else estimated,
            gold_n=gold.n,
            gold=gold.ratio,
            gold_low=gold.low,
            gold_high=gold.high,
            contribution=loss[0],
            contribution_error=loss[1],
            judged_by=judged_by,
            failures=int(sample.failures[j]),
            stopped=name in sample.stopped,
            twins=_twins(sample, j, correlation[j], names, joint[j]),
            segments={
                name: SegmentFigures(
                    int(cells["votes"] or 0),
                    cells["agreement"],
                    int(cells["gold"] or 0),
                    cells["gold_accuracy"],
                )
                for name, cells in segments.items()
            },
        )
        reports.append(
            LfReport(
                name=name,
                version=version,
                coverage=cast / n if n else 0.0,
                overlap=int(counts.overlaps[j]) / n if n else 0.0,
                conflict=int(counts.conflicts[j]) / n if n else 0.0,
                polarity={c: int(by_class[i]) for i, c in enumerate(sample.classes) if by_class[i]},
                agreement=float((vote == best)[voted].mean()) if cast else None,
                estimated_accuracy=found.estimated if cast else None,
                gold_accuracy=gold,
                correlated_with=near,
                contribution_nats=loss[0],
                contribution_error=loss[1],
                judged_by=judged_by,
                failures=found.failures,
                segments=segments,
                advice=advise(found),
            )
        )
    return Analysis(sample.task, sample.classes, n, int(answered.sum()), reports, conflicts, joint)


def _agreement(
    votes: NDArray[np.int8], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return on how many examples each pair votes alike, and on how many both vote: (m, m)."""
    m = votes.shape[1]
    alike = np.zeros((m, m))
    for label in range(n_classes):
        cast = (votes == label).astype(np.float64)
        alike += cast.T @ cast
    cast = (votes >= 0).astype(np.float64)
    return alike.astype(np.int64), (cast.T @ cast).astype(np.int64)


def _twins(
    sample: Sample, j: int, correlation: Floats, names: Sequence[str], joint: NDArray[np.int64]
) -> list[str]:
    """Return functions that say nearly everything that this one says, and know better."""
    mine = int(joint[j])
    if mine < _LEAST_GOLD:
        return []
    found = []
    for i, name in enumerate(names):
        both = sample.votes[:, [i, j]]
        covered = int((both >= 0).all(axis=1).sum())
        if i == j or correlation[i] < 0.9 or covered < 0.95 * mine:  # noqa: PLR2004 - as documented
            continue
        theirs, own = sample.estimated[i], sample.estimated[j]
        if theirs > own or (not theirs < own and i < j):
            found.append(name)
    return found


def _base_shares(sample: Sample) -> Floats:
    """Return the share of each class: by gold where there is enough, else by the label model."""
    answers = sample.gold[sample.gold >= 0]
    if len(answers) >= _LEAST_GOLD:
        return np.bincount(answers, minlength=len(sample.classes)) / len(answers)
    return sample.balance


def _by_segment(
    sample: Sample,
    voted: NDArray[np.bool_],
    agrees: NDArray[np.bool_],
    right: NDArray[np.bool_],
    answered: NDArray[np.bool_],
) -> dict[str, dict[str, float | int | None]]:
    names = sorted({segment for segment in sample.segments if segment is not None})
    every = np.array([segment or "" for segment in sample.segments])
    found: dict[str, dict[str, float | int | None]] = {}
    for name in names:
        within = every == name
        if int(within.sum()) < _LEAST_SEGMENT:
            continue
        cast = within & voted
        n_votes, n_gold = int(cast.sum()), int((cast & answered).sum())
        found[name] = {
            "examples": int(within.sum()),
            "votes": n_votes,
            "coverage": n_votes / int(within.sum()),
            "agreement": float(agrees[cast].mean()) if n_votes else None,
            "gold": n_gold,
            "gold_accuracy": int((right & within).sum()) / n_gold if n_gold else None,
        }
    return found


def _contributions(sample: Sample) -> tuple[list[tuple[float | None, float | None]], str]:
    """Return (rise of the log-loss without it, standard error) of each function, and the judge."""
    n, m = sample.votes.shape
    answered = sample.gold >= 0
    judged_by = "gold" if int(answered.sum()) >= _LEAST_GOLD else "labels"
    informed: NDArray[np.bool_] = np.any(sample.votes >= 0, axis=1)
    rows = _chosen(informed, answered)
    none: list[tuple[float | None, float | None]] = [(None, None)] * m
    if len(rows) < _LEAST_GOLD or m < 2:  # noqa: PLR2004 - one function alone has no others
        return none, judged_by
    votes = np.ascontiguousarray(sample.votes[rows])
    names = [f"{name}@{version}" for name, version in sample.lfs]
    if judged_by == "gold":
        judges = np.flatnonzero(answered[rows])
        target = np.eye(len(sample.classes))[sample.gold[rows][judges]]
    else:
        judges = np.arange(len(rows))
        target = sample.proba[rows]

    def loss(columns: list[int]) -> Floats:
        model = LabelModel(
            sample.classes, [names[j] for j in columns], prior=sample.balance.tolist()
        )
        part = np.ascontiguousarray(votes[:, columns])
        model.learn_many(part)
        proba = np.maximum(model.predict_proba_many(part[judges]), _FLOOR)
        result: Floats = -(target * np.log(proba)).sum(axis=1)
        return result

    everybody = loss(list(range(m)))
    found = list(none)
    for j in range(m):
        if not (votes[:, j] >= 0).any():
            continue
        rise = loss([i for i in range(m) if i != j]) - everybody
        error = float(rise.std(ddof=1)) / sqrt(len(rise)) if len(rise) > 1 else None
        found[j] = (float(rise.mean()), error)
    return found, judged_by


def _chosen(informed: NDArray[np.bool_], answered: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return rows to refit on, in order: all with gold, and an even spread of the others."""
    wanted = np.flatnonzero(informed | answered)
    if len(wanted) <= _REFIT_ROWS:
        return wanted
    kept = np.flatnonzero(answered)[:_REFIT_ROWS]
    others = np.flatnonzero(informed & ~answered)
    room = max(_REFIT_ROWS - len(kept), 0)
    spread = others[np.linspace(0, len(others) - 1, room).astype(np.intp)] if room else others[:0]
    return np.sort(np.concatenate([kept, np.unique(spread)]))
