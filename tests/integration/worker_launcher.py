"""Run a worker with the counting processor, as tests ask by environment variables.

``TEST_WORKER`` holds JSON: the store's URL, options of the worker, topics, and where to fail.
"""

from __future__ import annotations

import json
import logging
import os
import sys

from stream.kafka_clients import KafkaConnection
from stream.stores.redis import RedisStore
from stream.worker_options import WorkerOptions
from stream.worker_process import serve
from tests.integration.counting_processor import CountingProcessor


def main() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    spec = json.loads(os.environ["TEST_WORKER"])
    options = WorkerOptions(
        kafka=KafkaConnection(tuple(spec["bootstrap"].split(","))),
        partitioned_topics=tuple(spec["partitioned_topics"]),
        broadcast_topics=tuple(spec.get("broadcast_topics", ())),
        **spec["options"],
    )
    store = RedisStore(spec["redis"], instance=spec["instance"])

    def make(partition: int) -> CountingProcessor:
        return CountingProcessor(
            partition, events=spec["partitioned_topics"][0], labels=spec.get("labels")
        )

    return serve(options, store, make)


if __name__ == "__main__":
    sys.exit(main())
