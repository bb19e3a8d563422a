"""`headrace up`: the embedded service, always on."""

from __future__ import annotations

from importlib import import_module

from stream.commands.console import ConfigOption, log_to_stderr
from stream.config import load_settings
from stream.supervision import supervised

__all__ = ["up"]


def up(config: ConfigOption = None) -> None:
    """Run the whole service, always on: HTTP, log, learning, metrics.

    Log and state are one SQLite file; nothing else is needed. One process answers and another one
    learns, unless api.own_process is false. SIGTERM and Ctrl-C finish the requests that have
    begun, save, and end.
    """
    log_to_stderr()
    settings = load_settings(config)
    # Who answers only has no need of what learns, which is as much again in memory.
    way = "apart" if settings.api.own_process else "running"
    with supervised() as threads:
        import_module(f"stream.commands.{way}").run(settings, threads)
