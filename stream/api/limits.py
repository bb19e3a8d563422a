"""How much the API takes on, of one request and of all together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stream.api.body import MAX_BODY_BYTES

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep the API's memory bounded.

    Parameters
    ----------
    body_bytes
        Largest body, compressed or not.
    lines
        Lines of one request: more than 16 MiB of real events hold.
    in_flight_bytes
        What all bodies that are being worked on may take together.
    admission_s
        How long a request waits for room among them before it gets 503.
    shown_rejections
        How many refused lines an answer lists; all are counted.
    """

    body_bytes: int = MAX_BODY_BYTES
    lines: int = 262_144
    in_flight_bytes: int = 8 * MAX_BODY_BYTES
    admission_s: float = 10.0
    shown_rejections: int = 10_000


DEFAULT_LIMITS: Final = Limits()
