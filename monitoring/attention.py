"""What of a deployment's figures needs a look, in sentences: the first thing a person reads.

The figures are those of ``/v1/status``. Nothing here replaces alerts, which know the past; this is
what can be said from how things stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lfs.reach import Reach

__all__ = ["concerns", "lag_concern"]

_NAMED: Final = 3
_REJECTED: Final = 0.05
_ECE: Final = 0.1
_FEWEST_GOLD: Final = 100
_LAG_S: Final = 60.0
_AFFECTED: Final = 0.05


def concerns(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what needs a look: ``where`` it is shown (a section of the page), and ``what`` it is.

    Examples
    --------
    >>> concerns({"partitions": 0})
    [{'where': 'now', 'what': 'Nothing has been learned yet: no partition has saved anything.'}]
    """
    if not figures["partitions"]:
        what = "Nothing has been learned yet: no partition has saved anything."
        return [{"where": "now", "what": what}]
    found = (
        *_lines(figures),
        *_signals(figures["drift"]),
        *_tasks(figures["tasks"]),
        *_stopped(figures["governance"]),
        *_segments(figures["segments"]),
    )
    return [{"where": where, "what": what} for where, what in found]


def lag_concern(lag_s: float | None) -> list[dict[str, str]]:
    """Return the same of the age of the oldest event that is not learned yet, if it is known."""
    if lag_s is None or lag_s <= _LAG_S:
        return []
    return [{"where": "now", "what": f"The oldest event not yet learned waits for {lag_s:.0f} s."}]


def _lines(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rejected = figures["rejected"]
    share = rejected / max(rejected + sum(figures["events"].values()), 1)
    if share > _REJECTED:
        yield "now", f"{share:.0%} of the lines that came were rejected."


def _signals(drift: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    away = drift["firing"]
    if away:
        names = [one["signal"] for one in drift["signals"] if one["firing"]]
        signals = "1 signal has" if away == 1 else f"{away} signals have"
        yield "drifting", f"{signals} left the reference: {_some(names, away)}."


def _tasks(tasks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, task in tasks.items():
        gold = task["gold"]
        if gold["n"] >= _FEWEST_GOLD and gold["ece"] > _ECE:
            off, answers = f"{gold['ece']:.0%}", f"{gold['n']:,.0f} answers"
            yield "labels", f"Probabilities of {name} are off by {off} on {answers}."


def _stopped(changes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Tell of functions that were switched off lately, by a person or for failing."""
    off: dict[str, None] = {}
    for change in reversed(changes):
        subject = change["subject"]
        if change["action"] == "lf_disabled":
            off[subject] = None
        elif change["action"] == "lf_enabled":
            order = Reach.of(subject)
            off = {one: None for one in off if not order.covers(Reach.of(one))}
    if off:
        verb = "is" if len(off) == 1 else "are"
        yield "changed", f"{_some(list(off), len(off))} {verb} switched off."


def _segments(segments: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for row in segments:
        against = [
            one["name"]
            for one in row["functions"]
            if one["reason"].startswith("against") and one["affected"] > _AFFECTED
        ]
        if against:
            verb = "goes" if len(against) == 1 else "go"
            yield (
                "segmented",
                f"{_some(against, len(against))} {verb} against the labels of {row['segment']} "
                "more than elsewhere.",
            )


def _some(names: Sequence[str], total: int) -> str:
    shown = list(names[:_NAMED])
    more = total - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
