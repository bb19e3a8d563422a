"""What something outside must change before a command can go on; everything else is a bug."""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):
    """Base of the errors that are for the person who runs a command: their text says what to do."""
