"""One process at a time learns from an embedded log: it holds a lock beside the log's file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream.embedded_log import LogError

if sys.platform != "win32":
    import fcntl

__all__ = ["sole_learner"]

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 10.0
_LOOK_S: Final = 0.05


@contextmanager
def sole_learner(
    log: Path, patience_s: float = _PATIENCE_S, service: int | None = None
) -> Iterator[None]:
    """Keep others from learning from a log for as long as this lasts.

    Whoever came second would take the partitions, and who learns would end at its next save: a
    service that is started twice by mistake, whose port is taken, would have ended the first one.
    The lock is the system's, and goes with its process. Windows has none: there, a save is refused.

    Parameters
    ----------
    log
        The log's file. The lock is a file beside it, ``.lock`` behind the name, and stays there.
    patience_s
        For how long a process that is ending may still hold it, in seconds.
    service
        Number of the process that others are told to end; this one's if None.

    Raises
    ------
    LogError
        Another process learns from it.
    """
    if sys.platform == "win32":
        yield
        return
    path = log.with_name(log.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.geteuid() == 0 and log.exists():
            # Whom the log belongs to must be able to open it, as SQLite sees to for its own files.
            owner = log.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except OSError as failure:
        raise LogError(f"{path}: cannot be opened ({failure})") from failure
    try:
        _take(descriptor, log, patience_s)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(service or os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, log: Path, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace") or "?"
            if time.monotonic() >= until:
                raise LogError(
                    f"{log}: the service of process {holder} learns from it already; stop that "
                    "one, or set log.url and store.url to other files"
                ) from None
        else:
            return
        if not told:
            told = True
            _log.warning(
                "waiting for the service of process %s, which still learns from %s", holder, log
            )
        time.sleep(_LOOK_S)
