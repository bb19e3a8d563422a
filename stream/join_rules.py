"""What the join is told by the settings: windows, bounds, and what each type of event does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from stream.evidence import COUNT_COLUMN, SUM_COLUMN, Column

__all__ = ["Feedback", "JoinRules", "TypeRule", "feedback"]

_NO_COLUMN: Final = -1


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What an event of one type does to the example that it joins.

    Parameters
    ----------
    window_s
        Keeps the example open at least so long after the event; 0: no longer than it is.
    starts
        Each such event is an engagement of its own (a click, a view), to be predicted.
    positive, negative
        Whether it speaks for or against the thing.
    """

    window_s: float
    starts: bool = False
    positive: bool = False
    negative: bool = False


@dataclass(frozen=True, slots=True)
class JoinRules:
    """Windows and bounds, in seconds of event time unless said otherwise.

    Parameters
    ----------
    exposure_window_s
        An exposure without engagement closes so long after it.
    early_after_s
        A provisional label is due so long after an exposure without feedback; None: never.
    disorder_s
        How far behind the newest event the watermark stays.
    lateness_horizon_s
        A closed example takes corrections for so long.
    dedup_horizon_s
        An event id is remembered for so long; older events are counted, not learned.
    user_horizon_s
        A person is forgotten so long after their last event, if no event id of theirs must be
        remembered for longer.
    max_examples
        Examples kept of one person; the oldest is closed early, and counted, to make room.
    max_event_ids
        Event ids remembered of one person; the oldest is forgotten early, and counted.
    types
        Rule of each type of feedback; `impression` and `search` need none.
    awaited
        Types of feedback that are outcomes of an exposure; None: nobody waits for any.
    """

    types: Mapping[str, TypeRule]
    exposure_window_s: float = 1800.0
    early_after_s: float | None = None
    disorder_s: float = 60.0
    lateness_horizon_s: float = 2 * 86400.0
    dedup_horizon_s: float = 2 * 86400.0
    user_horizon_s: float = 90 * 86400.0
    max_examples: int = 200
    max_event_ids: int = 65_536
    awaited: frozenset[str] | None = None

    @property
    def forget_after_s(self) -> float:
        """Return how long after the last event nothing of a person is needed any more."""
        return max(self.user_horizon_s, self.dedup_horizon_s)

    @property
    def longest_window_s(self) -> float:
        """Return the longest time for which any example stays open."""
        windows = [rule.window_s for rule in self.types.values()]
        return max([self.exposure_window_s, *windows])


class Feedback(NamedTuple):
    """What an event of one type does: its columns of the evidence, and its rule unpacked.

    ``opens_s`` is for how long it opens an example of its own.
    """

    counted: int
    summed: int
    window_s: float
    opens_s: float
    starts: bool
    positive: bool
    negative: bool


def feedback(name: str, rule: TypeRule, exposure_window_s: float) -> Feedback:
    """Return what events of a type do by a rule; without a column of its own, `OTHERS` counts."""
    return Feedback(
        int(COUNT_COLUMN.get(name, Column.OTHERS)),
        int(SUM_COLUMN.get(name, _NO_COLUMN)),
        rule.window_s,
        max(exposure_window_s, rule.window_s),
        rule.starts,
        rule.positive,
        rule.negative,
    )
