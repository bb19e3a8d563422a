"""What computes shares the event loop with what waits for an answer."""

from __future__ import annotations

import asyncio

from stream.distributed.turns import Turn


def test_beyond_its_budget_a_pass_of_the_loop_computes_once() -> None:
    async def run() -> list[int]:
        turn, passes, computed = Turn(budget_s=0.0), 0, []

        async def count() -> None:
            nonlocal passes
            while True:
                passes += 1
                await asyncio.sleep(0)

        async def compute() -> None:
            await turn.come()
            computed.append(passes)

        counting = asyncio.ensure_future(count())
        await asyncio.gather(*[compute() for _ in range(8)])
        counting.cancel()
        return computed

    computed = asyncio.run(run())
    assert len(computed) == len(set(computed)) == 8


def test_within_its_budget_a_pass_serves_everybody() -> None:
    async def run() -> int:
        turn, waits = Turn(budget_s=60.0), 0

        async def compute() -> None:
            await turn.come()

        tasks = [asyncio.ensure_future(compute()) for _ in range(8)]
        while not all(task.done() for task in tasks):
            waits += 1
            await asyncio.sleep(0)
        return waits

    assert asyncio.run(run()) == 1
