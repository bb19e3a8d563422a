"""`headrace evaluate`: what it reads, what it says, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stream.cli import command_line
from stream.commands.console import Refused
from stream.event_files import FileError

WORTH = {"a": 0.05, "b": 0.2, "c": 0.4}


def events(policy: str, chances: dict[str, float], n: int, seed: int) -> list[dict[str, Any]]:
    """Return impressions and clicks of a policy that chooses by fixed chances."""
    rng = np.random.default_rng(seed)
    names = list(chances)
    found: list[dict[str, Any]] = []
    for number in range(n):
        item = names[rng.choice(len(names), p=list(chances.values()))]
        shared = {"user_id": f"u{number % 50}", "item_id": item, "request_id": f"{policy}{number}"}
        found.append(
            shared
            | {
                "event_id": f"{policy}-i{number}",
                "type": "impression",
                "ts": 1.7e9 + number,
                "position": 1,
                "propensity": chances[item],
                "policy": policy,
            }
        )
        if rng.random() < WORTH[item]:
            click = shared | {"event_id": f"{policy}-c{number}", "ts": 1.7e9 + number + 0.5}
            found += [click | {"type": "click", "value": 2.0}] * 2
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    random = events("random", dict.fromkeys("abc", 1 / 3), 3_000, 0)
    better = events("better", {"a": 0.1, "b": 0.3, "c": 0.6}, 3_000, 1)
    return write(tmp_path / "random.ndjson", random), write(tmp_path / "better.ndjson", better)


def run(*arguments: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(
        command_line(), ["evaluate", *map(str, arguments), "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {one["estimator"]: one for one in found["estimates"]}


TRUTH = 0.1 * 0.05 + 0.3 * 0.2 + 0.6 * 0.4


def test_a_policy_in_the_logs_is_evaluated(logs: tuple[Path, Path]) -> None:
    found = run(*logs, "--target", "better")
    assert found["rows"] == 3_000
    assert found["logged_policies"] == ["random"]
    for one in by_name(found).values():
        assert one["value"] == pytest.approx(TRUTH, abs=0.04)
        assert one["low"] < TRUTH < one["high"]
    assert found["target_logged"]["value"] == pytest.approx(TRUTH, abs=0.03)
    assert found["logged"]["value"] == pytest.approx(sum(WORTH.values()) / 3, abs=0.03)


def test_a_log_of_its_own_and_a_table_say_the_same(logs: tuple[Path, Path], tmp_path: Path) -> None:
    inside = by_name(run(*logs, "--target", "better"))
    as_file = by_name(run(logs[0], "--target", logs[1]))
    assert as_file == inside
    rows = [{"item_id": i, "propensity": p} for i, p in (("a", 0.1), ("b", 0.3), ("c", 0.6))]
    given = write(tmp_path / "table.ndjson", rows)
    assert by_name(run(logs[0], "--target", given))["ips"]["value"] == pytest.approx(
        inside["ips"]["value"], rel=1e-6
    )
    csv = tmp_path / "table.csv"
    csv.write_text("item_id,position,propensity\na,1,0.1\nb,1,0.3\nc,,0.6\n", encoding="utf-8")
    assert by_name(run(logs[0], "--target", csv)) == by_name(run(logs[0], "--target", given))


def test_uniform_and_values(logs: tuple[Path, Path]) -> None:
    found = run(logs[0], "--target", "uniform")
    assert found["target_logged"] is None
    ips = by_name(found)["ips"]["value"]
    assert ips == pytest.approx(found["logged"]["value"])
    # Each click was sent twice, with a value of 2: a repeat is no second reward.
    valued = run(logs[0], "--target", "uniform", "--values")
    assert by_name(valued)["ips"]["value"] == pytest.approx(2 * ips)


def test_a_mixture_is_worth_what_its_parts_are(logs: tuple[Path, Path]) -> None:
    parts = [run(*logs, "--target", name, "--logged", "random") for name in ("better", "uniform")]
    mixed = run(*logs, "--target", "0.75 * better + 0.25*uniform", "--logged", "random")
    worth = [by_name(found)["ips"]["value"] for found in (*parts, mixed)]
    assert worth[2] == pytest.approx(0.75 * worth[0] + 0.25 * worth[1])
    assert mixed["target_logged"] is None
    # Each part's own log may be weighed, too.
    both = run(*logs, "--target", "0.75*better + 0.25*uniform")
    assert both["logged_policies"] == ["better", "random"]
    worth_of_all = 0.75 * TRUTH + 0.25 * sum(WORTH.values()) / 3
    for one in by_name(both).values():
        assert one["low"] < worth_of_all < one["high"]


def test_a_log_that_only_says_what_the_target_does_is_not_weighed(logs: tuple[Path, Path]) -> None:
    mixture = f"0.75*{logs[1]} + 0.25*uniform"
    assert run(logs[0], "--target", mixture)["rows"] == 3_000
    beside = run(*logs, "--target", mixture)
    assert (beside["rows"], beside["logged_policies"]) == (6_000, ["better", "random"])


def test_the_table_is_for_people(logs: tuple[Path, Path]) -> None:
    done = CliRunner().invoke(command_line(), ["evaluate", *map(str, logs), "--target", "better"])
    assert done.exit_code == 0
    assert "SNIPS" in done.stdout
    assert "holds its logged" in done.stdout
    assert "harmonic mean per item and position" in done.stdout


def test_help_teaches() -> None:
    done = CliRunner().invoke(command_line(), ["evaluate", "--help"], env={"COLUMNS": "120"})
    for word in ("propensity", "harmonic", "SNIPS", "--target"):
        assert word in done.stdout


def refusal(*arguments: str | Path) -> str:
    with pytest.raises((Refused, FileError)) as caught:
        CliRunner().invoke(
            command_line(), ["evaluate", *map(str, arguments)], catch_exceptions=False
        )
    return str(caught.value)


def test_missing_propensities_are_named(logs: tuple[Path, Path], tmp_path: Path) -> None:
    rows = events("old", dict.fromkeys("abc", 1 / 3), 40, 3)
    for row in rows[::2]:
        row.pop("propensity", None)
    old = write(tmp_path / "old.ndjson", rows)
    message = refusal(old, "--target", "uniform")
    assert "have no propensity, the first: old.ndjson, line 1" in message
    assert "--skip-missing" in message
    kept = run(old, "--target", "uniform", "--skip-missing")["rows"]
    assert 0 < kept < 40
    for row in rows:
        row.pop("propensity", None)
    none = write(tmp_path / "none.ndjson", rows)
    assert "no impressions with a propensity" in refusal(
        none, "--target", "uniform", "--skip-missing"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "worse"), "neither a file nor `uniform` nor a policy in the logs: better"),
        (("--target", "bettr"), "did you mean 'better'?"),
        (("--target", "better", "--logged", "x"), "--logged: found 'x'"),
        (("--target", "0.9*better + 0.2*uniform"), "sum to 1.1, needed: 1"),
        (("--target", "better + uniform"), "found 'better', needed: SHARE*POLICY"),
        (("--target", "0.5*better + 0.5*worse"), "found 'worse', which is neither"),
        (("--target", "-0.5*better + 1.5*uniform"), "allowed: above 0"),
        (("--target", "better", "--reward", "purchase"), "beside impressions: click"),
        (("--target", "better", "--level", "1.5"), "--level"),
        (("--target", "better", "--cap", "0"), "--cap"),
    ],
)
def test_what_cannot_be_done_is_said(
    logs: tuple[Path, Path], arguments: tuple[str, ...], message: str
) -> None:
    assert message in refusal(*logs, *arguments)


def test_only_the_target_in_the_logs_is_not_enough(logs: tuple[Path, Path]) -> None:
    assert "needed: what another policy logged" in refusal(logs[1], "--target", "better")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"type": "click"}', "line 1: not an event"),
        (
            '{"type":"impression","event_id":"e","user_id":"u","item_id":"i","ts":1,'
            '"propensity":2}',
            "line 1: propensity: found 2",
        ),
        (
            '{"type":"impression","event_id":"e","user_id":"u","item_id":"i","propensity":1}\n'
            '{"type":"click","event_id":"f","user_id":"u","item_id":"i","value":"3 pounds"}',
            "line 2: value: found '3 pounds', allowed: a number",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.ndjson"
    path.write_text(line + "\n", encoding="utf-8")
    assert message in refusal(path, "--target", "uniform", "--values")


def test_events_without_a_name_are_no_repeats_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "unnamed.ndjson"
    shown = {"type": "impression", "user_id": "u", "propensity": 0.5, "policy": "p"}
    click = {"type": "click", "user_id": "u", "item_id": "a"}
    lines = [*({**shown, "item_id": item} for item in "abc"), click]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = run(path, "--target", "uniform")
    assert (found["rows"], found["rewards"]) == (3, 1.0)


def test_bad_tables_and_missing_files_are_named(logs: tuple[Path, Path], tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "x.ndjson", "--target", "uniform")
    for text, message in (
        ('{"item_id": "a"}\n', "needed: item_id, propensity"),
        ('{"item_id": "a", "propensity": 3}\n', "propensity: found 3.0"),
        ('{"item_id":"a","propensity":1}\n{"item_id":"b","propensity":0.5}\n', "sum to 1.5"),
        ("nothing\n", "neither .csv nor NDJSON"),
        ("", "holds no rows"),
    ):
        path = tmp_path / "table.ndjson"
        path.write_text(text, encoding="utf-8")
        assert message in refusal(logs[0], "--target", path)
