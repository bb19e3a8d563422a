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


def passes_between_two_computations(waiting: int) -> int:
    """Return how many passes of the loop lie between the first two of so many computations."""

    async def run() -> int:
        turn, passes, computed = Turn(budget_s=0.0), 0, []

        async def compute() -> None:
            await turn.come()
            computed.append(passes)

        tasks = [asyncio.ensure_future(compute()) for _ in range(waiting)]
        while not all(task.done() for task in tasks):
            passes += 1
            await asyncio.sleep(0)
        return computed[1] - computed[0]

    return asyncio.run(run())


def test_between_two_computations_what_waits_for_an_answer_goes_on() -> None:
    assert passes_between_two_computations(2) >= 4


def test_the_more_wait_the_sooner_the_next_one_computes() -> None:
    assert passes_between_two_computations(8) < passes_between_two_computations(2)


def test_whoever_gives_up_waiting_holds_nobody_up() -> None:
    async def run() -> list[str]:
        turn, computed = Turn(budget_s=0.0), list[str]()

        async def compute(name: str) -> None:
            await turn.come()
            computed.append(name)

        tasks = [asyncio.ensure_future(compute(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks, return_exceptions=True)
            # Nor for ever.
            await compute("d")
        return computed

    assert asyncio.run(run()) == ["a", "c", "d"]


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


def test_who_comes_again_at_once_goes_behind_who_waits() -> None:
    async def run() -> list[str]:
        turn, computed = Turn(budget_s=0.0), list[str]()

        async def compute(name: str) -> None:
            for _ in range(3):
                await turn.come()
                computed.append(name)

        async with asyncio.timeout(60):
            # The first one's turn lasts until all the others have come.
            await asyncio.gather(turn.come(), *[compute(name) for name in "abcd"])
        return computed

    assert "".join(asyncio.run(run())) == "abcd" * 3


def test_who_can_wait_goes_after_everybody_who_cannot() -> None:
    async def run() -> list[str]:
        turn, computed = Turn(budget_s=0.0), list[str]()
        turn.PATIENCE_S = 3600.0

        async def save() -> None:
            await turn.come_last()
            computed.append("save")

        async def label() -> None:
            await turn.come()
            computed.append("label")

        async with asyncio.timeout(60):
            await asyncio.gather(label(), save(), *[label() for _ in range(3)])
        return computed

    assert asyncio.run(run()) == ["label"] * 4 + ["save"]


def test_who_can_wait_does_not_wait_for_ever() -> None:
    async def run() -> int:
        turn, labels, saved = Turn(budget_s=0.0), 0, False
        turn.PATIENCE_S = 0.0

        async def label() -> None:
            nonlocal labels
            while not saved:
                await turn.come()
                labels += 1

        async def save() -> None:
            nonlocal saved
            await turn.come_last()
            saved = True

        async with asyncio.timeout(60):
            await asyncio.gather(*[label() for _ in range(4)], save())
        return labels

    assert asyncio.run(run()) > 0
