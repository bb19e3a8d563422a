"""How well and how fast the recommender predicts, beside its peers and its own parts.

Run ``python -m bench.recommender``. Every event is predicted among all items seen so far, then
learned. The real clicks are skipped, saying so, where the shared data are absent.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.recommender_libraries import LIBRARIES, predict
from bench.recommender_peers import Figures, daily_cosine, figures, popularity
from bench.recommender_worlds import WORLDS, Stream, films, shop
from models.recommender import HISTORY, Config, Recommender
from models.recommender.config import EXPERTS
from models.recommender.tables import Flag

_DAY = 86_400.0
_BATCH = 500
LIBRARY_EVERY = dict(zip(LIBRARIES, (25, 25, 1_000, 100), strict=True))
"""Of how many events a library's model predicts one; it learns all."""


class _Acquainted(Recommender):
    """Knows every item, as who has the person's history beside an old model does."""

    def meet(self, items: Sequence[str]) -> None:
        """Take items for seen: one of the history may then be chosen again."""
        found = self.item_indexes(items)
        self._tables.flags[found] |= np.uint8(Flag.SEEN)


class Owner:
    """A partition's side of the stepwise interface: histories, and weights learned."""

    def __init__(self, stream: Stream, model: Recommender) -> None:
        users = int(stream.users.max()) + 1
        self.stream = stream
        self.model = model
        self.ids = [f"i{item}" for item in stream.items.tolist()]
        self.items = np.full((users, HISTORY), -1, np.int32)
        self.weights = np.zeros((users, HISTORY), np.float32)
        self.lengths = np.zeros(users, np.int32)
        self.learned = np.full(len(stream), -1.0)
        self.example = np.arange(len(stream), dtype=np.int32)
        self.kind = np.zeros(len(stream), np.int8)

    def step(
        self, start: int, stop: int, weight: NDArray[np.float64], learn: bool = True
    ) -> NDArray[np.int32]:
        """Predict and learn rows; return their ranks."""
        rows = slice(start, stop)
        return self.model.step_many(
            self.items,
            self.weights,
            self.lengths,
            self.stream.users[rows],
            self.model.item_indexes(self.ids[rows]),
            self.example[rows],
            self.learned,
            weight[rows],
            self.stream.ts[rows],
            self.kind[rows],
            learn,
        ).rank


def run(
    stream: Stream,
    config: Config | None = None,
    weight: NDArray[np.float64] | None = None,
    batch: int = _BATCH,
) -> tuple[NDArray[np.int32], float]:
    """Return ranks, and the processor's seconds that they took."""
    owner = Owner(stream, Recommender(config))
    weights = np.ones(len(stream)) if weight is None else weight
    began = time.process_time()
    parts = [
        owner.step(start, min(len(stream), start + batch), weights)
        for start in range(0, len(stream), batch)
    ]
    return np.concatenate(parts), time.process_time() - began


def daily(stream: Stream, *, acquainted: bool = False) -> NDArray[np.int32]:
    """Return ranks of the same model when what it learned reaches the serving copy at midnight.

    People's histories are live either way. As a model that is trained at night and serves the
    day, the copy knows no item of today. ``acquainted`` is the stricter reading: whoever had an
    item of today may get it again, as if the copy learned of repeats at once and only of what
    goes together at midnight.
    """
    learner = Owner(stream, Recommender())
    model = _Acquainted()
    server = Owner(stream, model)
    weights = np.ones(len(stream))
    day = stream.ts // _DAY
    edges = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(stream)]
    parts = []
    for start, stop in zip(edges, edges[1:], strict=False):
        if acquainted:
            model.meet(server.ids[start:stop])
        parts.append(server.step(start, stop, weights, learn=False))
        learner.step(start, stop, weights)
        server.model = model = _Acquainted.from_bytes(learner.model.to_bytes())
    return np.concatenate(parts)


def _print(name: str, found: Figures, note: str = "") -> None:
    print(f"  {name:<34} {found.hit:>7.4f} {found.ndcg:>9.4f}  {note}")


def quality(stream: Stream, peers: bool) -> None:
    """Print the whole beside its experts, its daily self, and its peers."""
    print(f"{stream.name}: {len(stream)} events, {len(set(stream.items.tolist()))} items")
    print(f"  {'':<34} {'hit@10':>7} {'nDCG@10':>9}")
    rank, seconds = run(stream)
    whole = figures(rank)
    _print("headrace", whole, f"{seconds / len(stream) * 1e6:.1f} us an event")
    best = 0.0
    for expert in EXPERTS:
        alone = figures(run(stream, Config(experts=(expert,)))[0])
        best = max(best, alone.ndcg)
        _print(f"  {expert} alone, with repeats", alone)
    print(f"  whole / best expert, nDCG: {whole.ndcg / best:.4f}")
    if peers:
        for acquainted in (False, True):
            late = figures(daily(stream, acquainted=acquainted))
            name = "  today's may come again (strict)" if acquainted else "refreshed daily"
            allowed = "no item of today" if not acquainted else "of today's a person's own"
            ratio = whole.ndcg / late.ndcg
            _print(name, late, f"whole is {ratio:.3f} times its nDCG; it may give {allowed}")
        _print("item-item cosine, refitted daily", figures(daily_cosine(stream)))
        _print("popularity, half-life a day", figures(popularity(stream)))
        for name, every in LIBRARY_EVERY.items():
            found = predict(
                name, stream.users.astype(np.int64), stream.items.astype(np.int64), stream.ts, every
            )
            if isinstance(found, str):
                print(f"  {name:<34} absent: {found}")
                continue
            same = figures(rank[found.row])
            spent = f"{found.seconds / len(stream) * 1e6:,.0f} us an event"
            note = (
                f"on these {len(found.rank)} headrace has {same.hit:.4f} {same.ndcg:.4f}; {spent}"
            )
            _print(name, figures(found.rank.astype(np.int32)), note)


