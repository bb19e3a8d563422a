"""What the embedded log lets go of, and what it must keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.metrics import Metrics
from stream.config import Settings
from stream.embedded import EmbeddedEngine
from stream.embedded_files import open_embedded
from stream.embedded_log import EmbeddedLog
from stream.events import CONTROL, EVENTS, ITEMS, LABELS
from stream.records import Outgoing
from stream.retention import Retention

DAY_S = 86_400.0


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log.db", 2, topics={CONTROL: 1}, clock=clock)
    yield log
    log.close()


def fill(log: EmbeddedLog, clock: Clock, days: int, value: bytes = b"{}") -> None:
    """Append ten records a day to each partition of some topics, and one to others."""
    for _ in range(days):
        log.append(
            [
                Outgoing(topic, None, value, partition)
                for topic in (EVENTS, LABELS)
                for partition in range(2)
                for _ in range(10)
            ]
        )
        log.append([Outgoing(ITEMS, b"i", value), Outgoing(CONTROL, b"c", value)])
        clock.now += DAY_S


def test_what_is_old_and_saved_goes(log: EmbeddedLog, clock: Clock) -> None:
    fill(log, clock, 10)
    retention = Retention(log, 3 * DAY_S, 0, clock)
    dropped = retention.trim({0: {EVENTS: 100}, 1: {EVENTS: 25}})
    # A partition that has applied less keeps more.
    assert dropped == {EVENTS: 70 + 25, LABELS: 140}
    assert log.begin_offsets(EVENTS) == {0: 70, 1: 25}
    assert log.read(EVENTS, 1, 25).offsets[0] == 25
    assert retention.trim({0: {EVENTS: 100}, 1: {EVENTS: 25}}) == {}


def test_nothing_goes_that_no_checkpoint_covers(log: EmbeddedLog, clock: Clock) -> None:
    fill(log, clock, 10)
    assert EVENTS not in Retention(log, DAY_S, 1, clock).trim({})
    assert log.begin_offsets(EVENTS) == {0: 0, 1: 0}


def test_items_and_control_stay_whole(log: EmbeddedLog, clock: Clock) -> None:
    fill(log, clock, 10)
    Retention(log, 1.0, 1, clock).trim({p: {EVENTS: 100, CONTROL: 10, ITEMS: 10} for p in (0, 1)})
    assert set(log.begin_offsets(ITEMS).values()) == {0}
    assert log.begin_offsets(CONTROL) == {0: 0}


def test_for_ever_is_for_ever(log: EmbeddedLog, clock: Clock) -> None:
    fill(log, clock, 10)
    assert Retention(log, 0.0, 0, clock).trim({p: {EVENTS: 100} for p in (0, 1)}) == {}


def test_a_file_that_is_too_large_shrinks_to_its_bound(log: EmbeddedLog, clock: Clock) -> None:
    fill(log, clock, 20, b"x" * 2_000)
    bound = log.used_bytes() // 2
    retention = Retention(log, 0.0, bound, clock)
    saved = {partition: {EVENTS: 200} for partition in (0, 1)}
    for _ in range(20):
        if not retention.trim(saved):
            break
    assert 0 < log.used_bytes() <= bound
    assert log.begin_offsets(EVENTS)[0] < 200


def test_the_service_trims_what_it_saved_and_counts_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'headrace.db'}"
    settings = Settings(
        log={"url": url, "retention_s": 0.001},
        store={"url": url},
        checkpoint={"interval_s": 0.05},
        ticks={"enabled": False},
    )
    log, store = open_embedded(settings)
    try:
        metrics = Metrics(process=False)
        engine = EmbeddedEngine(settings, log, store, metrics)
        line = b'{"event_id":"e","type":"click","ts":1e9,"user_id":"u","item_id":"i"}'
        log.append([Outgoing(EVENTS, b"u", line)])
        engine.start()
        while log.begin_offsets(EVENTS)[0] == 0:
            assert engine.failure is None
            log.wait(0.05)
        engine.stop()
        assert log.end_offsets(EVENTS)[0] == 1
        assert (
            b'headrace_log_trimmed_records_total{topic="headrace.events"} 1\n' in metrics.render()
        )
        # What is gone was applied: a restart needs it no more.
        again = EmbeddedEngine(settings, log, store, Metrics(process=False))
        again.start()
        again.stop()
        # Nor does who begins anew, since it is not there.
        store.reset()
        log.append([Outgoing(EVENTS, b"u", line.replace(b'"e"', b'"later"'))])
        anew = EmbeddedEngine(settings, log, store, Metrics(process=False))
        anew.start()
        while not anew.drained():
            assert anew.failure is None
            log.wait(0.05)
        anew.stop()
        assert anew.pipelines[0].counts.consumed[EVENTS] == 1
    finally:
        store.close()
        log.close()
