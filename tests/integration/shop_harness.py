"""A running service with a simulated shop before it, and faults on order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Self

import orjson

from stream.embedded_log import EmbeddedLog
from stream.events import CONTROL, EVENTS, GOLD
from stream.records import Outgoing
from stream.simulate import Drift, Sent, SimulatedLF, World, WorldConfig
from tests.integration.monitoring_harness import ROOT, wait_until
from tests.services import OwnedProcess
from tests.services.ports import PortLease

HEADRACE = "from stream.cli import main; main()"
START_S = 420.0
RATE = 150.0
LFS = 4

# A team's own labeling functions, with faults that a file switches on. What fails too often is
# stopped for good, so there is one to fail for each purpose.
TEAM_LFS = '''
"""Labeling functions with faults on order."""

import time
from pathlib import Path

from lfs import ABSTAIN, labeling_function

FOLDER = Path(__file__).parent


def vote(example, fault):
    if (FOLDER / fault).exists():
        raise KeyError("on order")
    return "positive" if example.clicks else ABSTAIN


@labeling_function(task="relevance", version=1)
def failing_early(example):
    """Vote positive for what was clicked.

    Rationale: a click is a choice.
    Sources: `click` events.
    Known errors: raises while a file says so.
    """
    return vote(example, "failing_early")


@labeling_function(task="relevance", version=1)
def failing_late(example):
    """Vote positive for what was clicked.

    Rationale: a click is a choice.
    Sources: `click` events.
    Known errors: raises while a file says so.
    """
    return vote(example, "failing_late")


@labeling_function(task="relevance", version=1)
def hanging(example):
    """Vote positive for what was clicked.

    Rationale: a click is a choice.
    Sources: `click` events.
    Known errors: does not come back while a file says so.
    """
    while (FOLDER / "hanging").exists():
        time.sleep(0.05)
    return "positive" if example.clicks else ABSTAIN
'''


class Shop:
    """The embedded service as a process of its own, and a shop that sends without a pause."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "team_lfs.py").write_text(TEAM_LFS, encoding="utf-8")
        self._lease = PortLease()
        self.address = f"127.0.0.1:{self._lease.port}"
        database = folder / "headrace.db"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self._environment = kept | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "HEADRACE_LOG__URL": f"sqlite:///{database}",
            "HEADRACE_API__PORT": str(self._lease.port),
            "HEADRACE_CHECKPOINT__INTERVAL_S": "0.5",
            # Few, so that some are dropped and counted.
            "HEADRACE_JOIN__MAX_OPEN_EXAMPLES_PER_USER": "20",
            "HEADRACE_LFS__MODULES": '["team_lfs"]',
            "HEADRACE_LFS__CONTEXT_VOTES": json.dumps([f"sim_lf_{n}" for n in range(LFS)]),
            "HEADRACE_MONITORING__SEGMENTS": '["newcomer", "regular", "loyal"]',
            # A shop of this size: references and thresholds that fit its volume.
            "HEADRACE_MONITORING__FIRST_REFERENCE": "2048",
            "HEADRACE_MONITORING__REFERENCE_VALUES": "4096",
            "HEADRACE_MONITORING__VALUES_PER_DAY": "1e8",
        }
        self.process = OwnedProcess(
            [sys.executable, "-c", HEADRACE, "up"],
            output=folder / "up.log",
            cwd=folder,
            env=self._environment,
        )
        self._drift: tuple[Drift, ...] = ()
        self._changed = threading.Event()
        self.scrambled = threading.Event()
        self._database = database
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop", daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        try:
            self.process.start()
            wait_until(self._answers, START_S, lambda: f"no answer:\n{self.process.tail()}")
        except BaseException:
            self._end()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear("hanging")
        self._stopping.set()
        self._thread.join(150.0)
        self._end()
        if self.failure is not None:
            raise self.failure

    def _end(self) -> None:
        with self._lease:
            self.process.terminate()

    def fault(self, name: str) -> None:
        """Switch on a fault of one of the team's labeling functions, by its name."""
        (self.folder / name).touch()

    def clear(self, name: str) -> None:
        """Switch it off."""
        (self.folder / name).unlink(missing_ok=True)

    def metrics(self) -> str:
        """Return what the service exposes."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=120) as answer:
            text: bytes = answer.read()
        return text.decode()

    def sample(self, metric: str, **labels: str) -> float:
        """Return what the service exposes of one series now; 0 if there is none."""
        wanted = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        start = f"headrace_{metric}{{{wanted}}} "
        lines = (line for line in self.metrics().splitlines() if line.startswith(start))
        return float(next(lines, "0").rpartition(" ")[2])

    def _answers(self) -> bool:
        assert self.process.running, self.process.tail()
        try:
            return bool(self.metrics())
        except OSError:
            return False

    def _run(self) -> None:
        try:
            self._send()
        except urllib.error.HTTPError as error:
            with error:
                refused = AssertionError(f"{error.url}: {error} {error.read().decode()}")
            if not self._stopping.is_set():
                self.failure = refused
        except BaseException as error:
            if not self._stopping.is_set():
                self.failure = error

    def _send(self) -> None:
        # Annotators' answers have no door of their own yet: they go into the log directly.
        log = EmbeddedLog(self._database, 1, topics={CONTROL: 1})
        try:
            started, sent = time.monotonic(), 0
            waiting: dict[str, list[bytes]] = {"items": [], "events": [], "gold": []}
            for line in self._lines():
                waiting[line.topic].append(line.line)
                if line.topic != "events" or len(waiting["events"]) < RATE / 5:
                    continue
                sent += len(waiting["events"])
                if self.scrambled.is_set():
                    waiting["events"] = [_renamed(line, sent) for line in waiting["events"]]
                for kind in ("items", "events"):
                    self._post(kind, waiting[kind])
                # The door refuses what is no event; a producer on Kafka could send it.
                unreadable = Outgoing(EVENTS, b"nobody", b"{no event")
                log.append([unreadable, *(_gold(answer) for answer in waiting["gold"])])
                self._ask(f"visitor{sent % 50}")
                waiting = {"items": [], "events": [], "gold": []}
                ahead = sent / RATE - (time.monotonic() - started)
                if self._stopping.wait(max(0.0, ahead)):
                    return
        finally:
            log.close()

    def _lines(self) -> Iterator[Sent]:
        """Yield what a shop sends; whenever a change is ordered, other people come in another one.

        Their votes, or what they like, are as the change says.
        """
        start_ts = 1_767_225_600.0
        drift: tuple[Drift, ...] = ()
        for number in count():
            self._changed.clear()
            world = World(
                WorldConfig(
                    seed=5 + number,
                    start_ts=start_ts,
                    events=400_000,
                    users=1_000,
                    items=300,
                    days=30.0,
                    corrupted=0.005,
                    duplicates=0.02,
                    gold=0.1,
                    gold_delay_median_s=600.0,
                    drift=drift,
                    sim_lfs=tuple(
                        SimulatedLF(accuracy=0.9 - 0.1 * n, abstention=0.4) for n in range(LFS)
                    ),
                )
            )
            mark = b'"user_id":"%d-' % number
            for line in world.live():
                if number == 0:
                    yield line
                elif line.topic != "gold":
                    # Answers name examples by a hash of their users: of others there are none.
                    yield line._replace(line=line.line.replace(b'"user_id":"', mark))
                start_ts = max(start_ts, line.ts)
                if self._changed.is_set():
                    break
            drift = self._drift

    def change(self, *drift: Drift) -> None:
        """Let the shop change as planned, at once."""
        self._drift = drift
        self._changed.set()

    def command(self, *arguments: str) -> None:
        """Run a command of the deployment."""
        subprocess.run(
            [sys.executable, "-c", HEADRACE, *arguments],
            cwd=self.folder, env=self._environment, check=True, timeout=300, capture_output=True,
        )  # fmt: skip

    def _ask(self, user_id: str) -> None:
        """Ask for recommendations, as the page of a shop does."""
        url = f"http://{self.address}/v1/recommendations?user_id={user_id}"
        with urllib.request.urlopen(url, timeout=120) as answer:
            answer.read()

    def _post(self, kind: str, lines: list[bytes]) -> None:
        if lines:
            request = urllib.request.Request(
                f"http://{self.address}/v1/{kind}",
                b"\n".join(lines),
                {"Content-Type": "application/x-ndjson"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()


def _renamed(line: bytes, mark: int) -> bytes:
    """Return an event of an item that nobody has seen before, as after a mistake in a migration."""
    return line.replace(b'"item_id":"', b'"item_id":"%d-' % mark)


def _gold(line: bytes) -> Outgoing:
    return Outgoing(GOLD, orjson.loads(line)["user_id"].encode(), line)
