"""What is posted is stored as it came, or refused with its reason, over real sockets."""

import asyncio
import gzip
import json
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import zstandard
from httpx import Response

from stream.api.limits import Limits
from stream.embedded_log import EmbeddedLog
from stream.events import EVENTS, ITEMS
from stream.partitioning import partition_for
from stream.sinks import EmbeddedSink
from tests.integration.api_harness import (
    NDJSON,
    PARTITIONS,
    event,
    every_line,
    ndjson,
    serving,
    settings,
    stored,
)


def test_accepted_events_lie_in_their_users_partitions_byte_for_byte(log: EmbeddedLog) -> None:
    lines = [ndjson(event(n, note="é")) for n in range(3_000)]

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, metrics, _):
            response = await client.post("/v1/events", content=ndjson(*lines), headers=NDJSON)
            assert (response.status_code, response.json()) == (202, {"accepted": 3_000})
            assert metrics.value("api_events_total", ("/v1/events", "accepted")) == 3_000

    asyncio.run(run())
    assert Counter(every_line(log)) == Counter(lines)
    for partition, found in stored(log).items():
        users = {json.loads(line)["user_id"] for line in found}
        assert {partition_for(user.encode(), PARTITIONS) for user in users} == {partition}
        in_order = [json.loads(line)["event_id"] for line in found]
        assert in_order == sorted(in_order, key=lambda name: int(name.split("-")[1]))
    # Many lines share a record.
    assert sum(log.end_offsets(EVENTS).values()) == PARTITIONS


def test_a_record_stays_below_the_size_that_a_partition_digests(log: EmbeddedLog) -> None:
    large = [event(n, user_id="one", note="x" * 100_000) for n in range(20)]
    longest = event(99, user_id="one", note="y" * 1_000_000)

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            response = await client.post("/v1/events", json=[*large, longest])
            assert response.json() == {"accepted": 21}

    asyncio.run(run())
    batch = log.read(EVENTS, partition_for(b"one", PARTITIONS), 0)
    assert set(batch.keys or ()) == {b"one"}
    assert len(batch) > 4
    assert [len(value) for value in batch.values if len(value) > 512 * 1024] == [
        len(json.dumps(longest, separators=(",", ":")))
    ]


def test_one_object_an_array_and_lines_are_the_same(log: EmbeddedLog) -> None:
    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            answers = [
                await client.post("/v1/events", json=event(1)),
                await client.post("/v1/events", json=[event(2), event(3)]),
                await client.post("/v1/events", content=ndjson(event(4)), headers=NDJSON),
                await client.post(
                    "/v1/events",
                    content=json.dumps([event(5)], indent=2),
                    headers={"content-type": "application/json"},
                ),
            ]
            assert [answer.json()["accepted"] for answer in answers] == [1, 2, 1, 1]

    asyncio.run(run())
    assert sorted(json.loads(line)["event_id"][-1] for line in every_line(log)) == list("12345")


def test_bad_lines_are_listed_and_good_ones_kept(log: EmbeddedLog) -> None:
    lines = [
        event(1),
        b'{"event_id": "e", ',
        event(2, ts=1_700_000_000_000),
        b'{"event_id":"e","type":"click","ts":NaN,"user_id":"u","item_id":"i"}',
        event(3, type="teleport"),
        event(4, ts=4_000_000_000),
        b"\xff\xfe",
        event(5, note="x" * 1_100_000),
        {"tick": 1_700_000_000.0},
        b"",
        event(6),
    ]

    async def run() -> tuple[Response, Response]:
        async with serving(EmbeddedSink(log)) as (client, metrics, _):
            mixed = await client.post("/v1/events", content=ndjson(*lines), headers=NDJSON)
            assert metrics.value("api_events_total", ("/v1/events", "rejected")) == 8
            return mixed, await client.post("/v1/events", json=[{"user_id": 7}, "x"])

    mixed, bad = asyncio.run(run())
    body = mixed.json()
    assert (mixed.status_code, body["accepted"], body["rejected_count"]) == (207, 2, 8)
    found = [(each["line"], each["field"]) for each in body["rejected"]]
    assert found[:2] == [(2, "line"), (3, "ts")]
    assert found[2][0] == 4
    assert found[3:7] == [(5, "type"), (6, "ts"), (7, "line"), (8, "line")]
    assert found[7][0] == 9
    assert "'teleport', allowed: " in body["rejected"][3]["reason"]
    assert len(every_line(log)) == 2
    assert (bad.status_code, bad.json()["accepted"]) == (422, 0)
    assert bad.headers["content-type"] == "application/problem+json"
    assert [each["line"] for each in bad.json()["rejected"]] == [1, 2]


