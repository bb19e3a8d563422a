"""Labeling functions that fail: counted by position, switched off above a rate, and recorded.

A function that raises, or answers what is no class, abstains on that example. On more failures
than a window of examples allows it is switched off, at the very example on which it went too far:
the same records always stop it at the same place, however they were fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfs.core import ABSTAIN
from lfs.reach import Reach
from stream.decoding.fields import MAX_ID_LENGTH
from stream.events import (
    GOVERNANCE,
    GovernanceRecord,
    LfSwitch,
    ReferenceReset,
    ReferenceSet,
)
from stream.records import Outgoing

__all__ = ["Failing", "FailureRule", "Stopped", "order_record", "stop_record", "switch_record"]

_WHO = "headrace"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """How many failures are too many.

    Parameters
    ----------
    max_ratio
        Share of a window on which a function may fail.
    window
        Examples after which counting begins anew.
    """

    max_ratio: float = 0.05
    window: int = 1_000


@dataclass(frozen=True, slots=True)
class Stopped:
    """A function that was switched off: at which example of its task, at which event time."""

    task: str
    name: str
    version: int
    call: int
    failures: int
    reason: str
    ts: float
    rule: FailureRule


class Failing:
    """Who failed how often in one partition.

    Attributes
    ----------
    stopped
        (task, name, version) of functions that are off because they failed.

    *State* — two numbers a function that ever failed.

    Examples
    --------
    >>> failing = Failing(FailureRule(max_ratio=0.2, window=10))
    >>> votes = np.full((4, 1), 1, dtype=np.int8)
    >>> rows = {"f": {0: "KeyError", 1: "KeyError", 2: "KeyError", 3: "KeyError"}}
    >>> [one.call for one in failing.observe("t", ["f"], [1], votes, rows, [0.0] * 4)]
    [3]
    >>> sorted(rows["f"]), ("t", "f", 1) in failing.stopped
    ([0, 1, 2], True)
    """

    def __init__(self, rule: FailureRule) -> None:
        self._rule = rule
        self._calls: dict[str, int] = {}
        self._failures: dict[tuple[str, str, int], tuple[int, int]] = {}
        self.stopped: set[tuple[str, str, int]] = set()

    def observe(
        self,
        task: str,
        names: Sequence[str],
        versions: Sequence[int],
        votes: NDArray[np.int8],
        failures: dict[str, dict[int, str]],
        ts: Sequence[float] | NDArray[np.float64],
    ) -> list[Stopped]:
        """Count the failures of a batch; silence whoever went too far from there on.

        Parameters
        ----------
        votes
            Shape (n, m); votes after the example that stopped a function are taken back.
        failures
            LF name to row to reason; failures after that example are taken out.
        ts
            Event time of each row, (n,).
        """
        rule = self._rule
        first = self._calls.get(task, 0)
        self._calls[task] = first + len(votes)
        found: list[Stopped] = []
        for name in sorted(failures):
            failed = failures[name]
            column = names.index(name)
            key = (task, name, versions[column])
            window, count = self._failures.get(key, (-1, 0))
            for row in sorted(failed):
                of = (first + row) // rule.window
                window, count = of, (count if of == window else 0) + 1
                if count <= rule.max_ratio * rule.window:
                    continue
                self.stopped.add(key)
                call = first + row + 1
                found.append(Stopped(*key, call, count, failed[row], float(ts[row]), rule))
                votes[row + 1 :, column] = ABSTAIN
                failures[name] = {at: why for at, why in failed.items() if at <= row}
                break
            self._failures[key] = (window, count)
        return found

    def forgive(self, order: Reach) -> None:
        """Begin anew with a function about which somebody gave an order."""
        for key in [*self._failures]:
            if order.covers(Reach(*key)):
                del self._failures[key]
                self.stopped.discard(key)

    def to_state(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "calls": sorted(self._calls.items()),
            "failures": sorted((*key, *count) for key, count in self._failures.items()),
            "stopped": sorted(self.stopped),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take plain values up again."""
        self._calls = {task: calls for task, calls in state["calls"]}
        self._failures = {
            (task, name, version): (window, count)
            for task, name, version, window, count in state["failures"]
        }
        self.stopped = {(task, name, version) for task, name, version in state["stopped"]}


def stop_record(stopped: Stopped, partition: int) -> Outgoing:
    """Return the governance record of a function that was switched off; same cause, same id."""
    subject = str(Reach(stopped.task, stopped.name, stopped.version))
    rule = stopped.rule
    return _record(
        GovernanceRecord(
            id=_id("lf_disabled", subject, partition, stopped.call),
            ts=stopped.ts,
            who=_WHO,
            action="lf_disabled",
            subject=subject[:MAX_ID_LENGTH],
            why=(
                f"{stopped.failures} failures within {rule.window} examples of partition "
                f"{partition}, the last a {stopped.reason}; allowed: {rule.max_ratio:.2%}"
            ),
            before={"enabled": True},
            after={"enabled": False, "partition": partition},
        )
    )


def order_record(order: LfSwitch | ReferenceReset | ReferenceSet) -> Outgoing:
    """Return the governance record of an order that partitions obey; same cause, same id."""
    if isinstance(order, LfSwitch):
        return switch_record(order)
    after: dict[str, Any] = {}
    if isinstance(order, ReferenceReset):
        action, subject = "reference_reset", order.signal or "*"
    else:
        action, subject = "reference_set", "*"
        after = {"signals": [reference.signal for reference in order.references]}
        if len(order.references) == 1:
            subject = order.references[0].signal
    return _record(
        GovernanceRecord(
            id=_id(action, subject, order.who, order.ts),
            ts=order.ts,
            who=order.who,
            action=action,
            subject=subject,
            why=order.why,
            after=after or None,
        )
    )


def switch_record(order: LfSwitch) -> Outgoing:
    """Return the governance record of an order about a function."""
    subject = str(Reach(order.task or None, order.name, order.version))
    action = "lf_enabled" if order.enabled else "lf_disabled"
    return _record(
        GovernanceRecord(
            id=_id(action, subject, order.who, order.ts),
            ts=order.ts,
            who=order.who,
            action=action,
            subject=subject[:MAX_ID_LENGTH],
            why=order.why,
            after={"enabled": order.enabled},
        )
    )


def _id(*cause: object) -> str:
    return blake2b("\0".join(map(str, cause)).encode(), digest_size=16).hexdigest()


def _record(record: GovernanceRecord) -> Outgoing:
    return Outgoing(GOVERNANCE, record.subject.encode(), record.model_dump_json().encode())
