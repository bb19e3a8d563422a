"""The catalogue, the accumulators, what Prometheus reads, and how counts get there."""

import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from monitoring.catalogue import CATALOGUE, LABEL_BOUNDS, OTHER, Kind, MetricSpec, by_name
from monitoring.counts import STAGES, BucketCounts, PartitionGauges, StageCounts, TaskCounts
from monitoring.feed import CountsFeed, feed, forget_partitions
from monitoring.metrics import Metrics
from monitoring.sparse_votes import sparse_votes
from monitoring.vote_counts import count_labels, count_votes

FUNCTIONS = tuple(f"labeling_function_{i:02d}" for i in range(50))
CLASSES = ("negative", "positive")


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def some_counts(functions: tuple[str, ...] = FUNCTIONS) -> StageCounts:
    random = np.random.default_rng(7)
    counts = StageCounts(duplicates=3, misplaced=1)
    counts.consumed["headrace.events"] += 500
    counts.rejected["headrace.events", "ts"] += 4
    task = counts.task("relevance", CLASSES, functions)
    task.votes += random.integers(0, 500, task.votes.shape)
    task.abstains += random.integers(0, 500, task.abstains.shape)
    task.overlaps += 2
    task.conflicts += 1
    task.disagreements += 1
    task.seconds += 0.002
    task.labels += 3
    task.gold += 2
    task.failures[functions[0], "raised"] += 1
    task.entropy_bits.observe_many(random.random(500))
    counts.join.matched += 9
    counts.join.dropped["open_examples"] += 2
    counts.join.delay_s.observe_many(random.random(300) * 1e4)
    counts.partitions[3] = PartitionGauges(pending=7, oldest_pending_s=60.0, watermark=1_000.0)
    return counts


def test_catalogue_names_follow_prometheus_conventions() -> None:
    for spec in by_name(CATALOGUE).values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.name)
        assert (spec.kind is Kind.COUNTER) == spec.name.endswith("_total"), spec.name
        assert spec.kind is Kind.HISTOGRAM or not spec.buckets, spec.name
        assert list(spec.buckets) == sorted(set(spec.buckets)), spec.name
        assert spec.help and not spec.help.endswith("."), spec.name
        assert spec.bound == 1 or spec.labels, spec.name


def test_no_label_of_the_catalogue_can_hold_a_person() -> None:
    assert not {"user", "user_id", "item", "item_id", "event", "event_id"} & LABEL_BOUNDS.keys()


def test_a_metric_defined_twice_or_with_an_unbounded_label_is_refused() -> None:
    spec = MetricSpec("x_total", Kind.COUNTER, "X")
    with pytest.raises(ValueError, match="x_total"):
        by_name([spec, spec])
    with pytest.raises(ValueError, match="user_id"):
        by_name([MetricSpec("y_total", Kind.COUNTER, "Y", ("user_id",), 9)])


def test_counters_gauges_and_histograms_reach_the_page() -> None:
    metrics = Metrics(process=False)
    metrics.add("lf_votes_total", ("a", "positive"), 2)
    metrics.add_array("lf_votes_total", [("a", "positive"), ("b", "negative")], np.array([5, 1]))
    metrics.set("lf_enabled", ("a",), 1)
    metrics.set_array("lf_weight", [("a",), ("b",)], [0.5, -1.5])
    metrics.observe("batch_duration_seconds", (), 0.001)
    metrics.observe_many("batch_duration_seconds", (), [0.02, 99.0, float("nan")])
    metrics.observe_each("lf_duration_seconds", [("a",), ("b",)], [0.01, 2.0])
    page = samples(metrics)
    assert page["headrace_lf_votes_total", (("label", "positive"), ("lf", "a"))] == 7
    assert page["headrace_lf_votes_total", (("label", "negative"), ("lf", "b"))] == 1
    assert page["headrace_lf_enabled", (("lf", "a"),)] == 1
    assert page["headrace_lf_weight", (("lf", "b"),)] == -1.5
    assert page["headrace_batch_duration_seconds_bucket", (("le", "0.001"),)] == 1
    assert page["headrace_batch_duration_seconds_bucket", (("le", "0.025"),)] == 2
    assert page["headrace_batch_duration_seconds_bucket", (("le", "+Inf"),)] == 3
    assert page["headrace_batch_duration_seconds_count", ()] == 3
    assert page["headrace_batch_duration_seconds_sum", ()] == pytest.approx(99.021)
    assert page["headrace_lf_duration_seconds_sum", (("lf", "a"),)] == 0.01
    assert page["headrace_lf_duration_seconds_count", (("lf", "b"),)] == 1


