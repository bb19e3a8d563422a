"""Speed of the label model, beside peers on the same votes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from rich.table import Table

from bench.label_peers import fit_peer
from bench.label_scores import BATCH, CONSOLE, label_stream, mark, names, table
from bench.label_sets import TARGETS
from bench.label_worlds import VoteSet, data_folder, drifting_stream, load_set
from models import LabelModel
from models.label_model.config import HALF_LIVES

__all__ = ["bench_speed"]


def best_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the least processor time of several runs: other work on the machine only adds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


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
    _against_peers(out)
    CONSOLE.print(out)


def _against_peers(out: Table) -> None:
    """Add how much faster each peer's votes are learned and judged here, set by set."""
    folder = data_folder()
    sets = [] if folder is None else [load_set(folder, name) for name in TARGETS]
    stream = drifting_stream(0)
    sets.append(VoteSet("planted", stream.votes, stream.truth, 2))
    for peer, least in (("crowd-kit", 10.0), ("snorkel", 100.0)):
        ours = theirs = 0.0
        for data in sets:
            fitted = fit_peer(peer, data.votes, data.n_classes)
            if fitted is None:
                continue

            def learn(data: VoteSet = data) -> None:
                classes = [str(k) for k in range(data.n_classes)]
                columns = names(data.votes.shape[1])
                label_stream(LabelModel(classes, columns, form=data.form), data.votes)

            seconds = best_seconds(learn, 3)
            ours += seconds
            theirs += fitted.seconds
            out.add_row(
                f"{data.name}: votes/s here, {peer}'s",
                f"{(data.votes >= 0).sum() / seconds:,.0f}, "
                f"{(data.votes >= 0).sum() / fitted.seconds:,.0f}",
                "",
                f"{fitted.seconds / seconds:,.0f} ×",
            )
        if theirs:
            ratio = theirs / ours
            out.add_row(f"all sets: against {peer}", f"{ratio:,.0f} ×", f"≥ {least:.0f} ×",
                        mark(ratio >= least))  # fmt: skip
        else:
            out.add_row(f"all sets: against {peer}", "not installed", f"≥ {least:.0f} ×", "")
