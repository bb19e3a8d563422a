"""The HTTP service as a process: its health, its end, and its failures."""

import asyncio
import contextlib
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from monitoring.metrics import Metrics
from stream.api.health import blocking
from stream.api.serving import ApiService
from stream.distributed.metrics_server import MetricsServer
from stream.embedded_log import EmbeddedLog
from stream.http_server import HttpServer, StartFailed
from stream.sinks import AppendFailed, EmbeddedSink
from tests.integration.api_harness import PARTITIONS, event, every_line, ndjson, serving, settings


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
            # What was found is kept for a second.
            async with asyncio.timeout(60):
                while (ready := await client.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.1)
            assert ready.status_code == 503
            assert ready.json()["checks"]["store"] == {"ok": False, "detail": "the store is gone"}
            assert (await client.get("/healthz")).status_code == 200
            page = (await client.get("/metrics")).text
            assert 'headrace_api_requests_total{code="503",route="/readyz"} 1\n' in page
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


def test_a_connection_is_kept_for_longer_than_clients_keep_theirs(log: EmbeddedLog) -> None:
    """Who sends just when the service gives a connection up gets no answer."""

    async def run() -> None:
        service = ApiService(settings(), EmbeddedSink(log), Metrics())
        await service.start()
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for pause_s in (0.0, 5.5):
            await asyncio.sleep(pause_s)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.splitlines()[0]
            (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length))
        writer.close()
        await writer.wait_closed()
        await service.stop()

    asyncio.run(run())


def test_a_request_that_has_begun_is_finished_before_the_end(log: EmbeddedLog) -> None:
    async def run() -> None:
        service = ApiService(settings(), EmbeddedSink(log), Metrics())
        await service.start()
        body = ndjson(event(1), event(2))
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        # The service reads the body now.
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(body[:10])
        await writer.drain()
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

        async with AsyncClient(base_url=url, timeout=60) as client:
            posts = [post(client, k * 10_000) for k in range(8)]
            await asyncio.gather(*posts, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # To the end of its output: only then is its pipe closed.
        await process.communicate()

    asyncio.run(run())
    log = EmbeddedLog(tmp_path / "log.db", PARTITIONS)
    found = {json.loads(line)["event_id"] for line in every_line(log)}
    log.close()
    assert len(accepted) >= 300
    assert {f"event-{n}" for n in accepted} <= found


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
        async with AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
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