def test_what_is_unknown_or_of_another_type_is_refused() -> None:
    metrics = Metrics(process=False)
    with pytest.raises(KeyError):
        metrics.add("no_such_total")
    with pytest.raises(TypeError, match="counter"):
        metrics.set("rebalances_total", (), 1)
    with pytest.raises(ValueError, match="labels"):
        metrics.add("events_consumed_total", (), 1)
    with pytest.raises(ValueError, match="2 series"):
        metrics.set_array("lf_weight", [("a",), ("b",)], [1.0])
    for value in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="cannot grow"):
            metrics.add("rebalances_total", (), value)
    with pytest.raises(ValueError, match="bounds"):
        metrics.add_buckets("join_delay_seconds", (), BucketCounts((1.0,)))


def test_too_many_label_values_become_other_and_are_counted() -> None:
    metrics = Metrics(process=False)
    bound = LABEL_BOUNDS["topic"]
    for i in range(bound + 5):
        metrics.add("event_failures_total", (f"topic{i}", "ts"))
    page = samples(metrics)
    assert page["headrace_event_failures_total", (("reason", "ts"), ("topic", OTHER))] == 5
    overflow = (("metric", "event_failures_total"),)
    assert page["headrace_metrics_overflow_total", overflow] == 5
    series = [name for name, _ in page if name == "headrace_event_failures_total"]
    assert len(series) == bound + 1


def test_the_bound_of_a_metric_holds_whatever_its_labels_allow() -> None:
    spec = MetricSpec("pairs_total", Kind.COUNTER, "Pairs", ("lf_a", "lf_b"), 20)
    metrics = Metrics([spec], process=False)
    metrics.add_array("pairs_total", [(str(i), str(i)) for i in range(30)], np.ones(30))
    assert metrics.value("pairs_total", (OTHER, OTHER)) == 10
    assert len(samples(metrics)) == 21


def test_a_gauge_without_room_is_left_out_and_counted() -> None:
    spec = MetricSpec("weight", Kind.GAUGE, "Weight", ("lf",), 2)
    overflow = MetricSpec("metrics_overflow_total", Kind.COUNTER, "Left out", ("metric",), 8)
    metrics = Metrics([spec, overflow], process=False, clock=lambda: 10.0)
    metrics.set_array("weight", [("a",), ("b",), ("c",)], [1.0, 2.0, 3.0])
    metrics.set("weight", ("d",), 4.0)
    metrics.set_since("weight", ("e",), 5.0)
    shown = {
        labels: value for (name, labels), value in samples(metrics).items() if "weight" in name
    }
    assert shown == {(("lf", "a"),): 1.0, (("lf", "b"),): 2.0}
    assert metrics.value("metrics_overflow_total", ("weight",)) == 3
    metrics.replace("weight", [("b",), ("c",), ("d",)], [5.0, 6.0, 7.0])
    assert metrics.value("weight", ("c",)) == 6.0
    assert metrics.value("weight", (OTHER,)) == 0.0
    # Whoever is called so is no rest.
    metrics.replace("weight", [(OTHER,)], [8.0])
    assert metrics.value("weight", (OTHER,)) == 8.0


def test_a_gauge_of_what_is_called_other_is_shown_however_long_its_labels_are() -> None:
    spec = MetricSpec("share", Kind.GAUGE, "Share", ("segment", "label"), 4)
    metrics = Metrics([spec], process=False)
    metrics.set("share", (OTHER, "x" * 200), 0.5)
    assert metrics.value("share", (OTHER, "x" * 128)) == 0.5


def test_hostile_label_values_do_not_spoil_the_page() -> None:
    metrics = Metrics(process=False)
    for value in ('quo"te', "back\\slash", "new\nline", "\ud800half", "é", "x" * 1_000):
        metrics.add("events_consumed_total", (value,))
    topics = [dict(labels)["topic"] for name, labels in samples(metrics) if "consumed" in name]
    assert topics[:3] == ['quo"te', "back\\slash", "new\nline"]
    assert max(map(len, topics)) == 128


def test_a_forgotten_series_leaves_the_page_and_begins_anew() -> None:
    metrics = Metrics(process=False)
    pairs = [("a", "b"), ("c", "d")]
    metrics.set_array("lf_pair_conflict_ratio", pairs, [0.5, 0.25])
    metrics.forget("lf_pair_conflict_ratio", ("a", "b"))
    metrics.forget("lf_pair_conflict_ratio", ("never", "there"))
    assert metrics.value("lf_pair_conflict_ratio", ("a", "b")) == 0
    metrics.set("lf_pair_conflict_ratio", ("e", "f"), 0.125)
    metrics.set_array("lf_pair_conflict_ratio", pairs, [0.75, 0.5])
    found = {
        tuple(v for _, v in labels): x for (_, labels), x in samples(metrics).items() if labels
    }
    assert {k: found[k] for k in [*pairs, ("e", "f")]} == {
        ("a", "b"): 0.75,
        ("c", "d"): 0.5,
        ("e", "f"): 0.125,
    }


