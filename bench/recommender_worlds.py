"""Streams of known kinds: sessions, long histories without repeats, habits, mere popularity.

Real data are few, and what differs between streams must be learned and not configured; each of
these worlds makes another expert the best one.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "WORLDS",
    "Stream",
    "films",
    "habits",
    "long_histories",
    "popularity_only",
    "sessions",
    "shop",
]

_DAY = 86_400.0
_CLUSTER = 20


@dataclass(frozen=True, slots=True)
class Stream:
    """Engagements in time order: users and items by number, seconds since the epoch."""

    name: str
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    ts: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.users)

    def head(self, n: int) -> Stream:
        """Return the first ``n`` engagements."""
        return Stream(self.name, self.users[:n], self.items[:n], self.ts[:n])


def _times(rng: np.random.Generator, n: int, days: float) -> NDArray[np.float64]:
    return np.sort(rng.random(n)) * days * _DAY + 1.6e9


def _stream(name: str, users: list[int], items: list[int], ts: NDArray[np.float64]) -> Stream:
    return Stream(name, np.array(users, np.int32), np.array(items, np.int32), ts)


def sessions(n: int = 30_000, items: int = 2_000, seed: int = 0) -> Stream:
    """Return short sessions that walk among like items and now and then go back."""
    rng = np.random.default_rng(seed)
    clusters = items // _CLUSTER
    ends = rng.zipf(1.6, items) % items
    users: list[int] = []
    chosen: list[int] = []
    user = 0
    while len(users) < n:
        path: list[int] = []
        at = int(rng.integers(clusters)) * _CLUSTER
        for _ in range(1 + int(rng.geometric(0.22))):
            draw = rng.random()
            if draw < 0.25 and len(path) > 1:
                item = path[-2 - int(rng.integers(min(3, len(path) - 1)))]
            elif draw < 0.9:
                item = at + int(rng.integers(_CLUSTER) * rng.random())
            else:
                item = int(ends[rng.integers(items)])
            path.append(item)
            users.append(user)
            chosen.append(item)
        user += 1
    users, chosen = users[:n], chosen[:n]
    # Some thirty sessions overlap, and each keeps its own order.
    owner = np.array(users)
    moment = owner + 30.0 * rng.random(n)
    moment[np.lexsort((np.arange(n), owner))] = moment[np.lexsort((moment, owner))]
    order = np.argsort(moment, kind="stable")
    return _stream(
        "sessions", [users[r] for r in order], [chosen[r] for r in order], _times(rng, n, 30)
    )


def long_histories(n: int = 30_000, items: int = 1_000, seed: int = 0) -> Stream:
    """Return users who consume a hundred things each by taste, and nothing twice."""
    rng = np.random.default_rng(seed)
    genres = 12
    genre = rng.integers(0, genres, items)
    appeal = 1.0 / (1.0 + rng.permutation(items)) ** 0.6
    members = [np.flatnonzero(genre == g) for g in range(genres)]
    users: list[int] = []
    chosen: list[int] = []
    n_users = n // 100 + 1
    taste = rng.dirichlet(np.full(genres, 0.25), n_users)
    had: list[set[int]] = [set() for _ in range(n_users)]
    # Some thirty users are about at a time.
    while len(users) < n:
        about = len(users) * n_users // n
        user = min(n_users - 1, about + int(rng.integers(30)))
        pool = members[rng.choice(genres, p=taste[user])]
        left = np.array([i for i in pool if i not in had[user]], np.int64)
        if not len(left):
            continue
        item = int(rng.choice(left, p=appeal[left] / appeal[left].sum()))
        had[user].add(item)
        users.append(user)
        chosen.append(item)
    return _stream("long histories", users, chosen, _times(rng, n, 200))


def habits(n: int = 30_000, items: int = 1_000, seed: int = 0) -> Stream:
    """Return users who mostly come back to a few things of their own."""
    rng = np.random.default_rng(seed)
    n_users = n // 60
    own = rng.integers(0, items, (n_users, 12))
    user = rng.integers(0, n_users, n)
    usual = rng.random(n) < 0.8
    pick = (rng.random(n) ** 2 * own.shape[1]).astype(np.int64)
    item = np.where(usual, own[user, pick], rng.integers(0, items, n))
    return _stream("habits", user.tolist(), item.tolist(), _times(rng, n, 60))


def popularity_only(n: int = 30_000, items: int = 1_000, seed: int = 0) -> Stream:
    """Return engagements that depend on nothing but what is popular that week."""
    rng = np.random.default_rng(seed)
    ts = _times(rng, n, 28)
    appeal = 1.0 / (1.0 + np.arange(items))
    week = ((ts - ts[0]) // (7 * _DAY)).astype(np.int64)
    names = np.stack([rng.permutation(items) for _ in range(int(week.max()) + 1)])
    rank = rng.choice(items, n, p=appeal / appeal.sum())
    user = rng.integers(0, n // 8, n)
    return _stream("popularity only", user.tolist(), names[week, rank].tolist(), ts)


WORLDS: dict[str, Callable[..., Stream]] = {
    "sessions": sessions,
    "long histories": long_histories,
    "habits": habits,
    "popularity only": popularity_only,
}


def films(path: Path) -> Stream:
    """Return the ratings in a file of MovieLens's form: user, item, rating and time, by tabs.

    A line of names, as RecBole's ``ml-100k.inter`` has one, is passed over.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [(float(ts), user, item) for user, item, _, ts in lines if ts[:1].isdigit()]
    rows.sort(key=lambda row: row[0])
    return Stream(
        "films",
        np.array([users.setdefault(user, len(users)) for _, user, _ in rows], np.int32),
        np.array([items.setdefault(item, len(items)) for _, _, item in rows], np.int32),
        np.array([ts for ts, _, _ in rows]),
    )


def shop() -> Stream | None:
    """Return the real clicks of the shared data, or None where they are absent."""
    root = os.environ.get("HEADRACE_SHARED_DATA")
    folder = Path(root) if root else Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    path = folder / "clicks" / "shop.events.ndjson.gz"
    if not path.exists():
        return None
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows: list[tuple[int, int, float]] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            user = users.setdefault(event["user_id"], len(users))
            item = items.setdefault(event["item_id"], len(items))
            rows.append((user, item, float(event["ts"])))
    return Stream(
        "shop",
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int32),
        np.array([row[2] for row in rows]),
    )
