"""Tell whoever waits for kernels to be compiled what is waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["SAY_AFTER_S", "said_if_long"]

log = logging.getLogger(__name__)

SAY_AFTER_S: Final = 5.0
"""Whoever waits longer is told why; where everything was compiled before, nobody does."""


@contextmanager
def said_if_long() -> Iterator[None]:
    """Log, once, that kernels are being compiled, if what is done meanwhile takes long."""
    saying = threading.Timer(
        SAY_AFTER_S,
        log.warning,
        ["compiling the numeric kernels: minutes at first, later runs find them on disk"],
    )
    saying.daemon = True
    saying.start()
    try:
        yield
    finally:
        saying.cancel()
