"""What cutting a recommender's checkpoint costs, in processor time and in bytes.

Run ``python -m bench.recommender_checkpoint``. One of eight partitions that take 5,000 events a
second together and save every quarter of a second: 156 events between two cuts. Items are drawn
with a long tail, from catalogues of several sizes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from models.recommender import HISTORY, Recommender

_EVENTS = 156
_SAVES_PER_S = 32
_CUTS = 200
_USERS = 4_000


class Shop:
    """A recommender and the sessions that it learns from."""

    def __init__(self, items: int) -> None:
        self.rng = np.random.default_rng(0)
        share = (np.arange(items) + 10.0) ** -0.8
        self.share = share / share.sum()
        self.names = [f"item-{item:06d}" for item in range(items)]
        self.model = Recommender()
        self.model.item_indexes(self.names)
        self.items = np.full((_USERS, HISTORY), -1, np.int32)
        self.weights = np.zeros((_USERS, HISTORY), np.float32)
        self.lengths = np.zeros(_USERS, np.int32)
        self.ts = 0.0

    def step(self, n: int) -> None:
        """Learn ``n`` engagements; some sessions end before."""
        item = self.rng.choice(len(self.names), n, p=self.share)
        user = (item * 7 + self.rng.integers(0, 20, n)) % _USERS
        self.lengths[self.rng.integers(0, _USERS, n // 4)] = 0
        self.model.step_many(
            self.items,
            self.weights,
            self.lengths,
            user.astype(np.int32),
            self.model.item_indexes([self.names[i] for i in item.tolist()]),
            np.arange(n, dtype=np.int32),
            np.full(n, -1.0),
            np.ones(n),
            self.ts + np.arange(n) / 200.0,
            np.zeros(n, np.int8),
        )
        self.ts += n / 200.0


def main() -> None:
    """Print a line for each size of the catalogue."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for items in (2_000, 18_000, 100_000):
        shop = Shop(items)
        for _ in range(2 * items // 1_000):
            shop.step(5_000)
        shop.model.dirty_chunks()
        shop.model.mark_clean()
        spent, sizes = [], []
        for _ in range(_CUTS):
            shop.step(_EVENTS)
            began = time.thread_time()
            chunks = shop.model.dirty_chunks()
            shop.model.mark_clean()
            spent.append(time.thread_time() - began)
            sizes.append(sum(len(data) for data in chunks.values() if data is not None))
        cost_us = np.array(spent) * 1e6
        size = float(np.mean(sizes))
        print(
            f"{items:>7,} items: {np.median(cost_us):6.0f} us a cut (p99 "
            f"{np.percentile(cost_us, 99):6.0f}), {size / 1e3:6.0f} kB a save, "
            f"{size * _SAVES_PER_S / 1e6:5.1f} MB/s and "
            f"{np.mean(cost_us) * _SAVES_PER_S / 1e4:5.2f} % of a core for eight partitions"
        )


if __name__ == "__main__":
    main()
