"""`headrace up` as two processes: one answers, one learns, and neither goes on alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from stream.sqlite_file import SqliteFile

pytestmark = pytest.mark.usefixtures("compiled")

WITHIN_S = 240.0


class Up:
    """The service in a process group of its own."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str] = ("-m", "stream", "up"),
        *,
        wait: bool = True,
        **settings: str,
    ) -> None:
        self.folder = folder
        self._arguments = arguments
        self._wait = wait
        self._settings = settings
        self.stderr = ""

    def __enter__(self) -> Self:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self._errors = (self.folder / "stderr").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, *self._arguments],
            env=kept
            | {
                "HEADRACE_LOG__URL": f"sqlite:///{self.folder / 'headrace.db'}",
                "HEADRACE_API__PORT": "0",
                "PYTHONFAULTHANDLER": "1",
                "HEADRACE_CHECKPOINT__INTERVAL_S": "0.2",
                "HEADRACE_RECOMMENDATIONS__REFRESH_S": "0.1",
            }
            | self._settings,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        if not self._wait:
            return self
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "answers at" not in line:
            self.__exit__()
            raise AssertionError(self.errors())
        self.url = line.split()[3]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def ended(self) -> int:
        """Return the exit code; if there is none in time, fail with where all threads stand."""
        try:
            return self.process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGABRT)
            self.process.wait()
            raise AssertionError(self.errors()) from None

    def errors(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=WITHIN_S) as answer:
            text: bytes = answer.read()
        return text.decode()

    def post(self, numbers: range, **fields: str) -> None:
        lines = [
            json.dumps(
                {"event_id": f"e{n}", "type": "click", "ts": 1_700_000_000.0 + n,
                 "user_id": f"u{n % 7}", "item_id": f"i{n % 5}"}
                | fields
            )
            for n in numbers
        ]  # fmt: skip
        request = urllib.request.Request(
            f"{self.url}/v1/events",
            "\n".join(lines).encode(),
            {"Content-Type": "application/x-ndjson"},
        )
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            assert json.load(answer) == {"accepted": len(lines)}

    def learned(self) -> int:
        """Return how many events are in the checkpoints."""
        events: dict[str, int] = json.loads(self.get("/v1/status"))["events"]
        return events.get("headrace.events", 0)

    @property
    def learner(self) -> int:
        """Return the number of the process that learns."""
        found = re.search(r"process (\d+)", self.get("/readyz"))
        assert found is not None
        return int(found[1])


