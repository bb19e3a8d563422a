"""The distributed worker: a Faust app that runs the pipeline on the partitions of a Kafka group.

What survives a crash is decided in one place, `stream.distributed.commit_order.Checkpointer.save`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from faust.types import TP, StreamT
from mode.supervisors import CrashingSupervisor

from monitoring.metrics import Metrics
from stream.batching import Linger
from stream.distributed.applying import Applier
from stream.distributed.broadcast import BroadcastReader
from stream.distributed.commit_order import Checkpointer
from stream.distributed.consumer import CheckpointedConsumer, CheckpointedTransport
from stream.distributed.exchange import Exchange
from stream.distributed.options import WorkerOptions
from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.ownership import Ownership
from stream.distributed.publishing import KafkaPublisher, Publisher
from stream.distributed.save_schedule import SaveSchedule
from stream.distributed.store_calls import StoreCalls
from stream.distributed.turns import Turn
from stream.processor import ProcessorFactory
from stream.records import RecordBatch
from stream.state import StateStore

__all__ = ["Worker"]

# Faust resumes the flow without seeking if a seek takes longer than this; claims end well before.
SEEK_TIMEOUT_S = 600.0
COMMIT_S = 2.0


class _Boot(BootStrategy):
    """Neither Faust's web server nor its producer: nothing here uses them."""

    enable_web = False
    enable_kafka_producer = False


class _App(faust.App):
    BootStrategy = _Boot

    def _create_directories(self) -> None:
        """Leave no folder behind: there are no tables."""


