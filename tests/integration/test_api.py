"""The HTTP door over real sockets, on the embedded log and on real Kafka."""

import asyncio
import gzip
import json
import logging
import signal
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from aiokafka import AIOKafkaConsumer, TopicPartition
from httpx import AsyncClient, Response
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from pydantic import ValidationError

from monitoring.metrics import Metrics
from stream.api.health import blocking
from stream.api.limits import Limits
from stream.api.serving import ApiService
from stream.config import Settings
from stream.distributed.metrics_server import MetricsServer
from stream.embedded_log import EmbeddedLog
from stream.events import EVENTS, ITEMS
from stream.http_server import HttpServer, StartFailed
from stream.partitioning import partition_for
from stream.sinks import AppendFailed, EmbeddedSink, EventSink, KafkaSink
from tests.services import KafkaBroker

PARTITIONS = 4
NDJSON = {"content-type": "application/x-ndjson"}


def event(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"event-{n}",
        "type": "click",
        "ts": 1_700_000_000.0 + n,
        "user_id": f"person-{n % 97}",
        "item_id": f"thing-{n % 13}",
    } | fields


def ndjson(*values: Any) -> bytes:
    return b"\n".join(v if isinstance(v, bytes) else json.dumps(v).encode() for v in values)


def settings(**sections: Any) -> Settings:
    api = {"port": 0} | sections.pop("api", {})
    return Settings(api=api, **sections)


@asynccontextmanager
async def serving(
    sink: EventSink, configured: Settings | None = None, **options: Any
) -> AsyncIterator[tuple[AsyncClient, Metrics, ApiService]]:
    metrics = Metrics()
    service = ApiService(configured or settings(), sink, metrics, **options)
    await service.start()
    try:
        async with AsyncClient(base_url=service.url, timeout=30) as client:
            yield client, metrics, service
    finally:
        await service.stop()


@pytest.fixture
def log(tmp_path: Path) -> Any:
    embedded = EmbeddedLog(tmp_path / "log.db", PARTITIONS)
    yield embedded
    embedded.close()


def stored(log: EmbeddedLog, topic: str = EVENTS) -> dict[int, list[bytes]]:
    return {
        partition: [
            line for value in log.read(topic, partition, 0).values for line in value.split(b"\n")
        ]
        for partition in range(PARTITIONS)
    }


def every_line(log: EmbeddedLog, topic: str = EVENTS) -> list[bytes]:
    return [line for lines in stored(log, topic).values() for line in lines]


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


def test_over_the_rate_one_is_told_when_to_come_back(log: EmbeddedLog) -> None:
    async def run() -> None:
        configured = settings(api={"events_per_s": 100})
        async with serving(EmbeddedSink(log), configured) as (client, _, _):
            answer = await client.post("/v1/events", json=[event(n) for n in range(200)])
            assert answer.status_code == 202
            answer = await client.post("/v1/events", json=event(201))
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert "more than 100 events a second" in answer.json()["detail"]
            await asyncio.sleep(1.05)
            assert (await client.post("/v1/events", json=event(202))).status_code == 202

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


def test_health_readiness_and_metrics_answer(log: EmbeddedLog) -> None:
    failing = [False]

    def ping() -> str:
        if failing[0]:
            raise AppendFailed("the store is gone")
        return "store"

    async def run() -> None:
        checks = {"store": blocking(ping)}
        async with serving(EmbeddedSink(log), checks=checks) as (client, _, _):
            ready = await client.get("/readyz")
            assert (ready.status_code, set(ready.json()["checks"])) == (200, {"log", "store"})
            failing[0] = True
            await asyncio.sleep(1.05)
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["checks"]["store"] == {"ok": False, "detail": "the store is gone"}
            assert (await client.get("/healthz")).status_code == 200
            page = (await client.get("/metrics")).text
            assert 'headrace_api_requests_total{code="503",route="/readyz"} 1.0' in page
            assert "headrace_build_info{" in page
            assert (await client.get("/openapi.json")).json()["paths"].keys() >= {"/v1/events"}
            missing = await client.get("/v1/nothing")
            assert (missing.status_code, missing.json()["status"]) == (404, 404)

    asyncio.run(run())


