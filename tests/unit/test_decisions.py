"""Decisions that wait for an event: bounded, whatever comes and however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest

from stream import decisions
from stream.decisions import Decided, DecisionQueue


def decided(number: int, ts: float, places: int = 10) -> Decided:
    return Decided(ts, number, 1, b"key", "user", "best", tuple((n, n, 0.5) for n in range(places)))


def waiting(queue: DecisionQueue) -> list[int]:
    return [decision.offset for decision in queue.pop_before(float("inf"))]


def test_where_no_events_come_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MOST_PLACES", 100)
    # Not in the order of their times.
    made = [decided(n, float(n ^ 3), 1 + n % 20) for n in range(80)]
    found = []
    for cuts in ([0, 80], [0, 7, 40, 41, 80], list(range(81))):
        queue = DecisionQueue()
        dropped = sum(queue.take(made[a:b], 0.0) for a, b in pairwise(cuts))
        left = waiting(queue)
        assert dropped + len(left) == 80
        assert sum(len(made[n].places) for n in left) <= 100
        found.append(left)
    assert found[0] == found[1] == found[2]
    assert {76, 77, 78, 79} <= set(found[0])


def test_what_is_due_at_once_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MOST_PLACES", 100)
    queue = DecisionQueue()
    late = [decided(n, 5.0) for n in range(50)]
    assert queue.take([*late, decided(50, 20.0)], 10.0) == 0
    assert [one.offset for one in queue.pop_before(10.0)] == list(range(50))
    assert queue.take([decided(51 + n, 30.0 + n) for n in range(9)], 10.0) == 0
    again = DecisionQueue()
    again.load(queue.to_bytes())
    assert again.take([decided(60, 40.0)], 10.0) == 1
    assert waiting(again) == list(range(51, 61))
