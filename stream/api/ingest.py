"""`POST /v1/events` and `/v1/items`: checked line by line, durable in the log, then answered."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, TypeAdapter
from starlette.responses import Response

from monitoring.metrics import Metrics
from stream.api.admission import Admission
from stream.api.auth import Role, require
from stream.api.body import Line, read_body, split_lines
from stream.api.limits import Limits
from stream.api.problems import PROBLEM_JSON, Problem, problem_response
from stream.api.rate import RateLimit
from stream.assembly import decoder
from stream.config import Settings
from stream.decoding.records import RecordDecoder
from stream.decoding.rejection import WHOLE_LINE, Rejected
from stream.events import EVENTS, ITEMS, Item
from stream.partitioning import partition_for
from stream.pseudonyms import GROWTH_BYTES, pseudonym, with_pseudonym
from stream.records import Outgoing, RecordBatch
from stream.sinks import AppendFailed, EventSink

__all__ = ["Accepted", "Ingest", "PartlyAccepted", "Rejection", "router"]

RECORD_BYTES: Final = 512 * 1024
"""Lines of one partition share a record up to this size; a longer line has one for itself."""

_IN_THREAD_BYTES: Final = 64 * 1024
_RETRY_AFTER_S: Final = "2"


class Accepted(BaseModel):
    """Every line is in the log."""

    accepted: int = Field(description="Lines that are durable in the log.")


class Rejection(BaseModel):
    """Why a line was refused."""

    line: int = Field(description="Number of the line, or of the array's element, from 1.")
    field: str = Field(description="Field at fault; `line` for the line itself.")
    reason: str = Field(description="What was found, and what is allowed.")


class PartlyAccepted(Accepted):
    """Some lines were refused; the others are in the log."""

    rejected_count: int = Field(description="Lines that were refused.")
    rejected: list[Rejection] = Field(
        description="Each refused line, in order; of very many, the first."
    )


class Checked(NamedTuple):
    """Lines of a request after validation: records to append, and how many lines each holds."""

    records: list[Outgoing]
    line_counts: list[int]
    rejected: list[Rejected]


class Ingest:
    """The door of the log.

    Parameters
    ----------
    settings
        What a valid event is, how fast events may come, and whether people get pseudonyms.
    limits
        How much is taken on.
    sink
        The log.
    metrics
        Counts what became of each line.
    clock
        Wall clock, seconds since the epoch: what "too far in the future" is judged against.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        sink: EventSink,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._body_timeout_s = settings.api.body_timeout_s
        self._events_per_s = settings.api.events_per_s
        self._rate = RateLimit(settings.api.events_per_s)
        self._admission = Admission(limits.in_flight_bytes, limits.admission_s)
        # A client that could write a tick would close everybody's windows.
        self._events = decoder(settings, accept_ticks=False)
        events = settings.events
        self._items = RecordDecoder(
            TypeAdapter(Item),
            max_line_bytes=events.max_line_bytes,
            max_future_skew_s=events.max_future_skew_s,
        )
        self._longest_line = events.max_line_bytes
        self._secret: bytes | None = None
        if settings.privacy.pseudonymise:
            self._secret = settings.privacy.hash_key.get_secret_value().encode()

    async def events(self, request: Request) -> Response:
        """Answer `POST /v1/events`."""
        return await self._accept(request, EVENTS, self._check_events)

    async def items(self, request: Request) -> Response:
        """Answer `POST /v1/items`."""
        return await self._accept(request, ITEMS, self._check_items)

    async def _accept(
        self, request: Request, topic: str, check: Callable[[Sequence[Line], int], Checked]
    ) -> Response:
        wait_s = self._rate.retry_after_s()
        if wait_s:
            raise Problem(
                429,
                f"more than {self._events_per_s:g} events a second arrive "
                f"(api.events_per_s); try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        async with self._admission.room(_room(request, self._limits.body_bytes)):
            body = await read_body(
                request, limit=self._limits.body_bytes, timeout_s=self._body_timeout_s
            )
            lines = split_lines(body, request.headers.get("content-type"))
            self._check_number(lines)
            self._rate.charge(len(lines))
            route = request.url.path
            self._metrics.add("api_received_bytes_total", (route,), len(body))
            return await self._store(topic, route, lines, check, len(body))

    async def _store(
        self,
        topic: str,
        route: str,
        lines: Sequence[Line],
        check: Callable[[Sequence[Line], int], Checked],
        n_bytes: int,
    ) -> Response:
        try:
            partitions = await self._sink.partitions(topic)
        except AppendFailed as failure:
            return self._unavailable(route, failure, Checked([], [], []), len(lines))
        if n_bytes > _IN_THREAD_BYTES:
            # Other requests take their turns while a long one is checked.
            checked = await asyncio.to_thread(check, lines, partitions)
        else:
            checked = check(lines, partitions)
        try:
            if checked.records:
                await self._sink.append(checked.records)
        except AppendFailed as failure:
            return self._unavailable(route, failure, checked, sum(checked.line_counts))
        accepted = sum(checked.line_counts)
        self._count(route, accepted=accepted, rejected=len(checked.rejected))
        longest = self._longest_line
        all_too_long = all(len(each.raw) > longest for each in checked.rejected)
        return _answer(accepted, self._rejections(checked.rejected), all_too_long=all_too_long)

    def _check_events(self, lines: Sequence[Line], partitions: int) -> Checked:
        decoded = self._events.decode(self._as_batch(EVENTS, lines))
        data = dict(lines)
        by_partition: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        checked = Checked([], [], decoded.rejected)
        for event, number in zip(decoded.events, decoded.offsets, strict=True):
            user_id, line = event.user_id, data[number]
            if self._secret is not None:
                user_id = pseudonym(user_id, self._secret)
                raw, line = line, with_pseudonym(line, user_id)
                if len(line) > self._longest_line + GROWTH_BYTES:
                    # Whoever reads the log would refuse what is accepted here.
                    told = f"is too long under a pseudonym: {len(line)} bytes"
                    checked.rejected.append(Rejected(number, 1, 0.0, WHOLE_LINE, told, raw))
                    continue
            key = user_id.encode()
            by_partition[partition_for(key, partitions)].append((key, line))
        for partition, keyed in by_partition.items():
            for group in _groups(keyed):
                keys = {key for key, _ in group}
                # A record of several people has no key: nobody's would be right.
                key_of_all = keys.pop() if len(keys) == 1 else None
                value = b"\n".join(line for _, line in group)
                checked.records.append(Outgoing(EVENTS, key_of_all, value, partition))
                checked.line_counts.append(len(group))
        return checked

    def _check_items(self, lines: Sequence[Line], partitions: int) -> Checked:
        decoded = self._items.decode(self._as_batch(ITEMS, lines))
        data = dict(lines)
        checked = Checked([], [], decoded.rejected)
        for item, origin in zip(decoded.records, decoded.origins, strict=True):
            # Compaction keeps the last record of a key, so each item has its own.
            key = item.item_id.encode()
            partition = partition_for(key, partitions)
            checked.records.append(Outgoing(ITEMS, key, data[origin.offset], partition))
            checked.line_counts.append(1)
        return checked

    def _as_batch(self, topic: str, lines: Sequence[Line]) -> RecordBatch:
        # A line stands for a record, its number for the offset, so that it can be found again.
        times = [self._clock()] * len(lines)
        return RecordBatch(
            topic, 0, [line.number for line in lines], [line.data for line in lines], times
        )

    def _unavailable(
        self, route: str, failure: AppendFailed, checked: Checked, offered: int
    ) -> Response:
        counts = checked.line_counts
        accepted = sum(counts[i] for i in failure.stored)
        unknown = sum(counts[i] for i in failure.unknown)
        lost = offered - accepted - unknown
        self._count(
            route, accepted=accepted, unknown=unknown, failed=lost, rejected=len(checked.rejected)
        )
        return problem_response(
            503,
            f"the events log is not available: {failure.reason}. Of {offered} valid lines, "
            f"{accepted} are stored, {unknown} may be, {lost} are not; send the whole request "
            "again: what is stored already is recognised",
            headers={"Retry-After": _RETRY_AFTER_S},
            accepted=accepted,
            unknown=unknown,
            **self._rejections(checked.rejected),
        )

    def _rejections(self, rejected: Sequence[Rejected]) -> dict[str, Any]:
        # The decoder was given line numbers as offsets.
        first = sorted(rejected, key=lambda each: each.offset)[: self._limits.shown_rejections]
        return {
            "rejected_count": len(rejected),
            "rejected": [
                {"line": each.offset, "field": each.field, "reason": each.reason} for each in first
            ],
        }

    def _check_number(self, lines: Sequence[Line]) -> None:
        if not lines:
            raise Problem(400, "the body is empty; at least one JSON object is needed")
        if len(lines) > self._limits.lines:
            raise Problem(
                413,
                f"the body has {len(lines)} lines; at most {self._limits.lines} are allowed in "
                "one request",
            )

    def _count(self, route: str, **outcomes: int) -> None:
        for outcome, n in outcomes.items():
            if n:
                self._metrics.add("api_events_total", (route, outcome), n)


def _room(request: Request, limit: int) -> int:
    # What is compressed, or of unknown length, may grow to the limit.
    declared = request.headers.get("content-length", "")
    plain = request.headers.get("content-encoding", "identity") == "identity"
    return min(int(declared), limit) if plain and declared.isdigit() else limit


def _groups(keyed: Sequence[tuple[bytes, bytes]]) -> Iterable[Sequence[tuple[bytes, bytes]]]:
    start = size = 0
    for position, (_, line) in enumerate(keyed):
        size += len(line) + 1
        if size > RECORD_BYTES and position > start:
            yield keyed[start:position]
            start, size = position, len(line) + 1
    if start < len(keyed):
        yield keyed[start:]


def _answer(accepted: int, rejections: dict[str, Any], *, all_too_long: bool) -> Response:
    count = rejections["rejected_count"]
    if not count:
        return _json(202, {"accepted": accepted})
    if accepted:
        return _json(207, {"accepted": accepted, **rejections})
    detail = f"no line is valid of {count}; `rejected` says why of each"
    return problem_response(413 if all_too_long else 422, detail, accepted=0, **rejections)


def _json(status: int, content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


router = APIRouter(tags=["ingest"], prefix="/v1")

_PROBLEM: Final[dict[str, Any]] = {"content": {PROBLEM_JSON: {}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Accepted, "description": "Every line is durable in the log."},
    207: {"model": PartlyAccepted, "description": "Good lines are in the log, others refused."},
    400: {"description": "Not a body that holds JSON lines.", **_PROBLEM},
    401: {"description": "No token, or an unknown one.", **_PROBLEM},
    403: {"description": "The token lacks the role.", **_PROBLEM},
    408: {"description": "The body did not arrive in time.", **_PROBLEM},
    413: {"description": "The body is too large.", **_PROBLEM},
    415: {"description": "Media type or encoding is not supported.", **_PROBLEM},
    422: {"description": "No line is valid; the body says why.", **_PROBLEM},
    429: {"description": "Over the accepted rate; see Retry-After.", **_PROBLEM},
    503: {"description": "The log is not available; says what is stored.", **_PROBLEM},
}


def _request_body(schema: str) -> dict[str, Any]:
    one = {"type": "object", "description": f"See `headrace schema {schema}`."}
    return {
        "requestBody": {
            "required": True,
            "description": "One object, an array, or one object a line. Content-Encoding gzip and "
            "zstd are understood. A line may have 1 MiB, the body 16 MiB.",
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/json": {"schema": {"oneOf": [one, {"type": "array", "items": one}]}},
            },
        }
    }


@router.post(
    "/events",
    status_code=202,
    responses=_RESPONSES,
    openapi_extra=_request_body("event"),
    dependencies=[Depends(require(Role.INGEST))],
)
async def post_events(request: Request) -> Response:
    """Append events to the log; answered once they are durable."""
    ingest: Ingest = request.app.state.ingest
    return await ingest.events(request)


@router.post(
    "/items",
    status_code=202,
    responses=_RESPONSES,
    openapi_extra=_request_body("item"),
    dependencies=[Depends(require(Role.INGEST))],
)
async def post_items(request: Request) -> Response:
    """Append items of the catalogue to the log; answered once they are durable."""
    ingest: Ingest = request.app.state.ingest
    return await ingest.items(request)