def test_a_log_that_fails_gives_503_and_says_that_nothing_is_stored(log: EmbeddedLog) -> None:
    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, metrics, _):
            log.close()
            answer = await client.post("/v1/events", json=[event(1), event(2), {}])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            body = answer.json()
            assert (body["accepted"], body["unknown"], body["rejected_count"]) == (0, 0, 1)
            assert metrics.value("api_events_total", ("/v1/events", "failed")) == 2
            assert (await client.get("/readyz")).status_code == 503

    asyncio.run(run())


def test_many_clients_at_once_lose_nothing(log: EmbeddedLog) -> None:
    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (client, metrics, _):
            numbers = iter(range(600))

            async def post() -> None:
                for n in numbers:
                    assert (await client.post("/v1/events", json=event(n))).status_code == 202

            await asyncio.gather(*(post() for _ in range(20)))
            assert metrics.value("api_requests_total", ("/v1/events", "202")) == 600

    asyncio.run(run())
    found = [json.loads(line)["event_id"] for line in every_line(log)]
    assert sorted(found) == sorted(f"event-{n}" for n in range(600))


def test_a_request_that_has_begun_is_finished_before_the_end(log: EmbeddedLog) -> None:
    async def run() -> None:
        service = ApiService(settings(), EmbeddedSink(log), Metrics())
        await service.start()
        body = ndjson(event(1), event(2))
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(body[:10])
        await writer.drain()
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0.2)
        assert not stopping.done()
        writer.write(body[10:])
        answer = await reader.read()
        assert b" 202 " in answer.splitlines()[0]
        assert answer.endswith(b'{"accepted":2}')
        await stopping
        writer.close()
        await writer.wait_closed()
        with pytest.raises(OSError):
            await asyncio.open_connection(host, int(port))

    asyncio.run(run())
    assert len(every_line(log)) == 2


