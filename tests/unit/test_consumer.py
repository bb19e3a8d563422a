"""Our extension of Faust's consumer: whole batches, delivered again when they are read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP
from mode import Service

from stream.batching import Linger
from stream.distributed.consumer import CheckpointedConsumer, CheckpointedTransport
from stream.distributed.owned_partition import Inbox
from stream.records import RecordBatch

PLACE = TP("events", 5)
OTHER = TP("events", 6)


@dataclass
class Record:
    """A record as aiokafka gives it."""

    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes = b"{}"


class Broker:
    """In the place of aiokafka's fetcher: gives these answers, and notes what they were asked with.

    Attributes
    ----------
    asked
        For each fetch, how many bytes and milliseconds the broker was to wait for at most.
    """

    def __init__(self, answers: Sequence[dict[TP, list[Record]]]) -> None:
        self._answers = list(answers)
        self._closed = False
        self._subscriptions = self
        self._fetch_min_bytes, self._fetch_max_wait_ms = 1, 50
        self.asked: list[tuple[int, int]] = []

    fetch_context = staticmethod(nullcontext)

    async def fetched_records(self, *args: Any, **kwargs: Any) -> dict[TP, list[Record]]:
        self.asked.append((self._fetch_min_bytes, self._fetch_max_wait_ms))
        return self._answers.pop(0)


@dataclass
class Client:
    """In the place of aiokafka's consumer."""

    _fetcher: Broker
    _closed: bool = False


class Fetched(CheckpointedConsumer):
    """Delivers these fetches, then ends."""

    fetches: Sequence[Mapping[TP, list[Record]]] = ()
    active: set[TP] | None = None
    #: Where Faust's own thread seeks to during the first delivery.
    seek_to: int | None = None

    async def _wait_next_records(self, timeout: float) -> Any:
        if not self.fetches:
            self._stopped.set()
            return None, None
        first, *self.fetches = self.fetches
        return first, self.active

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.delivered: list[tuple[int, list[int]]] = []
        self.inbox = Inbox(limit=3)
        self.deliver = self.note
        self.room = self.always_room

    def close_loop(self) -> None:
        cast(Any, self._thread).thread_loop.close()

    def note(self, batch: RecordBatch) -> None:
        self.delivered.append((batch.partition, list(batch.offsets)))
        self.inbox.put(batch)
        if self.seek_to is not None:
            self._read_offset[PLACE], self.seek_to = self.seek_to, None

    async def always_room(self, partition: int) -> None:
        pass

    async def room_in_the_inbox(self, partition: int) -> None:
        await self.inbox.room()

    async def ends_when_lost_and_assigned(self) -> tuple[int | None, int | None]:
        """Return what is known of the log's end before an assignment, and before any answer."""
        client = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
        vars(self._thread)["_consumer"] = client
        lost = self.end(PLACE)
        client.assign([TopicPartition(*PLACE)])
        untold = self.end(PLACE)
        await client.stop()
        return lost, untold

    async def commit_of_what_is_lost(self) -> tuple[bool, bool]:
        """Return whether a commit succeeded, and whether it crashed the thread."""
        client = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id="g")
        vars(self._thread)["_consumer"] = client
        thread = cast(Service, self._thread)
        done = await vars(type(thread))["_commit"](thread, {PLACE: 3})
        await client.stop()
        return done, thread.crashed

    async def drain(self) -> list[tuple[int, list[int]]]:
        await self._drain_messages(Service())
        return self.delivered

    async def falls_behind(self) -> tuple[int, int]:
        """Return how many fetches count as under way while its inbox is full, and after."""
        self.room = self.room_in_the_inbox
        self.under_way = 1
        self.hand_over({PLACE: [Record(1), Record(2), Record(3)]}, None)
        await asyncio.sleep(0.01)
        full = self.under_way
        await self.inbox.take()
        async with asyncio.timeout(60):
            while self.under_way:
                await asyncio.sleep(0.001)
        return full, self.under_way

    async def fetch_from(self, broker: Broker) -> tuple[int, list[tuple[int, list[int]]]]:
        """Fetch as the thread does; return how many records that brought, and what went past it."""
        self.linger = Linger(0.005)
        fetch = vars(type(self._thread))["_fetch_records"]
        brought = await fetch(self._thread, Client(broker), {PLACE}, 60.0)
        await asyncio.sleep(0)
        return sum(map(len, brought.values())), self.delivered


T = TypeVar("T")


