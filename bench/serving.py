"""How long a recommendation takes: in the kernel, and over HTTP beside a process that learns.

Run ``python -m bench.serving``. A catalogue of 100,000 items is learned from long-tailed
sessions; then the top 100 are asked for, in the kernel and, at a steady rate of requests, from
the embedded service, while events arrive at a steady rate and the same process learns them. The
client is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from httpx import AsyncClient, Limits
from numpy.typing import NDArray

from models.recommender import Recommender
from models.recommender.slate import candidates
from stream.commands.running import embedded_service
from stream.config import load_settings

_SHELF = 50


def sessions(events: int, items: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return users and items of sessions of five, each on one shelf of a long-tailed catalogue."""
    rng = np.random.default_rng(seed)
    shelves = items // _SHELF
    n = -(-events // 5)
    shelf = np.minimum(rng.zipf(1.2, n) - 1, shelves - 1)
    wide = rng.random(n) < 0.5
    shelf[wide] = rng.integers(0, shelves, int(wide.sum()))
    item = (shelf[:, None] * _SHELF + rng.integers(0, _SHELF, (n, 5))).ravel()[:events]
    user = np.repeat(np.arange(n), 5)[:events]
    return [f"u{x}" for x in user.tolist()], [f"i{x}" for x in item.tolist()]


def quantiles(name: str, milliseconds: Sequence[float] | NDArray[np.float64]) -> None:
    p50, p99, p999 = np.quantile(milliseconds, (0.5, 0.99, 0.999)).tolist()
    n = len(milliseconds)
    print(f"  {name:<34} p50 {p50:7.3f}  p99 {p99:7.3f}  p99.9 {p999:7.3f} ms  (n {n})")


def kernel(items: int, events: int, asked: int = 5_000) -> None:
    """Print how long the top 100 take without a service around them."""
    users, chosen = sessions(events, items)
    model = Recommender(max_users=events)
    ts = np.arange(events, dtype=np.float64) * 0.2 + 1.7e9
    for start in range(0, events, 10_000):
        part = slice(start, start + 10_000)
        model.learn_many(users[part], chosen[part], ts=ts[part])
    print(f"kernel: top 100 of {model.n_items} items")
    names = list(dict.fromkeys(users))
    rng = np.random.default_rng(1)
    took, with_reasons = [], []
    for user in (names[x] for x in rng.integers(0, len(names), asked).tolist()):
        history = model.histories.find(user)
        began = time.perf_counter()
        model.recommend_for(*history, 100)
        took.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        candidates(model, *history, 100)
        with_reasons.append((time.perf_counter() - began) * 1e3)
    quantiles("recommend_for", took)
    quantiles("with reasons", with_reasons)


def _event(number: int, user: str, item: str) -> dict[str, Any]:
    now = time.time()
    return {"event_id": f"e{number}", "type": "click", "ts": now, "user_id": user, "item_id": item}


async def _feed(url: str, users: list[str], items: list[str], rate: float, seconds: float) -> int:
    """Send events at a rate, twenty times a second; return how many."""
    sent = 0
    began = time.monotonic()
    async with AsyncClient(base_url=url, timeout=60) as client:
        while (elapsed := time.monotonic() - began) < seconds:
            due = min(len(users), int((elapsed + 0.05) * rate))
            if due > sent:
                lines = [json.dumps(_event(n, users[n], items[n])) for n in range(sent, due)]
                answer = await client.post(
                    "/v1/events",
                    content="\n".join(lines),
                    headers={"content-type": "application/x-ndjson"},
                )
                answer.raise_for_status()
                sent = due
            await asyncio.sleep(0.05)
    return sent


async def _ask(url: str, users: list[str], rate: float, seconds: float) -> list[float]:
    """Ask at a rate, whatever the answers take; return their milliseconds."""
    took: list[float] = []
    rng = np.random.default_rng(2)
    pool = Limits(max_connections=32, max_keepalive_connections=32)
    async with AsyncClient(base_url=url, timeout=60, limits=pool) as client:

        async def one(user: str) -> None:
            began = time.perf_counter()
            answer = await client.get("/v1/recommendations", params={"user_id": user, "k": 100})
            answer.raise_for_status()
            took.append((time.perf_counter() - began) * 1e3)

        began = time.monotonic()
        asking = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            asking.append(asyncio.create_task(one(users[int(rng.integers(len(users)))])))
        await asyncio.gather(*asking)
    return took


def _load(url: str, work: tuple[list[str], list[str], float, float, float], out: Any) -> None:
    users, items, rate, asked, seconds = work

    async def run() -> None:
        feeding = asyncio.create_task(_feed(url, users, items, rate, seconds))
        took = await _ask(url, users, asked, seconds)
        out.put((await feeding, took))

    asyncio.run(run())


async def http(items: int, warm: int, rate: float, asked: float, seconds: float) -> None:
    """Print how long answers take while the same process learns."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        settings = load_settings(
            env={},
            overrides={"log": {"url": f"sqlite:///{Path(folder) / 'b.db'}"}, "api": {"port": 0}},
        )
        users, chosen = sessions(warm + int(rate * seconds) + 1, items)
        with embedded_service(settings) as (engine, service):
            await service.start()
            engine.start()
            await _feed(service.url, users[:warm], chosen[:warm], 50_000.0, 1.0 + warm / 50_000.0)
            while not await asyncio.to_thread(engine.drained):
                await asyncio.sleep(0.2)
            context = multiprocessing.get_context("spawn")
            for name, events in (("idle", 0.0), ("learning", rate)):
                out = context.Queue()
                work = (users[warm:], chosen[warm:], events, asked, seconds)
                client = context.Process(target=_load, args=(service.url, work, out))
                client.start()
                sent, took = await asyncio.to_thread(out.get)
                await asyncio.to_thread(client.join)
                print(f"HTTP, {name}: {sent / seconds:.0f} events/s, {asked:g} requests/s")
                # The first requests compile nothing, but open connections.
                quantiles("GET /v1/recommendations?k=100", took[len(took) // 10 :])
            await service.stop()
            await asyncio.to_thread(engine.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--warm", type=int, default=400_000, help="Events learned beforehand.")
    parser.add_argument("--rate", type=float, default=5_000.0, help="Events a second.")
    parser.add_argument("--asked", type=float, default=200.0, help="Requests a second.")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    kernel(arguments.items, arguments.warm)
    asyncio.run(
        http(arguments.items, arguments.warm, arguments.rate, arguments.asked, arguments.seconds)
    )


if __name__ == "__main__":
    main()
