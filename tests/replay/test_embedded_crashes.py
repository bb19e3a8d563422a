"""The embedded service killed after every step of its commit order ends where it would have."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from monitoring.metrics import Metrics
from stream.assembly import open_state
from stream.config import Settings
from stream.embedded import EmbeddedEngine
from stream.embedded_files import open_embedded
from stream.events import DEAD_LETTER, EVENTS, LABELS
from stream.records import Outgoing
from stream.state import Epoch
from tests.replay.streams import random_lines

STEPS = ("applied", "published", "saved")


class Crash(Exception):
    """A process that dies."""


def settings_for(folder: Path) -> Settings:
    return Settings(
        log={"url": f"sqlite:///{folder / 'headrace.db'}", "partitions": 2},
        checkpoint={"interval_s": 1e-6},
        ticks={"enabled": False},
        learn=False,
        events={"max_future_skew_s": 1e9},
    )


def append(settings: Settings, lines: list[bytes]) -> None:
    log, store = open_embedded(settings)
    records = [
        Outgoing(EVENTS, orjson.loads(line)["user_id"].encode(), line) for line in lines[:-1]
    ]
    log.append([*records, Outgoing(EVENTS, None, lines[-1], 1)])
    store.close()
    log.close()


def run(settings: Settings, after_step: Callable[[str], None] | None = None) -> None:
    """Run the engine until everything is applied, or until it crashes."""
    log, store = open_embedded(settings)
    engine = EmbeddedEngine(settings, log, store, Metrics(process=False), after_step=after_step)
    engine.batch_records = 20
    try:
        engine.start()
        while not engine.drained() and engine.failure is None:
            log.wait(0.01)
        engine.stop()
    finally:
        store.close()
        log.close()


def outcome(settings: Settings) -> tuple[dict[str, set[bytes]], dict[int, Any]]:
    """Return what was published, as sets, and the stored state of every partition."""
    log, store = open_embedded(settings)
    published: dict[str, set[bytes]] = {}
    for topic in (LABELS, DEAD_LETTER):
        published[topic] = set()
        for partition, end in log.end_offsets(topic).items():
            if end:
                published[topic] |= set(log.read(topic, partition, 0, 100_000).values)
    store.close()
    log.close()
    store = open_state(settings)
    state = {}
    for partition in range(settings.log.partitions):
        head = store.claim(partition, Epoch(0, "test"))
        keys = [key for key, _ in head.timers]
        state[partition] = (
            dict(head.next_offsets),
            sorted(head.timers),
            store.load_users(partition, keys),
            # Contributions of other partitions are taken in when they are seen: what depends on
            # that moment is left out, and learning is off.
            head.chunks["share/counts"],
            head.chunks["own/clock"],
        )
    store.close()
    return published, state


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a log that holds events and a dead letter to be."""
    folder = tmp_path_factory.mktemp("filled")
    append(settings_for(folder), [*random_lines(31, 600, users=40), b'{"no": "event"}'])
    return folder


@pytest.fixture(scope="module")
def undisturbed(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(filled, folder, dirs_exist_ok=True)
    run(settings_for(folder))
    return outcome(settings_for(folder))


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_after_any_step_changes_nothing(
    tmp_path: Path, filled: Path, undisturbed: Any, step: str
) -> None:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    settings = settings_for(tmp_path)
    rng = random.Random(step)
    crashes = 0

    def die_sometimes(name: str) -> None:
        nonlocal crashes
        if name == step and crashes < 12 and rng.random() < 0.3:
            crashes += 1
            raise Crash(name)

    finished = False
    while not finished:
        before = crashes
        try:
            run(settings, die_sometimes)
        except Crash:
            continue
        finished = crashes == before
    assert crashes > 2
    assert outcome(settings) == undisturbed


def test_a_bug_stops_the_engine_and_is_told(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    append(settings, [*random_lines(1, 20), b"{}"])

    def bug(step: str) -> None:
        raise ZeroDivisionError(step)

    with pytest.raises(ZeroDivisionError):
        run(settings, bug)
