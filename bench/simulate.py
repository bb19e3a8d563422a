"""How fast a simulated shop writes itself, and how much memory that takes.

Run ``python -m bench.simulate``. A world's figures are the best of three runs, each in a process
of its own; speed is given by the core's time, and by the clock for comparison.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from stream.simulate import World, WorldConfig

_MILLION = 1_000_000


def _measure(events: int, users: int, items: int, *, truth: bool) -> dict[str, float]:
    began = time.process_time()
    world = World(WorldConfig(users=users, items=items, events=events, days=14))
    built = time.process_time()
    clock = time.perf_counter()
    written = size = 0
    for part in world.slices(truth=truth):
        written += len(part.events)
        size += sum(map(len, part.events))
    done = time.process_time()
    return {
        "build_s": built - began,
        "events_per_cpu_s": written / (done - built),
        "events_per_s": written / (time.perf_counter() - clock),
        "bytes_per_event": size / written,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _apart(arguments: list[str]) -> dict[str, float]:
    """Return the figures of a process of its own, so that no run's memory counts for another."""
    command = [sys.executable, __file__, "--child", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def main() -> None:
    """Print one line a world: its size, its speed, its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4, metavar=("EVENTS", "USERS", "ITEMS", "TRUTH"))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if options.child:
        events, users, items, truth = (int(text) for text in options.child)
        print(json.dumps(_measure(events, users, items, truth=bool(truth))))
        return
    print("   events    users    items truth ev/core-s    ev/s build s  B/event  peak MiB")
    for events, users, items, truth in (
        (300_000, 2_000, 1_000, 0),
        (300_000, 2_000, 1_000, 1),
        (_MILLION, 100_000, 20_000, 0),
        (3 * _MILLION, 100_000, 20_000, 0),
        (300_000, 100_000, 100_000, 0),
    ):
        arguments = [str(number) for number in (events, users, items, truth)]
        runs = [_apart(arguments) for _ in range(options.repeat)]
        best = max(runs, key=lambda run: run["events_per_cpu_s"])
        print(
            f"{events:>9} {users:>8} {items:>8} {'yes' if truth else 'no':>5}"
            f" {best['events_per_cpu_s']:>9.0f} {best['events_per_s']:>7.0f}"
            f" {best['build_s']:>6.2f}"
            f" {best['bytes_per_event']:>8.0f} {best['peak_rss_mib']:>9.0f}"
        )


if __name__ == "__main__":
    main()