def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command(pid: int) -> str:
    """Return a process's command line; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Tell whether a process still does anything: what has ended may wait to be fetched."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_both_processes_are_one_service(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        up.post(range(50))
        until(lambda: up.learned() == 50)
        assert up.learner != up.process.pid
        # Learning stands back where both want the same core.
        answering, learning = (
            os.getpriority(os.PRIO_PROCESS, pid) for pid in (up.process.pid, up.learner)
        )
        assert learning > answering
        # On a starved machine a page may lack what the other process has.
        consumed = 'headrace_events_consumed_total{topic="headrace.events"} 50\n'
        until(lambda: consumed in up.get("/metrics"))
        page = up.get("/metrics")
        while consumed not in page:
            page = up.get("/metrics")
        assert 'headrace_api_events_total{outcome="accepted",route="/v1/events"} 50\n' in page
        names = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
        assert len(names) == len(set(names))
        assert page.count("\nprocess_resident_memory_bytes ") == 1
        # It is told after what was learned is saved.
        until(lambda: json.loads(up.get("/v1/status"))["lag_s"] == 0.0)
        # What was learned is served, and to whom it happened.
        until(lambda: '"again"' in up.get("/v1/recommendations?user_id=u1&explore=false"))
        up.process.send_signal(signal.SIGTERM)
        assert up.ended() == 0, up.errors()


def test_ctrl_c_reaches_both_and_ends_both_in_order(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        learner = up.learner
        up.post(range(20))
        os.killpg(up.process.pid, signal.SIGINT)
        assert up.ended() == 0, up.errors()
        assert not alive(learner)
        assert "Traceback" not in up.errors()
    with Up(tmp_path) as up:
        until(lambda: up.learned() == 20)


def starting_learner(up: Up) -> int:
    """Return the number of the process that is to learn, as soon as there is one."""
    children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children")

    def learners() -> list[int]:
        found = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in found if "spawn_main" in command(pid)]

    until(learners)
    (learner,) = learners()
    return learner


def test_ctrl_c_while_it_starts_ends_both_at_once(tmp_path: Path) -> None:
    with Up(tmp_path, wait=False) as up:
        learner = starting_learner(up)
        os.killpg(up.process.pid, signal.SIGINT)
        assert up.ended() == 130, up.errors()
        assert not alive(learner)
        assert "Traceback" not in up.errors()


@pytest.mark.parametrize("both", [False, True])
def test_sigterm_while_it_starts_ends_both_in_order(tmp_path: Path, both: bool) -> None:
    with Up(tmp_path, wait=False) as up:
        learner = starting_learner(up)
        (os.killpg if both else os.kill)(up.process.pid, signal.SIGTERM)
        assert up.ended() == 0, up.errors()
        assert not alive(learner)
        assert "told to end before it was at work" in up.errors()
        assert "Traceback" not in up.errors()


def test_what_a_person_just_did_counts_before_it_is_saved(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        up.post(range(50))
        until(lambda: up.learned() == 50)
        up.process.send_signal(signal.SIGTERM)
        assert up.ended() == 0, up.errors()
    with Up(tmp_path, HEADRACE_CHECKPOINT__INTERVAL_S="600") as up:
        query = "/v1/recommendations?user_id=newcomer&explore=false&k=5"
        assert '"again"' not in up.get(query)
        up.post(range(100, 101), user_id="newcomer")
        until(lambda: '"again"' in up.get(query))
        assert up.learned() == 50


def test_a_service_manager_may_tell_all_processes_at_once(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        up.post(range(20))
        os.killpg(up.process.pid, signal.SIGTERM)
        assert up.ended() == 0, up.errors()
        assert "Traceback" not in up.errors()


def test_when_learning_is_killed_answering_ends_loudly(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        up.post(range(30))
        os.kill(up.learner, signal.SIGKILL)
        assert up.ended() == 1
        assert "the learning process was ended by signal 9" in up.errors()
        assert "Traceback" not in up.errors()
    # Nothing is lost, and nothing is learned twice.
    with Up(tmp_path) as up:
        up.post(range(10, 40))
        until(lambda: up.learned() == 40)
        assert json.loads(up.get("/v1/status"))["duplicates"] == 20


def test_when_answering_is_killed_learning_saves_and_ends(tmp_path: Path) -> None:
    with Up(tmp_path, HEADRACE_CHECKPOINT__INTERVAL_S="600") as up:
        learner = up.learner
        up.post(range(30))
        consumed = 'headrace_events_consumed_total{topic="headrace.events"} 30\n'
        until(lambda: consumed in up.get("/metrics"))
        up.process.kill()
        up.process.wait()
        until(lambda: not alive(learner))
        assert "learning ends" in up.errors()
        # Saved, though no save was due.
        file = SqliteFile(tmp_path / "headrace.db", RuntimeError)
        with file.read() as connection:
            (offsets,) = connection.execute("SELECT offsets FROM state_partitions").fetchone()
        file.close()
        assert json.loads(offsets)["headrace.events"] >= 1


def test_when_answering_is_killed_while_it_starts_learning_takes_nothing(tmp_path: Path) -> None:
    with Up(tmp_path, wait=False) as up:
        learner = starting_learner(up)
        up.process.kill()
        up.process.wait()
        until(lambda: not alive(learner))
    file = SqliteFile(tmp_path / "headrace.db", RuntimeError)
    with file.read() as connection:
        # Whoever was started meanwhile would have lost it.
        assert not connection.execute("SELECT * FROM state_partitions").fetchall()
    file.close()


def test_a_second_service_on_the_same_file_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    file = f"sqlite:///{tmp_path / 'headrace.db'}"
    with Up(tmp_path) as up:
        up.post(range(10))
        until(lambda: up.learned() == 10)
        with Up(other, wait=False, HEADRACE_LOG__URL=file) as second:
            assert second.ended() == 2, second.errors()
            assert f"service of process {up.process.pid} learns from it already" in second.errors()
        reset = subprocess.run(
            [sys.executable, "-m", "stream", "state", "reset", "--yes"],
            env=os.environ | {"HEADRACE_LOG__URL": file},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (reset.returncode, "learns from it already" in reset.stderr) == (2, True)
        up.post(range(10, 30))
        until(lambda: up.learned() == 30)
        up.process.send_signal(signal.SIGTERM)
        assert up.ended() == 0, up.errors()


def test_a_failure_of_learning_ends_the_service_and_says_what_it_was(tmp_path: Path) -> None:
    # A tick's save would be refused, too, before anything is posted.
    with Up(tmp_path, HEADRACE_TICKS__ENABLED="false") as up:
        up.post(range(10))
        until(lambda: up.learned() == 10)
        # Another owner takes the partition: this one's next save is refused.
        file = SqliteFile(tmp_path / "headrace.db", RuntimeError)
        with file.write() as connection:
            connection.execute("UPDATE state_partitions SET owner = 'somebody else'")
        file.close()
        up.post(range(10, 20))
        assert up.ended() == 2
        assert "somebody else" in up.errors()
        assert "Traceback" not in up.errors()


# A bug that is met in one thread only. The process that learns is started without it.
PLANTED = """
import threading
{imports}
as_it_was = {place}

