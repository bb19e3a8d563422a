"""Saves of each state store, and appends and reads of the embedded log.

`python -m bench.stores [--redis URL] [--folder DIR] [--repeat N]` prints medians and maxima in
milliseconds; Redis is left out without its URL. One save writes 2,000 users of 1 kB among 100,000
and contributions of 2 MB, as a busy partition does every one or two seconds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from stream.embedded_log import EmbeddedLog
from stream.records import Outgoing
from stream.state import SHARED_PREFIX, Checkpoint, Epoch, StateStore, UserWrite
from stream.stores import open_store

USERS = 100_000
USERS_A_SAVE = 2_000
USER_BYTES = 1_000
CHUNKS = 20
CHUNK_BYTES = 100_000
RECORD = b"x" * 250
EPOCH = Epoch(1, "bench")


def timed(repeat: int, call: Callable[[int], object]) -> list[float]:
    """Return the milliseconds of each call."""
    took = []
    for n in range(repeat):
        began = time.perf_counter()
        call(n)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def tell(name: str, what: str, took: list[float], note: str = "") -> None:
    """Print one line of the table."""
    print(f"{name:8} {what:42} {statistics.median(took):9.2f} {max(took):9.2f}  {note}")


def checkpoints(repeat: int) -> Iterator[Checkpoint]:
    """Yield a first checkpoint of every user, then some of a busy partition."""
    randomness = random.Random(1)
    blob = randomness.randbytes(USER_BYTES)
    keys = [n.to_bytes(10, "big") for n in randomness.sample(range(2**40), USERS)]
    everybody = {key: UserWrite(blob, 1e9) for key in keys}
    yield Checkpoint(0, {}, {"events": 1}, everybody)
    chunks = {f"{SHARED_PREFIX}model/{n}": randomness.randbytes(CHUNK_BYTES) for n in range(CHUNKS)}
    for n in range(1, repeat + 1):
        some = {
            key: UserWrite(n.to_bytes(4, "big") + blob[4:], 1e9 + n if n % 2 else None)
            for key in randomness.sample(keys, USERS_A_SAVE)
        }
        yield Checkpoint(0, {"events": n}, {"events": n + 1}, some, dict(chunks))


def bench_store(name: str, store: StateStore, repeat: int) -> None:
    """Time each operation of one store."""
    store.claim(0, EPOCH)
    first, *rest = checkpoints(repeat)
    tell(name, f"save {USERS:,} users (first)", timed(1, lambda _: store.save(first, EPOCH)))
    tell(
        name,
        f"save {USERS_A_SAVE:,} users + {CHUNKS * CHUNK_BYTES // 10**6} MB in {CHUNKS} chunks",
        timed(repeat, lambda n: store.save(rest[n], EPOCH)),
    )
    keys = list(rest[-1].users)
    tell(name, f"load {len(keys):,} users", timed(repeat, lambda n: store.load_users(0, keys)))
    tell(name, "load 200 users", timed(repeat, lambda n: store.load_users(0, keys[:200])))
    tell(name, "shared, everything", timed(repeat, lambda _: store.shared(SHARED_PREFIX, {})))
    known = {(c.partition, c.name): c.version for c in store.shared(SHARED_PREFIX, {})}
    tell(name, "shared, nothing new", timed(repeat, lambda _: store.shared(SHARED_PREFIX, known)))
    tell(name, "find_user", timed(repeat, lambda n: store.find_user(keys[n])))
    tell(name, "claim", timed(repeat, lambda _: store.claim(0, EPOCH)))


def bench_log(path: Path, repeat: int) -> None:
    """Time appends and reads of the embedded log."""
    with closing(EmbeddedLog(path, 8)) as log:
        thousand = [Outgoing("events", b"user-%d" % n, RECORD) for n in range(1_000)]
        tell("log", "append 1,000 records", timed(repeat, lambda _: log.append(thousand)))
        tell("log", "append 1 record", timed(repeat * 5, lambda _: log.append(thousand[:1])))
        for threads in (4, 16):
            rate = concurrent_appends(log, threads, thousand[:1])
            print(f"{'log':8} {f'append 1 record in {threads} threads':42} {rate:9,.0f} a second")
        ends = log.end_offsets("events")
        began = time.perf_counter()
        for partition, end in ends.items():
            at = 0
            while at < end:
                at = log.read("events", partition, at, max_bytes=1 << 20).offsets[-1] + 1
        rate = sum(ends.values()) / (time.perf_counter() - began)
        print(f"{'log':8} {'read in batches of 1 MiB':42} {rate:9,.0f} records a second")


def concurrent_appends(log: EmbeddedLog, threads: int, records: list[Outgoing]) -> float:
    """Return appends a second of several threads together."""
    each = 200

    def work() -> None:
        for _ in range(each):
            log.append(records)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * each / (time.perf_counter() - began)


def bench_both(path: Path, repeat: int) -> None:
    """Append while saves go to the same file, as the embedded service does."""
    done = threading.Event()
    with closing(open_store(f"sqlite:///{path}")) as store, closing(EmbeddedLog(path, 8)) as log:
        store.claim(0, EPOCH)
        first, *rest = checkpoints(repeat)
        store.save(first, EPOCH)

        def save() -> None:
            for checkpoint in rest:
                store.save(checkpoint, EPOCH)
                time.sleep(0.25)
            done.set()

        saver = threading.Thread(target=save)
        saver.start()
        records = [Outgoing("events", b"user-%d" % n, RECORD) for n in range(50)]
        took: list[float] = []
        while not done.is_set():
            took += timed(1, lambda _: log.append(records))
            time.sleep(0.01)
        saver.join()
        tail = sorted(took)[int(len(took) * 0.99)]
        tell("both", "append 50 records while saving", took, f"p99 {tail:.1f}")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="URL of a Redis to fill and empty again")
    parser.add_argument("--folder", help="where SQLite files are made (default: temporary)")
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    print(f"{'':51} {'median ms':>9} {'max ms':>9}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        urls = {"memory": "memory:", "sqlite": f"sqlite:///{folder}/state.db"}
        if options.redis:
            urls["redis"] = options.redis
        for name, url in urls.items():
            with closing(open_store(url, instance="bench")) as store:
                store.reset()
                bench_store(name, store, options.repeat)
                store.reset()
        bench_log(Path(folder) / "log.db", options.repeat)
        bench_both(Path(folder) / "both.db", options.repeat)


if __name__ == "__main__":
    main()
