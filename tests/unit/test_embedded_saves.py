"""The embedded engine saves in time, and sooner where much has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.metrics import Metrics
from stream.config import Settings
from stream.embedded import EmbeddedEngine
from stream.embedded_files import open_embedded
from stream.events import EVENTS
from stream.records import Outgoing

pytestmark = pytest.mark.usefixtures("compiled")

WITHIN_S = 240.0
CONSUMED = ("events_consumed_total", (EVENTS,))


def clicks(first: int, people: int) -> list[Outgoing]:
    return [
        Outgoing(
            EVENTS,
            b"u%d" % number,
            b'{"event_id":"e%d","type":"click","ts":%d,"user_id":"u%d","item_id":"i%d"}'
            % (number, 1_700_000_000 + number, number, number % 7),
        )
        for number in range(first, first + people)
    ]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_people_who_changed_are_saved_before_it_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.embedded._SOONEST", 0.0)
    settings = Settings(
        log={"url": f"sqlite:///{tmp_path / 'headrace.db'}"},
        checkpoint={"interval_s": 3_600},
        ticks={"enabled": False},
    )
    log, store = open_embedded(settings)
    metrics = Metrics(process=False)
    engine = EmbeddedEngine(settings, log, store, metrics)
    engine.start()
    log.append(clicks(0, 310))
    until(engine.drained)
    # A few wait for their time.
    log.append(clicks(1_000, 10))
    until(lambda: metrics.value(*CONSUMED) == 320)
    assert store.partitions()[0][EVENTS] == 310
    engine.stop()
    assert store.partitions()[0][EVENTS] == 320
    store.close()
    log.close()
