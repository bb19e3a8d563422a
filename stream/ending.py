"""How a service that runs in an event loop is told to end."""

from __future__ import annotations

import asyncio
import signal

__all__ = ["told_to_end"]


def told_to_end() -> asyncio.Event:
    """Return what SIGTERM and Ctrl-C set from now on; the running loop takes both over."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told
