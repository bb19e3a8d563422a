"""Which event loop processes run in."""

import asyncio
import sys
import threading

import pytest

from stream import event_loop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no uvloop")


def test_loops_of_the_process_and_of_its_threads_are_uvloops() -> None:
    made: list[asyncio.AbstractEventLoop] = []

    def make() -> None:
        made.append(asyncio.new_event_loop())

    async def main() -> str:
        thread = threading.Thread(target=make)
        thread.start()
        await asyncio.to_thread(thread.join)
        return type(asyncio.get_running_loop()).__module__

    assert event_loop.run(main()).split(".")[0] == "uvloop"
    (of_thread,) = made
    of_thread.close()
    assert type(of_thread).__module__.split(".")[0] == "uvloop"


def test_what_runs_afterwards_has_the_loop_that_it_had() -> None:
    async def fail() -> None:
        raise ValueError("on purpose")

    before = asyncio.get_event_loop_policy()
    with pytest.raises(ValueError, match="on purpose"):
        event_loop.run(fail())
    assert asyncio.get_event_loop_policy() is before
