"""What is kept of a person besides the stages of examples: what comes in, and what goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile
from math import isnan
from typing import Final

from stream.decisions import Decided
from stream.decoding.fields import MAX_CONTEXT_KEYS
from stream.evidence import Column
from stream.user_state import Example, Shown, UserState

__all__ = ["Context", "add_context", "believe", "forget", "forget_events", "leave", "show"]

Context = dict[str, str | bool | int | float]

_C_POSITION: Final = int(Column.POSITION)
_C_PROPENSITY: Final = int(Column.PROPENSITY)
_C_LAST: Final = int(Column.LAST_TS)
_C_AWAY: Final = int(Column.AWAY_S)


def leave(user: UserState, ts: float) -> None:
    """Note on what the person was busy with how soon they turned to something else."""
    if user.busy is not None:
        evidence, user.busy = user.busy.evidence, None
        last = evidence[_C_LAST]
        if ts >= last and isnan(evidence[_C_AWAY]):
            evidence[_C_AWAY] = ts - last


def add_context(example: Example, context: Context) -> int:
    """Add what a later event says; of more keys than one event may have, the first stay.

    Returns how many did not stay.
    """
    merged = {**example.context, **context}
    excess = len(merged) - MAX_CONTEXT_KEYS
    if excess > 0:
        merged = dict(islice(merged.items(), MAX_CONTEXT_KEYS))
    example.context = merged
    return max(excess, 0)


def believe(user: UserState, decision: Decided, oldest: float, most: int) -> int:
    """Keep what a decision says, and tell the examples that are there already.

    Decisions of before ``oldest`` are forgotten: most are in the order of their times, and a late
    one only lets others stay longer. Returns how many beyond ``most`` were dropped.
    """
    decided = user.decided
    for name in [*takewhile(lambda name: decided[name].ts < oldest, decided)]:
        del decided[name]
    for name, position, propensity in decision.places:
        shown = decided[name] = Shown(decision.ts, position, propensity, decision.policy)
        example = user.examples.get(name)
        if example is not None:
            show(example, shown)
    excess = len(decided) - most
    for name in [*islice(decided, max(excess, 0))]:
        del decided[name]
    return max(excess, 0)


def show(example: Example, shown: Shown) -> None:
    """Let an example know where, how likely and by which policy it was shown."""
    example.evidence[_C_POSITION] = shown.position
    example.evidence[_C_PROPENSITY] = shown.propensity
    example.policy = shown.policy


def forget(user: UserState, forgotten: Sequence[Example]) -> None:
    """Forget examples; what is latest of an item follows from what is kept.

    It must be the same after a restart. Revisions go on where the highest of these stood.
    """
    examples, latest = user.examples, user.latest
    for example in forgotten:
        del examples[example.hash]
        if example.revision > user.next_revision:
            user.next_revision = example.revision
    if not examples:
        latest.clear()
        return
    gone = {example.item_id for example in forgotten if latest.get(example.item_id) is example}
    for item_id in gone:
        del latest[item_id]
    for example in examples.values():
        if example.item_id in gone:
            latest[example.item_id] = example


def forget_events(seen: dict[int, float], oldest: float, most: int, look_every: int) -> int:
    """Forget the oldest event ids: at least as fast as they come, at most twice as fast.

    Called once for every ``look_every`` events; returns how many were forgotten too early,
    because there were more than ``most``.
    """
    if len(seen) <= most and seen[next(iter(seen))] >= oldest:
        return 0
    dropped = 0
    for name in list(islice(seen, 2 * look_every)):
        if seen[name] >= oldest:
            if len(seen) <= most:
                break
            dropped += 1
        del seen[name]
    return dropped
