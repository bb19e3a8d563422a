"""The last word on an event line: the public schema decides, and says why not."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from stream.decoding.fields import MAX_CONTEXT_KEYS, keepable
from stream.decoding.rejection import (
    Invalid,
    explain,
    parse_object,
    refuse_future,
    refuse_long,
    refuse_non_finite,
)
from stream.events import EVENT_TYPES, Event, Interaction, Tick

__all__ = ["MAX_FUTURE_SKEW_S", "MAX_LINE_BYTES", "Arbiter", "Verdict"]

MAX_LINE_BYTES: Final = 1_048_576
MAX_FUTURE_SKEW_S: Final = 300.0

_in_order: Final = attrgetter(*Interaction.__struct_fields__)
_KNOWN: Final = frozenset(Interaction.__struct_fields__)
_TICK_FIELDS: Final = frozenset({"tick"})


class Verdict(NamedTuple):
    """What an accepted line is: an event or the time of a tick; and its unknown fields."""

    event: Interaction | None
    tick: float | None = None
    unknown_fields: int = 0


class Arbiter:
    """Decide single lines by the schema `Event`; parameters as `Decoder` has them."""

    def __init__(
        self,
        types: Iterable[str] = EVENT_TYPES,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        max_future_skew_s: float = MAX_FUTURE_SKEW_S,
        keep_unknown: bool = False,
        accept_ticks: bool = True,
    ) -> None:
        self.types = frozenset(types)
        self.max_line_bytes = max_line_bytes
        self.max_future_skew_s = max_future_skew_s
        self._keep_unknown = keep_unknown
        self._accept_ticks = accept_ticks
        self._allowed = ", ".join(sorted(self.types))

    def judge(self, line: bytes, log_ts: float) -> Verdict:
        """Return what the line is.

        Raises
        ------
        Invalid
            With the field at fault and the reason.
        """
        latest = log_ts + self.max_future_skew_s
        refuse_long(line, self.max_line_bytes)
        document = parse_object(line)
        try:
            if self._accept_ticks and document.keys() == _TICK_FIELDS:
                ts = Tick.model_validate(document).tick
                refuse_future("tick", ts, latest)
                return Verdict(None, ts)
            unknown = self._take_unknown(document)
            event = Event.model_validate(document)
        except ValidationError as error:
            raise explain(error) from error
        if event.type not in self.types:
            raise Invalid("type", f"is unknown; found {event.type!r}, allowed: {self._allowed}")
        refuse_future("ts", event.ts, latest)
        return Verdict(Interaction(*_in_order(event)), None, unknown)

    def _take_unknown(self, document: dict[str, Any]) -> int:
        """Remove unknown fields, keeping those that ``context`` can hold if so configured."""
        if document.keys() <= _KNOWN:
            return 0
        names = document.keys() - _KNOWN
        context = document.get("context")
        for name in sorted(names):
            value = document.pop(name)
            refuse_non_finite(name, value)
            if not (self._keep_unknown and keepable(name, value)):
                continue
            if context is None:
                context = document["context"] = {}
            if (
                isinstance(context, dict)
                and context.get(name) is None
                and len(context) < MAX_CONTEXT_KEYS
            ):
                context[name] = value
        return len(names)
