"""Who may post, how much, and what is kept of whom."""

import asyncio
import json
import logging

import pytest
from pydantic import ValidationError

from stream.assembly import decoder
from stream.embedded_log import EmbeddedLog
from stream.events import EVENTS
from stream.partitioning import partition_for
from stream.records import RecordBatch
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


def test_over_the_rate_one_is_told_when_to_come_back(log: EmbeddedLog) -> None:
    async def run() -> None:
        configured = settings(api={"events_per_s": 100})
        async with serving(EmbeddedSink(log), configured) as (client, _, _):
            # A debt of half a minute, which no pause of the machine pays off.
            answer = await client.post("/v1/events", json=[event(n) for n in range(3_100)])
            assert answer.status_code == 202
            answer = await client.post("/v1/events", json=event(3_101))
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert "more than 100 events a second" in answer.json()["detail"]

    asyncio.run(run())
    assert len(every_line(log)) == 3_100


def test_who_waited_is_let_in_again(log: EmbeddedLog) -> None:
    async def run() -> None:
        async with serving(EmbeddedSink(log), settings(api={"events_per_s": 100})) as (
            client,
            _,
            _,
        ):
            answer = await client.post("/v1/events", json=[event(n) for n in range(200)])
            assert answer.status_code == 202
            async with asyncio.timeout(60):
                while (await client.post("/v1/events", json=event(201))).status_code != 202:
                    await asyncio.sleep(0.1)

    asyncio.run(run())
    assert len(every_line(log)) == 201


def test_tokens_open_the_door_to_their_roles(log: EmbeddedLog) -> None:
    tokens = [
        {"name": "shop", "token": "shop-token-1234567890", "roles": ["ingest"]},
        {"name": "page", "token": "page-token-1234567890", "roles": ["recommend"]},
    ]

    async def run() -> None:
        async with serving(EmbeddedSink(log), settings(api={"tokens": tokens})) as (client, _, _):
            statuses = []
            for token in ("shop-token-1234567890", "page-token-1234567890", "no-token"):
                headers = {"authorization": f"Bearer {token}", "host": "shop.example"}
                answer = await client.post("/v1/events", json=event(1), headers=headers)
                statuses.append(answer.status_code)
            assert statuses == [202, 403, 401]
            assert (await client.post("/v1/items", json={})).status_code == 401
            # What Prometheus and a load balancer ask for names nobody.
            for path in ("/metrics", "/healthz", "/readyz"):
                assert (await client.get(path)).status_code == 200

    asyncio.run(run())
    assert len(every_line(log)) == 1


def test_without_tokens_only_loopback_is_bound_and_served(log: EmbeddedLog) -> None:
    with pytest.raises(ValidationError, match=r"loopback only.*found '192\.0\.2\.1'"):
        settings(api={"host": "192.0.2.1"})

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            for path in ("/v1/events", "/metrics", "/"):
                answer = await client.get(path, headers={"host": "rebound.example"})
                assert answer.status_code == 403

    asyncio.run(run())


def test_people_get_pseudonyms_at_the_door(log: EmbeddedLog) -> None:
    async def run() -> None:
        privacy = {"pseudonymise": True, "hash_key": "a key that nobody guesses"}
        async with serving(EmbeddedSink(log), settings(privacy=privacy)) as (client, _, _):
            answer = await client.post("/v1/events", json=[event(1), event(1), event(2)])
            assert answer.json() == {"accepted": 3}

    asyncio.run(run())
    for partition, lines in stored(log).items():
        for line in lines:
            found = json.loads(line)
            assert found["user_id"].startswith("~") and "person" not in found["user_id"]
            assert partition_for(found["user_id"].encode(), PARTITIONS) == partition
            assert found | {"user_id": ""} in [event(1, user_id=""), event(2, user_id="")]
    assert len({json.loads(line)["user_id"] for line in every_line(log)}) == 2


def test_what_is_accepted_under_a_pseudonym_is_not_too_long_for_who_reads_it(
    log: EmbeddedLog,
) -> None:
    limit = 4_096
    configured = settings(
        privacy={"pseudonymise": True, "hash_key": "a key that nobody guesses"},
        events={"max_line_bytes": limit},
    )

    short = ndjson(event(1, user_id="u", more=""))
    whole = ndjson(event(1, user_id="u", more="x" * (limit - len(short))))
    longer = ndjson(event(2, user_id="u", more="x" * (limit + 1 - len(short))))
    # Numbers are written in full.
    grown = ndjson(event(3, user_id="u")).replace(b"}", b', "z": [%s]}' % b",".join([b"1e9"] * 950))
    assert len(whole) == limit > len(grown)

    async def run() -> None:
        async with serving(EmbeddedSink(log), configured) as (client, _, _):
            body = b"\n".join([whole, longer, grown])
            answer = await client.post("/v1/events", content=body, headers=NDJSON)
            found = answer.json()
            assert (answer.status_code, found["accepted"]) == (207, 1)
            assert [each["line"] for each in found["rejected"]] == [2, 3]
            assert "too long under a pseudonym" in found["rejected"][1]["reason"]

    asyncio.run(run())
    (stored_line,) = [line for line in every_line(log) if line]
    assert len(stored_line) > limit
    batch = RecordBatch(EVENTS, 0, [0], [stored_line], [event(1)["ts"]])
    assert len(decoder(configured).decode(batch).events) == 1


def test_no_id_reaches_the_log_of_the_process(
    log: EmbeddedLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, _, _):
            await client.post("/v1/events", json=[event(1), event(2, ts="x"), event(3, type="x")])
            await client.get("/v1/users/person-1")

    asyncio.run(run())
    of_service = [r.getMessage() for r in caplog.records if not r.name.startswith("httpx")]
    assert not any("person" in text or "event-" in text for text in of_service)
