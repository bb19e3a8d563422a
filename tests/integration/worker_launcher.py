"""Run a worker with the counting processor, as tests ask by an environment variable.

``TEST_WORKER`` holds JSON: the brokers, the store's URL, topics, options of the worker, and
where in the order of commit to die: ``crash`` = [step, how many times to pass it before].
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from faust.types import TP

from stream.distributed.clients import KafkaConnection
from stream.distributed.consumer import CheckpointedConsumer, CheckpointedTransport
from stream.distributed.options import WorkerOptions
from stream.distributed.process import serve
from stream.distributed.publishing import KafkaPublisher
from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint, Epoch
from stream.stores.redis import RedisStore
from tests.integration.counting_processor import CountingProcessor

STEPS = ("processed", "published", "acknowledged", "saved", "bug")


class Crash:
    """Kill this very process when a step has been passed often enough."""

    def __init__(self, step: str | None, passes: int) -> None:
        self._step = step
        self._left = passes

    def at(self, step: str) -> None:
        """Pass a step."""
        if step == self._step:
            self._left -= 1
            if self._left < 0:
                if step == "bug":
                    raise ZeroDivisionError("a planted bug")
                os.kill(os.getpid(), signal.SIGKILL)


class CrashingStore(RedisStore):
    """The Redis store, with a crash before or after a checkpoint is written."""

    crash: Crash

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        self.crash.at("acknowledged")
        super().save(checkpoint, epoch)
        self.crash.at("saved")


class SilentConsumer(CheckpointedConsumer):
    """A consumer that fetches, and delivers nothing."""

    def batches(
        self, records: Mapping[TP, Sequence[Any]], active: set[TP] | None
    ) -> list[RecordBatch]:
        super().batches(records, active)
        return []


class CrashingPublisher(KafkaPublisher):
    """The Kafka publisher, with a crash after effects were handed over."""

    crash: Crash

    async def send(self, records: Sequence[Outgoing]) -> list[asyncio.Future[Any]]:
        self.crash.at("processed")
        acks = await super().send(records)
        self.crash.at("published")
        return acks


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    spec = json.loads(os.environ["TEST_WORKER"])
    options = WorkerOptions(
        kafka=KafkaConnection(tuple(spec["bootstrap"].split(","))),
        partitioned_topics=tuple(spec["partitioned_topics"]),
        broadcast_topics=tuple(spec["broadcast_topics"]),
        **spec["options"],
    )
    crash = Crash(*spec.get("crash", (None, 0)))
    store = CrashingStore(spec["redis"], instance=spec["instance"])
    store.crash = crash
    publisher = CrashingPublisher(options.kafka)
    publisher.crash = crash

    def before_process(batch: RecordBatch) -> None:
        crash.at("bug")

    hook: Callable[[RecordBatch], None] | None = before_process if "crash" in spec else None
    if spec.get("hang"):
        # A consumer that stops delivering without an error, as Faust's sometimes does.
        CheckpointedTransport.Consumer = SilentConsumer

    def make(partition: int) -> CountingProcessor:
        return CountingProcessor(
            partition,
            events=spec["partitioned_topics"][0],
            labels=spec.get("labels"),
            before_process=hook,
            busy_s=spec.get("busy_s", 0.0),
        )

    return serve(options, store, make, publisher=publisher)


if __name__ == "__main__":
    sys.exit(main())
