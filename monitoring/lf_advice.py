"""Keep, review or drop: what the figures of a labeling function suggest, and why, in plain words.

Rules are tried in order; the first that applies speaks. They suggest, a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Advice", "Evidence", "SegmentFigures", "advise"]

_FEW_VOTES: Final = 30
_FEW_GOLD: Final = 20
_Z: Final = 2.0
_OFTEN_OVERRULED: Final = 0.5
_FAR_APART: Final = 0.15
_FAILING: Final = 0.01
_BARELY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Advice:
    """``keep``, ``review`` or ``drop``, and the reason in a sentence."""

    verdict: str
    reason: str


class SegmentFigures(NamedTuple):
    """Votes in a segment, how many the labels agree with, and how many gold agrees with."""

    votes: int
    agreement: float | None
    gold: int
    gold_accuracy: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the advice is drawn from.

    Parameters
    ----------
    overruled
        Share of its votes that the label decided against.
    by_chance
        Accuracy that its votes would have on examples drawn at random: the share of the classes
        that it votes for.
    contribution, contribution_error
        Rise of the log-loss without it, in nats, and its standard error.
    twins
        Functions that say nearly the same, and know better.
    segments
        Figures by segment.
    stopped
        Whether it failed so often that it was switched off on the way.
    """

    name: str
    examples: int
    votes: int
    overruled: float
    by_chance: float | None
    estimated: float | None
    gold_n: int
    gold: float | None
    gold_low: float | None
    gold_high: float | None
    contribution: float | None
    contribution_error: float | None
    judged_by: str
    failures: int
    twins: Sequence[str]
    segments: Mapping[str, SegmentFigures]
    stopped: bool = False


def advise(found: Evidence) -> Advice:
    """Return what the figures suggest.

    Examples
    --------
    >>> silent = Evidence("f", 500, 0, 0.0, None, None, 0, None, None, None, None, None,
    ...                   "labels", 0, [], {})
    >>> advise(silent)
    Advice(verdict='review', reason='it never voted on 500 examples: does its source arrive?')
    """
    return _broken(found) or _wrong(found) or _doubtful(found) or _kept(found)


def _broken(found: Evidence) -> Advice | None:
    if found.stopped:
        return Advice(
            "review", f"it was switched off after {found.failures:,} failures: mend it first"
        )
    if found.failures > _FAILING * max(found.examples, 1):
        return Advice("review", f"it failed {found.failures:,} times: mend it first")
    if found.votes == 0:
        return Advice(
            "review", f"it never voted on {found.examples:,} examples: does its source arrive?"
        )
    if found.twins:
        return Advice("drop", f"it repeats {found.twins[0]}, which is at least as accurate")
    return None


def _wrong(found: Evidence) -> Advice | None:
    chance = found.by_chance
    if found.gold is not None and found.gold_high is not None and found.gold_n >= _FEW_GOLD:
        told = f"right on {found.gold:.0%} of {found.gold_n:,} gold answers"
        if chance is not None and found.gold_high < chance:
            return Advice("drop", f"{told}, worse than the {chance:.0%} of votes cast at random")
    gain, error = found.contribution, found.contribution_error
    if gain is not None and error is not None and gain + _Z * error < 0 and _by_gold(found):
        return Advice("drop", f"labels are better without it, by {-gain:.4f} nats an example")
    return None


def _doubtful(found: Evidence) -> Advice | None:
    if found.votes < _FEW_VOTES:
        return Advice("review", f"{found.votes} votes are too few to tell")
    chance, estimated = found.by_chance, found.estimated
    if found.gold_n >= _FEW_GOLD and found.gold_low is not None and found.gold_high is not None:
        if chance is not None and found.gold_low <= chance:
            return Advice(
                "review",
                f"on gold ({found.gold:.0%} of {found.gold_n:,}) it cannot be told from votes at "
                f"random ({chance:.0%})",
            )
        if estimated is not None and not (
            found.gold_low - _FAR_APART <= estimated <= found.gold_high + _FAR_APART
        ):
            return Advice(
                "review",
                f"the label model takes it for {estimated:.0%} right, gold says {found.gold:.0%}",
            )
    elif estimated is not None and chance is not None and estimated < chance + _BARELY:
        return Advice(
            "review",
            f"estimated {estimated:.0%} right, hardly more than the {chance:.0%} of votes at "
            "random; gold would tell",
        )
    if found.overruled > _OFTEN_OVERRULED:
        return Advice("review", f"the labels decide against {found.overruled:.0%} of its votes")
    return _uneven(found)


def _uneven(found: Evidence) -> Advice | None:
    """Look for a segment where it is worse: by gold, where two segments have enough."""
    by_gold = {
        name: figures.gold_accuracy
        for name, figures in found.segments.items()
        if figures.gold_accuracy is not None and figures.gold >= _FEW_GOLD
    }
    by_labels = {
        name: figures.agreement
        for name, figures in found.segments.items()
        if figures.agreement is not None and figures.votes >= _FEW_VOTES
    }
    two = len(by_gold) > 1
    shares, judge = (by_gold, "gold") if two else (by_labels, "the labels")
    if not shares:
        return None
    worst, best = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if shares[best] - shares[worst] <= _FAR_APART:
        return None
    return Advice(
        "review",
        f"{judge} bears out {shares[best]:.0%} of its votes in segment {best}, "
        f"{shares[worst]:.0%} in {worst}"
        if two
        else f"{judge} bear out {shares[best]:.0%} of its votes in segment {best}, "
        f"{shares[worst]:.0%} in {worst}",
    )


def _kept(found: Evidence) -> Advice:
    gain, error = found.contribution, found.contribution_error
    judge = "gold" if _by_gold(found) else "the labels of all"
    if gain is not None and error is not None and gain > _Z * error:
        return Advice("keep", f"without it {judge} would cost {gain:.4f} nats more an example")
    if _by_gold(found) and found.gold is not None and found.gold_n >= _FEW_GOLD:
        return Advice("keep", f"right on {found.gold:.0%} of {found.gold_n:,} gold answers")
    if found.estimated is not None:
        return Advice("keep", f"estimated {found.estimated:.0%} right, nothing speaks against it")
    return Advice("keep", "nothing speaks against it")


def _by_gold(found: Evidence) -> bool:
    return found.judged_by == "gold"
