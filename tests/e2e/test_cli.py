"""The commands as a person types them: what they do, and how they refuse."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from typer.testing import CliRunner, Result

from stream.cli import command_line
from stream.embedded_log import EmbeddedLog
from stream.events import Event
from stream.simulate import WorldConfig, write_world

pytestmark = pytest.mark.usefixtures("compiled")

HEADRACE = [sys.executable, "-m", "stream.cli"]


def environment(folder: Path, **extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    return kept | {"HEADRACE_LOG__URL": f"sqlite:///{folder / 'headrace.db'}"} | extra


def run(
    *arguments: str, folder: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADRACE, *arguments],
        env=environment(folder or Path("/nonexistent"), **extra),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(
        WorldConfig(seed=3, events=4_000, users=200, items=100, corrupted=0.01, gold=0.05), folder
    )
    return folder


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), list(arguments))


def test_replay_reports_labels_and_every_rejected_line(world: Path, tmp_path: Path) -> None:
    report, labels = tmp_path / "r.json", tmp_path / "l.jsonl"
    done = run(
        "replay",
        str(world / "events.ndjson"),
        "--items", str(world / "items.ndjson"),
        "--gold", str(world / "gold.ndjson"),
        "--report", str(report),
        "--labels", str(labels),
        "--close",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = orjson.loads(report.read_bytes())
    planted = (world / "rejections.ndjson").read_bytes().splitlines()
    assert result["rejected"] == len(planted) > 0
    assert result["events"] + result["rejected"] + result["duplicates"] == 4_000
    assert result["join"]["pending"] == 0
    lines = [orjson.loads(line) for line in labels.read_bytes().splitlines()]
    assert len(lines) == result["labels"]["relevance"]["count"]
    assert {label["stage"] for label in lines} == {"provisional", "final", "revised"}
    assert result["labels"]["relevance"]["gold"]["n"] > 50
    first = orjson.loads(planted[0])
    assert f"events.ndjson:{first['line']}: {first['field']}" in done.stderr


def test_analyse_counts_every_rejected_line(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    click = b'{"event_id":"e%d","type":"click","ts":%d,"user_id":"u%d","item_id":"i"}\n'
    good = b"".join(click % (number, 1_700_000_000 + number, number) for number in range(50))
    events.write_bytes(good + b"{\n" * 1_001)
    done = invoke("lfs", "analyse", str(events))
    assert done.exit_code == 0, done.output
    assert "1001 lines were rejected, the first: " in done.output


@pytest.mark.parametrize("kind", ["gz", "zst", "parquet"])
def test_replay_reads_compressed_files_and_parquet(world: Path, tmp_path: Path, kind: str) -> None:
    config = WorldConfig(seed=4, events=1_000, users=50, items=40)
    write_world(config, tmp_path)
    plain = tmp_path / "events.ndjson"
    packed = tmp_path / f"events.{kind}"
    data = plain.read_bytes()
    if kind == "gz":
        packed.write_bytes(gzip.compress(data))
    elif kind == "zst":
        packed.write_bytes(zstandard.compress(data))
    else:
        rows = [orjson.loads(line) for line in data.splitlines()]
        # Columns are those of the schema; a column of mixed maps is no Parquet type.
        columns = [name for name in Event.model_fields if name != "context"]
        pq.write_table(
            pa.table({name: [row.get(name) for row in rows] for name in columns}), packed
        )
    reports = []
    for path in (plain, packed):
        target = tmp_path / "report.json"
        result = invoke("replay", str(path), "--report", str(target))
        assert result.exit_code == 0, result.output
        reports.append(orjson.loads(target.read_bytes()))
    assert reports[0]["events"] == reports[1]["events"] == 1_000
    assert reports[0]["join"] == reports[1]["join"]


def test_several_partitions_count_what_one_counts(world: Path, tmp_path: Path) -> None:
    reports = []
    for partitions in ("1", "4"):
        target = tmp_path / f"{partitions}.json"
        done = invoke(
            "replay", str(world / "events.ndjson"), "--partitions", partitions, "--close",
            "--report", str(target),
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        reports.append(orjson.loads(target.read_bytes()))
    one, four = reports
    assert one["events"] == four["events"]
    assert one["join"] == four["join"]
    assert one["labels"]["relevance"]["final"] == four["labels"]["relevance"]["final"]


def test_simulate_refuses_to_overwrite_and_explains_its_fields(tmp_path: Path) -> None:
    first = invoke("simulate", str(tmp_path / "w"), "--events", "500", "--users", "20")
    assert first.exit_code == 0, first.output
    second = run("simulate", str(tmp_path / "w"), "--events", "500")
    assert second.returncode == 2
    assert "--force" in second.stderr
    assert "position_bias" in invoke("simulate", "--fields").output


@pytest.mark.parametrize(
    ("arguments", "extra", "told"),
    [
        (["replay", "missing.ndjson"], {}, "missing.ndjson: there is no such file"),
        (["replay", "-", "--report", "/"], {}, "/: is a folder, allowed: a file"),
        (["replay", "-", "--labels", "no/l.jsonl"], {}, "no/l.jsonl: its folder does not exist"),
        (["simulate", "/dev/null"], {}, "/dev/null: the world cannot be written: File exists"),
        (["simulate", "/dev/null/shop"], {}, "shop: the world cannot be written: Not a directory"),
        (["schema", "nothing"], {}, "allowed: headrace.events"),
        (["lfs", "--name", "nobody"], {}, "allowed: accidental_click"),
        (["worker"], {}, "kafka://HOST:PORT"),
        (["serve"], {}, "kafka://HOST:PORT"),
        (["topics"], {}, "kafka://HOST:PORT"),
        (
            ["schema"],
            {"HEADRACE_JOIN__EXPOSURE": "1"},
            "did you mean HEADRACE_JOIN__EXPOSURE_WINDOW_S",
        ),
        (["schema"], {"HEADRACE_JOIN__EXPOSURE_WINDOW_S": "3 parsecs"}, "exposure_window_s"),
        (["demo"], {"HEADRACE_API__PROT": "1"}, "did you mean HEADRACE_API__PORT"),
        (["doctor"], {"HEADRACE_LFS__DISABLED": "clickd"}, "clickd"),
        (["up"], {"HEADRACE_API__HOST": "192.0.2.1"}, "api.tokens"),
        (
            ["topics"],
            {"HEADRACE_LOG__URL": "kafka://127.0.0.1:1", "HEADRACE_STORE__URL": "redis://h:1/0"},
            "127.0.0.1:1",
        ),
        (
            ["worker"],
            {"HEADRACE_LOG__URL": "kafka://127.0.0.1:1", "HEADRACE_STORE__URL": "redis://h:1/0"},
            "127.0.0.1:1",
        ),
        (["worker"], {"HEADRACE_LOG__URL": "kafka://127.0.0.1:1"}, "store.url"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_remedy(
    tmp_path: Path, arguments: list[str], extra: dict[str, str], told: str
) -> None:
    done = run(*arguments, folder=tmp_path, **extra)
    assert done.returncode == 2, done.stderr
    said = " ".join((done.stderr + done.stdout).split())
    assert told in said
    assert "Traceback" not in said


def test_schema_prints_json_schemas() -> None:
    schemas = json.loads(run("schema").stdout)
    assert "propensity" in schemas["headrace.events"]["properties"]


def test_lfs_lists_functions_with_their_documentation() -> None:
    listed = invoke("lfs").output
    assert "long_dwell v2 (behaviour)" in listed
    assert "Known errors" in invoke("lfs", "--name", "long_dwell").output


def test_doctor_and_state_look_at_an_embedded_deployment(tmp_path: Path) -> None:
    folder = tmp_path / "deployed"
    checked = run("doctor", folder=folder)
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("✓") == 4
    assert checked.stdout.count("is not there yet") == 2
    assert not folder.exists()
    # The log is there, and the state is to lie elsewhere.
    EmbeddedLog(tmp_path / "log.db", 1).close()
    elsewhere = {
        "HEADRACE_LOG__URL": f"sqlite:///{tmp_path / 'log.db'}",
        "HEADRACE_STORE__URL": f"sqlite:///{folder / 'state.db'}",
    }
    checked = run("doctor", folder=folder, **elsewhere)
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("is not there yet") == 1
    assert not folder.exists()
    folder.write_text("no folder")
    refused = run("doctor", folder=folder)
    assert refused.returncode == 2, refused.stdout
    assert refused.stdout.count("is no folder") == 2
    assert "nothing is stored yet" in run("state", "inspect", folder=tmp_path).stdout


def test_demo_runs_the_main_job_and_exits() -> None:
    done = run("demo", "--exit", "--events", "1500", "--rate", "3000")
    assert done.returncode == 0, done.stderr
    assert "events: 1500" in done.stdout


def test_up_takes_events_and_ends_on_sigterm(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*HEADRACE, "up"],
        env=environment(tmp_path, HEADRACE_API__PORT="0", HEADRACE_CHECKPOINT__INTERVAL_S="0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        assert url.startswith("http://127.0.0.1:")
        lines = [
            b'{"event_id":"e%d","type":"view","ts":%f,"user_id":"u","item_id":"i%d"}'
            % (n, time.time() - 60 + n, n)
            for n in range(20)
        ]
        request = urllib.request.Request(
            f"{url}/v1/events", b"\n".join(lines), {"Content-Type": "application/x-ndjson"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert (answer.status, json.load(answer)) == (202, {"accepted": 20})
        deadline = time.monotonic() + 120
        learned = 'headrace_events_consumed_total{topic="headrace.events"} 20\n'
        while True:
            with urllib.request.urlopen(f"{url}/metrics", timeout=120) as answer:
                if learned in answer.read().decode():
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    inspected = json.loads(run("state", "inspect", "--json", folder=tmp_path).stdout)
    assert inspected["0"]["next_offsets"]["headrace.events"] >= 1
    exported = tmp_path / "state.ndjson"
    assert run("state", "export", str(exported), folder=tmp_path).returncode == 0
    assert exported.read_bytes().count(b"\n") >= 3
    refused = run("state", "reset", "--partition", "9", "--yes", folder=tmp_path)
    assert refused.returncode == 2
    assert "--partition: found 9, allowed: 0 to 0" in refused.stderr
    assert run("state", "reset", "--yes", folder=tmp_path).returncode == 0
    assert "nothing is stored yet" in run("state", "inspect", folder=tmp_path).stdout
