"""Benchmark of the label model: ``python -m bench.label_model [section ...]``.

Sections: sets, drift, gold, audit, merge, speed, peers. Each prints measurements beside targets,
and whether they are reached; every figure comes from one configuration, the default. Snorkel,
FlyingSquid and crowd-kit run where ``HEADRACE_PEERS_PYTHON`` has them (`bench.label_peers`).
"""

from __future__ import annotations

import argparse

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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all if none"
    )
    chosen = parser.parse_args().sections
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"found {unknown[0]!r}; sections are {', '.join(SECTIONS)}")
    for name in chosen or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