def planted(*arguments, **named):
    if threading.current_thread().name == "{thread}":
        raise ZeroDivisionError("a planted bug")
    return as_it_was(*arguments, **named)

{place} = planted
"""
SERVICE = "from stream.__main__ import main\nmain()"


@pytest.mark.parametrize(
    ("thread", "module", "place", "own_process"),
    [
        ("catalogue", "stream.log_items", "LogItems.read", True),
        ("people", "multiprocessing.connection", "Connection.recv_bytes", True),
        ("served-model", "stream.serving.sources", "StoreSource.refresh", True),
        ("merged view", "stream.merged_view", "MergedView.export", False),
    ],
)
def test_a_bug_in_a_thread_ends_the_service_loudly(
    tmp_path: Path, thread: str, module: str, place: str, own_process: bool
) -> None:
    imports = f"from {module} import {place.partition('.')[0]}"
    script = PLANTED.format(imports=imports, place=place, thread=thread) + SERVICE
    with Up(
        tmp_path,
        ["-c", script, "up"],
        wait=False,
        HEADRACE_API__OWN_PROCESS=str(own_process).lower(),
    ) as up:
        assert up.ended() == 1, up.errors()
    assert f"a bug has ended the thread {thread!r}" in up.errors()
    assert "ZeroDivisionError: a planted bug" in up.errors()
    assert "stopped by a bug; nothing wrong was saved" in up.errors()


LEARNER = """
from multiprocessing import Pipe
from stream.commands.learner import learn
from stream.config import load_settings

asked, answers = Pipe()
listening, telling = Pipe(duplex=False)
learn(load_settings(), answers, telling)
"""


@pytest.mark.parametrize(
    ("thread", "imports", "place"),
    [
        ("people", "from threading import Event", "Event.wait"),
        ("merged view", "from stream.merged_view import MergedView", "MergedView.export"),
    ],
)
def test_a_bug_in_a_thread_ends_learning_loudly(
    tmp_path: Path, thread: str, imports: str, place: str
) -> None:
    script = PLANTED.format(imports=imports, place=place, thread=thread) + LEARNER
    with Up(tmp_path, ["-c", script], wait=False) as learner:
        assert learner.process.wait(WITHIN_S) == 1, learner.errors()
    assert f"a bug has ended the thread {thread!r}" in learner.errors()
    assert "learning stopped by a bug; nothing wrong was saved" in learner.errors()


def test_metrics_of_a_process_that_hangs_are_missing_and_that_is_said(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        learner = up.learner
        up.post(range(20))
        until(lambda: "headrace_events_consumed_total" in up.get("/metrics"))
        os.kill(learner, signal.SIGSTOP)
        try:
            pages = [up.get("/metrics") for _ in range(3)]
        finally:
            os.kill(learner, signal.SIGCONT)
        for page in pages:
            assert "\nheadrace_learner_up 0\n" in page
            assert "headrace_events_consumed_total" not in page
            assert "headrace_api_requests_total" in page
        until(lambda: "\nheadrace_learner_up 1\n" in up.get("/metrics"))
        consumed = 'headrace_events_consumed_total{topic="headrace.events"} 20\n'
        until(lambda: consumed in up.get("/metrics"))
        up.process.send_signal(signal.SIGTERM)
        assert up.ended() == 0, up.errors()


def test_one_process_does_it_all_where_that_is_wanted(tmp_path: Path) -> None:
    with Up(tmp_path, HEADRACE_API__OWN_PROCESS="false") as up:
        up.post(range(50))
        until(lambda: up.learned() == 50)
        assert "process" not in json.loads(up.get("/readyz"))["checks"]["engine"]["detail"]
        up.process.send_signal(signal.SIGTERM)
        assert up.ended() == 0, up.errors()
