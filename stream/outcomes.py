"""What an exposure may bring, late: a value of the settings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something worth waiting for.

    Parameters
    ----------
    name
        Of its head, in the report and in metrics.
    events
        Event types that bring it about; it is not learned from an example that they opened.
    undone_by
        Event types that take it back.
    window_s
        How long it may take, from the exposure; later is counted, not learned.
    value
        What it is worth in the reward; with ``amount``, per unit of the event's value.
    amount
        Whether its worth grows with the value of the event that brought it.
    back_after_s
        Above 0: the outcome is that the person comes back, after a pause of at least so long.
        It belongs to visits, not to exposures, and has no events.
    """

    name: str
    events: tuple[str, ...]
    window_s: float
    undone_by: tuple[str, ...] = ()
    value: float = 1.0
    amount: bool = False
    back_after_s: float = 0.0
