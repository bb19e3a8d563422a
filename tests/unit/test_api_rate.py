"""How fast events are taken, and how much at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.api.admission import Admission
from stream.api.problems import Problem
from stream.api.rate import RateLimit


def test_no_limit_admits_everything() -> None:
    for rate in (None, 0.0):
        limit = RateLimit(rate)
        limit.charge(10**9)
        assert limit.retry_after_s() == 0


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 500)), max_size=60))
def test_over_any_time_the_rate_holds(requests: list[tuple[float, int]]) -> None:
    now, rate = [0.0], 100.0
    limit = RateLimit(rate, clock=lambda: now[0])
    accepted = 0
    largest = 0
    for pause_s, events in requests:
        now[0] += pause_s
        if limit.retry_after_s() == 0:
            limit.charge(events)
            accepted += events
            largest = max(largest, events)
    # A full bucket, what flowed in, and the debt of one request.
    assert accepted <= rate * (1 + now[0]) + largest + 1e-6


def test_who_waits_as_told_is_admitted() -> None:
    now = [0.0]
    limit = RateLimit(100.0, clock=lambda: now[0])
    for _ in range(5):
        limit.charge(1_000)
        wait_s = limit.retry_after_s()
        assert wait_s > 0
        now[0] += wait_s
        assert limit.retry_after_s() == 0


def test_bodies_wait_for_room_and_take_turns() -> None:
    async def run() -> int:
        admission = Admission(100, timeout_s=60.0)
        together = most = 0

        async def request(n_bytes: int) -> None:
            nonlocal together, most
            async with admission.room(n_bytes):
                together += min(n_bytes, 100)
                most = max(most, together)
                await asyncio.sleep(0.001)
                together -= min(n_bytes, 100)

        await asyncio.gather(*(request(n) for n in (60, 50, 1_000, 40, 30, 30, 100, 1)))
        return most

    assert asyncio.run(run()) <= 100


def test_who_finds_no_room_in_time_is_sent_away() -> None:
    async def run() -> None:
        admission = Admission(100, timeout_s=0.02)
        async with admission.room(80):
            with pytest.raises(Problem, match="80 bytes of 100") as refused:
                async with admission.room(30):
                    pytest.fail("there was no room")
            assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        async with admission.room(100):
            pass

    asyncio.run(run())