SERVICE = """
import asyncio, sys
from monitoring.metrics import Metrics
from stream.api.serving import ApiService
from stream.config import Settings
from stream.embedded_log import EmbeddedLog
from stream.sinks import EmbeddedSink

async def main():
    sink = EmbeddedSink(EmbeddedLog(sys.argv[1], 4))
    service = ApiService(Settings(api={"port": 0}), sink, Metrics())
    await service.start()
    print(service.url, flush=True)
    await service.wait()

asyncio.run(main())
"""


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    accepted: list[int] = []

    async def run() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SERVICE,
            str(tmp_path / "log.db"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()

        async def post(client: AsyncClient, start: int) -> None:
            for n in range(start, start + 10_000):
                answer = await client.post("/v1/events", json=event(n))
                assert answer.status_code == 202
                accepted.append(n)
                if len(accepted) == 300:
                    process.send_signal(signal.SIGKILL)

        async with AsyncClient(base_url=url) as client:
            posts = [post(client, k * 10_000) for k in range(8)]
            await asyncio.gather(*posts, return_exceptions=True)
        await process.wait()

    asyncio.run(run())
    log = EmbeddedLog(tmp_path / "log.db", PARTITIONS)
    found = {json.loads(line)["event_id"] for line in every_line(log)}
    log.close()
    assert len(accepted) >= 300
    assert {f"event-{n}" for n in accepted} <= found


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


def test_a_taken_port_is_said_with_its_setting(log: EmbeddedLog) -> None:
    async def run() -> None:
        async with serving(EmbeddedSink(log)) as (_, _, service):
            port = int(service.url.rpartition(":")[2])
            second = ApiService(settings(api={"port": port}), EmbeddedSink(log), Metrics())
            with pytest.raises(StartFailed, match=rf"api\.host, api\.port: .* port {port}"):
                await second.start()

    asyncio.run(run())


def test_a_worker_shows_its_metrics_and_its_health() -> None:
    class Address:
        metrics_host = "127.0.0.1"
        metrics_port: int | None = 0

    health: list[tuple[bool, dict[str, Any]]] = [(True, {"status": "ok"})]

    async def run() -> None:
        server = MetricsServer(Address(), lambda: health[0], Metrics().render)
        await server.start()
        async with AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            page = await client.get("/metrics")
            assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert "headrace_build_info" in page.text
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            health[0] = (False, {"status": "stopping"})
            assert (await client.get("/healthz")).status_code == 503
            assert (await client.get("/")).status_code == 404
            assert (await client.post("/metrics")).status_code == 405
        await server.stop()

    asyncio.run(run())


def test_an_application_that_cannot_start_is_an_error() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def run() -> None:
        with pytest.raises(StartFailed, match="did not start"):
            await HttpServer(broken, "127.0.0.1", 0, setting="x").start()

    asyncio.run(run())


def make_topics(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    limits = {"max.message.bytes": str(16 * 1024 * 1024)}
    admin.create_topics(
        [
            NewTopic(EVENTS, num_partitions=PARTITIONS, replication_factor=1, topic_configs=limits),
            NewTopic(ITEMS, num_partitions=1, replication_factor=1, topic_configs=limits),
        ]
    )
    admin.close()


async def read_kafka(bootstrap: str) -> dict[int, list[dict[str, Any]]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(EVENTS, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[dict[str, Any]]] = {}
        for tp in partitions:
            found[tp.partition] = []
            while await consumer.position(tp) < ends[tp]:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                    found[tp.partition] += map(json.loads, record.value.split(b"\n"))
        return found
    finally:
        await consumer.stop()


def on_kafka(bootstrap: str) -> Settings:
    return settings(log={"url": f"kafka://{bootstrap}"}, store={"url": "sqlite:///unused.db"})


def test_kafka_holds_what_was_accepted_through_a_crash_of_the_broker(
    kafka_factory: Callable[..., KafkaBroker],
) -> None:
    broker = kafka_factory()
    configured = on_kafka(broker.bootstrap)
    sink = KafkaSink.from_settings(configured)
    sink.timeout_s = 3.0
    accepted: list[int] = []

    async def run() -> None:
        async with serving(sink, configured) as (client, _, _):
            # Before the topics are there.
            answer = await client.post("/v1/events", json=event(0))
            assert (answer.status_code, answer.json()["accepted"]) == (503, 0)
            assert "headrace topics" in answer.json()["detail"]
            await asyncio.to_thread(make_topics, broker.bootstrap)

            async def post(first: int, n: int) -> Response:
                events = [event(k) for k in range(first, first + n)]
                answer = await client.post("/v1/events", json=events)
                if answer.status_code == 202:
                    accepted.extend(range(first, first + n))
                return answer

            while (await post(0, 1)).status_code != 202:
                await asyncio.sleep(0.2)
            answers = await asyncio.gather(*(post(k, 10) for k in range(1, 2_001, 10)))
            assert {answer.status_code for answer in answers} == {202}
            large = event(2_001, note="x" * 1_000_000)
            assert (await client.post("/v1/events", json=large)).status_code == 202
            accepted.append(2_001)
            assert (await client.get("/readyz")).status_code == 200

            await asyncio.to_thread(broker.kill)
            answers = await asyncio.gather(*(post(k, 10) for k in range(3_000, 3_050, 10)))
            for answer in answers:
                body = answer.json()
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert (body["accepted"], body["unknown"]) == (0, 10)
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert "log.url: Kafka at" in ready.json()["checks"]["log"]["detail"]

            await asyncio.to_thread(broker.start)
            while (await post(4_000, 10)).status_code != 202:
                await asyncio.sleep(0.2)
            assert (await client.post("/v1/items", json={"item_id": "i"})).status_code == 202

    asyncio.run(run())
    found = asyncio.run(read_kafka(broker.bootstrap))
    names = Counter(each["event_id"] for lines in found.values() for each in lines)
    assert {f"event-{n}" for n in accepted} <= names.keys()
    # Acknowledged at the first attempt, written once: the producer is idempotent.
    assert {names[f"event-{n}"] for n in range(2_002)} == {1}
    for partition, lines in found.items():
        assert {partition_for(each["user_id"].encode(), PARTITIONS) for each in lines} == {
            partition
        }


def test_an_unreachable_broker_is_refused_at_start() -> None:
    configured = on_kafka("127.0.0.1:1")

    async def run() -> None:
        sink = KafkaSink.from_settings(configured)
        sink.timeout_s = 1.0
        service = ApiService(configured, sink, Metrics())
        with pytest.raises(
            AppendFailed, match=r"log\.url: Kafka at 127\.0\.0\.1:1 cannot be reached"
        ):
            await service.start()

    asyncio.run(run())
