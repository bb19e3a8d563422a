"""What it costs in quality and in time that several partitions and processes learn one recommender.

    python -m bench.partitions [EVENTS] [--limit N] [--rate 1000] [--no-workers]

Prints nDCG@10 and hit@10 over all engagements of a file (the shop of the shared data unless told
otherwise): a replay with one partition and with four, which share a recommender since they live
in one process; four recommenders that live apart and tell each other what they learned every so
many events; and four real worker processes over Kafka and Redis, which tell each other at every
checkpoint. Beside it, what telling and following cost an event.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.kafka_deployment import PARTITIONS, Feed, Fleet, environment, make_topics, wait_for
from bench.recommender_peers import figures
from models.recommender import HISTORY, PrequentialMetrics, SharedRecommender, Updates
from stream.assembly import open_state, pipeline_spec
from stream.config import Settings, load_settings
from stream.event_files import read_merged
from stream.events import EVENTS
from stream.partitioning import partition_for
from stream.replay import Replay, home_of
from stream.state import SHARED_PREFIX
from tests.services.kafka import KafkaBroker
from tests.services.redis import RedisServer

WORKERS = 4
_BLOCK = 4096


class Clicks:
    """The stream as the recommender alone sees it, each person at home in one of the workers."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        events = [orjson.loads(line) for line in lines]
        users: dict[str, int] = {}
        self.user = np.array([users.setdefault(e["user_id"], len(users)) for e in events], np.int32)
        self.items: list[str] = [event["item_id"] for event in events]
        self.ts = np.array([float(event["ts"]) for event in events])
        homes = np.array([partition_for(user.encode(), WORKERS) for user in users])
        self.home = homes[self.user]


