"""How often partitions ask what others have learned, and what they are given of it."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

import pytest

from monitoring.metrics import Metrics
from stream.distributed.exchange import Exchange, Pace
from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.store_calls import StoreCalls
from stream.distributed.turns import Turn
from stream.processor import Processor
from stream.state import PEER_PREFIX, SHARED_PREFIX, Checkpoint, Epoch, SharedChunk
from stream.stores.memory import MemoryStore

EPOCH = Epoch(1, "a")
TOLD = f"{PEER_PREFIX}told"
SHARED = f"{SHARED_PREFIX}total"
OWN = "own/whole/"


class Listener:
    """Notes what it is given; asks once for everything under ``wants``."""

    def __init__(self, wants: str | None = None) -> None:
        self.given: list[tuple[list[tuple[int, str, bytes]], bool]] = []
        self._wants = wants

    def take_in(self, chunks: Sequence[SharedChunk], *, whole: bool = False) -> str | None:
        self.given.append(([(one.partition, one.name, one.data) for one in chunks], whole))
        wants, self._wants = self._wants, None
        return wants


class ReadStore(MemoryStore):
    """Notes which partitions were left out of each reading."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[tuple[str, list[int]]] = []

    def shared(
        self,
        prefix: str,
        known: Mapping[tuple[int, str], int],
        *,
        besides: Container[int] = (),
    ) -> list[SharedChunk]:
        self.read.append((prefix, [number for number in range(3) if number in besides]))
        return super().shared(prefix, known, besides=besides)


def save(store: MemoryStore, partition: int, offset: int, data: bytes) -> None:
    before = {"events": offset - 1} if offset > 1 else {}
    chunks = {TOLD: data, SHARED: data, OWN + "x": data}
    store.save(Checkpoint(partition, before, {"events": offset}, {}, chunks), EPOCH)


def owned(partition: int, listener: Listener) -> OwnedPartition:
    return OwnedPartition(partition, EPOCH, cast(Processor[Any], listener), {}, {}, {})


def exchange(store: MemoryStore, here: Sequence[OwnedPartition]) -> Exchange:
    return Exchange(StoreCalls(store), Metrics(), Turn(), lambda: here, interval_s=0.25)


@pytest.fixture
def store() -> ReadStore:
    store = ReadStore()
    for partition in range(3):
        store.claim(partition, EPOCH)
        save(store, partition, 1, b"%d" % partition)
    return store


def test_only_what_is_new_of_other_processes_is_followed(store: ReadStore) -> None:
    listeners = [Listener(), Listener()]
    here = [owned(number, listener) for number, listener in enumerate(listeners)]

    async def run() -> None:
        one = exchange(store, here)
        await one.follow()
        await one.follow()
        save(store, 0, 2, b"mine")
        save(store, 2, 2, b"theirs")
        await one.follow()

    asyncio.run(run())
    for listener in listeners:
        assert listener.given == [([(2, TOLD, b"2")], False), ([(2, TOLD, b"theirs")], False)]
    assert store.read == [(PEER_PREFIX, [0, 1])] * 3


def test_contributions_of_partitions_here_are_taken_in_by_their_neighbours(
    store: ReadStore,
) -> None:
    listeners = [Listener(), Listener()]
    here = [owned(number, listener) for number, listener in enumerate(listeners)]

    async def run() -> None:
        one = exchange(store, here)
        await one.refresh()
        save(store, 1, 2, b"new")
        await one.refresh()

    asyncio.run(run())
    assert listeners[0].given == [
        ([(1, SHARED, b"1"), (2, SHARED, b"2")], False),
        ([(1, SHARED, b"new")], False),
    ]
    # Its own news are none to it.
    assert listeners[1].given == [([(0, SHARED, b"0"), (2, SHARED, b"2")], False)]


def test_who_missed_something_is_given_all_of_it_once(store: ReadStore) -> None:
    first, second = Listener(wants=OWN), Listener()
    here = [owned(0, first), owned(1, second)]
    asyncio.run(exchange(store, here).follow())
    assert first.given == [
        ([(2, TOLD, b"2")], False),
        ([(1, OWN + "x", b"1"), (2, OWN + "x", b"2")], True),
    ]
    assert second.given == [([(2, TOLD, b"2")], False)]


def test_a_newcomer_is_told_even_if_there_is_nothing() -> None:
    listener = Listener()
    asyncio.run(exchange(MemoryStore(), []).greet([owned(0, listener)]))
    assert listener.given == [([], False)]


def test_rounds_follow_each_other_closely_while_they_bring_something() -> None:
    pace = Pace()
    pace.took(0.0005, 0.002, brought=True)
    assert pace.pause_s == Pace.SHORTEST_S
    for _ in range(10):
        pace.took(0.0, 0.002, brought=False)
    assert pace.pause_s == Pace.LONGEST_S
    pace.took(0.0005, 0.002, brought=True)
    assert pace.pause_s == Pace.SHORTEST_S


def test_dear_rounds_are_rare() -> None:
    pace = Pace()
    pace.took(0.01, 0.001, brought=True)
    assert pace.pause_s == pytest.approx(0.01 / Pace.COMPUTING)
    pace.took(0.0001, 0.03, brought=True)
    assert pace.pause_s == pytest.approx(0.03 / Pace.READING)
    pace.took(0.0001, 60.0, brought=True)
    assert pace.pause_s == Pace.LONGEST_S
