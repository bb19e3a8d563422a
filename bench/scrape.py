"""What monitoring costs: a scrape with many labeling functions, and its share of the pipeline.

    python -m bench.scrape [--lfs 50] [--segments 20] [--events 30000]

A simulated shop runs through one metered partition. Printed are the series and bytes of a page and
the time to render it (aims with 50 functions: 2,000 series, 100 KiB, p50 15 ms), and what
monitoring costs a vote and of the pipeline's time (aims: 1 µs, 5 %): watching, listing and
counting votes and labels, filling the metrics. The shop's events are made before the pipeline's
time begins.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from monitoring.metrics import Metrics
from monitoring.pipeline_drift import PipelineDrift
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import EVENTS
from stream.metering import MeteredPipeline, ProcessMeters
from stream.pipeline import PartitionPipeline
from stream.readiness import get_ready
from stream.records import RecordBatch
from stream.simulate import SimulatedLF, World, WorldConfig
from stream.simulate.config import MOST_LFS
from stream.state import PartitionHead
from stream.tally import Tally
from stream.watching import Watch

_BATCH = 2_000
_SCRAPES = 50
_LOG_TS = 4e9


class Spent:
    """Processor time of some methods; what is called inside one of them is not counted twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def measured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time taken."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside = True
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - began
                self._inside = False

        return call


def _spread(line: bytes, number: int, functions: int) -> bytes:
    """Give an event's votes to other functions from line to line: an event carries so many."""
    turns = -(-functions // MOST_LFS)
    if turns < 2:
        return line
    shift = number % turns * MOST_LFS

    def renamed(found: re.Match[bytes]) -> bytes:
        return b'"sim_lf_%d"' % ((int(found[1]) + shift) % functions)

    return re.sub(rb'"sim_lf_(\d+)"', renamed, line)


def run(lfs: int, segments: int, events: int) -> None:
    """Print everything for one shop."""
    built_in = len(pipeline_spec(Settings(), partitions=1).tasks[0].lfs)
    simulated = max(lfs - built_in, 0)
    settings = Settings(
        lfs={"context_votes": [f"sim_lf_{at}" for at in range(simulated)]},
        monitoring={"segments": ["newcomer", "regular", "loyal"]
                    + [f"segment{at}" for at in range(segments - 3)]},
    )  # fmt: skip
    spec = pipeline_spec(settings, partitions=1, timer=time.perf_counter)
    get_ready(spec)
    metrics = Metrics()
    meters = ProcessMeters(metrics)
    metered = MeteredPipeline(PartitionPipeline(spec, 0), metrics, meters)
    metered.restore(PartitionHead(0))
    world = World(
        WorldConfig(seed=4, events=events, users=1_000, items=500,
                    sim_lfs=tuple(SimulatedLF() for _ in range(min(simulated, MOST_LFS))))
    )  # fmt: skip
    spent = Spent()
    for owner, name in (
        (Watch, "events"), (Tally, "take"), (Watch, "engaged"), (Watch, "answered"),
        (PipelineDrift, "flush"), (ProcessMeters, "update"), (MeteredPipeline, "feed"),
        (Tally, "flush"),
    ):  # fmt: skip
        setattr(owner, name, spent.measured(getattr(owner, name)))
    first, batches = 0, []
    for chunk in world.chunks(_BATCH):
        lines = [_spread(line, first + at, simulated) for at, line in enumerate(chunk)]
        batches.append(RecordBatch(EVENTS, 0, range(first, first + len(lines)), lines,
                                   [_LOG_TS] * len(lines)))  # fmt: skip
        first += len(lines)
    began = time.thread_time()
    for batch in batches:
        metered.process(metered.prepare(batch), {})
    whole = time.thread_time() - began
    votes = sum(int(task.votes.sum()) for task in metered.pipeline.counts.tasks.values())
    print(f"{len(spec.tasks[0].lfs)} labeling functions, {segments} segments asked for, "
          f"{first} events, {votes} votes")  # fmt: skip
    print(f"  monitoring: {spent.seconds / votes * 1e9:.0f} ns a vote, "
          f"{spent.seconds / first * 1e6:.2f} us an event, {spent.seconds / whole:.1%} of "
          f"{whole / first * 1e6:.1f} us")  # fmt: skip
    taken = []
    for _ in range(_SCRAPES):
        at = time.perf_counter()
        page = metrics.render()
        taken.append(time.perf_counter() - at)
    series = [line for line in page.decode().splitlines() if not line.startswith("#")]
    p50, least = statistics.median(taken) * 1e3, min(taken) * 1e3
    print(f"  page: {len(series)} series, {len(page)} bytes ({len(page) / 1024:.1f} KiB), "
          f"rendered in p50 {p50:.1f} ms, min {least:.1f} ms")  # fmt: skip
    names = Counter(line.partition("{")[0].partition(" ")[0] for line in series)
    print("  most series: " + json.dumps(dict(names.most_common(8))))
    overflow = [line for line in series if "metrics_overflow" in line and not line.endswith(" 0")]
    for line in overflow:
        print(f"  {line}")
    # What a bound cut off is told by the service, as an operator would see it.
    others = sorted({line.partition("{")[0] for line in series if '"other"' in line})
    print(f"  series called `other`: {len(others)} metrics")
    at = time.thread_time()
    data = metered.pipeline.watch.chunks()
    print(f"  checkpoint: {sum(map(len, data.values()))} bytes in "
          f"{(time.thread_time() - at) * 1e3:.2f} ms")  # fmt: skip


def main() -> None:
    """Print what is asked for, and the bounds with far too much of everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lfs", type=int, default=50)
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--many", action="store_true", help="300 functions, 1,000 segments, too")
    given = parser.parse_args()
    run(given.lfs, given.segments, given.events)
    if given.many:
        run(300, 1_000, given.events)


if __name__ == "__main__":
    main()
