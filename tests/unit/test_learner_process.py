"""The process that learns is ended whatever its start came to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.commands.learner_process import LearnerProcess
from stream.config import Settings, load_settings


class Pressing(Settings):
    """Settings in whose handing over somebody presses Ctrl-C."""

    def __reduce__(self) -> tuple[type[Settings], tuple[()]]:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(20):
            # However soon another thread gets it.
            time.sleep(0.01)
        return Settings, ()


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    # Who started the tests may have had them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_one_that_was_never_started_needs_no_end() -> None:
    assert LearnerProcess(load_settings(env={})).stop() == 0


def test_ctrl_c_while_it_is_started_comes_when_it_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = threading.Event()
    # As the threads of numpy: it may take what the main thread holds back.
    another = threading.Thread(target=done.wait)
    another.start()
    learner = LearnerProcess(Pressing())
    with pytest.raises(KeyboardInterrupt):
        learner.start()
    assert learner.pid is not None
    assert learner.stop() == -signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    done.set()
    another.join()
