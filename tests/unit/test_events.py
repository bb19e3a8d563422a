"""The public schemas: what they print, what older versions wrote, what the fast twin shares."""

import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from stream.decoding.decode import Decoder
from stream.decoding.records import RecordDecoder
from stream.events import (
    CONTROL,
    DEAD_LETTER,
    DECISIONS,
    EVENT_TYPES,
    EVENTS,
    GOLD,
    ITEMS,
    LABELS,
    TOPICS,
    Event,
    Interaction,
    json_schemas,
)
from stream.records import RecordBatch

FIXTURES = Path(__file__).parent.parent / "replay" / "fixtures"


def batch_of(topic: str, version: str) -> RecordBatch:
    lines = (FIXTURES / f"{topic}.{version}.ndjson").read_bytes().splitlines()
    return RecordBatch(topic, 0, range(len(lines)), lines, [1_700_000_000.0] * len(lines))


def test_events_written_by_older_versions_still_decode_to_the_same() -> None:
    expected = json.loads((FIXTURES / "headrace.events.v1.expected.json").read_text("utf-8"))
    decoded = Decoder().decode(batch_of(EVENTS, "v1"))
    assert decoded.rejected == []
    assert [msgspec.to_builtins(event) for event in decoded.events] == expected["events"]
    assert [[tick.position, tick.ts] for tick in decoded.ticks] == expected["ticks"]
    assert decoded.unknown_fields == expected["unknown_fields"]


@pytest.mark.parametrize("topic", [ITEMS, GOLD, CONTROL, DECISIONS, LABELS])
def test_records_written_by_older_versions_still_decode(topic: str) -> None:
    batch = batch_of(topic, "v1")
    decoded = RecordDecoder(TOPICS[topic]).decode(batch)
    assert decoded.rejected == []
    assert len(decoded.records) == len(batch)
    for record, line in zip(decoded.records, batch.values, strict=True):
        written = json.loads(line)
        read = record.model_dump(mode="json")
        same = [name for name in written if name in read and name != "ts"]
        assert {name: read[name] for name in same} == {name: written[name] for name in same}


def test_every_topic_has_a_valid_json_schema_whose_fields_are_described() -> None:
    schemas = json_schemas()
    assert set(schemas) == set(TOPICS)
    for topic, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        models = [schema, *schema.get("$defs", {}).values()]
        for model in models:
            for name, field in model.get("properties", {}).items():
                described = "description" in field or "const" in field
                assert described, f"{topic}: {name} has no description"


def test_the_event_schema_states_limits_and_types() -> None:
    properties = json_schemas(["bookmark"])[EVENTS]["properties"]
    assert properties["event_id"]["maxLength"] == 128
    assert properties["user_id"]["maxLength"] == 256
    assert set(properties["type"]["enum"]) == EVENT_TYPES | {"bookmark"}
    assert len(EVENT_TYPES) == 15
    assert json_schemas()[EVENTS]["required"] == ["event_id", "type", "ts", "user_id", "item_id"]


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"ts": "2020-01-01T00:00:00Z"}, True),
        ({"position": 3.0, "context": {"a": None, "b": 1}}, True),
        ({"position": 3.5}, False),
        ({"ts": 1_590_884_413_000}, False),
        ({"ts": True}, False),
        ({"propensity": 0}, False),
        ({"user_id": ""}, False),
        ({"user_id": "a\0"}, False),
        ({"user_id": "é" * 256}, True),
        ({"user_id": "é" * 257}, False),
        ({"context": {"a": {}}}, False),
        ({"context": {f"k{i}": 1 for i in range(65)}}, False),
        ({"type": "unheard"}, False),
        ({"added_later": [1]}, True),
    ],
)
def test_the_printed_schema_and_the_decoder_agree(change: dict[str, object], valid: bool) -> None:
    document = {"event_id": "e", "type": "click", "ts": 1, "user_id": "u", "item_id": "i"} | change
    line = json.dumps(document).encode()
    schema = Draft202012Validator(json_schemas()[EVENTS])
    decoded = Decoder().decode(RecordBatch(EVENTS, 0, [0], [line], [1.6e9]))
    assert schema.is_valid(document) is valid
    assert bool(decoded.events) is valid


def test_the_fast_twin_has_the_fields_of_the_schema_in_order() -> None:
    assert Interaction.__struct_fields__ == tuple(Event.model_fields)


def test_interactions_cannot_be_changed() -> None:
    event = Interaction("e", "click", 1.0, "u", "i")
    with pytest.raises(AttributeError):
        event.ts = 2.0  # type: ignore[misc]  # what the test is about


def test_a_dead_letter_names_every_part_of_its_origin() -> None:
    required = json_schemas()[DEAD_LETTER]["required"]
    assert {"topic", "partition", "offset", "line", "field", "reason", "sha256"} <= set(required)
