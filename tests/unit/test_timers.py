"""Timers of people against the plainest thing that could be right: a dictionary, sorted."""

from __future__ import annotations

import random

import pytest

from stream.timers import NEVER, Timers


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step_s", [1.0, 700.0, 100_000.0])
def test_timers_are_taken_in_order_however_far_they_lie(seed: int, step_s: float) -> None:
    rng = random.Random(seed)
    timers, plain = Timers(), dict[bytes, float]()
    now = 1_000_000.0
    for _ in range(2_000):
        now += rng.random() * step_s
        for _ in range(rng.randrange(3)):
            key = b"%d" % rng.randrange(40)
            at = now + rng.choice([-5.0, 0.0, 3.0, 60.0, 900.0, 7_200.0, 2e5]) * rng.random()
            timers.set(key, at)
            plain[key] = at
        if rng.random() < 0.1:
            gone = b"%d" % rng.randrange(40)
            timers.drop(gone)
            plain.pop(gone, None)
        due = sorted((at, key) for key, at in plain.items() if at <= now)
        assert timers.next_at <= min(plain.values(), default=NEVER)
        assert set(timers.due_by(now)) == {key for _, key in due}
        if rng.random() < 0.3:
            assert timers.next_due() == min(plain.values(), default=NEVER)
        if rng.random() < 0.02:
            timers.load(timers.due)
        assert timers.take(now) == [key for _, key in due]
        for _, key in due:
            timers.drop(key)
            del plain[key]
        assert timers.due == plain


def test_stale_entries_do_not_pile_up() -> None:
    timers = Timers()
    for number in range(100_000):
        timers.set(b"%d" % (number % 10), float(number))
    assert len(timers) == 10
    assert timers.entries < 2_000
    assert timers.take(NEVER) == [b"%d" % number for number in range(10)]
    assert timers.entries == 0
