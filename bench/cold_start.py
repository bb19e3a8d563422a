"""What an item's catalogue entry is worth before anybody has chosen it.

Run ``python -m bench.cold_start``. Clicks of a simulated shop, whose items appear all along, are
predicted one by one, then learned: without content, with it, and with the entries shuffled among
the items, which must do no harm. A never-seen item is one that nobody clicked before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.content import ContentIndex
from models.recommender import HISTORY, Recommender
from models.recommender.borrowing import Borrowing
from stream.simulate import World, WorldConfig

_WINDOW = 5_000
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Clicks:
    """Clicks in the order of arrival, and the catalogue with the moment of each entry."""

    users: NDArray[np.int32]
    items: list[str]
    ts: NDArray[np.float64]
    entries: list[dict[str, Any]]
    born: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.items)

    def first(self) -> NDArray[np.bool_]:
        """Return which clicks are the first ever on their item."""
        seen: set[str] = set()
        flags = np.zeros(len(self), np.bool_)
        for at, item in enumerate(self.items):
            flags[at] = item not in seen
            seen.add(item)
        return flags


def clicks(events: int, seed: int, items: int = 4_000, new_items: float = 0.5) -> Clicks:
    """Return the clicks of a simulated shop in which new items appear all along."""
    world = World(
        WorldConfig(seed=seed, events=events, users=events // 60, items=items, new_items=new_items)
    )
    users: dict[str, int] = {}
    found: list[tuple[int, str, float]] = []
    for part in world.chunks():
        for line in part:
            event = orjson.loads(line)
            if event["type"] == "click":
                user = users.setdefault(event["user_id"], len(users))
                found.append((user, event["item_id"], float(event["ts"])))
    found.sort(key=lambda click: click[2])
    entries = list(world.items())
    return Clicks(
        np.array([user for user, _, _ in found], np.int32),
        [item for _, item, _ in found],
        np.array([ts for _, _, ts in found]),
        entries,
        np.array([entry["ts"] for entry in entries], np.float64),
    )


def shuffled(stream: Clicks, seed: int = 0) -> Clicks:
    """Return the same clicks on items whose entries belong to others."""
    order = np.random.default_rng(seed).permutation(len(stream.entries)).tolist()
    entries = [
        {**stream.entries[other], "item_id": entry["item_id"]}
        for entry, other in zip(stream.entries, order, strict=True)
    ]
    return Clicks(stream.users, stream.items, stream.ts, entries, stream.born)


def ranks(stream: Clicks, content: bool) -> tuple[NDArray[np.int32], float]:
    """Return the rank of each click, and the processor's seconds that they took."""
    model = Recommender()
    index = ContentIndex()
    borrowing = Borrowing(index)
    users = int(stream.users.max()) + 1
    items = np.full((users, HISTORY), -1, np.int32)
    weights = np.zeros((users, HISTORY), np.float32)
    lengths = np.zeros(users, np.int32)
    learned = np.full(len(stream), -1.0)
    out = []
    entries = iter(zip(stream.born.tolist(), stream.entries, strict=True))
    entry = next(entries, None)
    seconds = 0.0
    for start in range(0, len(stream), _BATCH):
        part = slice(start, min(len(stream), start + _BATCH))
        while content and entry is not None and entry[0] <= stream.ts[start]:
            index.add(entry[1]["item_id"], entry[1])
            entry = next(entries, None)
        began = time.process_time()
        if content:
            borrowing.catch_up(model)
        n = part.stop - part.start
        out.append(
            model.step_many(
                items,
                weights,
                lengths,
                stream.users[part],
                model.item_indexes(stream.items[part]),
                np.arange(part.start, part.stop, dtype=np.int32),
                learned,
                np.ones(n),
                stream.ts[part],
                np.zeros(n, np.int8),
            ).rank
        )
        seconds += time.process_time() - began

    return np.concatenate(out), seconds


def gains(rank: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the nDCG@10 of each click."""
    hit = (rank >= 0) & (rank < 10)
    return np.where(hit, 1.0 / np.log2(np.maximum(rank, 0) + 2.0), 0.0)


def hits(rank: NDArray[np.int32]) -> float:
    """Return the share of clicks on an item of the ten recommended."""
    return float(((rank >= 0) & (rank < 10)).mean())


def worst_window(rank: NDArray[np.int32], base: NDArray[np.int32]) -> float:
    """Return the smallest nDCG of a window relative to the base's in it, less one."""
    ours, theirs = gains(rank), gains(base)
    edges = range(0, max(1, len(rank) - _WINDOW + 1), _WINDOW)
    found = [
        ours[at : at + _WINDOW].sum() / max(theirs[at : at + _WINDOW].sum(), 1e-9) - 1.0
        for at in edges
    ]
    return float(min(found))


def rows(stream: Clicks) -> Iterator[tuple[str, NDArray[np.int32], float]]:
    """Yield each way's name, ranks and seconds; the base comes first."""
    yield ("without content", *ranks(stream, content=False))
    yield ("content neighbours", *ranks(stream, content=True))
    yield ("entries shuffled", *ranks(shuffled(stream), content=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        stream = clicks(arguments.events, seed, arguments.items)
        first = stream.first()
        known = {
            entry["item_id"]: born for entry, born in zip(stream.entries, stream.born, strict=True)
        }
        late = np.array([known[item] > stream.born[0] for item in stream.items])
        few = np.zeros(len(stream), np.bool_)
        seen: dict[str, int] = {}
        for at, item in enumerate(stream.items):
            few[at] = 0 < seen.get(item, 0) < 5
            seen[item] = seen.get(item, 0) + 1
        print(
            f"seed {seed}: {len(stream)} clicks on {len(seen)} items, "
            f"{int(first.sum())} never seen before ({int((first & late).sum())} of them new)"
        )
        print(
            f"  {'':<22}{'hit@10':>8}{'nDCG@10':>9}{'never':>8}{'of new':>8}{'1 to 4':>8}"
            f"{'worst window':>14}{'us':>7}"
        )
        base: NDArray[np.int32] | None = None
        for name, rank, seconds in rows(stream):
            base = rank if base is None else base
            print(
                f"  {name:<22}{hits(rank):8.4f}{gains(rank).mean():9.4f}{hits(rank[first]):8.4f}"
                f"{hits(rank[first & late]):8.4f}{hits(rank[few]):8.4f}"
                f"{worst_window(rank, base):+14.4f}{seconds / len(stream) * 1e6:7.1f}"
            )


if __name__ == "__main__":
    main()
