"""Follow the catalogue's topic in the embedded log, from its beginning."""

from __future__ import annotations

import logging
import threading
from typing import Final

from stream.catalogue import Catalogue
from stream.embedded_log import EmbeddedLog, LogError
from stream.events import ITEMS

__all__ = ["LogItemsFeed", "LogItems"]

_log = logging.getLogger(__name__)

_EVERY_S: Final = 0.2
_RECORDS: Final = 200


class LogItems:
    """Brings a catalogue up to date with the log.

    Parameters
    ----------
    log
        All of whose partitions are read.
    catalogue
        Filled by `read`.

    Attributes
    ----------
    next_offsets
        First offset not taken in yet, by partition.
    """

    def __init__(self, log: EmbeddedLog, catalogue: Catalogue) -> None:
        self._log = log
        self._catalogue = catalogue
        self.next_offsets = dict.fromkeys(range(log.partitions_of(ITEMS)), 0)

    def read(self) -> None:
        """Take in what is new."""
        for number in self.next_offsets:
            while True:
                batch = self._log.read(ITEMS, number, self.next_offsets[number], _RECORDS)
                if not len(batch):
                    break
                self._catalogue.apply(batch)
                self.next_offsets[number] = batch.offsets[-1] + 1


class LogItemsFeed:
    """Keeps a catalogue up to date, in a thread of its own.

    Parameters
    ----------
    reader
        Of this feed alone.
    """

    def __init__(self, reader: LogItems) -> None:
        self._reader = reader
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="catalogue", daemon=True)

    def start(self) -> None:
        """Begin to follow; on return, what the log holds by now is known."""
        self._reader.read()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        silent = False
        while not self._stopping.wait(_EVERY_S):
            try:
                self._reader.read()
                silent = False
            except LogError as error:
                # What is known stays; readiness tells it, too.
                if not silent:
                    _log.warning("the catalogue cannot be read: %s", error)
                silent = True
