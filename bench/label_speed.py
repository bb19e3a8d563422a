"""Speed of the label model, beside peers on the same votes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.label_peers import fit_peer
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


def bench_peers() -> None:
    """Processor time of whole sets beside batch peers: each warmed up, medians, one thread."""
    out = table(
        "Seconds for a whole set, fitted and judged", "set", "votes", "row by row",
        "here", "votes/s", "crowd-kit", "≥ 10 ×", "Snorkel", "≥ 100 ×",
    )  # fmt: skip
    for data in _sets():
        cast = int((data.votes >= 0).sum())
        seconds = median_seconds(partial(_bulk, data))
        cells = [
            data.name,
            f"{cast:,}",
            f"{median_seconds(partial(_row_by_row, data)):.4f}",
            f"{seconds:.4f}",
            f"{cast / seconds:,.0f}",
        ]
        for peer, least in (("crowd-kit", 10.0), ("snorkel", 100.0)):
            fitted = fit_peer(peer, data.votes, data.n_classes)
            if fitted is None:
                cells += ["not installed", ""]
                continue
            ratio = fitted.seconds / seconds
            cells += [f"{fitted.seconds:.3f}", f"{ratio:,.0f} × {mark(ratio >= least)}"]
        out.add_row(*cells)
    CONSOLE.print(out)
