"""Which labeling functions are on: orders from the control topic, in the order they were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from pydantic import BaseModel

from lfs.reach import Reach
from stream.decoding.records import RecordDecoder, line_of
from stream.decoding.rejection import Rejected
from stream.events import CONTROL, TOPICS, LfSwitch, ReferenceReset, ReferenceSet
from stream.failing import Failing, FailureRule
from stream.records import RecordBatch

__all__ = ["SWITCHES_CHUNK", "Order", "Switches", "Told"]

SWITCHES_CHUNK = "own/switches"
"""Where a partition's checkpoint holds them; whoever shows what is on reads it, too."""

Order = LfSwitch | ReferenceReset | ReferenceSet
"""What a partition obeys."""

_ANY_TASK = ""
_ANY_VERSION = 0
_NOT_OBEYED: Final = "is not obeyed by this version: nobody was erased; found 'erase_user'"
_DECODER: RecordDecoder[BaseModel] = RecordDecoder(TOPICS[CONTROL])


class Told(NamedTuple):
    """Who gave an order, when (event time) and why."""

    ts: float
    who: str
    why: str


class Switches:
    """Which labeling functions were switched on or off: by the settings, then by orders.

    Parameters
    ----------
    disabled
        Names that the settings switch off; an order about one of them overrides that.
    failures
        When a function that fails is switched off; an order about it lifts that too.

    Examples
    --------
    >>> switches = Switches(["viewed"])
    >>> switches.apply(LfSwitch(kind="lf", name="clicked", enabled=False, ts=0.0, who="a", why="b"))
    >>> switches.enabled("relevance", ["clicked", "viewed", "rated"], [1, 1, 1])
    [False, False, True]
    """

    def __init__(self, disabled: Sequence[str] = (), failures: FailureRule | None = None) -> None:
        self._disabled = frozenset(disabled)
        self.failing = Failing(failures or FailureRule())
        self._orders: dict[tuple[str, str, int], bool] = {}
        self._told: dict[tuple[str, str, int], Told] = {}

    def decode(self, batch: RecordBatch) -> tuple[list[Order], list[Rejected]]:
        """Return the orders of a batch that a partition obeys, and the lines that are none.

        An order that nobody obeys is refused: whoever gave it must not take it for done.
        """
        decoded = _DECODER.decode(batch)
        orders: list[Order] = []
        refused = decoded.rejected
        for order, origin in zip(decoded.records, decoded.origins, strict=True):
            if isinstance(order, Order):
                orders.append(order)
            else:
                refused.append(Rejected(*origin, "kind", _NOT_OBEYED, line_of(batch, origin)))
        return orders, refused

    def apply(self, order: LfSwitch) -> None:
        """Obey an order; it replaces every earlier one that it covers."""
        task, version = order.task or _ANY_TASK, order.version or _ANY_VERSION
        reach = _reach(task, order.name, version)
        self._orders = {
            key: on for key, on in self._orders.items() if not reach.covers(_reach(*key))
        }
        self._orders[task, order.name, version] = order.enabled
        self._told = {key: told for key, told in self._told.items() if key in self._orders}
        self._told[task, order.name, version] = Told(order.ts, order.who, order.why)
        self.failing.forgive(reach)

    def enabled(self, task: str, names: Sequence[str], versions: Sequence[int]) -> list[bool]:
        """Return which functions of a task are on; the narrowest order about each decides."""
        orders, disabled, stopped = self._orders, self._disabled, self.failing.stopped
        if not orders and not stopped:
            return [name not in disabled for name in names] if disabled else [True] * len(names)
        found = []
        for name, version in zip(names, versions, strict=True):
            on = name not in disabled
            for key in _covering(task, name, version):
                on = orders.get(key, on)
            found.append(on and (task, name, version) not in stopped)
        return found

    def told(self, task: str, name: str, version: int) -> Told | None:
        """Return who gave the order that decides about a function; None if nobody is known."""
        for key in reversed(_covering(task, name, version)):
            if key in self._orders:
                return self._told.get(key)
        return None

    def to_bytes(self) -> bytes:
        """Return the orders that stand, and who failed how often."""
        return msgspec.msgpack.encode(
            {
                "orders": sorted((*key, on) for key, on in self._orders.items()),
                "told": sorted((*key, *told) for key, told in self._told.items()),
                "failing": self.failing.to_state(),
            }
        )

    def load(self, data: bytes) -> None:
        """Replace what stands by what was stored; older state holds the orders only."""
        stored = msgspec.msgpack.decode(data)
        orders = stored["orders"] if isinstance(stored, dict) else stored
        self._orders = {(task, name, version): on for task, name, version, on in orders}
        self._told = {}
        if isinstance(stored, dict):
            self.failing.load(stored["failing"])
            for task, name, version, ts, who, why in stored.get("told", ()):
                self._told[task, name, version] = Told(ts, who, why)


def _reach(task: str, name: str, version: int) -> Reach:
    """Return what an order that is kept like this is about."""
    return Reach(task or None, name, version or None)


def _covering(task: str, name: str, version: int) -> tuple[tuple[str, str, int], ...]:
    """Return what an order about a function may name, the narrowest last."""
    return (
        (_ANY_TASK, name, _ANY_VERSION),
        (_ANY_TASK, name, version),
        (task, name, _ANY_VERSION),
        (task, name, version),
    )
