"""How long a recommendation takes: in the kernel, and over HTTP beside a process that learns.

Run ``python -m bench.serving``. A catalogue of 100,000 items is learned from long-tailed
sessions; then the top 100 are asked for, in the kernel and, at a steady rate of requests, from
the embedded service, while events arrive at a steady rate and are learned. The client is a process
of its own (`bench.open_loop`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from httpx import AsyncClient
from numpy.typing import NDArray

from bench.cores import cpu_seconds
from models.recommender import Recommender
from models.recommender.slate import candidates
from stream import event_loop
from stream.api.serving import ApiService
from stream.commands.apart import service_apart
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


def _bodies(users: list[str], items: list[str], posts: int) -> list[str]:
    """Return the events as bodies of requests; `bench.open_loop` puts the time in."""
    lines = [
        f'{{"event_id":"e{user}.{item}.{n}","type":"click","ts":"@","user_id":"{user}",'
        f'"item_id":"{item}"}}'
        for n, (user, item) in enumerate(zip(users, items, strict=True))
    ]
    cuts = np.linspace(0, len(lines), posts + 1).astype(int).tolist() if posts else []
    return ["\n".join(lines[a:b]) for a, b in pairwise(cuts)]


async def _load(url: str, **job: Any) -> dict[str, Any]:
    """Put a load on the service from a process of its own; return what it measured."""
    address = urlsplit(url)
    job |= {"host": address.hostname, "port": address.port}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.open_loop", stdin=PIPE, stdout=PIPE
    )
    written, _ = await process.communicate(json.dumps(job).encode())
    if process.returncode:
        raise RuntimeError("the load generator failed")
    result: dict[str, Any] = json.loads(written)
    return result


def _service(url: str, apart: bool, port: Any, stop: Any) -> None:
    """Run the embedded service, as `headrace up` does, in two processes or in one."""
    settings = load_settings(env={}, overrides={"log": {"url": url}, "api": {"port": 0}})

    async def answer(service: ApiService, learning: list[int]) -> None:
        await service.start()
        port.put((service.url, [os.getpid(), *learning]))
        while not stop.is_set():
            await asyncio.sleep(0.2)
        await service.stop()

    if apart:
        with service_apart(settings) as (learner, service):
            event_loop.run(answer(service, [learner.pid] if learner.pid else []))
            learner.stop()
        return
    with embedded_service(settings) as (engine, service):
        engine.start()
        event_loop.run(answer(service, []))
        engine.stop()


async def http(
    items: int, warm: int, rate: float, asked: float, seconds: float, posts: float, apart: bool
) -> None:
    """Print how long answers take while the same deployment learns."""
    print(f"embedded service in {'two processes' if apart else 'one process'}")
    users, chosen = sessions(warm + int(rate * seconds) + 1, items)
    context = multiprocessing.get_context("spawn")
    port, stop = context.Queue(), context.Event()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'b.db'}"
        service = context.Process(target=_service, args=(url, apart, port, stop))
        service.start()
        at, processes = await asyncio.to_thread(port.get)
        bodies = _bodies(users[:warm], chosen[:warm], warm // 5_000)
        await _load(at, seconds=warm / 40_000, asked=1, users=["nobody"], k=1, posts=bodies)
        await _learned(at, warm)
        known = list(dict.fromkeys(users[:warm]))
        np.random.default_rng(2).shuffle(known)
        part = slice(warm, warm + int(rate * seconds))
        for name, body in (
            ("idle", []),
            ("learning", _bodies(users[part], chosen[part], int(posts * seconds))),
        ):
            used = {pid: -cpu_seconds(pid) for pid in processes}
            result = await _load(at, seconds=seconds, asked=asked, users=known, k=100, posts=body)
            wall = result["wall_s"]
            shares = [f"{(used[pid] + cpu_seconds(pid)) / wall:.2f}" for pid in processes]
            sent = sum(text.count("\n") + 1 for text in body)
            print(
                f"HTTP, {name}: {sent / wall:.0f} events/s, {len(result['asked']) / wall:.0f} "
                f"requests/s; of a core, the service takes {' + '.join(shares)}, "
                f"the load generator {result['cpu_s'] / wall:.2f}"
            )
            # The first requests compile nothing, but open connections.
            took = np.array(result["asked"][len(result["asked"]) // 10 :]) * 1e3
            quantiles("GET /v1/recommendations?k=100", took)
            if body:
                quantiles("POST /v1/events", np.array(result["posted"]) * 1e3)
                await _learned(at, warm + sent)
        stop.set()
        await asyncio.to_thread(service.join)


async def _learned(url: str, events: int) -> None:
    """Wait until the service has applied this many events."""
    async with AsyncClient(base_url=url, timeout=60) as client:
        while True:
            text = (await client.get("/metrics")).text
            found = re.search(
                r'^headrace_events_consumed_total{topic="headrace.events"} (\S+)', text, re.M
            )
            if found and float(found[1]) >= events:
                return
            await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--warm", type=int, default=400_000, help="Events learned beforehand.")
    parser.add_argument("--rate", type=float, default=5_000.0, help="Events a second.")
    parser.add_argument("--asked", type=float, default=200.0, help="Requests a second.")
    parser.add_argument("--posts", type=float, default=20.0, help="Requests that bring them.")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--one-process", action="store_true", help="Beside the default of two.")
    parser.add_argument("--no-kernel", action="store_true", help="HTTP alone.")
    arguments = parser.parse_args()
    if not arguments.no_kernel:
        kernel(arguments.items, arguments.warm)
    for apart in (True, False)[: 1 + arguments.one_process]:
        asyncio.run(
            http(
                arguments.items,
                arguments.warm,
                arguments.rate,
                arguments.asked,
                arguments.seconds,
                arguments.posts,
                apart,
            )
        )


if __name__ == "__main__":
    main()
