"""The distributed deployment: a worker process put together from the settings.

The embedded counterpart is `stream.embedded`; both run the same pipeline.
"""

from __future__ import annotations

import logging
import sys
import time

from monitoring.metrics import Metrics
from stream.assembly import open_state, pipeline_spec
from stream.catalogue import Catalogue, CatalogueReading
from stream.config import Settings, SettingsError, load_settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.options import worker_options, worker_topics
from stream.distributed.process import REFUSED, serve
from stream.distributed.topics import BrokerUnreachable, TopicsUnfit, require_topics
from stream.events import ITEMS
from stream.metering import MeteredPipeline, ProcessMeters
from stream.peers import Peers
from stream.pipeline import PartitionPipeline
from stream.readiness import get_ready
from stream.state import StoreError

__all__ = ["run_worker"]

log = logging.getLogger(__name__)


def run_worker(settings: Settings) -> int:
    """Run the worker that the settings describe, and return the process's exit code.

    Every refusal is logged with its remedy: topics that are missing or differ, a broker or a
    store that does not answer.
    """
    connection = KafkaConnection.from_settings(settings)
    metrics = Metrics()
    try:
        require_topics(connection, worker_topics(settings))
        store = open_state(settings)
        store.ping()
        spec = pipeline_spec(
            settings,
            timer=time.perf_counter,
            on_reload=lambda result: metrics.add("config_reloads_total", (result,)),
        )
        get_ready(spec)
    except (BrokerUnreachable, TopicsUnfit, StoreError, SettingsError) as error:
        log.critical("the worker does not start: %s", error)
        return REFUSED
    meters = ProcessMeters(metrics)
    peers = Peers(spec.recommender.config, awaits=True)
    catalogue = Catalogue(max_line_bytes=settings.events.max_line_bytes)

    def make_processor(partition: int) -> MeteredPipeline:
        pipeline = PartitionPipeline(
            spec,
            partition,
            items=catalogue,
            peers=peers,
            content=catalogue.content,
            # One partition tells what all workers read.
            reading=CatalogueReading(catalogue, tells=partition == 0),
        )
        return MeteredPipeline(pipeline, metrics, meters, tell_at_cut=False)

    try:
        return serve(
            worker_options(settings, connection),
            store,
            make_processor,
            whole={ITEMS: catalogue.take_in},
            metrics=metrics,
        )
    finally:
        store.close()


def main() -> int:
    """Run a worker from `headrace.toml` and the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("aiokafka", "faust", "kafka", "mode"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = load_settings()
    except SettingsError as error:
        log.critical("%s", error)
        return REFUSED
    return run_worker(settings)


if __name__ == "__main__":
    sys.exit(main())
