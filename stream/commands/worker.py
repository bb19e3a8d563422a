"""`headrace worker`: consume from Kafka and learn."""

from __future__ import annotations

import logging

import typer

from stream.commands.console import ConfigOption, Refused, log_to_stderr
from stream.config import load_settings
from stream.distributed.deployment import run_worker
from stream.distributed.store_calls import WorkerStop

__all__ = ["worker"]


def worker(config: ConfigOption = None) -> None:
    """Consume events from Kafka, learn, publish labels, checkpoint; run as many as wanted.

    Partitions are shared by all workers of a group. `/metrics` and `/healthz` answer at
    worker.metrics_port. SIGTERM saves, commits and hands the partitions over.
    """
    log_to_stderr()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_a_refusal)
    settings = load_settings(config)
    if settings.log.embedded:
        raise Refused(
            f"log.url: found {settings.log.url!r}, allowed for a worker: "
            "kafka://HOST:PORT; for SQLite run `headrace up`"
        )
    code = run_worker(settings)
    if code:
        raise typer.Exit(code)


def _not_a_refusal(record: logging.LogRecord) -> bool:
    """Leave out what others say of a refusal, with a traceback: the worker says it itself."""
    return record.exc_info is None or not isinstance(record.exc_info[1], WorkerStop)
