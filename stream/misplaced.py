"""Records about people of other partitions: published anew to where they belong."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stream.decoding.decode import Decoded, TickAt
from stream.events import DECISIONS, EVENTS, Decision
from stream.records import Outgoing

__all__ = ["send_on", "turn_away"]


def turn_away(
    decoded: Decoded, misplaced: set[str], owner: Callable[[str], str]
) -> tuple[Decoded, list[Outgoing]]:
    """Return the events that stay, ticks in their places, and the records of the others.

    Parameters
    ----------
    misplaced
        Ids of the people whose events go.
    owner
        Gives the id under which somebody's events belong.
    """
    kept, sent = Decoded(), []
    ticks = iter([*decoded.ticks, TickAt(len(decoded.events) + 1, 0.0, 0)])
    tick = next(ticks)
    for index, event in enumerate(decoded.events):
        while tick.position <= index:
            kept.ticks.append(tick._replace(position=len(kept.events)))
            tick = next(ticks)
        if event.user_id not in misplaced:
            kept.events.append(event)
            continue
        user_id = owner(event.user_id)
        line = msgspec.json.encode(msgspec.structs.replace(event, user_id=user_id))
        sent.append(Outgoing(EVENTS, user_id.encode(), line))
    while tick.position <= len(decoded.events):
        kept.ticks.append(tick._replace(position=len(kept.events)))
        tick = next(ticks)
    return kept, sent


def send_on(decision: Decision, owner: Callable[[str], str]) -> Outgoing:
    """Return the record of a decision about somebody of another partition."""
    user_id = owner(decision.user_id)
    line = decision.model_copy(update={"user_id": user_id}).model_dump_json(exclude_none=True)
    return Outgoing(DECISIONS, user_id.encode(), line.encode())
