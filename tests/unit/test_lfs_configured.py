"""Labeling functions that the settings describe: what they find, and how they are refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from lfs.core import ExampleBatch, LabelingFunction
from lfs.crowd import annotator, answer_key, is_annotator
from lfs.knowledge import Table, look_up
from monitoring.feed import feed
from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.config import Settings, SettingsError
from stream.events import EVENTS, GOLD
from stream.ids import example_id, user_key
from stream.lf_sources import configured_lfs, read_votes
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch

CLASSES = ("negative", "positive")
ITEMS: dict[str, dict[str, Any]] = {
    "wok": {"title": "Iron WOK", "text": "Heats evenly", "categories": ["Kitchen", "Pan"]},
    "novel": {"title": "Café novel", "tags": ["gripping"], "attributes": {"brand": "Élan"}},
}

TWO = {"wok": "positive", "novel": "negative"}


def batch(*item_ids: str, contexts: list[dict[str, Any]] | None = None) -> ExampleBatch:
    return ExampleBatch.of(
        [{}] * len(item_ids),
        item_ids=item_ids,
        contexts=contexts,
        items=lambda item_id: ITEMS.get(item_id, {}),
    )


def made(lfs: dict[str, Any], **settings: Any) -> LabelingFunction:
    found, _ = configured_lfs(Settings(lfs=lfs, **settings))
    (lf,) = found
    return lf


def votes(lf: LabelingFunction, rows: ExampleBatch) -> list[int]:
    found, failed = lf.vote(rows, CLASSES)
    assert not failed
    return [int(vote) for vote in found]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"vote": "negative", "keywords": ["iron wok"]}, [0, -1]),
        ({"vote": "negative", "keywords": ["wo"]}, [-1, -1]),
        ({"vote": "positive", "keywords": ["CAFE"]}, [-1, 1]),
        ({"vote": "positive", "patterns": [r"\bheats\b"], "fields": ["text"]}, [1, -1]),
        ({"vote": "positive", "keywords": ["elan"], "fields": ["attributes.brand"]}, [-1, 1]),
        ({"vote": "positive", "keywords": ["gripping"], "fields": ["tags"]}, [-1, 1]),
        ({"vote": "negative", "keywords": ["pan"], "fields": ["context.query"]}, [0, -1]),
    ],
)
def test_patterns_are_found_in_folded_text(section: dict[str, Any], expected: list[int]) -> None:
    lf = made({"patterns": {"words": section}})
    rows = batch("wok", "novel", contexts=[{"query": "a PAN"}, {}])
    assert (lf.name, lf.family) == ("words", "content")
    assert votes(lf, rows) == expected


def test_scores_zero_shot_and_classifiers_vote(tmp_path: Path) -> None:
    lf = made({"scores": {"fit": {"context_key": "fit", "at_most": 0.1, "at_least": 0.9}}})
    rows = batch("wok", "wok", "wok", contexts=[{"fit": 0.95}, {"fit": 0.5}, {"fit": 0}])
    assert votes(lf, rows) == [1, -1, 0]
    lf = made({"zero_shot": {"kind": {"descriptions": ["novel, atlas", "wok, iron pan"]}}})
    assert votes(lf, batch("wok", "novel", "unknown")) == [1, 0, -1]
    file = tmp_path / "old.json"
    file.write_text('{"bias": 0, "weights": {"wok": 4, "novel": -4}}')
    lf = made({"classifiers": {"old": {"file": file}}})
    assert votes(lf, batch("wok", "novel", "unknown")) == [1, 0, -1]


def test_a_table_over_a_taxonomy_answers_by_the_narrowest_category(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.csv"
    file.write_text("key,vote\nkitchen,negative\nPAN,positive\n", encoding="utf-8")
    lf = made({"lookups": {"taxonomy": {"file": file, "by": "categories"}}})
    assert votes(lf, batch("wok", "novel")) == [1, -1]


def test_an_item_may_say_it_itself_and_is_believed_anew_when_it_changes() -> None:
    lf = made({"item_votes": ["editor"]})
    items: dict[str, dict[str, Any]] = {"a": {"attributes": {"editor": "positive"}}}
    rows = ExampleBatch.of([{}], item_ids=["a"], items=items.__getitem__)
    assert votes(lf, rows) == [1]
    items["a"] = {"attributes": {"editor": "negative"}}
    assert votes(lf, rows) == [0]


def test_text_is_read_anew_when_an_item_changes() -> None:
    lf = made({"patterns": {"words": {"vote": "negative", "keywords": ["old"]}}})
    items = {"a": {"title": "Old kettle"}}
    rows = ExampleBatch.of([{}], item_ids=["a"], items=items.__getitem__)
    assert votes(lf, rows) == [0]
    items["a"] = {"title": "New kettle"}
    assert votes(lf, rows) == [-1]


def test_a_file_that_changes_counts_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "block.csv"
    file.write_text("wok\n")
    lfs = {"lookups": {"block": {"file": file, "vote": "negative", "reload_s": 0.02}}}
    (lf,), files = configured_lfs(Settings(lfs=lfs))
    files.follow()
    try:
        rows = batch("wok", "novel")
        assert votes(lf, rows) == [0, -1]
        replace(file, "novel\nnothing else\n")
        _until(lambda: votes(lf, rows) == [-1, 0])
        replace(file, "novel,nonsense\n")
        _until(lambda: "keeps its old entries" in caplog.text)
        assert votes(lf, rows) == [-1, 0]
    finally:
        files.close()


def test_a_file_is_read_anew_when_it_has_come_to_rest(tmp_path: Path) -> None:
    file = tmp_path / "blocked.csv"
    file.write_text("wok\n")
    lfs = {"lookups": {"block": {"file": file, "vote": "negative"}}}
    (lf,), files = configured_lfs(Settings(lfs=lfs))
    rows, told = batch("wok", "novel"), list[str]()
    # Somebody writes it anew, slowly: first it is empty.
    for text in ("", "nov", "novel\n"):
        file.write_text(text)
        files.look(told.append)
        assert votes(lf, rows) == [0, -1]
    files.look(told.append)
    files.look(told.append)
    assert votes(lf, rows) == [-1, 0]
    assert told == ["read"]


def replace(file: Path, text: str) -> None:
    """Write a file as one should: nobody sees half of it."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "text", "vote", "expected"),
    [
        ("a.csv", "wok,positive\n\nnovel,negative\n", None, TWO),
        ("a.csv", "key,vote\nwok,positive\nnovel,negative\n", None, TWO),
        ("a.csv", "wok\nnovel,negative\n", "positive", TWO),
        ("a.ndjson", '{"key": "wok", "vote": "positive"}\n', None, {"wok": "positive"}),
        ("a.jsonl", '{"key": "wok"}\n', "negative", {"wok": "negative"}),
    ],
)  # fmt: skip
def test_files_of_votes(
    tmp_path: Path, name: str, text: str, vote: str | None, expected: dict[str, str]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_votes(tmp_path / name, CLASSES, vote) == expected


@pytest.mark.parametrize(
    ("lfs", "told"),
    [
        ({"patterns": {"p": {"vote": "positive", "patterns": ["("]}}}, "no regular expression"),
        ({"patterns": {"p": {"vote": "perhaps", "keywords": ["a"]}}}, "found 'perhaps'"),
        (
            {"patterns": {"p": {"vote": "positive", "keywords": ["a"], "task": "mood"}}},
            r"lfs\.patterns\.p\.task: names no task; found 'mood'",
        ),
        (
            {"patterns": {"p": {"vote": "positive", "keywords": ["a"], "fields": ["colour"]}}},
            "field: found 'colour'",
        ),
        ({"scores": {"s": {"context_key": "k"}}}, "neither at_most nor at_least"),
        ({"scores": {"s": {"context_key": "k", "at_most": 1, "at_least": 0}}}, "below at_least"),
        ({"zero_shot": {"z": {"descriptions": ["a", "b", "c"]}}}, "should be 2 texts"),
        ({"lookups": {"l": {"file": "/nonexistent.csv"}}}, "cannot be read"),
        ({"classifiers": {"c": {"file": "/nonexistent.json"}}}, "bias"),
        ({"modules": ["lfs.behaviour"], "context_votes": ["clicked"]}, "are named 'clicked'"),
    ],
)
def test_what_is_wrong_is_refused_with_the_remedy(lfs: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        pipeline_spec(Settings(lfs=lfs))


def test_a_function_may_be_held_to_be_worse_than_others_before_it_votes() -> None:
    spec = pipeline_spec(Settings(lfs={"priors": {"long_dwell": {"accuracy": 0.55}}}))
    (task,) = spec.tasks
    believed = {
        name.partition("@")[0]: lf["estimated_accuracy"]
        for name, lf in task.model().summary()["lfs"].items()
    }
    assert believed.pop("long_dwell") == pytest.approx(0.55)
    assert list(believed.values()) == pytest.approx([0.7] * len(believed))
    with pytest.raises(SettingsError, match="lfs.priors: names no labeling function; found 'dwel'"):
        pipeline_spec(Settings(lfs={"priors": {"dwel": {"accuracy": 0.55}}}))


def test_a_bad_line_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "votes.csv"
    file.write_text("wok,positive\nnovel,perhaps\n")
    with pytest.raises(SettingsError, match=r"votes\.csv:2: vote: found 'perhaps', allowed: neg"):
        read_votes(file, CLASSES)
    file.write_text('novel,negative\n"wok,positive\n' + "key,positive\n" * 20_000)
    with pytest.raises(SettingsError, match=r"votes\.csv:2: is not CSV"):
        read_votes(file, CLASSES)
    file = tmp_path / "votes.ndjson"
    file.write_text('{"vote": "positive"}\n')
    with pytest.raises(SettingsError, match=r"votes\.ndjson:1: should be"):
        read_votes(file, CLASSES)


def test_intent_runs_where_it_is_configured() -> None:
    assert [task.name for task in pipeline_spec(Settings()).tasks] == ["relevance"]
    spec = pipeline_spec(
        Settings(tasks={"intent": {"classes": ["browse", "compare", "buy", "gift"]}})
    )
    intent = next(task for task in spec.tasks if task.name == "intent")
    assert {lf.family for lf in intent.lfs} == {"intent"}
    assert len(intent.lfs) >= 6


def test_annotators_vote_in_the_conditional_form_under_pseudonyms() -> None:
    spec = pipeline_spec(Settings(lfs={"annotators": ["ann", "bob"]}))
    crowd = [lf for lf in spec.tasks[0].lfs if lf.family == "crowd"]
    assert [lf.form for lf in crowd] == ["crowd", "crowd"]
    assert all(is_annotator(lf.name) and "ann" not in lf.name and "bob" not in lf.name
               for lf in crowd)  # fmt: skip
    rows = batch("wok", "wok", contexts=[{answer_key("ann", "relevance"): "negative"}, {}])
    assert votes(annotator("ann"), rows) == [0, -1]
    assert votes(annotator("bob"), rows) == [-1, -1]


def test_a_table_that_names_no_class_is_a_counted_failure() -> None:
    lf = look_up("t", Table({"wok": "perhaps"}), "item_id")
    found, failed = lf.vote(batch("wok", "novel"), CLASSES)
    assert (found.tolist(), failed) == ([-1, -1], {0: "answer"})


def test_answers_of_annotators_who_are_weighed_are_votes_and_others_the_truth() -> None:
    pipeline = PartitionPipeline(pipeline_spec(Settings(lfs={"annotators": ["ann", "bob"]})), 0)
    event = b'{"event_id":"e","type":"view","ts":1000,"user_id":"u","item_id":"i"}'
    batch_of_one = RecordBatch(EVENTS, 0, [0], [event], [1e9])
    pipeline.process(pipeline.prepare(batch_of_one), {})
    name = example_id(user_key("u"), None, "i", "e")

    def answered(offset: int, annotator_id: str, label: str) -> dict[str, Any]:
        value = orjson.dumps(
            {
                "example_id": name,
                "label": label,
                "annotator": annotator_id,
                "ts": 1001 + offset,
                "user_id": "u",
            }
        )
        pipeline.process(
            pipeline.prepare(RecordBatch(GOLD, 0, [offset], [value], [1e9 + offset])), {}
        )
        (record,) = pipeline.answer_rest({}).outgoing()
        said: dict[str, Any] = orjson.loads(record.value)
        assert (said["stage"], said["revision"], said["reason"]) == ("revised", offset + 1, "gold")
        return said

    first = answered(0, "ann", "negative")
    assert 0.1 < first["probabilities"]["negative"] < 1.0
    crowd = [vote for vote in first["votes"] if is_annotator(vote["lf"])]
    assert [vote["vote"] for vote in crowd] == ["negative"]
    second = answered(1, "bob", "negative")
    assert first["probabilities"]["negative"] < second["probabilities"]["negative"] < 1.0
    assert answered(2, "the expert", "positive")["probabilities"]["positive"] == 1.0
    metrics = Metrics(process=False)
    feed(metrics, pipeline.counts)
    assert metrics.value("lf_votes_total", ("crowd", "negative")) == 3
    assert pipeline.labelling.tasks["relevance"].quality.n == 1
