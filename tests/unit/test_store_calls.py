"""Calls of the state store from the event loop: loads of several partitions go together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

from stream.distributed.store_calls import StoreCalls
from stream.state import Checkpoint, Epoch, NewerSchema, UserWrite
from stream.stores.memory import MemoryStore

EPOCH = Epoch(1, "a")


class SlowStore(MemoryStore):
    """A store whose first load waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.may_go_on = threading.Event(), threading.Event()
        self.asked: list[list[int]] = []

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        self.asked.append(sorted(wanted))
        self.began.set()
        self.may_go_on.wait(60)
        return super().load_users_of(wanted)


class NewerStore(MemoryStore):
    """A store that a newer program wrote."""

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        raise NewerSchema("run the newer version")


def filled(store: MemoryStore) -> StoreCalls:
    for partition in range(4):
        store.claim(partition, EPOCH)
        users = {b"%d" % n: UserWrite(b"%d of %d" % (n, partition), None) for n in range(3)}
        store.save(Checkpoint(partition, {}, {"events": 1}, users), EPOCH)
    return StoreCalls(store)


def test_what_is_asked_for_during_a_load_is_one_more_load() -> None:
    store = SlowStore()

    async def run() -> None:
        calls = filled(store)
        first = asyncio.create_task(calls.load_users(0, [b"1", b"7"]))
        await asyncio.to_thread(store.began.wait, 60)
        others = [asyncio.create_task(calls.load_users(n, [b"%d" % (n - 1)])) for n in (1, 2, 3)]
        # Of a partition that was given up and taken again, both owners ask.
        others.append(asyncio.create_task(calls.load_users(1, [b"2", b"7"])))
        await asyncio.sleep(0)
        others[1].cancel()
        store.may_go_on.set()
        assert await first == {b"1": b"1 of 0"}
        assert await others[0] == {b"0": b"0 of 1"}
        assert await others[2] == {b"2": b"2 of 3"}
        assert await others[3] == {b"2": b"2 of 1"}
        calls.close()

    asyncio.run(run())
    assert store.asked == [[0], [1, 2, 3]]


def test_a_load_that_cannot_be_is_told_to_everybody_who_waits() -> None:
    async def run() -> list[object]:
        calls = filled(NewerStore())
        waiting = [calls.load_users(n, [b"1"]) for n in range(3)]
        found: list[object] = list(await asyncio.gather(*waiting, return_exceptions=True))
        calls.close()
        return found

    found = asyncio.run(run())
    assert [str(error) for error in found] == ["run the newer version"] * 3
