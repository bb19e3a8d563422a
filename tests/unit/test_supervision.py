"""A thread that ends by a bug is noticed, whoever started it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable

import pytest

from stream.supervision import supervised

WITHIN_S = 120.0


def run(target: Callable[[], object], name: str = "a thread") -> None:
    thread = threading.Thread(target=target, name=name)
    thread.start()
    thread.join()


def fail() -> None:
    raise ZeroDivisionError("a planted bug")


def test_the_first_failure_is_kept_and_each_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    before = threading.excepthook
    with caplog.at_level(logging.CRITICAL), supervised() as threads:
        run(fail, "catalogue")
        run([].pop, "people")
        assert isinstance(threads.failure, ZeroDivisionError)
    assert threading.excepthook is before
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "a bug has ended the thread 'catalogue'",
        "a bug has ended the thread 'people'",
    ]
    assert all(record.exc_info for record in caplog.records)


def test_a_thread_that_ends_itself_has_not_failed() -> None:
    with supervised() as threads:
        run(sys.exit)
        assert threads.failure is None


def test_who_waits_is_told() -> None:
    async def main() -> None:
        with supervised() as threads:
            waiting = [asyncio.create_task(threads.wait()) for _ in range(2)]
            given_up = asyncio.create_task(threads.wait())
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.to_thread(run, fail)
            async with asyncio.timeout(WITHIN_S):
                await asyncio.gather(*waiting)
                # Also afterwards.
                await threads.wait()

    asyncio.run(main())
