"""What people did reaches whoever serves before it is saved."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from stream.assembly import pipeline_spec
from stream.config import load_settings
from stream.events import EVENTS
from stream.ids import user_key
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.serving.fresh_people import FreshPeople, PeopleTeller
from stream.state import Epoch
from stream.stores.sqlite import SqliteStore

WITHIN_S = 120.0
T0 = 1_700_000_000.0


class Shop:
    """A partition whose people are told of; `step` applies clicks."""

    def __init__(self, folder: Path, connection: Connection) -> None:
        self.store = SqliteStore(folder / "state.db")
        pipeline = PartitionPipeline(pipeline_spec(load_settings(env={})), 0)
        self.runner = PartitionRunner(pipeline, self.store, 0, Epoch(0, "test"))
        self.now = 0.0
        self.teller = PeopleTeller({0: pipeline}, connection, lambda: self.now)
        self._offset = 0

    def step(self, *clicks: tuple[str, str]) -> None:
        lines: list[bytes] = []
        for user, item in clicks:
            number = self._offset + len(lines)
            lines.append(
                b'{"event_id":"e%d","type":"click","ts":%f,"user_id":"%s","item_id":"%s"}'
                % (number, T0 + number, user.encode(), item.encode())
            )
        offsets = range(self._offset, self._offset + len(lines))
        self._offset += len(lines)
        self.runner.run(RecordBatch(EVENTS, 0, offsets, lines, [T0 + 1e6] * len(lines)))
        self.now += 1.0
        self.teller.stepped(True)


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    yield ours, theirs
    ours.close()
    theirs.close()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def length(fresh: FreshPeople, user: str) -> int:
    person = fresh.find(user_key(user, b""))
    return -1 if person is None else person.length


def test_changes_are_told_until_they_are_saved(
    tmp_path: Path, ends: tuple[Connection, Connection]
) -> None:
    shop, fresh = Shop(tmp_path, ends[1]), FreshPeople(ends[0])
    shop.teller.start()
    fresh.start()
    shop.step(("ann", "tea"), ("ben", "pot"))
    until(lambda: length(fresh, "ann") == 1)
    assert length(fresh, "nobody") == -1
    shop.step(("ann", "pot"))
    until(lambda: length(fresh, "ann") == 2)
    assert length(fresh, "ben") == 1
    shop.runner.checkpoint()
    shop.step(("cleo", "tea"))
    # The store has the others now.
    until(lambda: length(fresh, "cleo") == 1)
    assert (length(fresh, "ann"), length(fresh, "ben")) == (-1, -1)
    shop.step(("ann", "cup"))
    until(lambda: length(fresh, "ann") == 3)
    shop.teller.stop()
    ends[1].close()
    # Nobody would say that it is out of date.
    until(lambda: length(fresh, "ann") == -1)
    fresh.stop()
    shop.store.close()


def test_who_learns_does_not_wait_for_who_listens(
    tmp_path: Path, ends: tuple[Connection, Connection]
) -> None:
    shop = Shop(tmp_path, ends[1])
    shop.teller.start()
    # Far more than a pipe holds.
    names = [f"person-{n}-{'x' * 100}" for n in range(2_000)]
    for round_ in range(5):
        shop.step(*((name, f"item{round_}") for name in names))
    assert any(thread.name == "people" for thread in threading.enumerate())
    fresh = FreshPeople(ends[0])
    fresh.start()
    until(lambda: all(length(fresh, name) == 5 for name in names))
    shop.teller.stop()
    ends[1].close()
    fresh.stop()
    shop.store.close()


def test_of_very_many_none_is_told(
    tmp_path: Path, ends: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.serving.fresh_people._MOST", 3)
    shop, fresh = Shop(tmp_path, ends[1]), FreshPeople(ends[0])
    shop.teller.start()
    fresh.start()
    shop.step(*((f"p{n}", "tea") for n in range(10)))
    shop.runner.checkpoint()
    shop.step(("ann", "tea"))
    until(lambda: length(fresh, "ann") == 1)
    assert length(fresh, "p1") == -1
    shop.teller.stop()
    ends[1].close()
    fresh.stop()
    shop.store.close()