def test_a_top_20_may_change_for_ever() -> None:
    metrics = Metrics(process=False)
    for i in range(40):
        pairs = [(f"a{i + j}", f"b{10 * i + j}") for j in range(20)]
        metrics.replace("lf_pair_conflict_ratio", pairs, np.arange(20) + i)
    page = samples(metrics)
    series = [labels for name, labels in page if name == "headrace_lf_pair_conflict_ratio"]
    assert series == [(("lf_a", f"a{39 + j}"), ("lf_b", f"b{390 + j}")) for j in range(20)]
    assert metrics.value("lf_pair_conflict_ratio", ("a58", "b409")) == 58
    assert metrics.value("metrics_overflow_total", ("lf_pair_conflict_ratio",)) == 0


def test_an_age_goes_on_growing_by_itself() -> None:
    now = [100.0]
    metrics = Metrics(process=False, clock=lambda: now[0])
    metrics.set_since("watermark_delay_seconds", ("0",), 90.0)
    assert metrics.value("watermark_delay_seconds", ("0",)) == 10
    now[0] = 150.0
    assert samples(metrics)["headrace_watermark_delay_seconds", (("partition", "0"),)] == 60
    now[0] = 80.0
    assert metrics.value("watermark_delay_seconds", ("0",)) == 0
    metrics.set("watermark_delay_seconds", ("0",), 5.0)
    assert metrics.value("watermark_delay_seconds", ("0",)) == 5


def test_two_instances_do_not_know_each_other() -> None:
    one, two = Metrics(), Metrics()
    one.add("rebalances_total")
    assert (one.value("rebalances_total"), two.value("rebalances_total")) == (1, 0)
    assert "process_resident_memory_bytes" in two.render().decode()


def test_threads_lose_nothing() -> None:
    metrics = Metrics(process=False)
    names = [(name,) for name in FUNCTIONS]

    def work() -> None:
        for _ in range(200):
            metrics.add_array("lf_abstains_total", names, np.ones(50))
            metrics.render()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert metrics.value("lf_abstains_total", names[7]) == 600


def test_every_count_of_a_batch_is_fed() -> None:
    metrics, counts = Metrics(process=False, clock=lambda: 1_010.0), some_counts()
    feed(metrics, counts)
    feed(metrics, counts)
    task = counts.tasks["relevance"]
    first = FUNCTIONS[0]
    expected = {
        ("events_consumed_total", ("headrace.events",)): 1_000,
        ("event_failures_total", ("headrace.events", "ts")): 8,
        ("dead_letters_total", ("headrace.events",)): 8,
        ("duplicate_events_total", ()): 6,
        ("misplaced_events_total", ()): 2,
        ("lf_votes_total", (FUNCTIONS[4], "positive")): 2 * task.votes[4, 1],
        ("lf_abstains_total", (FUNCTIONS[4],)): 2 * task.abstains[4],
        ("lf_overlaps_total", (first,)): 4,
        ("lf_conflicts_total", (first,)): 2,
        ("lf_model_disagreements_total", (first,)): 2,
        ("lf_failures_total", (first, "raised")): 2,
        ("lf_duration_seconds", (first,)): 2,
        ("labels_total", ("relevance", "positive", STAGES[2])): 6,
        ("gold_labels_total", ("relevance",)): 4,
        ("label_entropy_bits", ("relevance",)): 1_000,
        ("join_matched_total", ()): 18,
        ("join_dropped_total", ("open_examples",)): 4,
        ("join_delay_seconds", ()): 600,
        ("join_pending", ("3",)): 7,
        ("join_oldest_pending_seconds", ("3",)): 60,
        ("watermark_delay_seconds", ("3",)): 10,
    }
    assert {key: metrics.value(*key) for key in expected} == expected
    forget_partitions(metrics, [3])
    assert b'partition="3"' not in metrics.render()


def test_counts_of_a_partition_s_life_are_fed_once() -> None:
    metrics, restored = Metrics(process=False), some_counts()
    growing = CountsFeed(metrics)
    growing.begin(3, restored)
    growing.update(3, restored)
    assert metrics.value("join_matched_total") == 0
    restored.add(some_counts())
    growing.update(3, restored)
    growing.update(3, restored)
    direct = Metrics(process=False)
    feed(direct, some_counts())
    same = {k: v for k, v in samples(direct).items() if "duration" not in k[0]}
    fed = samples(metrics)
    ages = [k for k in same if "watermark_delay" in k[0]]
    assert {k: fed[k] for k in same if k not in ages} == {k: same[k] for k in same if k not in ages}
    growing.end(3)
    assert b'partition="3"' not in metrics.render()


