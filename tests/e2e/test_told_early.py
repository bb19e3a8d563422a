"""SIGTERM before a service is at work ends it with 0 and a line, wherever its start has come to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WITHIN_S = 240.0
SERVICES = ("up", "worker", "serve")
TOLD = "headrace: told to end before it was at work\n"

# The import of what a service needs is interrupted, as somebody could who is quick.
IMPORTING = """
import os, signal, sys
from stream.__main__ import main

class Found:
    def find_spec(self, name, path=None, target=None):
        if name == "stream.cli":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Found())
main()
"""


@contextmanager
def started(folder: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=kept
        | {f"HEADRACE_{name}": value for name, value in settings.items()}
        | {"HEADRACE_STORE__URL": f"sqlite:///{folder / 'state.db'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("service", SERVICES)
def test_while_it_is_imported(tmp_path: Path, service: str) -> None:
    with started(tmp_path, "-c", IMPORTING, service) as process:
        _, errors = process.communicate(timeout=WITHIN_S)
        assert (process.returncode, errors) == (0, TOLD)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("service", ["worker", "serve"])
def test_while_a_broker_keeps_it_waiting(tmp_path: Path, service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(WITHIN_S)
        url = f"kafka://127.0.0.1:{silent.getsockname()[1]}"
        ports = {"API__PORT": "0", "WORKER__METRICS_PORT": "0"}
        with started(tmp_path, "-m", "stream", service, LOG__URL=url, **ports) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=WITHIN_S)
            assert process.returncode == 0, errors
            assert errors.endswith(TOLD)
            assert "Traceback" not in errors