def soft_labels(stream: Stream, share: float = 0.35, seed: int = 0) -> None:
    """Print what labels' probabilities save when false clicks are mixed in.

    A false click is on an item drawn at random from what was clicked before. Five voters with
    accuracies from .65 to .85 say of each click whether it is false; the probability is Bayes's
    from their true accuracies. Only true clicks are scored.
    """
    rng = np.random.default_rng(seed)
    n = len(stream)
    extra = int(n * share / (1.0 - share))
    origin = np.sort(rng.integers(0, n, extra))
    drawn = stream.items[(rng.random(extra) * (origin + 1)).astype(np.int64)]
    order = np.argsort(np.concatenate([np.arange(n), origin + 0.5]), kind="stable")
    false = np.concatenate([np.zeros(n, bool), np.ones(extra, bool)])[order]
    mixed = Stream(
        f"{stream.name}, {share:.0%} false clicks",
        np.concatenate([stream.users, stream.users[origin]])[order],
        np.concatenate([stream.items, drawn])[order],
        np.concatenate([stream.ts, stream.ts[origin]])[order],
    )
    accuracy = np.linspace(0.65, 0.85, 5)
    correct = rng.random((n + extra, 5)) < accuracy
    says_true = correct ^ false[:, None]
    logit = np.log((1.0 - share) / share) + (
        np.where(says_true, 1.0, -1.0) * np.log(accuracy / (1.0 - accuracy))
    ).sum(axis=1)
    probability = 1.0 / (1.0 + np.exp(-logit))
    clean = figures(run(stream)[0]).hit
    results = {
        "all clicks believed": np.ones(n + extra),
        "hard threshold at .5": (probability > 0.5).astype(np.float64),
        "probabilities": probability,
        "the truth": (~false).astype(np.float64),
    }
    print(f"{mixed.name}: clean hit@10 {clean:.4f}")
    naive = 0.0
    for name, weight in results.items():
        found = figures(run(mixed, weight=weight)[0][~false])
        if name == "all clicks believed":
            naive = found.hit
        recovered = (found.hit - naive) / (clean - naive)
        _print(name, found, f"recovers {recovered:.0%} of the hit rate lost")


def speed(stream: Stream, repeats: int) -> None:
    """Print events a second of one core, by batch, and the latency of one recommendation."""
    print("speed, processor time of one core")
    for batch in (1, 64, 500, 4096):
        part = stream if batch > 1 else stream.head(10_000)
        seconds = min(run(part, batch=batch)[1] for _ in range(repeats))
        print(f"  steps of {batch:>5}: {len(part) / seconds:>9,.0f} events/s")
    rng = np.random.default_rng(0)
    model = Recommender()
    items, users = 100_000, 60_000
    for start in range(0, 600_000, 50_000):
        n = 50_000
        who = rng.integers(0, users, n)
        what = who % 1000 * 100 + (rng.random(n) ** 2 * 100).astype(np.int64)
        what[: items // 12] = np.arange(start // 50_000 * (items // 12), items)[: items // 12]
        model.learn_many([f"u{u}" for u in who], [f"i{i}" for i in what], ts=np.full(n, start))
    times = []
    for user in rng.integers(0, users, 3000).tolist():
        history = model.histories.find(f"u{user}")
        began = time.perf_counter()
        model.recommend_for(*history, 100, ts=600_000.0)
        times.append(time.perf_counter() - began)
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    print(f"  top 100 of {model.n_items:,} items: p50 {p50:.3f} ms, p99 {p99:.3f} ms (wall clock)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print quality, what soft labels save, and speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no peers, one repeat")
    parser.add_argument("--films", type=Path, help="ratings: ml-100k's u.data, or RecBole's .inter")
    options = parser.parse_args(arguments)
    real = shop()
    if real is None:
        print("shop: skipped, the shared data are not here (HEADRACE_SHARED_DATA)")
    else:
        quality(real, peers=not options.quick)
        soft_labels(real)
    if options.films is not None:
        quality(films(options.films), peers=False)
    for world in WORLDS.values():
        quality(world(), peers=False)
    speed(real or WORLDS["sessions"](), 1 if options.quick else 3)


if __name__ == "__main__":
    main()
