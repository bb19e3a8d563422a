"""What learns without Kafka: a durable log and the state in SQLite, one thread.

The order is the same as on Kafka: apply, publish, checkpoint, acknowledge; here the checkpoint
itself acknowledges, since the next offsets in it are where reading goes on.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.catalogue import Catalogue
from stream.config import Settings
from stream.embedded_log import EmbeddedLog
from stream.events import CONTROL, DECISIONS, EVENTS, GOLD, ITEMS
from stream.log_items import LogItems
from stream.metering import MeteredPipeline, ProcessMeters
from stream.peers import Peers
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.readiness import get_ready
from stream.retention import Retention
from stream.runner import PartitionRunner
from stream.serving.catalogue import ServedCatalogue
from stream.state import Epoch, StateStore

__all__ = ["EmbeddedEngine"]

_INPUTS: Final = (CONTROL, GOLD, DECISIONS, EVENTS)
_MAX_RECORDS: Final = 2_000
_WAIT_S: Final = 0.2
_TRIM_EVERY_S: Final = 10.0
_MANY: Final = 300
"""People who changed: as many are saved before the interval is over. A save of thousands would keep
the file's lock, for which events at the door wait, for tens of milliseconds."""
_SOONEST: Final = 1 / 8
"""Of the interval: saves come no faster."""


