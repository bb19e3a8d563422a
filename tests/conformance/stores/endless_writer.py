"""Save whole checkpoints until killed: `endless_writer URL INSTANCE OWNER`."""

from __future__ import annotations

import sys

from stream.state import Checkpoint, Epoch, StateStore, UserWrite
from stream.stores import open_store

KEYS = [n.to_bytes(10, "big") for n in range(300)]


def checkpoint(n: int) -> Checkpoint:
    """Give the save from n to n + 1: every user, timer and chunk says n + 1."""
    data = b"%d" % (n + 1)
    users: dict[bytes, UserWrite | None] = {key: UserWrite(data * 50, float(n + 1)) for key in KEYS}
    chunks = {"share/a": data * 40_000, "own": data}
    expected = {"events": n} if n else {}
    return Checkpoint(0, expected, {"events": n + 1}, users, chunks)


def assert_whole(store: StateStore, owner: str) -> int:
    """Check that the state is one checkpoint, and give its number."""
    head = store.claim(0, Epoch(1, owner))
    n = head.next_offsets["events"]
    data = b"%d" % n
    assert dict(head.chunks) == {"share/a": data * 40_000, "own": data}
    assert dict(head.timers) == dict.fromkeys(KEYS, float(n))
    assert store.load_users(0, KEYS) == dict.fromkeys(KEYS, data * 50)
    return n


def main() -> None:
    url, instance, owner = sys.argv[1:]
    store = open_store(url, instance=instance)
    epoch = Epoch(1, owner)
    n = dict(store.claim(0, epoch).next_offsets).get("events", 0)
    print(n, flush=True)
    while True:
        store.save(checkpoint(n), epoch)
        n += 1
        print(n, flush=True)


if __name__ == "__main__":
    main()
