"""Real clicks and impressions through `headrace replay`: exact counts, and nothing learned twice.

The files are not part of the repository: these tests skip where they are absent.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from stream.assembly import pipeline_spec
from stream.cli import command_line
from stream.config import Settings
from stream.effects import Effects
from stream.events import DEAD_LETTER
from stream.replay import Replay
from stream.simulate.corruption import KINDS, corrupt
from stream.state import Epoch
from stream.stores.memory import MemoryStore

SHARED = Path(
    os.environ.get("HEADRACE_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
SHOP = SHARED / "clicks" / "shop.events.ndjson.gz"
BANDIT = [
    SHARED / "bandit" / f"{policy}-{campaign}.events.ndjson.gz"
    for policy in ("random", "bts")
    for campaign in ("men", "women")
]
DAY_S = 86_400.0

pytestmark = pytest.mark.skipif(
    not SHOP.is_file(), reason=f"{SHARED} is absent (HEADRACE_SHARED_DATA names another place)"
)


def test_every_click_of_the_shop_is_accepted(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    result = CliRunner().invoke(command_line(), ["replay", str(SHOP), "--report", str(target)])
    assert result.exit_code == 0, result.output
    report = orjson.loads(target.read_bytes())
    assert (report["events"], report["rejected"], report["duplicates"]) == (116_285, 0, 0)
    assert report["recommender"]["prequential"]["n"] == 116_285
    assert report["recommender"]["prequential"]["hit@10"] > 0.4


def test_every_click_of_the_bandit_files_meets_its_impression(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    files = [str(path) for path in BANDIT]
    result = CliRunner().invoke(command_line(), ["replay", *files, "--report", str(target)])
    assert result.exit_code == 0, result.output
    report = orjson.loads(target.read_bytes())
    assert (report["events"], report["rejected"]) == (40_207, 0)
    assert (report["join"]["matched"], report["join"]["organic"]) == (207, 0)


def outcome(path: Path) -> tuple[str, int, dict[str, object], Replay]:
    """Return a hash of all effects but dead letters, duplicates, the state, and the replay."""
    settings = Settings(
        events={"dedup_horizon_s": 32 * DAY_S},
        join={"user_horizon_s": 90 * DAY_S},
    )
    digest = hashlib.sha256()

    def take(effects: Effects) -> None:
        for record in effects.outgoing():
            if record.topic != DEAD_LETTER:
                digest.update(record.value)

    store = MemoryStore()
    replay = Replay(
        pipeline_spec(settings, partitions=1), store, on_effects=take, checkpoint_every=10**9
    )
    replay.read_events([path])
    replay.checkpoint()
    head = store.claim(0, Epoch(0, "replay"))
    counted = {"own/clock", "share/counts"}
    state: dict[str, object] = {
        "timers": sorted(head.timers),
        "users": store.load_users(0, [key for key, _ in head.timers]),
        "chunks": {name: data for name, data in head.chunks.items() if name not in counted},
    }
    return digest.hexdigest(), int(replay.report()["duplicates"]), state, replay


def test_the_shop_sent_twice_is_learned_once(tmp_path: Path) -> None:
    lines = gzip.decompress(SHOP.read_bytes()).splitlines()
    once, each, again = (tmp_path / name for name in ("once", "each", "again"))
    once.write_bytes(b"\n".join(lines))
    each.write_bytes(b"\n".join(line for line in lines for _ in range(2)))
    again.write_bytes(b"\n".join(lines + lines))
    effects, duplicates, state, replay = outcome(once)
    assert (duplicates, replay.report()["events"]) == (0, 116_285)
    for repeated in (each, again):
        effects_again, duplicates, state_again, replay = outcome(repeated)
        assert (duplicates, replay.report()["events"]) == (116_285, 116_285)
        assert effects_again == effects
        assert state_again == state


def test_damaged_lines_of_the_shop_are_told_and_the_rest_is_learned_as_without_them(
    tmp_path: Path,
) -> None:
    lines = gzip.decompress(SHOP.read_bytes()).splitlines()
    damaged, faults = corrupt(lines, 0.01, seed=1)
    assert len(faults) == 1_163
    assert {fault.kind for fault in faults} == set(KINDS)
    bad = {fault.line - 1 for fault in faults}
    some, good = tmp_path / "some", tmp_path / "good"
    some.write_bytes(b"\n".join(damaged))
    good.write_bytes(b"\n".join(line for place, line in enumerate(lines) if place not in bad))
    effects, _, state, whole = outcome(good)
    effects_again, _, state_again, replay = outcome(some)
    told = [(problem.line, problem.field) for problem in replay.problems]
    assert told == [(fault.line, fault.field) for fault in faults[: len(told)]]
    assert replay.report()["rejected"] == len(faults)
    assert replay.report()["events"] == whole.report()["events"] == len(lines) - len(faults)
    assert effects_again == effects
    # What is kept of people; what was published holds their labels.
    assert [state_again[name] for name in ("users", "timers")] == [state["users"], state["timers"]]
