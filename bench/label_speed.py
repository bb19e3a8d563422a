"""Speed of the label model, beside peers on the same votes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.label_peers import REFIT_EVERY, fit_peer, keep_current
from bench.label_scores import BATCH, CONSOLE, label_stream, mark, names, table
from bench.label_sets import TARGETS, new_model
from bench.label_worlds import VoteSet, data_folder, drifting_stream, load_set
from models import LabelModel
from models.label_model.config import HALF_LIVES

__all__ = ["bench_peers", "bench_speed"]


def best_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the least processor time of several runs: other work on the machine only adds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def median_seconds(run: Callable[[], object], least_s: float = 0.5) -> float:
    """Return the median processor time of runs that take ``least_s`` in all, after a first one."""
    run()
    times: list[float] = []
    while len(times) < 5 or sum(times) < least_s:
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return float(np.median(times))


def bench_speed() -> None:
    """Votes per second of processor time, and the time of one batch."""
    out = table("Speed", "figure", "measured", "target", "")
    stream = drifting_stream(0)
    cast = int((stream.votes >= 0).sum())
    settings = (
        ("plain", 1.5e6, False, (float("inf"),)),
        ("bank", 0.8e6, False, HALF_LIVES),
        ("bank + correlation", 0.4e6, True, HALF_LIVES),
    )

    for title, target, correlations, half_lives in settings:

        def learn(
            size: int, correlations: bool = correlations, lives: tuple[float, ...] = half_lives
        ) -> None:
            model = LabelModel(["0", "1"], names(10), correlations=correlations, half_lives=lives)
            for start in range(0, len(stream.votes), size):
                model.learn_many(stream.votes[start : start + size])

        learn(BATCH)
        speed = cast / best_seconds(partial(learn, BATCH))
        out.add_row(
            f"{title}: votes/s, batches of 32",
            f"{speed:,.0f}",
            f"≥ {target:,.0f}",
            mark(speed >= target),
        )
        whole = cast / best_seconds(partial(learn, len(stream.votes)))
        out.add_row(f"{title}: votes/s, one call", f"{whole:,.0f}", "", "")
    rng = np.random.default_rng(0)
    wide = rng.integers(-1, 2, (32 * 400, 50)).astype(np.int8)
    model = LabelModel(["0", "1"], names(50))
    model.learn_many(wide[:64])
    times = []
    for start in range(0, len(wide), BATCH):
        begin = time.process_time()
        model.learn_many(wide[start : start + BATCH])
        times.append(1000.0 * (time.process_time() - begin))
    p99 = float(np.quantile(times, 0.99))
    out.add_row("p99 of a batch of 32 at 50 LFs (ms)", f"{p99:.2f}", "≤ 2", mark(p99 <= 2.0))
    CONSOLE.print(out)


def _sets() -> list[VoteSet]:
    folder = data_folder()
    sets = [] if folder is None else [load_set(folder, name) for name in TARGETS]
    for name, n in (("planted", 20_000), ("planted, a million votes", 182_000)):
        stream = drifting_stream(0, n)
        sets.append(VoteSet(name, stream.votes, stream.truth, 2))
    return sets


def _bulk(data: VoteSet) -> None:
    """Learn a whole set in one call, then judge all of it: what the peers' fit and predict do."""
    model = new_model(data)
    model.learn_many(data.votes)
    model.predict_proba_many(data.votes)


def _row_by_row(data: VoteSet) -> None:
    """Label each row with what was known at its arrival, weights included, then learn it."""
    label_stream(new_model(data), data.votes)


RIVALS = (
    ("crowd-kit", "crowd-kit", 100, 10.0),
    ("Snorkel", "snorkel", 100, 100.0),
    ("Snorkel, 500 epochs", "snorkel", 500, 100.0),
)
"""What a column is called, the peer, its epochs (Snorkel's default, its tutorials' number), and
how many times faster than it to be."""


TOGETHER = "the real sets together"


class _Timed(NamedTuple):
    """A set, how much there is of it, our seconds, and those of each peer that can take it."""

    name: str
    size: int
    seconds: float
    theirs: list[float | None]


def _with_sum(sets: list[_Timed]) -> list[_Timed]:
    """Return the sets, and the real ones together; a peer that cannot take one has no sum."""
    real = [each for each in sets if each.name in TARGETS]
    if not real:
        return sets
    size, seconds = sum(each.size for each in real), sum(each.seconds for each in real)
    theirs: list[float | None] = []
    for column in zip(*(each.theirs for each in real), strict=True):
        known = [value for value in column if value is not None]
        theirs.append(sum(known) if len(known) == len(column) else None)
    return [*sets, _Timed(TOGETHER, size, seconds, theirs)]


def _beside(seconds: float, theirs: list[float | None]) -> list[str]:
    """Return cells of each peer's seconds, and how many times ours they are."""
    cells = []
    for other, (_, _, _, least) in zip(theirs, RIVALS, strict=True):
        if other is None:
            cells += ["not installed", ""]
        else:
            ratio = other / seconds
            cells += [f"{other:.3f}", f"{ratio:,.1f} × {mark(ratio >= least)}"]
    return cells


def bench_peers() -> None:
    """Processor time beside batch peers: each warmed up, medians, one thread.

    Once for a whole set, and once for labels that are there when an example comes, which a batch
    model has only as of its last fit.
    """
    _bench_whole()
    _bench_current()


def _bench_whole() -> None:
    out = table(
        "Seconds for a whole set, fitted and judged", "set", "votes", "here", "votes/s", *_heads()
    )
    timed = []
    for data in _sets():
        CONSOLE.print(f"peers: {data.name}, whole")
        cast = int((data.votes >= 0).sum())
        seconds = median_seconds(partial(_bulk, data))
        fitted: list[float | None] = []
        for _, peer, epochs, _ in RIVALS:
            once = fit_peer(peer, data.votes, data.n_classes, epochs=epochs)
            fitted.append(once.seconds if once else None)
        timed.append(_Timed(data.name, cast, seconds, fitted))
    for name, votes, ours, theirs in _with_sum(timed):
        out.add_row(
            name, f"{votes:,}", f"{ours:.4f}", f"{votes / ours:,.0f}", *_beside(ours, theirs)
        )
    CONSOLE.print(out)


def _bench_current() -> None:
    out = table(
        f"Seconds for labels kept current: each row judged when it comes, then learned; peers "
        f"fitted again every {REFIT_EVERY:,} examples, and at the end",
        "set", "examples", "here", *_heads(),
    )  # fmt: skip
    timed = []
    for data in _sets():
        CONSOLE.print(f"peers: {data.name}, kept current")
        seconds = median_seconds(partial(_row_by_row, data))
        kept = [
            keep_current(peer, data.votes, data.n_classes, epochs=epochs)
            for _, peer, epochs, _ in RIVALS
        ]
        timed.append(_Timed(data.name, len(data.votes), seconds, kept))
    for name, examples, ours, theirs in _with_sum(timed):
        out.add_row(name, f"{examples:,}", f"{ours:.4f}", *_beside(ours, theirs))
    CONSOLE.print(out)


def _heads() -> list[str]:
    return [head for name, _, _, least in RIVALS for head in (name, f"≥ {least:.0f} ×")]
