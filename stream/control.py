"""Which labeling functions are on: orders from the control topic, in the order they were given."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream.events import LfSwitch

__all__ = ["Switches"]


class Switches:
    """Labeling functions that were switched off, by task, name and version.

    Examples
    --------
    >>> switches = Switches()
    >>> switches.apply(LfSwitch(kind="lf", name="clicked", enabled=False, ts=0.0, who="a", why="b"))
    >>> switches.enabled("relevance", ["clicked", "viewed"], [1, 1])
    [False, True]
    """

    def __init__(self) -> None:
        self._off: set[tuple[str, str, int]] = set()

    def apply(self, order: LfSwitch) -> None:
        """Obey an order; an absent task or version means any (kept as ``""`` and 0)."""
        task, version = order.task or "", order.version or 0
        if not order.enabled:
            self._off.add((task, order.name, version))
            return
        self._off = {
            off
            for off in self._off
            if off[1] != order.name
            or (task and off[0] and off[0] != task)
            or (version and off[2] and off[2] != version)
        }

    def enabled(self, task: str, names: Sequence[str], versions: Sequence[int]) -> list[bool]:
        """Return which functions of a task are on."""
        off = self._off
        if not off:
            return [True] * len(names)
        return [
            not any((t, name, v) in off for t in ("", task) for v in (0, version))
            for name, version in zip(names, versions, strict=True)
        ]

    def to_bytes(self) -> bytes:
        """Return the orders that stand."""
        return msgspec.msgpack.encode(sorted(self._off))

    def load(self, data: bytes) -> None:
        """Replace the orders that stand by stored ones."""
        self._off = set(msgspec.msgpack.decode(data, type=list[tuple[str, str, int]]))