class EmbeddedEngine:
    """Reads the log, learns, publishes and checkpoints, in a thread of its own.

    A bug ends the thread with nothing saved that is wrong; `failure` then says what it was, and
    ``on_failure`` is called so that the process can end.

    Parameters
    ----------
    log, store
        Stay open when the engine stops; their owner closes them.
    on_failure
        Called from the thread when it ended by a bug.
    after_step
        For tests: called after each step of the commit order, with the step's name; whatever it
        raises is a crash there.

    Attributes
    ----------
    batch_records
        Records read from a partition at once.
    on_step
        Called from the thread after every round, with whether anything was learned in it.
    """

    def __init__(
        self,
        settings: Settings,
        log: EmbeddedLog,
        store: StateStore,
        metrics: Metrics,
        *,
        on_failure: Callable[[BaseException], None] | None = None,
        after_step: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self.log = log
        self._store = store
        self.metrics = metrics
        self.on_failure = on_failure
        self._after_step = after_step or _nothing
        self.failure: BaseException | None = None
        self.batch_records = _MAX_RECORDS
        self.catalogue = ServedCatalogue(max_line_bytes=settings.events.max_line_bytes)
        self._items = LogItems(log, self.catalogue)
        self._known: dict[tuple[int, str], int] = {}
        self.on_step: Callable[[bool], None] = _idle
        spec = pipeline_spec(
            settings,
            timer=time.perf_counter,
            on_reload=lambda result: metrics.add("config_reloads_total", (result,)),
        )
        get_ready(spec)
        owner = Epoch(0, str(uuid.uuid4()))
        meters = ProcessMeters(metrics)
        several = settings.log.partitions > 1
        peers = Peers(spec.recommender.config, everybody=True) if several else None
        self._partitions = [
            _Partition(number, spec, log, store, owner, metrics, meters, self.catalogue, peers)
            for number in range(settings.log.partitions)
        ]
        # Shown from the start: a rate is known before anything was let go.
        metrics.add("log_trimmed_records_total", (EVENTS,), 0.0)
        self._retention = Retention(log, settings.log.retention_s, settings.log.retention_bytes)
        self._behind = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def pipelines(self) -> list[PartitionPipeline]:
        """Return the partitions' pipelines; read them only after `stop`."""
        return [partition.metered.pipeline for partition in self._partitions]

    def start(self) -> None:
        """Begin to learn."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Finish the batch at hand, save, and end; raises what the thread failed with."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise TimeoutError(f"the engine did not stop within {timeout_s:g} s")
        if self.failure is not None:
            raise self.failure

    def drained(self) -> bool:
        """Return whether everything in the log has been applied and saved."""
        return all(
            partition.saved_offsets.get(topic, 0) >= end
            for topic in (EVENTS, GOLD, DECISIONS)
            for number, end in self.log.end_offsets(topic).items()
            for partition in (self._partitions[number],)
        )

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # the process must end, whatever it was
            self.failure = error
            if self.on_failure is not None:
                self.on_failure(error)

    def _loop(self) -> None:
        interval_s = self._settings.checkpoint.interval_s
        saved_at = time.monotonic()
        trim_at = saved_at + interval_s
        while not self._stopping.is_set():
            self._items.read()
            busy = self._behind = False
            for partition in self._partitions:
                busy |= self._advance(partition)
            self.on_step(busy)
            now = time.monotonic()
            if self._due(now - saved_at):
                self._save()
                saved_at = time.monotonic()
                if now >= trim_at:
                    self._trim()
                    trim_at = now + _TRIM_EVERY_S
            if not busy:
                for partition in self._partitions:
                    partition.metered.tell()
                self._tick(now)
                left_s = max(0.0, saved_at + interval_s - now)
                self.log.wait(min(_WAIT_S, left_s), self._positions())
        self._save()

    def _due(self, elapsed_s: float) -> bool:
        """Return whether to save, so long after the last time."""
        interval_s = self._settings.checkpoint.interval_s
        if elapsed_s >= interval_s:
            return True
        # Whoever has a log to catch up with does not stop for it more often.
        if self._behind or elapsed_s < interval_s * _SOONEST:
            return False
        dirty = (partition.metered.pipeline.join.dirty for partition in self._partitions)
        return sum(map(len, dirty)) >= _MANY

    def _advance(self, partition: _Partition) -> bool:
        """Apply what is new in a partition's topics; tell whether there was anything."""
        busy = False
        for topic in _INPUTS:
            number = 0 if topic == CONTROL else partition.number
            next_offset = partition.metered.next_offsets.get(topic, 0)
            batch = self.log.read(topic, number, next_offset, self.batch_records)
            if not len(batch):
                continue
            busy = True
            self._behind |= len(batch) == self.batch_records
            # 1. Apply.
            effects = partition.runner.run(batch)
            self._after_step("applied")
            # 2. Publish; the effects are on the disk when append returns.
            outgoing = effects.outgoing()
            if outgoing:
                self.log.append(outgoing)
            self._after_step("published")
            partition.changed = True
            partition.moved_at = time.monotonic()
        return busy

    def _save(self) -> None:
        # 3. Save state and next offsets in one transaction; 4. that acknowledges, too.
        for partition in self._partitions:
            if partition.changed:
                began = time.perf_counter()
                try:
                    partition.runner.checkpoint()
                except BaseException:
                    self.metrics.add("checkpoints_total", ("failed",))
                    raise
                partition.changed = False
                partition.saved_offsets = dict(partition.metered.next_offsets)
                self.metrics.add("checkpoints_total", ("saved",))
                self.metrics.observe("checkpoint_duration_seconds", (), time.perf_counter() - began)
                self.metrics.set(
                    "checkpoint_timestamp_seconds", (str(partition.number),), time.time()
                )
                self._after_step("saved")
        self._exchange()
        self._report_lag()

    def _exchange(self) -> None:
        if len(self._partitions) == 1:
            return
        chunks = self._store.shared("share/labels/", self._known)
        self._known |= {(chunk.partition, chunk.name): chunk.version for chunk in chunks}
        for partition in self._partitions:
            partition.metered.take_in(chunks)

    def _trim(self) -> None:
        """Let the log go of what is old; after a save, whose offsets bound it."""
        saved = {partition.number: partition.saved_offsets for partition in self._partitions}
        for topic, records in self._retention.trim(saved).items():
            self.metrics.add("log_trimmed_records_total", (topic,), records)

    def _report_lag(self) -> None:
        for topic in (EVENTS, GOLD, DECISIONS):
            oldest_s = 0.0
            for number, end in self.log.end_offsets(topic).items():
                applied = self._partitions[number].metered.next_offsets.get(topic, 0)
                if applied < end:
                    waiting = self.log.read(topic, number, applied, 1)
                    oldest_s = max([oldest_s, *(time.time() - at for at in waiting.times)])
                self.metrics.set(
                    "consumer_lag_messages", (topic, str(number)), float(max(0, end - applied))
                )
            self.metrics.set("consumer_lag_seconds", (topic,), oldest_s)

    def _tick(self, now: float) -> None:
        ticks = self._settings.ticks
        if not ticks.enabled:
            return
        for partition in self._partitions:
            idle_s = now - partition.moved_at
            if idle_s >= ticks.idle_s:
                tick = partition.metered.tick(idle_s)
                if tick is not None:
                    self.log.append([tick])

    def _positions(self) -> dict[tuple[str, int], int]:
        positions = {(ITEMS, number): end for number, end in self._items.next_offsets.items()}
        for partition in self._partitions:
            for topic in _INPUTS:
                number = 0 if topic == CONTROL else partition.number
                positions[topic, number] = partition.metered.next_offsets.get(topic, 0)
        return positions


class _Partition:
    """One partition at work."""

    def __init__(
        self,
        number: int,
        spec: PipelineSpec,
        log: EmbeddedLog,
        store: StateStore,
        owner: Epoch,
        metrics: Metrics,
        meters: ProcessMeters,
        catalogue: Catalogue,
        peers: Peers | None,
    ) -> None:
        self.number = number
        pipeline = PartitionPipeline(
            spec, number, items=catalogue, peers=peers, content=catalogue.content
        )
        self.metered = MeteredPipeline(pipeline, metrics, meters)
        self.runner = PartitionRunner(self.metered, store, number, owner)
        for topic in _INPUTS:
            first = log.begin_offsets(topic)[0 if topic == CONTROL else number]
            if first and topic not in pipeline.next_offsets:
                # Without state, as after a reset: what the log still holds is learned.
                pipeline.next_offsets[topic] = first
        self.saved_offsets = dict(self.metered.next_offsets)
        self.changed = False
        self.moved_at = time.monotonic()


def _nothing(step: str) -> None:
    del step


def _idle(learned: bool) -> None:
    del learned
