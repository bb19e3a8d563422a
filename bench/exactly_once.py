"""Effects on real Kafka, exactly once: three workers, every fault, one undisturbed replay beside.

    python -m bench.exactly_once [--events 300000] [--rate 3000] [--learn] [--faults 15]

Feeds a simulated shop, with damaged lines, to Kafka while workers, the broker and Redis are
killed, paused and restarted, then compares what was published and stored with one replay of the
same file with as many partitions. Prints each fault with the longest time for which any partition
stood still. Exits 1 if a single label, vote, dead letter or count differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from bench.kafka_deployment import (
    PARTITIONS,
    Feed,
    Fleet,
    Watch,
    environment,
    lag,
    make_topics,
    records_of,
    wait_for,
)
from monitoring.counts import StageCounts
from monitoring.counts_snapshot import counts_from_bytes
from stream.assembly import open_state, pipeline_spec
from stream.config import load_settings
from stream.effects import Effects
from stream.events import DEAD_LETTER, EVENTS, LABELS
from stream.pipeline import PipelineSpec
from stream.replay import Replay, home_of
from stream.simulate import World, WorldConfig
from stream.state import SHARED_PREFIX, StateStore
from tests.services.kafka import KafkaBroker
from tests.services.redis import RedisServer

WORKERS = 3
STARTED = time.monotonic()

Name = tuple[str, str, int]
"""Example, task, revision: what makes two records the same label."""


def say(text: str) -> None:
    """Print with the time that has passed."""
    print(f"{time.monotonic() - STARTED:7.1f} s  {text}", flush=True)


@dataclass
class Outcome:
    """What came of a run: labels and dead letters by what identifies them, and counts."""

    labels: dict[Name, tuple[str, str, tuple[tuple[str, int, str], ...]]] = field(
        default_factory=dict
    )
    probabilities: dict[Name, bytes] = field(default_factory=dict)
    dead: dict[str, tuple[int, int, int, str, int]] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    records: int = 0

    def take_label(self, value: bytes) -> None:
        """Keep a label; of several with one revision the last counts."""
        label = orjson.loads(value)
        name = (label["example_id"], label["task"], label["revision"])
        votes = tuple(sorted((v["lf"], v["version"], v["vote"]) for v in label["votes"]))
        self.labels[name] = (label["stage"], label["reason"], votes)
        self.probabilities[name] = orjson.dumps(label["probabilities"])
        self.records += 1

    def take_dead_letter(self, value: bytes) -> None:
        """Keep a dead letter: where it lies, which field, how long."""
        letter = orjson.loads(value)
        self.dead[letter["id"]] = (
            letter["partition"],
            letter["offset"],
            letter["line"],
            letter["field"],
            letter["value_bytes"],
        )

    def take_counts(self, counts: StageCounts) -> None:
        """Keep the counts that must be equal, whatever was learned."""
        join, task = counts.join, counts.tasks["relevance"]
        self.counts = {
            "consumed": counts.consumed[EVENTS],
            "duplicates": counts.duplicates,
            "rejected": sum(counts.rejected.values()),
            "matched": join.matched,
            "organic": join.organic,
            "expired": join.expired,
            "late corrections": join.late_corrections,
            "dropped": dict(join.dropped),
            "labels by stage": task.labels.sum(axis=1).tolist(),
            "votes": {
                name: (
                    task.votes[m].tolist(),
                    int(task.abstains[m]),
                    int(task.overlaps[m]),
                    int(task.conflicts[m]),
                )
                for m, name in enumerate(task.lfs)
            },
        }


def undisturbed(spec: PipelineSpec, path: Path) -> Outcome:
    """Return what one replay of the file comes to."""
    outcome = Outcome()

    def keep(effects: Effects) -> None:
        for record in effects.outgoing():
            take = outcome.take_label if record.topic == LABELS else outcome.take_dead_letter
            take(record.value)

    replay = Replay(spec, on_effects=keep)
    replay.read_events([path])
    counts = StageCounts()
    for pipeline in replay.pipelines:
        counts.add(pipeline.counts)
    outcome.take_counts(counts)
    return outcome


def published(bootstrap: str, store: StateStore) -> Outcome:
    """Return what lies in the topics and in the store."""
    outcome = Outcome()
    for value in records_of(bootstrap, LABELS):
        outcome.take_label(value)
    for value in records_of(bootstrap, DEAD_LETTER):
        outcome.take_dead_letter(value)
    counts = StageCounts()
    for chunk in store.shared(f"{SHARED_PREFIX}counts", {}):
        counts.add(counts_from_bytes(chunk.data))
    outcome.take_counts(counts)
    return outcome


def differences(expected: Outcome, found: Outcome, learned: bool) -> Iterator[str]:
    """Yield what differs; learned probabilities depend on when partitions heard of each other."""
    parts: list[tuple[str, dict[Any, Any], dict[Any, Any]]] = [
        ("label", expected.labels, found.labels),
        ("dead letter", expected.dead, found.dead),
        ("count", expected.counts, found.counts),
    ]
    if not learned:
        parts.append(("probabilities", expected.probabilities, found.probabilities))
    for what, before, after in parts:
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                yield f"{what} {name}: {after.get(name)} instead of {before.get(name)}"


Fault = tuple[str, Callable[[], float]]
"""Name; commits the fault and returns when it happened."""


def faults(
    fleet: Fleet, broker: KafkaBroker, redis: RedisServer, rng: random.Random
) -> list[Fault]:
    """Return every fault that the run commits, in a random order."""

    def kill() -> float:
        victim = rng.choice(fleet.workers)
        at = time.monotonic()
        victim.kill()
        fleet.replace(victim)
        return at

    def roll() -> float:
        worker = fleet.workers[0]
        fleet.start()
        fleet.wait_joined()  # the group is whole when the old one leaves, and all heed signals
        time.sleep(2.0)
        at = time.monotonic()
        worker.terminate()
        if worker.returncode != 0:
            told = worker.output.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise AssertionError(f"a worker ended with {worker.returncode} after SIGTERM:\n{told}")
        fleet.workers.remove(worker)
        worker.close()
        return at

    def pause() -> float:
        worker = rng.choice(fleet.workers)
        at = time.monotonic()
        worker.pause()
        time.sleep(8.0)
        worker.resume()
        time.sleep(2.0)
        if not worker.running:
            fleet.replace(worker)
        return at

    def broker_restart() -> float:
        at = time.monotonic()
        broker.kill()
        broker.restart()
        return at

    def redis_restart() -> float:
        at = time.monotonic()
        redis.kill()
        time.sleep(1.0)
        redis.restart()
        return at

    chosen: list[Fault] = [
        *[("worker killed (-9)", kill)] * 8,
        *[("worker rolled (SIGTERM)", roll)] * 4,
        ("worker paused 8 s", pause),
        ("broker killed and restarted", broker_restart),
        ("Redis killed for 1 s", redis_restart),
    ]
    rng.shuffle(chosen)
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rate", type=float, default=3_000.0, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=15, help="how many of them to commit")
    parser.add_argument("--learn", action="store_true", help="learn; else compare probabilities")
    args = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        say(f"making {args.events:,} events")
        plan = WorldConfig(
            seed=args.seed,
            events=args.events,
            users=max(100, args.events // 60),
            items=2_000,
            days=3.0,
            duplicates=0.01,
            disorder=0.02,
            corrupted=0.002,
        )
        lines = [line for chunk in World(plan).chunks() for line in chunk]
        path = folder / "events.ndjson"
        path.write_bytes(b"\n".join(lines) + b"\n")
        broker = stack.enter_context(KafkaBroker({"group.min.session.timeout.ms": "3000"}))
        redis = stack.enter_context(RedisServer())
        variables = environment(
            broker.bootstrap,
            redis.url,
            HEADRACE_LEARN="true" if args.learn else "false",
            HEADRACE_TICKS__ENABLED="false",
        )
        settings = load_settings(env=variables)
        say("replaying undisturbed")
        expected = undisturbed(pipeline_spec(settings), path)
        make_topics(variables, folder)
        store = open_state(settings)
        stack.callback(store.close)
        fleet = Fleet(variables, folder)
        stack.callback(fleet.close)
        for _ in range(WORKERS):
            fleet.start()
        watch = Watch(store)
        watch.start()
        stack.callback(watch.stop)
        feed = Feed(
            broker.bootstrap, [(home_of(line, PARTITIONS) or 0, line) for line in lines], args.rate
        )
        feed.start()
        wait_for(lambda: len(watch.moved) == PARTITIONS, 300, "every partition moves")
        say("every partition moves; faults begin")
        stalls = disturb(fleet, broker, redis, watch, feed, args.faults, random.Random(args.seed))
        wait_for(lambda: not feed.is_alive(), 600, "everything is sent")
        if feed.error is not None:
            raise feed.error
        say("everything is sent")
        wait_for(
            lambda: sum(o.get(EVENTS, 0) for o in store.partitions().values()) >= len(lines),
            300,
            "everything is saved",
        )
        wait_for(lambda: lag(broker.bootstrap, "headrace") == 0, 300, "lag 0")
        say("everything is saved and committed; lag 0")
        watch.stop()
        for worker in list(fleet.workers):
            worker.terminate()
        found = published(broker.bootstrap, store)
    print()
    for name, values in sorted(stalls.items()):
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:30} median {median(values):5.2f} s  ({shown})")
    print(
        f"{len(found.labels):,} labels in {found.records:,} records, {len(found.dead)} dead letters"
    )
    print(f"counts: {orjson.dumps(expected.counts).decode()}")
    wrong = list(differences(expected, found, args.learn))
    for difference in wrong[:20]:
        print("DIFFERENT", difference)
    print("exact" if not wrong else f"{len(wrong)} differences")
    return int(bool(wrong))


def disturb(
    fleet: Fleet,
    broker: KafkaBroker,
    redis: RedisServer,
    watch: Watch,
    feed: Feed,
    n_faults: int,
    rng: random.Random,
) -> dict[str, list[float]]:
    """Commit faults while the feed lasts; return the longest stall of each, by its name."""
    stalls: dict[str, list[float]] = {}
    chosen = faults(fleet, broker, redis, rng)[:n_faults]
    left_s = (len(feed.records) - feed.sent) / feed.rate
    quiet_s = max(7.0, left_s / max(1, len(chosen)) - 4.0)
    for name, commit in chosen:
        at = commit()
        time.sleep(quiet_s)
        # Nothing moves any more once everything is sent.
        if at >= feed.ended_at:
            say(f"{name}: everything was sent before, so nothing stood still")
            continue
        stall = watch.longest_stall(at - 0.5, min(time.monotonic(), feed.ended_at))
        stalls.setdefault(name, []).append(stall)
        say(f"{name}: longest stall {stall:.2f} s")
    return stalls


if __name__ == "__main__":
    sys.exit(main())
