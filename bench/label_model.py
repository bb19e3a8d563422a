"""Benchmark of the label model: ``python -m bench.label_model [section ...]``.

Sections: sets, drift, gold, audit, merge, speed, peers. Each prints measurements beside targets,
and whether they are reached; every figure comes from one configuration, the default. Snorkel,
FlyingSquid and crowd-kit run where ``HEADRACE_PEERS_PYTHON`` has them (`bench.label_peers`).
"""

from __future__ import annotations

import sys

from bench.label_drift import bench_drift, bench_merge
from bench.label_gold import bench_audit, bench_gold
from bench.label_sets import bench_sets
from bench.label_speed import bench_peers, bench_speed

SECTIONS = {
    "sets": bench_sets,
    "drift": bench_drift,
    "gold": bench_gold,
    "audit": bench_audit,
    "merge": bench_merge,
    "speed": bench_speed,
    "peers": bench_peers,
}


def main() -> None:
    """Run the sections named on the command line, or all."""
    for name in sys.argv[1:] or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
