"""Run files through the pipeline at full speed, in memory, and report how it went.

One partition unless told otherwise. A file keeps its own order; several files are merged by event
time. The same files give the same result whatever the block size; with several partitions,
contributions are exchanged every `EXCHANGE_EVENTS` lines of the stream.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from stream.catalogue import Catalogue
from stream.effects import Effects
from stream.event_files import Lines, read_merged
from stream.events import EVENTS, GOLD, ITEMS
from stream.partitioning import partition_for
from stream.peers import Peers
from stream.pipeline import PartitionPipeline, PipelineSpec, Prepared
from stream.records import RecordBatch
from stream.report import report
from stream.runner import PartitionRunner
from stream.state import Epoch, StateStore
from stream.stores.memory import MemoryStore

__all__ = ["EXCHANGE_EVENTS", "Problem", "Replay", "home_of"]

EXCHANGE_EVENTS: Final = 500
"""Lines of the stream between two exchanges of contributions (DESIGN §2)."""
_BLOCK: Final = 4096
_SHOWN_PROBLEMS: Final = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that was refused: where it lies, which field is at fault, and why."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.reason}"


@dataclass(slots=True)
class Replay:
    """A run of files through the pipeline.

    Parameters
    ----------
    spec
        The pipeline; its number of partitions counts.
    store
        Where state lives; in memory and thrown away unless given.
    on_effects
        Told of what every batch asks for, in order.
    progress
        Told of bytes read.
    checkpoint_every
        Lines between two checkpoints; None: only when people must leave memory.

    Attributes
    ----------
    problems, refused
        The first lines that were refused, and how many there were.
    """

    spec: PipelineSpec
    store: StateStore = field(default_factory=MemoryStore)
    catalogue: Catalogue = field(default_factory=Catalogue)
    on_effects: Callable[[Effects], None] | None = None
    progress: Callable[[int], None] | None = None
    block: int = _BLOCK
    checkpoint_every: int | None = None
    problems: list[Problem] = field(default_factory=list)
    refused: int = 0
    pipelines: list[PartitionPipeline] = field(init=False)
    _peers: Peers | None = field(init=False)
    _runners: list[PartitionRunner] = field(init=False)
    _seconds: float = 0.0
    _offsets: list[int] = field(init=False)
    _since_checkpoint: int = 0
    _saved: bool = False

    def __post_init__(self) -> None:
        epoch = Epoch(0, "replay")
        numbers = range(self.spec.n_partitions)
        several = self.spec.n_partitions > 1
        self._peers = Peers(self.spec.recommender.config, everybody=True) if several else None
        self.pipelines = [
            PartitionPipeline(
                self.spec,
                number,
                items=self.catalogue,
                peers=self._peers,
                content=self.catalogue.content,
            )
            for number in numbers
        ]
        self._runners = [
            PartitionRunner(pipeline, self.store, pipeline.partition, epoch)
            for pipeline in self.pipelines
        ]
        self._saved = any(pipeline.next_offsets for pipeline in self.pipelines)
        self._offsets = [pipeline.next_offsets.get(EVENTS, 0) for pipeline in self.pipelines]

    def read_items(self, path: Path) -> None:
        """Take a file of items in; lines that are none become problems."""
        now, number = time.time(), 0
        for block in read_merged([path], _BLOCK, self.progress):
            n = len(block.lines)
            batch = RecordBatch(ITEMS, 0, range(number, number + n), block.lines, [now] * n)
            for refused in self.catalogue.apply(batch):
                self._refuse(Problem(str(path), refused.offset + 1, refused.field, refused.reason))
            number += n

    def read_gold(self, path: Path) -> None:
        """Take a file of gold answers in; each waits for its event time."""
        now, number = time.time(), 0
        for block in read_merged([path], _BLOCK, self.progress):
            shares: list[list[tuple[int, bytes]]] = [[] for _ in self.pipelines]
            for line in block.lines:
                for partition in self._homes(line):
                    shares[partition].append((number, line))
                number += 1
            for pipeline, share in zip(self.pipelines, shares, strict=True):
                if share:
                    offsets = [offset for offset, _ in share]
                    batch = RecordBatch(
                        GOLD,
                        pipeline.partition,
                        offsets,
                        [line for _, line in share],
                        [now] * len(share),
                    )
                    prepared = pipeline.prepare(batch)
                    for refused in prepared.refused:
                        self._refuse(
                            Problem(str(path), refused.offset + 1, refused.field, refused.reason)
                        )
                    self._hand_on(pipeline.process(prepared, self._load(pipeline, prepared)))

    def read_events(self, paths: Sequence[Path]) -> None:
        """Run files of events through the pipeline."""
        started = time.perf_counter()
        several = self.spec.n_partitions > 1
        block = EXCHANGE_EVENTS if several else self.block
        now = time.time()
        for lines in read_merged(paths, block, self.progress):
            if several:
                self._run_several(lines, paths, now)
                self._exchange()
            else:
                self._run(self.pipelines[0], lines, paths, now)
            self._since_checkpoint += len(lines.lines)
            self._checkpoint_if_due()
        self._seconds += time.perf_counter() - started

    def close_windows(self) -> None:
        """Close every window that is still open."""
        for pipeline in self.pipelines:
            missing, finish = pipeline.close()
            self._hand_on(finish(self.store.load_users(pipeline.partition, missing)))

    def answer_rest(self) -> None:
        """Apply the gold answers whose time would only come after the last event."""
        for pipeline in self.pipelines:
            missing = pipeline.gold.keys_before(float("inf"))
            absent = [key for key in missing if key not in pipeline.join.by_key]
            loaded = self.store.load_users(pipeline.partition, absent)
            self._hand_on(pipeline.answer_rest(loaded))

    def checkpoint(self) -> None:
        """Save every partition's state to the store."""
        self._since_checkpoint = 0
        self._saved = True
        for runner in self._runners:
            runner.checkpoint()
        if self._peers is not None:
            # As it will be after a restart: the recommender that the partitions share is no state.
            self._peers.world.draw_up({})

    def report(self) -> dict[str, Any]:
        """Return the report of everything so far."""
        return report(self.pipelines, seconds=self._seconds, peak_rss_bytes=peak_rss_bytes())

    # --- one block ------------------------------------------------------------------------

    def _run(
        self, pipeline: PartitionPipeline, lines: Lines, paths: Sequence[Path], now: float
    ) -> None:
        partition = pipeline.partition
        first = self._offsets[partition]
        n = len(lines.lines)
        self._offsets[partition] = first + n
        batch = RecordBatch(EVENTS, partition, range(first, first + n), lines.lines, [now] * n)
        prepared = pipeline.prepare(batch)
        loaded = self._load(pipeline, prepared)
        if prepared.decoded is not None:
            for refused in prepared.decoded.rejected:
                at = refused.offset - first
                self._refuse(
                    Problem(
                        str(paths[lines.files[at]]),
                        lines.numbers[at],
                        refused.field,
                        refused.reason,
                    )
                )
        self._hand_on(pipeline.process(prepared, loaded))

    def _load(self, pipeline: PartitionPipeline, prepared: Prepared) -> Mapping[bytes, bytes]:
        """Return the stored state of who is missing; nobody is stored before the first save."""
        if not self._saved:
            return {}
        return self.store.load_users(pipeline.partition, prepared.missing)

    def _run_several(self, lines: Lines, paths: Sequence[Path], now: float) -> None:
        shares = [Lines([], [], []) for _ in self.pipelines]
        for line, file, number in zip(*lines, strict=True):
            share = shares[self._home(line)]
            share.lines.append(line)
            share.files.append(file)
            share.numbers.append(number)
        for pipeline, share in zip(self.pipelines, shares, strict=True):
            if share.lines:
                self._run(pipeline, share, paths, now)

    def _exchange(self) -> None:
        chunks = [
            chunk
            for pipeline in self.pipelines
            for chunk in pipeline.labelling.contributions(pipeline.partition)
        ]
        for pipeline in self.pipelines:
            pipeline.take_in(chunks)

    def _home(self, line: bytes) -> int:
        """Return the partition of a line; a line without a user goes to the first."""
        return home_of(line, self.spec.n_partitions) or 0

    def _homes(self, line: bytes) -> Sequence[int]:
        """Return the partitions to which a gold answer goes: all, if it names no user."""
        n = len(self.pipelines)
        home = home_of(line, n) if n > 1 else 0
        return range(n) if home is None else (home,)

    def _hand_on(self, effects: Effects) -> None:
        if self.on_effects is not None:
            self.on_effects(effects)

    def _refuse(self, problem: Problem) -> None:
        self.refused += 1
        if len(self.problems) < _SHOWN_PROBLEMS:
            self.problems.append(problem)

    def _checkpoint_if_due(self) -> None:
        every = self.checkpoint_every
        if every is not None:
            due = self._since_checkpoint >= every
        else:
            limit = self.spec.cached_users
            due = any(len(p.join.resident) > limit for p in self.pipelines)
        if due:
            self.checkpoint()


def home_of(line: bytes, n_partitions: int) -> int | None:
    """Return the partition of the user that a line names; None if it names none."""
    try:
        user_id = orjson.loads(line)["user_id"]
        return partition_for(user_id.encode(), n_partitions)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def peak_rss_bytes() -> int:
    """Return the largest resident size that this process had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