def test_nothing_but_lines_that_are_too_long_is_too_large(log: EmbeddedLog) -> None:
    async def run() -> tuple[Response, Response]:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            long = event(1, note="x" * 1_100_000)
            alone = await client.post("/v1/events", content=ndjson(long), headers=NDJSON)
            return alone, await client.post("/v1/events", content=ndjson(long, b"{"))

    alone, with_another = asyncio.run(run())
    assert (alone.status_code, with_another.status_code) == (413, 422)
    assert "is too long; found" in alone.json()["rejected"][0]["reason"]


def test_a_very_bad_request_has_a_bounded_answer(log: EmbeddedLog) -> None:
    async def run() -> None:
        limits = Limits(lines=50, shown_rejections=3)
        async with serving(EmbeddedSink(log), limits=limits) as (client, _, _):
            answer = (await client.post("/v1/events", json=[1] * 50)).json()
            assert (answer["rejected_count"], len(answer["rejected"])) == (50, 3)
            answer = await client.post("/v1/events", json=[1] * 51)
            assert (answer.status_code, answer.json()["status"]) == (413, 413)
            assert "51 lines; at most 50" in answer.json()["detail"]

    asyncio.run(run())


def test_items_have_a_record_each_under_their_own_key(log: EmbeddedLog) -> None:
    items: list[dict[str, Any]] = [
        {"item_id": f"thing-{n}", "title": f"Thing {n}", "price": n} for n in range(9)
    ]

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            answer = await client.post("/v1/items", json=[*items, {"item_id": "x", "price": -1}])
            assert (answer.status_code, answer.json()["accepted"]) == (207, 9)
            assert answer.json()["rejected"][0]["field"] == "price"

    asyncio.run(run())
    batches = [log.read(ITEMS, partition, 0) for partition in range(PARTITIONS)]
    keyed = {
        key: json.loads(value)
        for batch in batches
        for key, value in zip(batch.keys or (), batch.values, strict=True)
    }
    assert keyed == {item["item_id"].encode(): item for item in items}


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_are_read(log: EmbeddedLog, encoding: str) -> None:
    plain = ndjson(*(event(n) for n in range(1_000)))
    body = gzip.compress(plain) if encoding == "gzip" else zstandard.compress(plain)

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            headers = NDJSON | {"content-encoding": encoding}
            answer = await client.post("/v1/events", content=body, headers=headers)
            assert answer.json() == {"accepted": 1_000}

    asyncio.run(run())


def test_a_body_above_16_mib_gets_its_answer_whatever_it_claims_to_be(log: EmbeddedLog) -> None:
    large = b" " * (16 * 1024 * 1024 + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1 << 20):
            yield large[start : start + (1 << 20)]

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            for content in (large, pieces()):
                answer = await client.post("/v1/events", content=content, headers=NDJSON)
                assert answer.status_code == 413
                assert "at most 16777216" in answer.json()["detail"]
            bomb = zlib.compressobj(wbits=31)
            body = bomb.compress(b"0" * 100_000_000) + bomb.flush()
            headers = NDJSON | {"content-encoding": "gzip"}
            answer = await client.post("/v1/events", content=body, headers=headers)
            assert answer.status_code == 413
            fits = large[: 16 * 1024 * 1024 - 200] + ndjson(event(1))
            answer = await client.post("/v1/events", content=fits, headers=NDJSON)
            assert answer.status_code == 202

    asyncio.run(run())


@pytest.mark.parametrize("status", [413, 415, 429])
def test_a_refusal_reaches_who_wants_the_connection_closed(log: EmbeddedLog, status: int) -> None:
    large = b" " * (17 * 1024 * 1024 if status == 413 else 8 * 1024 * 1024)
    media_type = "text/plain" if status == 415 else NDJSON["content-type"]

    def post(url: str) -> tuple[int, bytes]:
        # It sends `Connection: close`, and reads nothing before all is sent.
        asked = urllib.request.Request(f"{url}/v1/events", large, {"Content-Type": media_type})
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    async def main() -> None:
        limited = settings(api={"events_per_s": 0.001 if status == 429 else 0})
        async with serving(EmbeddedSink(log), limited) as (client, _, service):
            if status == 429:
                await client.post("/v1/events", content=ndjson(event(1)), headers=NDJSON)
            code, body = await asyncio.to_thread(post, service.url)
            assert (code, json.loads(body)["status"]) == (status, status)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: 100\r\n", b"408"),
        # It asks first, and sends nothing before it is told to go on.
        (b"Content-Length: 20000000\r\nExpect: 100-continue\r\n", b"413"),
    ],
)
def test_who_sends_nothing_more_is_not_waited_for(
    log: EmbeddedLog, headers: bytes, status: bytes
) -> None:
    async def main() -> None:
        async with serving(EmbeddedSink(log), settings(api={"body_timeout_s": 0.2})) as served:
            server = urlsplit(served[2].url)
            reader, writer = await asyncio.open_connection(server.hostname, server.port)
            head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            writer.write(head + headers + b"\r\n")
            # Half of the time that an unread body would be waited for.
            async with asyncio.timeout(15):
                assert (await reader.readline()).split()[1] == status
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())
