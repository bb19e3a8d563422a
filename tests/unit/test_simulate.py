"""The simulated shop as a source of lines: same bytes, right counts, valid events, whole files."""

from __future__ import annotations

import gzip
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from pydantic import ValidationError

from stream.decoding.decode import Decoder
from stream.events import Gold, Item
from stream.ids import example_id, user_key
from stream.records import RecordBatch
from stream.simulate import Drift, FeedbackRates, World, WorldConfig, write_world
from stream.simulate.files import Compression

SMALL = WorldConfig(seed=7, users=60, items=80, events=4_000, days=3)


def lines_of(config: WorldConfig, size: int = 20_000) -> list[bytes]:
    return [line for chunk in World(config).chunks(size) for line in chunk]


def documents(lines: list[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines]


def decode(lines: list[bytes], log_ts: float) -> Any:
    times = [log_ts] * len(lines)
    return Decoder().decode(RecordBatch("headrace.events", 0, range(len(lines)), lines, times))


@pytest.mark.parametrize("size", [1, 997, 20_000])
def test_the_size_of_chunks_changes_no_byte(size: int) -> None:
    chunks = list(World(SMALL).chunks(size))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size
    assert [line for chunk in chunks for line in chunk] == lines_of(SMALL)


def test_a_world_can_be_walked_again() -> None:
    world = World(SMALL)
    assert list(world.chunks()) == list(world.chunks())
    assert list(world.truth()) == list(world.truth())
    assert list(world.gold()) == list(world.gold())
    assert list(world.items()) == list(world.items())


def test_another_seed_is_another_world() -> None:
    assert lines_of(SMALL) != lines_of(SMALL.model_copy(update={"seed": 8}))


def test_the_number_of_events_is_kept_exactly() -> None:
    assert len(lines_of(SMALL)) == 4_000
    assert World(SMALL).expected_events == 4_000


def test_days_bound_a_world_without_a_number_of_events() -> None:
    config = WorldConfig(users=400, items=60, days=3.0, hours=(1.0,) * 24)
    lines = lines_of(config)
    first, last = documents([lines[0], lines[-1]])
    assert config.start_ts <= first["ts"] < config.start_ts + 3_600
    assert config.start_ts + 2.9 * 86_400 < last["ts"] <= config.start_ts + 3 * 86_400
    assert World(config).expected_events == pytest.approx(len(lines), rel=0.2)
    sessions = {event["session_id"] for event in documents(lines)}
    assert len(sessions) == pytest.approx(400 * 0.5 * 3, rel=0.02)


def test_memory_does_not_grow_with_the_stream() -> None:
    # The same rate throughout: four times the events take four times the days.
    config = WorldConfig(users=300, items=60, requests_per_session=1.0, slate=2, gold=0.0)

    def peak(events: int) -> int:
        world = World(config.model_copy(update={"events": events, "days": events / 1_000}))
        tracemalloc.start()
        try:
            assert sum(len(part.events) for part in world.slices()) == events
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(5_000)
    assert peak(60_000) < 1.25 * peak(15_000)


def test_every_line_is_a_valid_event_of_the_public_schema() -> None:
    lines = lines_of(SMALL.model_copy(update={"disorder": 0.1, "duplicates": 0.05}))
    decoded = decode(lines, SMALL.start_ts + 1e7)
    assert decoded.rejected == []
    assert decoded.unknown_fields == 0
    assert len(decoded.events) == len(lines)


def test_items_and_gold_are_valid_records_of_their_topics() -> None:
    config = SMALL.model_copy(update={"gold": 0.2, "embeddings": True})
    world = World(config)
    items = [Item.model_validate_json(orjson.dumps(item)) for item in world.items()]
    assert len({item.item_id for item in items}) == config.items
    assert [item.ts for item in items] == sorted(item.ts or 0.0 for item in items)
    answers = [Gold.model_validate_json(line) for line in world.gold()]
    assert len(answers) > 10


def test_events_come_in_order_of_time_where_none_is_late() -> None:
    times = [event["ts"] for event in documents(lines_of(SMALL))]
    assert times == sorted(times)


def test_late_events_are_as_many_and_as_late_as_planned() -> None:
    config = SMALL.model_copy(update={"disorder": 0.2, "disorder_mean_s": 40.0, "events": 20_000})
    lateness = [
        sent - event["ts"]
        for part in World(config).slices()
        for sent, event in zip(part.sent_at, documents(part.events), strict=True)
    ]
    late = [seconds for seconds in lateness if seconds > 0.0005]
    assert len(late) / len(lateness) == pytest.approx(0.2, abs=0.015)
    assert sum(late) / len(late) == pytest.approx(40.0, rel=0.1)


def test_duplicates_repeat_a_line_that_came_before() -> None:
    config = SMALL.model_copy(update={"duplicates": 0.1, "events": 10_000})
    counts = Counter(lines_of(config))
    assert set(counts.values()) == {1, 2}
    again = sum(1 for count in counts.values() if count == 2)
    assert again / 10_000 == pytest.approx(0.1 / 1.1, abs=0.01)


def test_event_ids_are_unique() -> None:
    ids = [event["event_id"] for event in documents(lines_of(SMALL))]
    assert len(set(ids)) == len(ids)


def test_feedback_that_names_a_request_answers_an_impression_of_it() -> None:
    shown = set()
    answered = 0
    for event in documents(lines_of(SMALL)):
        exposure = (event["user_id"], event.get("request_id"), event["item_id"])
        if event["type"] == "impression":
            assert exposure not in shown
            shown.add(exposure)
        elif "request_id" in event:
            assert exposure in shown
            answered += 1
    assert answered > 100


def test_every_kind_of_event_occurs_and_some_feedback_has_no_exposure() -> None:
    rates = FeedbackRates(report=0.02)
    config = WorldConfig(days=30.0, events=40_000, users=300, items=80, rates=rates)
    events = documents(lines_of(config))
    assert {event["type"] for event in events} >= {
        *("impression", "click", "view", "dwell", "add_to_cart", "purchase", "return"),
        *("rating", "like", "share", "skip", "hide", "report", "search"),
    }
    lost = [e for e in events if e["type"] == "purchase" and "request_id" not in e]
    assert lost
    assert {e["segment"] for e in events} == {"newcomer", "regular", "loyal"}


def test_items_are_not_shown_before_they_appear() -> None:
    config = SMALL.model_copy(update={"new_items": 0.9, "items": 200, "events": 20_000})
    world = World(config)
    birth = {str(item["item_id"]): item["ts"] for item in world.items()}
    born_later = {item for item, ts in birth.items() if ts != config.start_ts}
    assert len(born_later) > 50
    events = documents(lines_of(config))
    assert all(event["ts"] >= birth[event["item_id"]] for event in events)
    assert born_later & {event["item_id"] for event in events}


def test_truth_names_every_exposure_once() -> None:
    config = SMALL.model_copy(update={"duplicates": 0.1})
    opening = [e for e in documents(lines_of(config)) if e["type"] in ("impression", "view")]
    exposures = {
        (e["user_id"], e.get("request_id"), e["item_id"], e["event_id"]): e["ts"] for e in opening
    }
    truth = documents(list(World(config).truth()))
    keys = [(t["user_id"], t["request_id"], t["item_id"], t["event_id"]) for t in truth]
    assert len(set(keys)) == len(keys)
    assert {key: t["ts"] for key, t in zip(keys, truth, strict=True)} == exposures


def test_gold_names_the_example_that_the_pipeline_will_open() -> None:
    config = SMALL.model_copy(update={"gold": 0.3, "organic_views": 2.0})
    world = World(config)
    planted = {
        example_id(user_key(t["user_id"]), t["request_id"], t["item_id"], t["event_id"]): t
        for t in documents(list(world.truth()))
    }
    answers = documents(list(world.gold()))
    assert any(planted[a["example_id"]]["request_id"] is None for a in answers)
    for answer in answers:
        truth = planted[answer["example_id"]]
        assert truth["user_id"] == answer["user_id"]
        assert answer["ts"] >= truth["ts"] + 60
        assert answer["label"] == ("negative", "positive")[truth["relevance"]]


def test_live_sends_everything_and_never_goes_back() -> None:
    config = SMALL.model_copy(update={"disorder": 0.2, "gold": 0.1})
    world = World(config)
    sent = list(world.live())
    assert all(before.ts <= after.ts for before, after in pairwise(sent))
    assert [s.line for s in sent if s.topic == "events"] == lines_of(config)
    assert [s.line for s in sent if s.topic == "gold"] == list(world.gold())
    assert sum(1 for s in sent if s.topic == "items") == config.items


def test_traffic_drift_changes_the_rate() -> None:
    flat = {"hours": (1.0,) * 24, "days": 10.0, "users": 300, "items": 60}
    config = WorldConfig(drift=(Drift(at=0.5, kind="traffic", amount=4.0),), **flat)
    world = World(config)
    moment = world.summary()["drift"][0]["ts"]
    starts = [
        event["ts"]
        for event in documents(lines_of(config))
        if event["type"] == "impression" and event["position"] == 1
    ]
    before = sum(ts < moment for ts in starts) / (moment - config.start_ts)
    after = sum(ts >= moment for ts in starts) / (config.start_ts + 864_000 - moment)
    assert after / before == pytest.approx(4.0, rel=0.15)


def test_sessions_follow_the_hours() -> None:
    hours = tuple(1.0 if hour in (8, 20) else 0.0 for hour in range(24))
    config = WorldConfig(users=200, items=60, days=4, hours=hours, organic_views=0.0)
    first: dict[str, float] = {}
    for event in documents(lines_of(config)):
        first.setdefault(event["session_id"], event["ts"])
    assert {int(ts % 86_400 // 3_600) for ts in first.values()} <= {8, 9, 20, 21}
    assert any(int(ts % 86_400 // 3_600) == 20 for ts in first.values())


def test_files_hold_the_world(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    files = write_world(SMALL, tmp_path / "world", lambda done, all_: told.append((done, all_)))
    assert files.events.read_bytes().splitlines() == lines_of(SMALL)
    assert files.truth.read_bytes().splitlines() == list(World(SMALL).truth())
    assert files.gold.read_bytes().splitlines() == list(World(SMALL).gold())
    assert len(files.items.read_bytes().splitlines()) == files.item_count == SMALL.items
    assert files.event_count == 4_000
    assert told[-1] == (4_000, 4_000)
    planted = orjson.loads(files.world.read_bytes())
    assert WorldConfig.model_validate(planted["config"]) == SMALL
    assert planted["counts"]["truth"] == files.truth_count
    assert {path.name for path in (tmp_path / "world").iterdir()} == {
        *("events.ndjson", "items.ndjson", "gold.ndjson", "truth.ndjson"),
        *("rejections.ndjson", "world.json"),
    }


def test_compressed_events_hold_the_same_lines(tmp_path: Path) -> None:
    packed = write_world(SMALL, tmp_path / "gz", compression="gz").events
    assert gzip.decompress(packed.read_bytes()).splitlines() == lines_of(SMALL)
    again = write_world(SMALL, tmp_path / "gz2", compression="gz").events
    assert packed.read_bytes() == again.read_bytes()
    packed = write_world(SMALL, tmp_path / "zst", compression="zst").events
    with zstandard.open(packed, "rb") as file:
        assert file.read().splitlines() == lines_of(SMALL)


def test_an_earlier_world_is_kept_unless_forced(tmp_path: Path) -> None:
    write_world(SMALL, tmp_path, compression="gz")
    other = SMALL.model_copy(update={"seed": 2})
    with pytest.raises(FileExistsError, match="events.ndjson.gz"):
        write_world(other, tmp_path)
    files = write_world(other, tmp_path, force=True)
    assert files.events.read_bytes().splitlines() == lines_of(other)
    assert not (tmp_path / "events.ndjson.gz").exists()


@pytest.mark.parametrize("compression", ["none", "gz", "zst"])
def test_an_interrupted_run_leaves_the_earlier_world_and_nothing_else(
    tmp_path: Path, compression: Compression
) -> None:
    earlier = write_world(SMALL, tmp_path).events.read_bytes()
    names = sorted(path.name for path in tmp_path.iterdir())

    def interrupt(done: int, expected: int) -> None:
        raise KeyboardInterrupt

    other = SMALL.model_copy(update={"seed": 2})
    with pytest.raises(KeyboardInterrupt):
        write_world(other, tmp_path, interrupt, compression=compression, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "events.ndjson").read_bytes() == earlier


def test_damage_in_files_is_written_down(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"corrupted": 0.01})
    files = write_world(config, tmp_path)
    expected = [(f["line"], f["field"]) for f in documents(files.rejections.read_bytes().split())]
    assert len(expected) == files.rejection_count == 40
    lines = files.events.read_bytes().split(b"\n")[:-1]
    decoded = decode(lines, SMALL.start_ts + 7 * 86_400)
    assert [(r.offset + 1, r.field) for r in decoded.rejected] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slate": 30}, "slate"),
        ({"items": 5}, "slate"),
        ({"return_days": (9, 2)}, "return_days"),
        ({"hours": [0] * 24}, "hour"),
        ({"hours": [1] * 23}, "hours"),
        ({"seed": -1}, "seed"),
        ({"spam": 1}, "spam"),
        ({"days": float("nan")}, "days"),
        ({"drift": [{"at": 0.5, "kind": "lf_flip", "lfs": [9]}]}, "drift names LFs"),
        ({"drift": [{"at": 0.5, "kind": "traffic", "amount": 0}]}, "amount of traffic"),
        ({"sim_lfs": [{"copy_of": 0}]}, "copy_of"),
        ({"segments": [{"name": "a", "share": 1}] * 2}, "names of their own"),
    ],
)
def test_settings_that_make_no_world_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WorldConfig.model_validate(settings)


def test_a_number_of_lfs_makes_a_ladder_of_accuracies() -> None:
    lfs = WorldConfig.model_validate({"sim_lfs": 10}).sim_lfs
    assert len(lfs) == 10
    assert (lfs[0].accuracy, lfs[-1].accuracy) == (0.9, 0.55)
    assert WorldConfig.model_validate({"sim_lfs": 0}).sim_lfs == ()


def test_no_lfs_and_very_many_lfs_both_make_worlds() -> None:
    none = lines_of(SMALL.model_copy(update={"sim_lfs": ()}))
    assert not any(b"sim_lf" in line for line in none)
    many = WorldConfig.model_validate(SMALL.model_dump() | {"sim_lfs": 56})
    votes = {name for e in documents(lines_of(many)) for name in e.get("context", {})}
    assert {name for name in votes if name.startswith("sim_lf_")} == {
        f"sim_lf_{number}" for number in range(56)
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"users": 1, "items": 8, "events": 300},
        {"users": 3, "items": 2, "slate": 1, "shelf": 2, "events": 300},
        {"bots": 1.0, "events": 300, "users": 5},
        {"temperature": 0.001, "epsilon": 0.0, "events": 300},
        {"gold": 1.0, "events": 300},
        {"days": 0.001, "users": 2},
    ],
)
def test_worlds_at_the_edge_still_turn(settings: dict[str, Any]) -> None:
    config = WorldConfig.model_validate(settings)
    lines = lines_of(config)
    if config.events is not None:
        assert len(lines) == config.events
    assert decode(lines, config.start_ts + 1e8).rejected == []
