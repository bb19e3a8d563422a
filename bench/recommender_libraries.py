"""Recommenders of other libraries on the same events in the same run, in an environment of theirs.

``HEADRACE_PEERS_PYTHON`` names a Python that has implicit, river or flurs (all three install into
Python 3.11); without it, those that this Python has are run. Every event is learned; since some
take milliseconds to recommend, every `every`-th is predicted first.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["LIBRARIES", "Predicted", "predict"]

Ints = npt.NDArray[np.int64]
LIBRARIES = {
    "implicit ALS, refitted daily": "implicit",
    "implicit cosine, refitted daily": "implicit",
    "river FunkMF": "river",
    "FluRS BPR": "flurs",
}
"""Name of each peer, and of the module that shows whether it is there."""

_DAY = 86_400.0
_TOP = 10


class Predicted(NamedTuple):
    """Which events were predicted, with what 0-based rank (-1: a miss), in what time."""

    row: Ints
    rank: Ints
    seconds: float


class _Given(NamedTuple):
    users: Ints
    items: Ints
    ts: npt.NDArray[np.float64]
    every: int

    def asked(self) -> Iterator[tuple[int, int, int, bool]]:
        """Yield row, user and item of each event, and whether it is to be predicted."""
        pairs = zip(self.users.tolist(), self.items.tolist(), strict=True)
        for row, (user, item) in enumerate(pairs):
            yield row, user, item, row % self.every == 0


def _implicit(make: Callable[[], Any], given: _Given) -> Iterator[tuple[int, int]]:
    sparse: Any = importlib.import_module("scipy.sparse")
    n_items = int(given.items.max()) + 1
    model, day = None, given.ts[0] // _DAY
    baskets: dict[int, list[int]] = {}
    for row, user, item, asked in given.asked():
        if given.ts[row] // _DAY != day:
            day = given.ts[row] // _DAY
            shape = (int(given.users.max()) + 1, n_items)
            pairs = (given.users[:row], given.items[:row])
            model = make()
            model.fit(sparse.csr_matrix((np.ones(row, np.float32), pairs), shape), False)
        own = baskets.setdefault(user, [])
        if asked:
            found: list[int] = []
            if model is not None and own:
                basket = sparse.csr_matrix(
                    (np.ones(len(own), np.float32), ([0] * len(own), own)), (1, n_items)
                )
                ids, _ = model.recommend(
                    0, basket, _TOP, filter_already_liked_items=False, recalculate_user=True
                )
                found = ids.tolist()
            yield row, found.index(item) if item in found else -1
        own.append(item)


def _als(given: _Given) -> Iterator[tuple[int, int]]:
    als: Any = importlib.import_module("implicit.als")
    return _implicit(
        lambda: als.AlternatingLeastSquares(factors=64, iterations=10, random_state=0), given
    )


def _cosine(given: _Given) -> Iterator[tuple[int, int]]:
    nearest: Any = importlib.import_module("implicit.nearest_neighbours")
    return _implicit(lambda: nearest.CosineRecommender(K=64), given)


def _river(given: _Given) -> Iterator[tuple[int, int]]:
    reco: Any = importlib.import_module("river.reco")
    model, draw = reco.FunkMF(n_factors=16, seed=0), random.Random(0)  # noqa: S311 - no secret
    seen: dict[int, None] = {}
    order: list[int] = []
    for row, user, item, asked in given.asked():
        if asked:
            target = model.predict_one(user, item)
            better = sum(model.predict_one(user, other) > target for other in seen)
            yield row, better if item in seen and better < _TOP else -1
        if item not in seen:
            seen[item] = None
            order.append(item)
        model.learn_one(user, item, 1.0)
        # What is only ever liked teaches a regression nothing.
        model.learn_one(user, draw.choice(order), 0.0)


def _flurs(given: _Given) -> Iterator[tuple[int, int]]:
    np.random.seed(0)  # noqa: NPY002 - the library draws from it
    recommenders: Any = importlib.import_module("flurs.recommender")
    types: Any = importlib.import_module("flurs.data.entity")
    model = recommenders.BPRMFRecommender(k=32, learn_rate=0.05)
    model.initialize()
    users: dict[int, Any] = {}
    items: dict[int, Any] = {}
    for row, user, item, asked in given.asked():
        if user not in users:
            users[user] = types.User(len(users))
            model.register(users[user])
        if asked:
            rank = -1
            if item in items:
                best, _ = model.recommend(users[user], np.arange(len(items)))
                place = np.flatnonzero(best[:_TOP] == items[item].index)
                rank = int(place[0]) if len(place) else -1
            yield row, rank
        if item not in items:
            items[item] = types.Item(len(items))
            model.register(items[item])
        model.update(types.Event(users[user], items[item]))


_RUN: dict[str, Callable[[_Given], Iterator[tuple[int, int]]]] = dict(
    zip(LIBRARIES, (_als, _cosine, _river, _flurs), strict=True)
)


def predict(
    name: str, users: Ints, items: Ints, ts: npt.NDArray[np.float64], every: int
) -> Predicted | str:
    """Return what a peer predicts, or why it cannot."""
    python = os.environ.get("HEADRACE_PEERS_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, users=users, items=items, ts=ts)
        command = [python, str(Path(__file__)), name, str(every), str(given), str(result)]
        done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - our own
        if done.returncode or not result.exists():
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"exit {done.returncode}"
        found = np.load(result)
        return Predicted(found["row"], found["rank"], float(found["seconds"]))


def _main(name: str, every: str, given: str, result: str) -> None:
    if importlib.util.find_spec(LIBRARIES[name]) is None:
        raise SystemExit(f"not installed: {LIBRARIES[name]} (HEADRACE_PEERS_PYTHON)")
    stored = np.load(given)
    began = time.process_time()
    found = list(_RUN[name](_Given(stored["users"], stored["items"], stored["ts"], int(every))))
    row, rank = np.array(found, np.int64).reshape(-1, 2).T
    np.savez(result, row=row, rank=rank, seconds=time.process_time() - began)


if __name__ == "__main__":
    _main(*sys.argv[1:])
