"""Watch a worker from outside its data path: stalls, idle partitions, and what `/healthz` says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Set
from typing import TYPE_CHECKING, Any

from faust.types import TP

from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.store_calls import WorkerStop

if TYPE_CHECKING:
    from stream.worker import Worker

__all__ = ["WORKER_STATES", "Health"]

log = logging.getLogger(__name__)

LOOK_S = 0.25
LATE_S = 5.0
REST_S = 1.0
WORKER_STATES = ("starting", "running", "rebalancing", "stopping", "crashed")
_STATE_SERIES = tuple((name,) for name in WORKER_STATES)


class Health:
    """Tick idle partitions, and end a process that has stalled.

    Faust's consumers can stop delivering without an error; only a look at lag and at the age of
    the last applied record finds that out.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._options = worker.options
        self._unclaimed_since: float | None = None

    async def watch(self) -> None:
        """Look regularly, until something is wrong.

        Raises
        ------
        WorkerStop
            Records wait and nothing is applied, or a partition was taken from us without the
            group telling so.
        """
        looked_at = awake_since = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if now - looked_at > LATE_S:
                # The process itself stood still (suspended, starved, compiling): nothing can be
                # said about the consumer before it had its time again.
                log.warning("the process stood still for %.1f s", now - looked_at)
                awake_since = now
            looked_at = now
            self._tell_state()
            self._tell_lag()
            assigned = self._assigned()
            heard_s = self._options.session_timeout_s + self._options.heartbeat_s
            for partition, since in self._worker.ownership.forfeited.items():
                if partition in assigned and now - since > heard_s:
                    raise WorkerStop(
                        f"partition {partition} is assigned to this worker, but another process "
                        "owns its state: two deployments share a store and instance name. Stop "
                        "one, or give it another store.instance"
                    )
            self._check_claims(now, assigned)
            for owned in self._worker.ownership.live():
                idle_s = now - owned.moved_at
                # Of many that are behind, each waits for its turn for longer than `LOOK_S`.
                still_s = LOOK_S if owned.inbox.at_rest else REST_S
                rests = owned.fed_at < owned.moved_at < now - still_s
                if rests and owned.processor.tell():
                    owned.fed_at = now
                lags = self.lags(owned)
                if lags is None:
                    continue
                lag = sum(lags.values())
                if lag > 0 and idle_s > REST_S and await self._only_gaps_left(owned):
                    lag = 0
                if lag > 0 and min(idle_s, now - awake_since) > self._options.stall_s:
                    raise WorkerStop(
                        f"partition {owned.partition} has {lag} records to read and none was "
                        f"applied for {idle_s:.0f} s: the consumer has stalled. Starting the "
                        "worker again resumes from the checkpoint"
                    )
                if lag == 0:
                    await self._tick(owned, idle_s)

    def _assigned(self) -> set[int]:
        return {
            tp.partition
            for tp in self._worker.consumer.assignment()
            if tp.topic in self._options.partitioned_topics
        }

    def _check_claims(self, now: float, assigned: Set[int]) -> None:
        """Stop if a partition is assigned and nobody here has claimed it: it would never move."""
        ownership = self._worker.ownership
        claimed = ownership.owned.keys() | ownership.forfeited.keys()
        if assigned <= claimed:
            self._unclaimed_since = None
        elif self._unclaimed_since is None:
            self._unclaimed_since = now
        elif now - self._unclaimed_since > self._options.stall_s:
            raise WorkerStop(
                f"partitions {sorted(assigned - claimed)} are assigned to this worker and were not "
                f"claimed for {self._options.stall_s:g} s. Starting the worker again resumes from "
                "the checkpoint"
            )

    async def _only_gaps_left(self, owned: OwnedPartition) -> bool:
        """Tell whether all that is left are offsets without records, as transactions leave."""
        consumer = self._worker.consumer
        for topic, position in owned.positions.items():
            tp = TP(topic, owned.partition)
            if consumer.fetched.get(tp, position) > position:
                return False
            reading_at, end = await consumer.position(tp), consumer.end(tp)
            if reading_at is None or end is None or reading_at < end:
                return False
        return True

    def lags(self, owned: OwnedPartition) -> dict[str, int] | None:
        """Return how many records wait, by topic; None while no broker tells."""
        lags = {}
        for topic, position in owned.positions.items():
            end = self._worker.consumer.end(TP(topic, owned.partition))
            if end is None:
                return None
            lags[topic] = max(0, end - position)
        return lags

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether all is well, and what `/healthz` shows."""
        worker = self._worker
        started = worker.app.started and not worker.failure.done()
        now = time.monotonic()
        partitions = {
            str(owned.partition): {
                "lag": self.lags(owned) if started else None,
                "next_offsets": owned.positions,
                "saved": owned.saved,
                "applied_age_s": round(now - owned.moved_at, 3),
            }
            for owned in worker.ownership.live()
        }
        return started, {
            "status": "ok" if started else "stopping",
            "group": self._options.group,
            "records": worker.applier.records,
            "busy_s": round(worker.applier.busy_s, 3),
            "partitions": partitions,
        }

    def _tell_state(self) -> None:
        """Say what Faust's application is doing, as the group sees it, and what it owns here."""
        app, metrics = self._worker.app, self._worker.metrics
        if app.crashed:
            state = "crashed"
        elif app.should_stop:
            state = "stopping"
        elif app.rebalancing:
            state = "rebalancing"
        else:
            state = "running" if app.started else "starting"
        metrics.set_array(
            "worker_state", _STATE_SERIES, [float(name == state) for name in WORKER_STATES]
        )
        metrics.set("worker_partitions", (), float(len(self._worker.ownership.live())))
        metrics.set("worker_generation", (), float(app.consumer_generation_id))

    def _tell_lag(self) -> None:
        metrics, now = self._worker.metrics, time.time()
        oldest = dict.fromkeys(self._options.partitioned_topics, 0.0)
        rows, values = [], []
        for owned in self._worker.ownership.live():
            for topic, lag in (self.lags(owned) or {}).items():
                rows.append((topic, str(owned.partition)))
                values.append(float(lag))
                if lag and topic in owned.reached:
                    oldest[topic] = max(oldest[topic], now - owned.reached[topic])
        metrics.replace("consumer_lag_messages", rows, values)
        for topic, age_s in oldest.items():
            metrics.set("consumer_lag_seconds", (topic,), age_s)

    async def _tick(self, owned: OwnedPartition, idle_s: float) -> None:
        due_s = self._options.tick_idle_s
        if due_s is None or idle_s < due_s:
            return
        async with owned.lock:
            tick = owned.processor.tick(idle_s)
        # The tick counts as movement even before it comes back as a record.
        owned.moved_at = time.monotonic()
        if tick is not None and owned.live:
            owned.outbox.append(tick._replace(partition=owned.partition))
            await self._worker.checkpointer.publish(owned)