def run_consumer(run: Callable[[Fetched], Awaitable[T]], **settings: Any) -> T:
    async def ignore(*args: Any) -> None:
        pass

    async def fail(message: object) -> None:
        raise AssertionError(f"Faust delivered {message}")

    async def in_loop() -> T:
        app = faust.App("batches", broker="kafka://127.0.0.1:1", store="memory://")
        app.transport = CheckpointedTransport(app.conf.broker_consumer, app)
        consumer = Fetched(
            app.transport,
            callback=fail,
            on_partitions_revoked=ignore,
            on_partitions_assigned=ignore,
        )
        vars(consumer).update(settings)
        try:
            return await run(consumer)
        finally:
            consumer.close_loop()

    return asyncio.run(in_loop())


def drained(**settings: Any) -> list[tuple[int, list[int]]]:
    return run_consumer(Fetched.drain, **settings)


def test_a_fetch_handed_over_is_under_way_until_there_is_room_behind_it() -> None:
    assert run_consumer(Fetched.falls_behind) == (1, 0)


def test_a_broker_gathers_thin_traffic_until_there_is_none_or_more_than_that() -> None:
    thick = [Record(offset) for offset in range(2, 400)]
    broker = Broker([{PLACE: [Record(1)]}, {}, {PLACE: thick}])

    def fetch(consumer: Fetched) -> Awaitable[tuple[int, list[tuple[int, list[int]]]]]:
        return consumer.fetch_from(broker)

    assert run_consumer(fetch) == (len(thick), [(5, [1])])
    assert broker.asked == [(1, 50), (Fetched.GATHERED_BYTES, 5), (1, 50)]


def test_a_fetch_is_delivered_as_one_batch_for_each_partition() -> None:
    fetch = {OTHER: [Record(3)], PLACE: [Record(7), Record(8)]}
    assert drained(fetches=[fetch]) == [(5, [7, 8]), (6, [3])]


def test_a_seek_back_during_a_delivery_hides_nothing_that_is_read_again() -> None:
    fetches = [{PLACE: [Record(1284)]}, {PLACE: [Record(679)]}]
    assert drained(fetches=fetches, seek_to=679) == [(5, [1284]), (5, [679])]


def test_what_was_fetched_of_a_partition_that_has_moved_is_not_delivered() -> None:
    assert drained(fetches=[{OTHER: [Record(1)], PLACE: [Record(2)]}], active={OTHER}) == [(6, [1])]


def batch(topic: str, *offsets: int) -> RecordBatch:
    return RecordBatch(topic, 5, offsets, [b""] * len(offsets), [0.0] * len(offsets))


def test_what_waits_of_one_topic_is_taken_as_one_batch_up_to_a_gap() -> None:
    async def run() -> list[tuple[str, list[int]]]:
        inbox = Inbox()
        for waiting in (
            batch("events", 1, 2),
            batch("events", 3),
            batch("gold", 4),
            batch("events", 4),
            batch("events", 6),
            batch("events", 2, 3),
        ):
            inbox.put(waiting)
        taken = []
        for _ in range(5):
            found = await inbox.take()
            assert found is not None
            taken.append((found.topic, list(found.offsets)))
        return taken

    assert asyncio.run(run()) == [
        ("events", [1, 2, 3]),
        ("gold", [4]),
        ("events", [4]),
        ("events", [6]),
        ("events", [2, 3]),
    ]


def test_a_full_inbox_has_room_again_once_something_was_taken_or_it_was_closed() -> None:
    async def run() -> tuple[bool, bool, RecordBatch | None]:
        inbox = Inbox(limit=2)
        inbox.put(batch("events", 1, 2))
        waiting = asyncio.ensure_future(inbox.room())
        await asyncio.sleep(0)
        full = not waiting.done()
        await inbox.take()
        await waiting
        inbox.put(batch("events", 3, 4))
        waiting = asyncio.ensure_future(inbox.room())
        inbox.close()
        await waiting
        inbox.put(batch("events", 5))
        return full, waiting.done(), await inbox.take()

    assert asyncio.run(run()) == (True, True, None)


def test_an_inbox_is_at_rest_once_more_is_asked_for_and_there_is_none() -> None:
    async def run() -> list[bool]:
        inbox = Inbox()
        seen = [inbox.at_rest]
        inbox.put(batch("events", 1))
        seen.append(inbox.at_rest)
        await inbox.take()
        # What was taken is being applied.
        seen.append(inbox.at_rest)
        asking = asyncio.ensure_future(inbox.take())
        await asyncio.sleep(0)
        seen.append(inbox.at_rest)
        inbox.put(batch("events", 2))
        seen.append(inbox.at_rest)
        await asking
        seen.append(inbox.at_rest)
        return seen

    assert asyncio.run(run()) == [True, False, False, True, False, False]


def test_no_end_is_known_of_a_partition_that_the_client_has_lost() -> None:
    assert run_consumer(Fetched.ends_when_lost_and_assigned) == (None, None)


def test_a_commit_of_what_the_client_has_lost_is_none_and_no_bug() -> None:
    assert run_consumer(Fetched.commit_of_what_is_lost) == (False, False)
