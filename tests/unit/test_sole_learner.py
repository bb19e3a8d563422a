"""One process at a time learns from an embedded log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from stream.embedded_log import LogError
from stream.sole_learner import sole_learner

HOLDS = """
import sys
from pathlib import Path
from stream.sole_learner import sole_learner

with sole_learner(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "headrace.db"


def test_the_second_one_is_refused_and_told_who_the_first_is(log: Path) -> None:
    with sole_learner(log):
        for _ in range(2):
            with (
                pytest.raises(LogError, match=f"process {os.getpid()} learns from it already"),
                sole_learner(log, patience_s=0.0),
            ):
                pass
    with sole_learner(log, patience_s=0.0):
        pass


def test_who_is_ending_is_waited_for(log: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(sole_learner(log))
        ending = threading.Timer(0.2, stack.close)
        ending.start()
        with sole_learner(log, patience_s=60.0):
            pass
        ending.join()


def test_logs_do_not_know_each_other(log: Path) -> None:
    with sole_learner(log), sole_learner(log.with_name("other.db"), patience_s=0.0):
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(log: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        with (
            pytest.raises(LogError, match=f"process {process.pid} learns"),
            sole_learner(log, patience_s=0.0),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with sole_learner(log, patience_s=0.0):
        pass


def test_a_lock_that_cannot_be_opened_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "x.db.lock").mkdir()
    with (
        pytest.raises(LogError, match="x.db.lock: cannot be opened"),
        sole_learner(tmp_path / "x.db"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_lock_that_root_has_made_belongs_to_the_log_s_owner(log: Path) -> None:
    log.parent.mkdir()
    log.touch()
    os.chown(log, 65534, 65534)
    with sole_learner(log):
        pass
    assert log.with_name("headrace.db.lock").stat().st_uid == 65534
