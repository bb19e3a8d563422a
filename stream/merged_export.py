"""Keep the gauges of the whole deployment fresh, in a thread of the API's process."""

from __future__ import annotations

import logging
import threading
from typing import Final

from monitoring.drift_feed import DriftFeed
from monitoring.metrics import Metrics
from stream.merged_view import MergedView
from stream.state import StoreError

__all__ = ["MergedExport"]

_log = logging.getLogger(__name__)

_EVERY_S: Final = 2.0
_JOIN_S: Final = 10.0


class MergedExport:
    """Reads the merged view every few seconds into a process's metrics.

    Parameters
    ----------
    whole
        Whether gauges of drift, segments and functions are exported too: where no pipeline runs
        in this process.
    """

    def __init__(
        self, view: MergedView, metrics: Metrics, *, whole: bool, every_s: float = _EVERY_S
    ) -> None:
        self._view = view
        self._metrics = metrics
        self._feed = DriftFeed(metrics, counted=False) if whole else None
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="merged view", daemon=True)

    def start(self) -> None:
        """Begin to export."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was exported stays."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        silent = False
        while not self._stopping.is_set():
            try:
                self._view.export(self._metrics, self._feed)
                silent = False
            except (StoreError, ValueError) as error:
                # Readiness tells it, too; or a newer program wrote what is to be read, as while
                # workers are replaced before the servers. The gauges stay as they were.
                if not silent:
                    _log.warning("the merged view cannot be read: %s", error)
                silent = True
            self._stopping.wait(self._every_s)
