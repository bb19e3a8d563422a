"""How fast the embedded pipeline runs a file of events, and where the time goes.

    taskset -c 0 python -m bench.replay [--events FILE.ndjson.gz] [--repeat 7] [--stages plain]

Everything in memory, one partition, one core: what ``headrace replay`` does, in plain settings
(`bench.plain`) and in those that are there by default.
Prints events a second of processor time and of the clock (medians of the repeats), then a budget
in microseconds an event: the median of each stage's own time, measured in separate repeats,
since looking at the clock costs time itself. Then what a batch costs by its size, which is what a
worker's latency hangs on: median and mean of batches of 1 to 4096 events, the mean with what waits
for more rows than a small batch has. ``--batch`` prints that table alone. Peak memory is the
process's.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.plain import PLAIN
from models import LabelModel
from models.recommender import Recommender
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.decoding.decode import Decoder
from stream.effects import Effects
from stream.event_files import read_merged
from stream.events import EVENTS
from stream.join import Join
from stream.labelling import Labelling
from stream.learning import Learning
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.readiness import get_ready
from stream.records import RecordBatch
from stream.replay import Replay, peak_rss_bytes
from stream.rewards import Rewards
from stream.tally import Tally
from stream.watching import Watch
from stream.whose import Whose

AIM_PER_S = 60_000
SIZES = (1, 8, 32, 256, 4096)
_BATCHES = 400
_MOST = 16_384
_WARM = 30_000
_SHARED = Path(os.environ.get("HEADRACE_SHARED_DATA", "../shared/data"))
_STAGES: tuple[tuple[type, str, str], ...] = (
    (Decoder, "decode", "decode"),
    # The loop around `Join.apply`: a look at the clock an event would cost as much as the event.
    (PartitionPipeline, "_apply_events", "join"),
    (PartitionPipeline, "_learn", "rest of the pipeline"),
    (Join, "due_by", "join"),
    (Whose, "events", "prepare"),
    (Labelling, "_batch", "rows to columns"),
    (Labelling, "_votes", "labeling functions"),
    (LabelModel, "step_many", "label model"),
    (Labelling, "step", "labeling stage"),
    (Learning, "step", "learning stage"),
    (Learning, "flush", "learning stage"),
    (Recommender, "step_many", "recommender"),
    (Recommender, "item_indexes", "recommender"),
    (Rewards, "step", "late rewards"),
    (Rewards, "flush", "late rewards"),
    (Watch, "events", "drift and recent figures"),
    (Tally, "flush", "drift and recent figures"),
    (Watch, "engaged", "drift and recent figures"),
    (PartitionPipeline, "process", "rest of the pipeline"),
    (Effects, "outgoing", "effects made records"),
    (Replay, "read_events", "reading the file"),
)


class Budget:
    """Each stage's own time: what it calls, if that is a stage too, is not counted for it."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def measured(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Return the function with its time taken."""
        spent, inner, clock = self.spent_s, self._inner, time.thread_time

        def call(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            began = clock()
            result = function(*args, **kwargs)
            elapsed = clock() - began
            spent[stage] += elapsed - inner.pop()
            if inner:
                inner[-1] += elapsed
            return result

        return call


def run(spec: PipelineSpec, path: Path, *, records: bool) -> tuple[int, float, float]:
    """Run the file; return events, and seconds of processor and clock."""
    gc.collect()  # pipelines refer to themselves: earlier runs must not count for this one

    def make_records(effects: Effects) -> None:
        effects.outgoing()

    replay = Replay(spec, on_effects=make_records if records else None)
    clock, processor = time.perf_counter(), time.process_time()
    replay.read_events([path])
    spent = time.process_time() - processor, time.perf_counter() - clock
    return int(replay.report()["events"]), *spent


def stages(spec: PipelineSpec, path: Path) -> tuple[int, dict[str, float]]:
    """Run the file with every stage measured; return events, and seconds by stage."""
    budget = Budget()
    originals = [(cls, name, getattr(cls, name)) for cls, name, _ in _STAGES]
    for cls, name, stage in _STAGES:
        setattr(cls, name, budget.measured(getattr(cls, name), stage))
    try:
        events, _, _ = run(spec, path, records=True)
    finally:
        for cls, name, original in originals:
            setattr(cls, name, original)
    return events, dict(budget.spent_s)


def by_batch_size(spec: PipelineSpec, path: Path) -> dict[int, list[float]]:
    """Return the seconds that batches take by size, in a pipeline that has seen 30,000 events.

    Several hundreds of each size in a row, as a worker meets them; fewer of the large ones.
    """
    pipeline = PartitionPipeline(spec, 0)
    lines = [line for block in read_merged([path], 4096) for line in block.lines]
    now = time.time()

    def batch(first: int, size: int) -> RecordBatch:
        values = lines[first : first + size]
        return RecordBatch(EVENTS, 0, range(first, first + size), values, [now] * size)

    pipeline.process(pipeline.prepare(batch(0, _WARM)), {})
    pipeline.settle()
    first, spent = _WARM, {size: list[float]() for size in SIZES}
    for size in SIZES:
        for _ in range(min(_BATCHES, _MOST // size)):
            records = batch(first, size)
            began = time.thread_time()
            pipeline.process(pipeline.prepare(records), {})
            spent[size].append(time.thread_time() - began)
            first += size
    return spent


def print_batches(spec: PipelineSpec, path: Path) -> None:
    """Print what a batch costs by its size."""
    print("microseconds of processor time, by the size of a batch")
    print("  events    median      mean  an event")
    for size, spent in by_batch_size(spec, path).items():
        middle, mean = statistics.median(spent) * 1e6, statistics.mean(spent) * 1e6
        print(f"  {size:6d}{middle:10.0f}{mean:10.0f}{mean / size:10.1f}")


def main() -> None:
    """Print speed, budget and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=Path, default=_SHARED / "clicks/shop.events.ndjson.gz")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument(
        "--stages", choices=["plain", "all"], default="all", help="whose stages to measure"
    )
    parser.add_argument("--batch", action="store_true", help="only what a batch costs by its size")
    options = parser.parse_args()
    if not options.events.is_file():
        print(f"skipped: there is no {options.events}; name a file with --events")
        return
    kinds = {
        "plain": pipeline_spec(Settings.model_validate(PLAIN), partitions=1),
        "all": pipeline_spec(Settings(), partitions=1),
    }
    if options.batch:
        get_ready(kinds[options.stages])
        print_batches(kinds[options.stages], options.events)
        return
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    clocks: dict[str, list[float]] = {kind: [] for kind in kinds}
    for spec in kinds.values():
        get_ready(spec)
    for _ in range(options.repeat):
        for kind, spec in kinds.items():
            events, processor_s, clock_s = run(spec, options.events, records=False)
            speeds[kind].append(events / processor_s)
            clocks[kind].append(events / clock_s)
    print(f"{events} events, {options.repeat} repeats; plain settings, and all by default")
    print("                                        plain         all")
    for name, figures, middle in (
        ("events a second of processor time", speeds, statistics.median),
        ("events a second by the clock", clocks, statistics.median),
        ("best of processor time", speeds, max),
    ):
        row = "".join(f"{middle(figures[kind]):12,.0f}" for kind in kinds)
        print(f"{name:34s}{row}")
    row = "".join(f"{statistics.median(speeds[kind]) / AIM_PER_S:12.2f}" for kind in kinds)
    print(f"{'of the aim':34s}{row}")
    spec = kinds[options.stages]
    measured = [stages(spec, options.events)[1] for _ in range(min(3, options.repeat))]
    print(f"\nmicroseconds of processor time an event ({options.stages})")
    budget = {
        stage: statistics.median(one.get(stage, 0.0) for one in measured) / events * 1e6
        for stage in measured[0]
    }
    for stage, spent_us in sorted(budget.items(), key=lambda pair: -pair[1]):
        print(f"  {stage:24s}{spent_us:8.2f}")
    print(f"  {'all':24s}{sum(budget.values()):8.2f}")
    print()
    print_batches(spec, options.events)
    print(f"\npeak RSS {peak_rss_bytes() / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