class Apart:
    """A process of one partition: its recommender, and the histories of its people."""

    def __init__(self, clicks: Clicks, number: int) -> None:
        people = int(clicks.user.max()) + 1
        self.clicks = clicks
        self.number = number
        self.model = SharedRecommender(None, number)
        self.items = np.full((people, HISTORY), -1, np.int32)
        self.weights = np.zeros((people, HISTORY), np.float32)
        self.lengths = np.zeros(people, np.int32)

    def step(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Predict and learn some rows; return the ranks."""
        n, clicks = len(rows), self.clicks
        people, user = np.unique(clicks.user[rows], return_inverse=True)
        items, weights, lengths = self.items[people], self.weights[people], self.lengths[people]
        out = self.model.step_many(
            items,
            weights,
            lengths,
            user.astype(np.int32),
            self.model.item_indexes([clicks.items[row] for row in rows.tolist()]),
            np.arange(n, dtype=np.int32),
            np.full(n, -1.0),
            np.ones(n),
            clicks.ts[rows],
            np.zeros(n, np.int8),
        )
        self.items[people], self.weights[people], self.lengths[people] = items, weights, lengths
        return out.rank


def apart(clicks: Clicks, workers: int, every: int) -> tuple[float, float, list[float], float]:
    """Return nDCG, hit ratio, µs an event of (steps, telling, following), and bytes an event."""
    processes = [Apart(clicks, number) for number in range(workers)]
    n = len(clicks.user)
    rank = np.full(n, -1, np.int32)
    spent = [0.0, 0.0, 0.0]
    sent = 0
    for start in range(0, n, every):
        rows = np.arange(start, min(n, start + every))
        began = time.process_time()
        for process in processes:
            mine = rows[clicks.home[rows] % workers == process.number]
            if len(mine):
                rank[mine] = process.step(mine)
        stepped = time.process_time()
        told = []
        for process in processes:
            updates = process.model.publish()
            if updates is not None and workers > 1:
                told.append((process.number, updates.to_bytes()))
        written = time.process_time()
        sent += sum(len(data) for _, data in told)
        for process in processes:
            process.model.world.take_in(
                (number, Updates.from_bytes(data))
                for number, data in told
                if number != process.number
            )
        ended = time.process_time()
        for at, seconds in enumerate((stepped - began, written - stepped, ended - written)):
            spent[at] += seconds
    found = figures(rank)
    return found.ndcg, found.hit, [1e6 * seconds / n for seconds in spent], sent / n


def replayed(path: Path, partitions: int) -> dict[str, Any]:
    """Return the recommender's figures of a replay."""
    run = Replay(pipeline_spec(Settings(), partitions=partitions))
    run.read_events([path])
    result: dict[str, Any] = run.report()["recommender"]["prequential"]
    return result


def deployed(
    lines: Sequence[bytes], rate: float, workers: int, interval_s: float
) -> dict[str, Any]:
    """Return the recommender's figures of real worker processes together."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        broker = stack.enter_context(KafkaBroker({"group.min.session.timeout.ms": "3000"}))
        redis = stack.enter_context(RedisServer())
        variables = environment(
            broker.bootstrap,
            redis.url,
            HEADRACE_TICKS__ENABLED="false",
            HEADRACE_CHECKPOINT__INTERVAL_S=str(interval_s),
            HEADRACE_KAFKA__SESSION_TIMEOUT_S="15",
        )
        make_topics(variables, folder)
        store = open_state(load_settings(env=variables))
        stack.callback(store.close)
        fleet = Fleet(variables, folder)
        stack.callback(fleet.close)
        for _ in range(workers):
            fleet.start()
        # The group is whole before the first event: each process has its share of the partitions.
        wait_for(
            lambda: all("claimed partitions" in w.output.read_text() for w in fleet.workers),
            600,
            "every worker owns partitions",
        )
        time.sleep(3.0)
        feed = Feed(
            broker.bootstrap, [(home_of(line, PARTITIONS) or 0, line) for line in lines], rate
        )
        feed.start()
        wait_for(
            lambda: sum(o.get(EVENTS, 0) for o in store.partitions().values()) >= len(lines),
            120 + 3 * len(lines) / rate,
            "everything is saved",
        )
        if feed.error is not None:
            raise feed.error
        for worker in list(fleet.workers):
            worker.terminate()
        metrics = PrequentialMetrics()
        for chunk in store.shared(f"{SHARED_PREFIX}recommender/prequential", {}):
            metrics.merge(PrequentialMetrics.from_bytes(chunk.data))
        return metrics.as_dict()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print beside what one partition reaches."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("HEADRACE_SHARED_DATA", "../shared/data"))
    shop = shared / "clicks" / "shop.events.ndjson.gz"
    parser.add_argument("events", nargs="?", type=Path, default=shop)
    parser.add_argument("--limit", type=int, default=None, help="only the first events")
    parser.add_argument("--rate", type=float, default=1_000.0, help="events a second to workers")
    parser.add_argument("--interval", type=float, default=0.25, help="s between checkpoints")
    parser.add_argument("--no-workers", action="store_true", help="no Kafka and no Redis")
    args = parser.parse_args(arguments)
    if not args.events.is_file():
        print(f"{args.events}: there is no such file; name one")
        return 2
    blocks = read_merged([args.events], _BLOCK)
    lines = list(islice((line for block in blocks for line in block.lines), args.limit))
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        path = Path(folder) / "events.ndjson"
        path.write_bytes(b"\n".join(lines) + b"\n")
        one = replayed(path, 1)
        _tell("replay, 1 partition", one["ndcg@10"], one["hit@10"], one["ndcg@10"])
        four = replayed(path, WORKERS)
        _tell("replay, 4 partitions", four["ndcg@10"], four["hit@10"], one["ndcg@10"])
    clicks = Clicks(lines)
    apart(clicks, 1, 500)  # compiles
    base, hit, spent, _ = apart(clicks, 1, 500)
    _tell("recommender alone, 1 process", base, hit, base, f"{spent[0]:.1f} µs a step")
    for every in (500, 2_000, len(lines)):
        ndcg, hit, spent, sent = apart(clicks, WORKERS, every)
        name = f"4 apart, told every {every:,}" if every < len(lines) else "4 apart, never told"
        cost = (
            f"step {spent[0]:.1f}, contribution and telling {spent[1]:.1f}, following "
            f"{WORKERS - 1} others {spent[2]:.1f} µs an event; {sent:.0f} bytes an event"
        )
        _tell(name, ndcg, hit, base, cost)
    if not args.no_workers:
        found = deployed(lines, args.rate, WORKERS, args.interval)
        if found["n"] != one["n"]:
            print(f"{found['n']:,} engagements instead of {one['n']:,}")
            return 1
        name = f"4 workers, {args.rate:,.0f}/s, saves every {args.interval:g} s"
        _tell(name, found["ndcg@10"], found["hit@10"], one["ndcg@10"])
    return 0


def _tell(name: str, ndcg: float, hit: float, base: float, more: str = "") -> None:
    print(
        f"{name:38} nDCG@10 {ndcg:.4f} ({ndcg / base - 1.0:+.2%})  hit@10 {hit:.4f}  {more}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