def test_adding_and_taking_the_difference_are_inverse() -> None:
    earlier, total = some_counts(), some_counts()
    total.add(earlier)
    later = total.since(earlier)
    again = earlier.copy()
    again.add(later)
    assert str(again) == str(total)
    assert str(earlier) == str(some_counts())


@settings(deadline=None)  # the first call compiles
@given(
    npst.arrays(
        np.int8, st.tuples(st.integers(0, 12), st.integers(0, 5)), elements=st.integers(-1, 3)
    )
)
def test_vote_counts_equal_their_definition(votes: NDArray[np.int8]) -> None:
    counts = count_votes(votes, 4)
    m = votes.shape[1]
    for j in range(m):
        cast = votes[:, j] >= 0
        others = [k for k in range(m) if k != j]
        overlap = cast & (votes[:, others] >= 0).any(axis=1)
        differs = (votes[:, others] >= 0) & (votes[:, others] != votes[:, [j]])
        assert counts.abstains[j] == (~cast).sum()
        assert counts.votes[j].tolist() == [(votes[:, j] == c).sum() for c in range(4)]
        assert counts.overlaps[j] == overlap.sum()
        assert counts.conflicts[j] == (cast & differs.any(axis=1)).sum()


def test_a_vote_for_no_class_is_named() -> None:
    votes = np.array([[0, -1], [1, 2]], dtype=np.int8)
    with pytest.raises(ValueError, match="vote 2 at row 1, column 1: allowed are -1 .* to 1"):
        count_votes(votes, 2)


def test_disagreements_are_votes_against_the_most_probable_class() -> None:
    votes = np.array([[0, 1, -1], [1, 1, 0]], dtype=np.int8)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    counts = TaskCounts(("negative", "positive"), ("a", "b", "c"))
    stage = np.zeros(2, dtype=np.int8)
    count_labels(counts, np.zeros(2), sparse_votes(votes), probabilities, stage)
    assert counts.disagreements.tolist() == [0, 1, 1]
    assert counts.votes.tolist() == [[1, 1], [0, 2], [1, 0]]
    assert counts.abstains.tolist() == [0, 0, 1]
    assert counts.overlaps.tolist() == counts.conflicts.tolist() == [2, 2, 1]


def test_fifty_labeling_functions_fit_the_budget_of_a_scrape() -> None:
    metrics = Metrics()
    fill_everything(metrics)
    page = metrics.render()
    series = [line for line in page.splitlines() if line and not line.startswith(b"#")]
    assert len(series) <= 2_000
    # The aim is 100 KiB: there must be room for what comes.
    assert len(page) <= 95 * 1024


def fill_everything(metrics: Metrics) -> None:
    """Give every metric of the catalogue a value, with 50 labeling functions."""
    feed(metrics, some_counts())
    by_function = [(name,) for name in FUNCTIONS]
    for spec in CATALOGUE:
        if spec.name == "build_info" or "lf" not in spec.labels:
            continue
        if spec.kind is Kind.GAUGE:
            fixed = tuple(f"{label}1" for label in spec.labels[:-1])
            series = [(*fixed, *name) for name in by_function[: spec.bound]]
            metrics.set_array(spec.name, series, np.linspace(0, 1, len(series)))
    pairs = [(FUNCTIONS[i], FUNCTIONS[i + 1]) for i in range(20)]
    metrics.set_array("lf_pair_conflict_ratio", pairs, np.linspace(0, 1, 20))
    metrics.set_array("lf_pair_correlation_ratio", pairs, np.linspace(0, 1, 20))
    for spec in CATALOGUE:
        labels = tuple(f"{label}1" for label in spec.labels)
        if "lf" in spec.labels or "lf_a" in spec.labels or spec.name == "build_info":
            continue
        match spec.kind:
            case Kind.COUNTER:
                metrics.add(spec.name, labels)
            case Kind.GAUGE:
                metrics.set(spec.name, labels, 0.5)
            case Kind.HISTOGRAM:
                metrics.observe(spec.name, labels, 0.5)


def test_promtool_finds_no_fault_with_any_metric() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    metrics = Metrics()
    fill_everything(metrics)
    page = metrics.render()
    for spec in CATALOGUE:
        assert f"# TYPE {spec.full_name} {spec.kind}\n".encode() in page
    assert b"_created" not in page
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout + done.stderr
