"""How many events the HTTP door makes durable, and what a scrape of `/metrics` costs.

    python -m bench.ingest                          # the embedded log
    python -m bench.ingest --kafka HOST:PORT        # a broker that has the topics

Server and client are processes of their own. Every answer is checked; an event counts once it is
durable: fsync of SQLite's WAL, or acks=all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from monitoring.catalogue import CATALOGUE, Kind
from monitoring.counts import StageCounts
from monitoring.feed import CountsFeed
from monitoring.metrics import Metrics

SERVER = """
import asyncio, sys
from monitoring.metrics import Metrics
from stream.api.serving import ApiService
from stream.config import Settings
from stream.distributed.kafka_sink import KafkaSink
from stream.embedded_log import EmbeddedLog
from stream.sinks import EmbeddedSink

async def main(url):
    settings = Settings(api={"port": 0}, log={"url": url}, store={"url": "sqlite:///unused.db"})
    if settings.log.embedded:
        sink = EmbeddedSink(EmbeddedLog(settings.log.path, 4))
    else:
        sink = KafkaSink.from_settings(settings)
    service = ApiService(settings, sink, Metrics())
    await service.start()
    print(service.url, flush=True)
    await service.wait()

asyncio.run(main(sys.argv[1]))
"""

SHAPES = ((1, 1), (1, 64), (10, 32), (100, 8), (1_000, 4), (10_000, 2))
"""(events in a request, requests under way)."""


@contextmanager
def server(log_url: str) -> Iterator[str]:
    """Run the API in a process of its own and give its URL."""
    command = [sys.executable, "-c", SERVER, log_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def request(events: int, number: int) -> bytes:
    """Return a whole HTTP request of so many events, all of them new."""
    lines = "\n".join(
        json.dumps(
            {
                "event_id": f"{number}-{n}",
                "type": "click",
                "ts": 1_700_000_000.5 + n,
                "user_id": f"user-{(number * 7 + n) % 5_000}",
                "item_id": f"item-{n % 1_000}",
                "request_id": f"request-{number}",
            }
        )
        for n in range(events)
    ).encode()
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {len(lines)}\r\n\r\n"
    )
    return head.encode() + lines


async def post_for(url: str, events: int, clients: int, seconds: float) -> list[float]:
    """Post from so many clients for so long; return every request's latency in seconds."""
    host, port = url.removeprefix("http://").split(":")
    prepared = [request(events, number) for number in range(max(8, 512 // events))]
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    expected = b'{"accepted":%d}' % events

    async def client(first: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        number = first
        while (began := time.perf_counter()) < end:
            writer.write(prepared[number % len(prepared)])
            number += 1
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 202") and body == expected, (head, body)
            latencies.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(k * 17) for k in range(clients)))
    return latencies


def server_cpu_s(url: str) -> float:
    """Return the CPU time that the server has used."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        page = answer.read().decode()
    found = re.search(r"^process_cpu_seconds_total (\S+)", page, re.MULTILINE)
    assert found is not None
    return float(found[1])


def bench_ingest(log_url: str, seconds: float) -> None:
    """Print a line for each shape of load."""
    print(f"{'events':>7} {'clients':>8} {'requests/s':>11} {'events/s':>10} "
          f"{'p50 ms':>8} {'p99 ms':>8} {'CPU us/event':>13}")  # fmt: skip
    with server(log_url) as url:
        asyncio.run(post_for(url, 10, 4, 0.5))
        for events, clients in SHAPES:
            cpu_s = server_cpu_s(url)
            latencies = asyncio.run(post_for(url, events, clients, seconds))
            cpu_us = (server_cpu_s(url) - cpu_s) * 1e6 / (len(latencies) * events)
            milliseconds = np.percentile(latencies, (50, 99)) * 1e3
            rate = len(latencies) / seconds
            print(f"{events:7d} {clients:8d} {rate:11,.0f} {rate * events:10,.0f} "
                  f"{milliseconds[0]:8.2f} {milliseconds[1]:8.2f} {cpu_us:13.1f}")  # fmt: skip


def fsync_ms(folder: Path) -> float:
    """Return the median time of a small write and its fsync: the floor of a durable answer."""
    times = []
    with (folder / "probe").open("wb") as probe:
        for _ in range(100):
            began = time.perf_counter()
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def bench_metrics(functions: int = 50, repeats: int = 200) -> None:
    """Print what a batch and a scrape cost with 50 labeling functions and a full catalogue."""
    metrics = Metrics()
    names = tuple(f"labeling_function_{n:02d}" for n in range(functions))
    counts = StageCounts()
    task = counts.task("relevance", ("negative", "positive"), names)
    feed, fed = CountsFeed(metrics), []
    for _ in range(repeats):
        counts.consumed["headrace.events"] += 500
        task.votes += 3
        task.abstains += 1
        task.seconds += 0.001
        began = time.perf_counter()
        feed.update(0, counts)
        fed.append(time.perf_counter() - began)
    for spec in CATALOGUE:
        if spec.kind is Kind.GAUGE and "lf" in spec.labels:
            metrics.set_array(spec.name, [(name,) for name in names], np.ones(functions))
        elif spec.kind is Kind.GAUGE and "lf_a" in spec.labels:
            pairs = [(names[n], names[n + 1]) for n in range(20)]
            metrics.replace(spec.name, pairs, np.ones(20))
        elif spec.kind is Kind.GAUGE and spec.labels and spec.labels[0] == "signal":
            rest = ("psi",) * (len(spec.labels) - 1)
            metrics.set_array(spec.name, [(name, *rest) for name in names], np.ones(functions))
    rendered = []
    for _ in range(repeats):
        began = time.perf_counter()
        page = metrics.render()
        rendered.append(time.perf_counter() - began)
    series = sum(1 for line in page.splitlines() if not line.startswith(b"#"))
    print(f"feed, a batch: median {statistics.median(fed) * 1e6:.0f} us")
    print(f"render: p50 {statistics.median(rendered) * 1e3:.2f} ms, best "
          f"{min(rendered) * 1e3:.2f} ms, {series} series, {len(page) / 1024:.1f} KiB")  # fmt: skip


def main() -> None:
    """Run both benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker instead of the embedded log")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape of load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.kafka:
            print(f"Kafka at {options.kafka}")
            bench_ingest(f"kafka://{options.kafka}", options.seconds)
        else:
            print(f"embedded log; one fsync takes {fsync_ms(Path(folder)):.2f} ms here")
            bench_ingest(f"sqlite:///{folder}/log.db", options.seconds)
    bench_metrics()


if __name__ == "__main__":
    main()
