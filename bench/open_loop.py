"""A steady load on the API, cheap enough not to be what is measured: ``python -m bench.open_loop``.

Requests fall due at a fixed rate, whatever the answers take (an open loop), and an answer's time
counts from when its request was due: what waits for a connection, or for this process, waits.
Nothing is imported but the standard library; a job is read from stdin and the result is written
to stdout, both JSON.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from collections import deque
from typing import Any, Final, NamedTuple

__all__ = ["run"]

_CONNECTIONS: Final = 16
_RECEIVED: Final = 1 << 18
_STAMP: Final = b'"@"'
_LATE_S: Final = 30.0


class _Asked(NamedTuple):
    due: float
    request: bytes


class _Connection:
    """One connection that is kept; one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._answer = b""

    def send(self, asked: _Asked) -> None:
        self.due = asked.due
        self._answer = b""
        self.socket.sendall(asked.request)

    def received(self) -> bool:
        """Read what is there; tell whether the answer is whole."""
        data = self.socket.recv(_RECEIVED)
        if not data:
            raise ConnectionError("the service closed a connection")
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 20"):
            raise ValueError(f"refused: {head!r} {body!r}")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return len(body) >= length


class _Group:
    """Requests of one kind, each due at its time, over connections of their own."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        # In turn, so that none is closed for being idle.
        self.free = deque(_Connection(host, port) for _ in range(connections))
        self.busy: dict[socket.socket, _Connection] = {}
        self.waiting: deque[_Asked] = deque()
        self.took: list[float] = []

    def send(self) -> None:
        while self.waiting and self.free:
            connection = self.free.popleft()
            self.busy[connection.socket] = connection
            connection.send(self.waiting.popleft())

    def receive(self, ready: socket.socket) -> None:
        connection = self.busy[ready]
        if connection.received():
            self.took.append(time.perf_counter() - connection.due)
            del self.busy[ready]
            self.free.append(connection)


def _post(body: bytes) -> bytes:
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Put the load of a job on a service; return the seconds that answers took.

    Keys of a job: ``host``, ``port``, ``seconds``; ``asked``: requests a second; ``users``: whom
    to ask for, in turn; ``k``; ``posts``: bodies to send, evenly over the time, in which ``"@"``
    stands for the time of sending.
    """
    seconds = float(job["seconds"])
    posts = [body.encode() for body in job["posts"]]
    asking = _Group(job["host"], job["port"], _CONNECTIONS)
    feeding = _Group(job["host"], job["port"], 2)
    users, rate = job["users"], float(job["asked"])
    target = "GET /v1/recommendations?user_id={}&k={} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    requests = [
        target.format(users[n % len(users)], job["k"]).encode() for n in range(int(rate * seconds))
    ]
    gc.disable()
    cpu = time.process_time()
    began = time.perf_counter()
    ask = post = 0
    while True:
        now = time.perf_counter() - began
        if now > seconds + _LATE_S:
            raise TimeoutError(f"answers are {_LATE_S:g} s behind")
        while ask < len(requests) and ask / rate <= now:
            asking.waiting.append(_Asked(began + ask / rate, requests[ask]))
            ask += 1
        while post < len(posts) and post * seconds <= now * len(posts):
            body = posts[post].replace(_STAMP, b"%.3f" % time.time())
            feeding.waiting.append(_Asked(began + post * seconds / len(posts), _post(body)))
            post += 1
        asking.send()
        feeding.send()
        busy = {**asking.busy, **feeding.busy}
        over = ask == len(requests) and post == len(posts)
        if over and not busy and not asking.waiting and not feeding.waiting:
            break
        due = ask / rate if ask < len(requests) else now + 0.01
        ready, _, _ = select.select(busy, (), (), max(0.0, due - (time.perf_counter() - began)))
        for each in ready:
            (asking if each in asking.busy else feeding).receive(each)
    wall = time.perf_counter() - began
    return {
        "asked": asking.took,
        "posted": feeding.took,
        "wall_s": wall,
        "cpu_s": time.process_time() - cpu,
    }


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
