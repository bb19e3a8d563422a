"""Ways from the bytes of a micro-batch to validated events, compared in one run.

    python -m bench.decode [--events FILE.ndjson.gz] [--batch 500] [--repeat 7]

Every way gets the same lines in batches of the same size and keeps the events of one batch.
Prints CPU microseconds an event (best of the repeats), and the ratio to the decoder in use.

Not every way is exact. Validating a joined array in one call lets two bad lines make a good one;
typed dictionaries and dataclasses have no place for the messages of the schema of record.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import orjson
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from stream.decoding.arbiter import Arbiter
from stream.decoding.decode import Decoder
from stream.decoding.fields import (
    Context,
    EventId,
    EventType,
    Finite,
    Id,
    Integer,
    Propensity,
    Timestamp,
)
from stream.events import EVENTS, Event, Interaction
from stream.records import RecordBatch

LOG_TIME = 1_700_000_000.0
STRICT = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class EventFields(TypedDict, total=False):
    """The schema of record, as a typed dictionary."""

    __pydantic_config__ = STRICT  # type: ignore[misc]  # pydantic's own name for it

    event_id: EventId
    type: EventType
    ts: Timestamp
    user_id: Id
    item_id: Id
    request_id: Id | None
    session_id: Id | None
    segment: Id | None
    position: Integer | None
    propensity: Propensity | None
    policy: Id | None
    value: Finite | None
    context: Context | None


@pydantic_dataclass(slots=True, config=ConfigDict(extra="ignore", allow_inf_nan=False))
class EventSlots:
    """The schema of record, as a slotted dataclass; not strict, since strict ones take no dict."""

    event_id: EventId
    type: EventType
    ts: Timestamp
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    session_id: Id | None = None
    segment: Id | None = None
    position: Integer | None = None
    propensity: Propensity | None = None
    policy: Id | None = None
    value: Finite | None = None
    context: Context | None = None


@dataclass(frozen=True)
class Way:
    """A way to decode a batch of lines."""

    name: str
    run: Callable[[Sequence[bytes]], Any]


def default_events() -> Path:
    """Return the shop file of the shared data."""
    root = Path(__file__).parents[1]
    shared = Path(os.environ.get("HEADRACE_SHARED_DATA", root.parent / "shared" / "data"))
    return shared / "clicks" / "shop.events.ndjson.gz"


def ways() -> Iterator[Way]:
    """Yield every way that is compared."""
    decoder = Decoder()

    def in_use(lines: Sequence[bytes]) -> Any:
        return decoder.decode(_records(lines))

    def in_one_record(lines: Sequence[bytes]) -> Any:
        return decoder.decode(_records([b"\n".join(lines)]))

    def by_arbiter(lines: Sequence[bytes]) -> Any:
        return [arbiter.judge(line, LOG_TIME) for line in lines]

    def all_at_once(adapter: TypeAdapter[Any]) -> Callable[[Sequence[bytes]], Any]:
        return lambda lines: adapter.validate_python([orjson.loads(line) for line in lines])

    arbiter = Arbiter()
    struct = msgspec.json.Decoder(Interaction).decode
    models = TypeAdapter(list[Event])
    model = TypeAdapter(Event)
    yield Way("Decoder, one line a record (in use)", in_use)
    yield Way("Decoder, all lines in one record (in use)", in_one_record)
    yield Way("msgspec Struct a line: no type, skew, NUL or errors", lambda x: list(map(struct, x)))
    yield Way("orjson a line: nothing validated", lambda x: [orjson.loads(line) for line in x])
    yield Way("orjson + list[TypedDict] in one call", all_at_once(TypeAdapter(list[EventFields])))
    yield Way(
        "orjson + list[slots dataclass] in one call (not exact: coerces)",
        all_at_once(TypeAdapter(list[EventSlots])),
    )
    yield Way("orjson + list[Event] in one call", all_at_once(models))
    yield Way("Event a line, validate_json", lambda x: [model.validate_json(line) for line in x])
    yield Way(
        "list[Event], validate_json of the joined lines (not exact)",
        lambda x: models.validate_json(b"[" + b",".join(x) + b"]"),
    )
    yield Way("the arbiter alone, line by line", by_arbiter)


def hard_inputs(lines: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield variants of the lines that leave the fast path."""
    yield "one line in 100 truncated", [x[:-9] if i % 100 == 50 else x for i, x in enumerate(lines)]
    yield "every line with an unknown field", [x[:-1] + b',"new":1}' for x in lines]
    text = b'"2020-05-31T00:20:13.5Z"'
    yield "every time as RFC 3339", [x[:-1] + b',"ts":' + text + b"}" for x in lines]
    yield "every line refused", [x[:-1] + b',"ts":-1}' for x in lines]


def _records(values: Sequence[bytes]) -> RecordBatch:
    return RecordBatch(EVENTS, 0, range(len(values)), values, [LOG_TIME] * len(values))


def measure(way: Way, batches: Sequence[Sequence[bytes]], repeat: int) -> float:
    """Return CPU microseconds an event: the best of the repeats, since noise only adds."""
    count = sum(map(len, batches))
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        for batch in batches:
            way.run(batch)
        best = min(best, time.process_time() - start)
    return best / count * 1e6


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=Path, default=default_events())
    parser.add_argument("--batch", type=int, default=500, help="lines a batch")
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    if not arguments.events.exists():
        parser.exit(2, f"no events: {arguments.events}; name a file with --events\n")
    lines = gzip.decompress(arguments.events.read_bytes()).splitlines()
    size = arguments.batch
    batches = [lines[i : i + size] for i in range(0, len(lines), size)]
    print(f"{len(lines)} lines of {sum(map(len, lines)) / len(lines):.0f} bytes, {size} a batch")
    reference = 0.0
    for way in ways():
        cost = measure(way, batches, arguments.repeat)
        reference = reference or cost
        print(f"{cost:8.2f} µs  {cost / reference:6.1f}×  {way.name}")
    print("the decoder in use, off its fast path:")
    decoder = Decoder()
    in_use = Way("in use", lambda x: decoder.decode(_records(x)))
    some = lines[:20_000]
    for name, changed in hard_inputs(some):
        batches = [changed[i : i + size] for i in range(0, len(changed), size)]
        cost = measure(in_use, batches, min(arguments.repeat, 3))
        print(f"{cost:8.2f} µs  {cost / reference:6.1f}×  {name}")


if __name__ == "__main__":
    main()
