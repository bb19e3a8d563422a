"""`headrace demo`: the main job, live, on a simulated shop or on real ratings."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.live import Live
from rich.table import Table

from monitoring.metrics import Metrics
from stream import event_loop
from stream.api.serving import ApiService
from stream.commands.console import Refused, note, out
from stream.commands.running import embedded_service
from stream.config import Settings, load_settings, require_known
from stream.embedded import EmbeddedEngine
from stream.embedded_log import EmbeddedLog
from stream.events import EVENTS, GOLD
from stream.interrupts import ends_when_told
from stream.movielens import movielens
from stream.records import Outgoing
from stream.simulate import Sent, World, WorldConfig
from stream.supervision import Supervision, supervised

__all__ = ["demo"]

_STEP_S: Final = 0.1
_TIMEOUT_S: Final = 30.0
_SIM_LF: Final = "sim_lf_"
_TERMINATED: Final = 143


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="Stop when the world has ended, instead of serving on.")
    ] = False,
    use_movielens: Annotated[
        bool,
        typer.Option("--movielens", help="Real film ratings (MovieLens 100k) from the network."),
    ] = False,
    events: Annotated[int, typer.Option(min=100, help="How many events.")] = 20_000,
    rate: Annotated[float, typer.Option(min=1.0, help="Events a second.")] = 1_000.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated shop.")] = 1,
) -> None:
    """Show the whole service at work, in one process: no other service is needed.

    A simulated shop sends events over HTTP; they are labeled by functions whose accuracy is
    planted, joined with late rewards, and learned by a recommender, while you watch. State lives
    in a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as folder:
        world: World | None = None
        if use_movielens:
            try:
                stream = movielens()
            except OSError as error:
                raise Refused(f"MovieLens could not be fetched: {error}") from error
            sent: Iterable[Sent] = islice(stream, events)
            settings = _settings(Path(folder), 0)
        else:
            world = World(
                WorldConfig(seed=seed, events=events, users=max(50, events // 40), items=400)
            )
            sent = world.live()
            settings = _settings(Path(folder), len(world.config.sim_lfs))
        # What compiles comes before the event loop, which would take Ctrl-C and not heed it.
        with (
            ends_when_told(_TERMINATED),
            supervised() as threads,
            embedded_service(settings) as (engine, service),
        ):
            feeder = _Feeder(sent, service, engine.log, rate)
            failed = partial(_failure, engine, feeder, threads)
            try:
                event_loop.run(
                    _demo(engine, service, feeder, failed, _planted(world), events, stay=not exit_)
                )
            except asyncio.CancelledError:
                raise typer.Exit(_TERMINATED) from None


def _settings(folder: Path, n_lfs: int) -> Settings:
    """Return the settings of a demonstration: a free port, a file of its own, short intervals.

    Not the environment's: a deployment's log, store or tokens are none of its business. A mistake
    there is told all the same.
    """
    require_known()
    return load_settings(
        env={},
        overrides={
            "log": {"url": f"sqlite:///{folder / 'demo.db'}"},
            "api": {"port": 0},
            "checkpoint": {"interval_s": 0.5},
            "lfs": {"context_votes": [f"{_SIM_LF}{number}" for number in range(n_lfs)]},
        },
    )


async def _demo(
    engine: EmbeddedEngine,
    service: ApiService,
    feeder: _Feeder,
    failed: Callable[[], BaseException | None],
    planted: dict[str, float],
    n_events: int,
    *,
    stay: bool,
) -> None:
    current = asyncio.current_task()
    if current is not None:
        # As Ctrl-C does: what was begun is ended, and the folder goes.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    try:
        await service.start()
        engine.start()
        out.print(
            f"Headrace answers at {service.url}: status page, /docs, /metrics", soft_wrap=True
        )
        with Live(_table(engine.metrics, planted, feeder, n_events), console=note) as live:
            thread = threading.Thread(target=feeder.run, name="shop", daemon=True)
            thread.start()
            while thread.is_alive() or not engine.drained():
                await asyncio.sleep(0.25)
                live.update(_table(engine.metrics, planted, feeder, n_events))
                if failed() is not None:
                    break
        if (failure := failed()) is not None:
            raise failure
        _summary(engine.metrics, planted)
        if stay:
            out.print("The shop has closed; the service stays. Ctrl-C ends it.")
            with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
                while failed() is None:
                    await asyncio.sleep(0.5)
            if (failure := failed()) is not None:
                raise failure
    finally:
        feeder.stop()
        await service.stop()
        await asyncio.to_thread(engine.stop)


def _failure(engine: EmbeddedEngine, feeder: _Feeder, threads: Supervision) -> BaseException | None:
    return engine.failure or feeder.failure or threads.failure


class _Feeder:
    """Sends a world's events through the front door, at a steady rate."""

    def __init__(
        self, sent: Iterable[Sent], service: ApiService, log: EmbeddedLog, rate: float
    ) -> None:
        self._sent = iter(sent)
        self._service = service
        self._log = log
        self._rate = rate
        self._stopping = threading.Event()
        self.count = 0
        self.failure: BaseException | None = None

    def stop(self) -> None:
        """End after the step at hand."""
        self._stopping.set()

    def run(self) -> None:
        """Send everything; whatever goes wrong is kept in `failure`."""
        try:
            self._run()
        except BaseException as error:  # shown by the command
            self.failure = error

    def _run(self) -> None:
        started = time.monotonic()
        for step in _steps(self._sent, max(1, round(self._rate * _STEP_S))):
            if self._stopping.is_set():
                return
            self._post("items", [line for line in step if line.topic == "items"])
            self._post("events", [line for line in step if line.topic == "events"])
            gold = [line.line for line in step if line.topic == "gold"]
            if gold:
                # An annotator's answers; they have no door of their own yet.
                users = [orjson.loads(line)["user_id"].encode() for line in gold]
                self._log.append(
                    [Outgoing(GOLD, user, line) for user, line in zip(users, gold, strict=True)]
                )
            self.count += sum(line.topic == "events" for line in step)
            ahead = self.count / self._rate - (time.monotonic() - started)
            if ahead > 0:
                self._stopping.wait(ahead)

    def _post(self, kind: str, lines: list[Sent]) -> None:
        if not lines:
            return
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self._service.url}/v1/{kind}",
            b"\n".join(line.line for line in lines),
            {"Content-Type": "application/x-ndjson"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read()


def _steps(sent: Iterator[Sent], n_events: int) -> Iterator[list[Sent]]:
    step: list[Sent] = []
    events = 0
    for one in sent:
        step.append(one)
        events += one.topic == "events"
        if events >= n_events:
            yield step
            step, events = [], 0
    if step:
        yield step


def _planted(world: World | None) -> dict[str, float]:
    if world is None:
        return {}
    return {f"{_SIM_LF}{n}": lf.accuracy for n, lf in enumerate(world.config.sim_lfs)}


def _value(metrics: Metrics, name: str, labels: tuple[str, ...] = ()) -> float:
    try:
        return metrics.value(name, labels)
    except KeyError:
        return 0.0


def _table(metrics: Metrics, planted: dict[str, float], feeder: _Feeder, n_events: int) -> Table:
    table = Table(title="Headrace, live", min_width=60)
    table.add_column("what")
    table.add_column("now", justify="right")
    applied = _value(metrics, "events_consumed_total", (EVENTS,))
    table.add_row("events sent", f"{feeder.count:,} of {n_events:,}")
    table.add_row("events learned", f"{applied:,.0f}")
    for stage in ("provisional", "final", "revised"):
        total = sum(
            _value(metrics, "labels_total", ("relevance", label, stage))
            for label in ("negative", "positive")
        )
        table.add_row(f"labels, {stage}", f"{total:,.0f}")
    table.add_row("feedback joined", f"{_value(metrics, 'join_matched_total'):,.0f}")
    hit = _value(metrics, "prequential_hit_ratio", ("10",))
    table.add_row("recommender hit@10", f"{hit:.3f}")
    for name, accuracy in planted.items():
        estimate = _value(metrics, "lf_estimated_accuracy_ratio", (name,))
        table.add_row(f"{name} (planted {accuracy:.2f})", f"{estimate:.2f} estimated")
    return table


def _summary(metrics: Metrics, planted: dict[str, float]) -> None:
    applied = _value(metrics, "events_consumed_total", (EVENTS,))
    hit = _value(metrics, "prequential_hit_ratio", ("10",))
    figures: dict[str, Any] = {"events": int(applied), "hit@10": round(hit, 4)}
    if planted:
        errors = [
            abs(_value(metrics, "lf_estimated_accuracy_ratio", (name,)) - accuracy)
            for name, accuracy in planted.items()
        ]
        figures["mean error of estimated LF accuracies"] = round(sum(errors) / len(errors), 4)
    out.print(", ".join(f"{name}: {value}" for name, value in figures.items()))
