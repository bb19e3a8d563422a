"""What the door is told when the embedded log does not take its records."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from stream.embedded_log import EmbeddedLog
from stream.records import Outgoing
from stream.sinks import AppendFailed, EmbeddedSink
from stream.supervision import supervised

RECORDS = [Outgoing("headrace.events", b"ann", b"{}")]


async def offer(sink: EmbeddedSink, times: int) -> list[object]:
    """Append at the same time; return what was raised, None for nothing."""
    try:
        appending = [sink.append(RECORDS) for _ in range(times)]
        return list(await asyncio.gather(*appending, return_exceptions=True))
    finally:
        await sink.close()


def test_a_log_that_refuses_is_no_bug(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", 1)
    log.close()
    with supervised() as threads:
        refused = asyncio.run(offer(EmbeddedSink(log), 2))
    assert [type(one) for one in refused] == [AppendFailed, AppendFailed]
    assert refused[0] is not refused[1]
    assert "closed" in str(refused[0])
    assert threads.failure is None


def test_a_bug_is_not_told_as_a_log_that_is_not_available(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = EmbeddedLog(tmp_path / "log.db", 1, clock=lambda: 1 / 0)
    with caplog.at_level(logging.CRITICAL), supervised() as threads:
        failed = asyncio.run(offer(EmbeddedSink(log), 1))
    log.close()
    assert [type(one) for one in failed] == [ZeroDivisionError]
    # Whoever waits for this ends the process.
    assert isinstance(threads.failure, ZeroDivisionError)
    assert [record.getMessage() for record in caplog.records] == [
        "a bug has ended the thread 'embedded-sink_0'"
    ]
