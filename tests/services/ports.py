"""Ports that two test runs on one machine never both take."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO, Self

# Below the range from which systems hand out ephemeral ports, so that no outgoing connection
# takes the port of a service that is down between a kill and its restart.
FIRST_PORT = 20_000
LAST_PORT = 32_000


class PortLease:
    """Hold a free port of the loopback interface until released.

    The lease is a lock on a file named after the port: it ends with the process at the
    latest, and other test runs pass over it while the service is down.
    """

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / f"headrace-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        # Where to begin looking must differ between runs, pytest-randomly seeds `random`.
        chooser = random.SystemRandom()
        for _ in range(1_000):
            port = chooser.randrange(FIRST_PORT, LAST_PORT)
            lock = (folder / str(port)).open("w", encoding="ascii")
            if _locked(lock) and _bindable(port):
                self.port = port
                self._lock = lock
                return
            lock.close()
        raise RuntimeError(f"no free port between {FIRST_PORT} and {LAST_PORT}")

    def release(self) -> None:
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