class Worker:
    """One process of the group.

    Parameters
    ----------
    options
        Settings.
    store
        State store; closed by the caller.
    make_processor
        Makes the processor of a partition.
    whole
        Topics that every process reads from their beginning, and what takes their batches.
    publisher
        Where effects go; Kafka if absent.
    metrics
        Where lag, checkpoints and rebalances are told.

    Guarantees: see `Checkpointer.save` (order of a checkpoint), `Ownership` (who may write).
    """

    def __init__(
        self,
        options: WorkerOptions,
        store: StateStore,
        make_processor: ProcessorFactory,
        *,
        whole: Mapping[str, Callable[[RecordBatch], None]] | None = None,
        publisher: Publisher | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.options = options
        self.metrics = metrics or Metrics(process=False)
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.store = StoreCalls(store, options.store_patience_s)
        self.publisher = publisher or KafkaPublisher(
            options.kafka, compression=options.compression, timeout_s=options.publish_timeout_s
        )
        turn = Turn()
        self.checkpointer = Checkpointer(
            self.store, self.publisher, self._commit, self.metrics, turn
        )
        self._wake = asyncio.Event()
        self.applier = Applier(
            self.checkpointer,
            turn,
            slice_s=options.slice_s,
            checkpoint_records=options.checkpoint_records,
            wake_checkpoint=self._save_soon,
            run=self._run,
        )
        self.broadcast = BroadcastReader(options, whole or {}, self.applier.apply)
        self.ownership = Ownership(
            self.store,
            make_processor,
            options.partitioned_topics,
            patience_s=options.session_timeout_s,
            on_claimed=self._on_claimed,
        )
        self.exchange = Exchange(
            self.store,
            self.metrics,
            turn,
            self.ownership.live,
            interval_s=options.checkpoint_interval_s,
        )
        self._schedule = SaveSchedule(options.checkpoint_interval_s)
        self._committing = asyncio.Lock()
        self._leaving = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = self._make_app()

    @property
    def consumer(self) -> CheckpointedConsumer:
        """Faust's consumer, which is ours."""
        return cast(CheckpointedConsumer, self.app.consumer)

    async def start(self) -> None:
        """Join the group; returns when the first assignment is being processed."""
        await self.publisher.start()
        await self.broadcast.start()
        self._run(self._save_regularly())
        self._run(self.exchange.run())
        self._run(self._commit_regularly())
        await self.app.start()
        self._run(self.broadcast.follow(self.ownership.live))

    async def stop(self) -> None:
        """Save, commit, release, and leave the group."""
        self.consumer.stop_flow()
        if not self.failure.done():
            await self._leave(self.ownership.close())
        await self.abandon()

    async def abandon(self) -> None:
        """Leave the group with nothing saved: the way out after a failure."""
        self.ownership.close()
        # A commit that is cut off in Faust's thread would count as a crash of it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMIT_S), self._committing:
                pass
        for task in tuple(self._tasks):
            task.cancel()
        await self.app.stop()
        await self.broadcast.stop()
        await self.publisher.stop()
        self.store.close()

    def fail(self, error: BaseException) -> None:
        """Stop the process: nothing is saved from here on."""
        self.ownership.close()
        if not self.failure.done():
            self.failure.set_exception(error)

    def _make_app(self) -> faust.App:
        options = self.options
        app = _App(
            options.group,
            **options.kafka.for_faust(),
            stream_wait_empty=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            store="memory://",
            # Ours are committed after a checkpoint; Faust has nothing to commit.
            broker_commit_interval=3600.0,
            broker_commit_livelock_soft_timeout=86400.0,
            stream_processing_timeout=86400.0,
            broker_session_timeout=options.session_timeout_s,
            broker_heartbeat_interval=options.heartbeat_s,
            broker_rebalance_timeout=max(60.0, options.session_timeout_s),
            broker_request_timeout=SEEK_TIMEOUT_S,
            broker_max_poll_interval=SEEK_TIMEOUT_S,
            consumer_max_fetch_size=1 << 20,
            consumer_group_instance_id=options.instance_id,
        )
        app.transport = CheckpointedTransport(app.conf.broker_consumer, app)
        consumer = cast(CheckpointedConsumer, app.consumer)
        consumer.ownership = self.ownership
        consumer.connection = options.kafka
        consumer.fetch_wait_s = options.fetch_wait_s
        consumer.linger = Linger(options.linger_s)
        consumer.spent_s = lambda: self.applier.spent_s
        app.on_partitions_revoked.connect(self._on_revoked)
        consumer.deliver = self._deliver
        consumer.room = self._room
        # acks=False: Faust acknowledges nothing; it would acknowledge an event that killed it.
        topic = app.topic(*options.partitioned_topics, acks=False)
        app.agent(topic, supervisor_strategy=CrashingSupervisor)(self.subscribe)
        return app

    async def subscribe(self, events: StreamT[bytes]) -> None:
        """Be the agent for which Faust reads the topics; our consumer delivers to `_deliver`."""
        async for _ in events:
            raise RuntimeError("a record was delivered beside its batch")

    async def _room(self, partition: int) -> None:
        owned = self.ownership.owned.get(partition)
        if owned is not None:
            await owned.inbox.room()

    def _deliver(self, batch: RecordBatch) -> None:
        """Hand what was fetched to its partition."""
        owned = self.ownership.owned.get(batch.partition)
        # What was fetched before a rebalance may arrive after it, for a partition that has moved.
        if owned is not None and owned.live:
            if not owned.working:
                owned.working = True
                self._run(self._work(owned))
            owned.inbox.put(batch)

    async def _work(self, owned: OwnedPartition) -> None:
        """Apply a partition's batches; while one waits for the store, another computes."""
        while owned.live:
            batch = await owned.inbox.take()
            if batch is not None and await self.ownership.continues(
                self.consumer, owned, batch.topic, batch.offsets[0]
            ):
                await self.applier.apply(owned, batch)

    async def _on_claimed(self, claimed: Sequence[OwnedPartition]) -> None:
        self.metrics.add("rebalances_total")
        await self.exchange.greet(claimed)
        await self.broadcast.catch_up(claimed, self.ownership.live())

    async def _on_revoked(self, *args: Any, **kwargs: Any) -> None:
        # Faust sets the next generation when it assigns, after this.
        await self._leave(self.ownership.revoke(int(self.app.consumer_generation_id)))

    async def _leave(self, partitions: Sequence[OwnedPartition]) -> None:
        # One after another: a rebalance that begins while we stop must wait until all is saved.
        async with self._leaving:
            await self.checkpointer.leave(partitions)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        async with self._committing:
            return await self.consumer.commit_offsets(offsets)

    async def _save_regularly(self) -> None:
        interval_s, schedule = self.options.checkpoint_interval_s, self._schedule
        clock = asyncio.get_running_loop().time
        while True:
            now, live = clock(), self.ownership.live()
            due = now + interval_s
            for place, owned in enumerate(live):
                if owned.save_at is None:
                    # A takeover is over once a checkpoint moves on: the first one is written as
                    # soon as there is something to save, the next in its turn.
                    if not owned.unsaved_records:
                        continue
                    owned.save_at = schedule.second(now, place, len(live))
                    self._run(self._save(owned))
                elif owned.save_at <= now and not owned.saving:
                    owned.save_at = schedule.after(owned.save_at, now)
                    self._run(self._save(owned))
                elif owned.save_at <= now:
                    owned.save_at = schedule.postponed(now, len(live))
                due = min(due, owned.save_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            self._wake.clear()

    def _save_soon(self, owned: OwnedPartition) -> None:
        if owned.save_at is not None:
            owned.save_at = 0.0
        self._wake.set()

    async def _save(self, owned: OwnedPartition) -> None:
        idle, began = not owned.unsaved_records, time.monotonic()
        all_refused = await self.checkpointer.save([owned])
        if not idle:
            self._schedule.took(time.monotonic() - began)
        for refused in all_refused:
            if refused.live:
                await self.ownership.reclaim(self.consumer, refused)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.options.commit_interval_s)
            # False while the group rebalances: the next round tries again.
            await self.checkpointer.commit_saved(self.ownership.live())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
