"""Whether memory stays flat: millions of simulated events through the pipeline, on a real store.

    python -m bench.memory [--millions 3] [--users 100000] [--cached 20000]

One partition over a SQLite file, with checkpoints and a bounded cache of people. Prints resident
memory after each million events, what it holds, and the speed. What may grow is what DESIGN lets
grow: one timer for each known person.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import EVENTS
from stream.pipeline import PartitionPipeline
from stream.readiness import get_ready
from stream.records import RecordBatch
from stream.replay import peak_rss_bytes
from stream.runner import PartitionRunner
from stream.simulate import World, WorldConfig
from stream.state import Epoch
from stream.stores import open_store

_MILLION = 1_000_000
_BLOCK = 2_000
_CHECKPOINT_EVERY = 10_000


def lines(events: int, users: int) -> Iterator[bytes]:
    """Yield the events of a simulated shop in the order of its log."""
    world = World(WorldConfig(users=users, items=10_000, events=events, days=60))
    for part in world.slices(truth=False):
        yield from part.events


def resident_bytes() -> int:
    """Return how much memory the process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def main() -> None:
    """Print one line a million."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, default=3)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--cached", type=int, default=20_000)
    options = parser.parse_args()
    settings = Settings(worker={"cached_users": options.cached})
    spec = pipeline_spec(settings, partitions=1)
    get_ready(spec)
    print(" million  RSS MiB  grown  peak MiB  people cached  known  pending  timers  us/event")
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/state.db")
        pipeline = PartitionPipeline(spec, 0)
        runner = PartitionRunner(pipeline, store, 0, Epoch(1, "bench"))
        source = lines(options.millions * _MILLION, options.users)
        offset, before, spent_s = 0, 0.0, 0.0
        while block := list(islice(source, _BLOCK)):
            n = len(block)
            began = time.thread_time()
            runner.run(RecordBatch(EVENTS, 0, range(offset, offset + n), block, [4e9] * n))
            offset += n
            if offset % _CHECKPOINT_EVERY == 0:
                runner.checkpoint()
            spent_s += time.thread_time() - began
            if offset % _MILLION == 0:
                gc.collect()
                join, rss = pipeline.join, resident_bytes() / 2**20
                print(
                    f"{offset // _MILLION:8d}{rss:9.0f}{rss - before if before else 0.0:7.1f}"
                    f"{peak_rss_bytes() / 2**20:10.0f}{len(join.resident):15d}"
                    f"{len(join.timers):7d}{join.pending:9d}{join.timers.entries:8d}"
                    f"{spent_s / _MILLION * 1e6:10.1f}",
                    flush=True,
                )
                before, spent_s = rss, 0.0
        store.close()


if __name__ == "__main__":
    main()
