"""Metrics of two processes on one page."""

from monitoring.exposition import decoded, encoded, rendered
from monitoring.metrics import Metrics
from stream.joined_metrics import JoinedMetrics

SUMS = ("_total", "_sum", "_count", "_bucket")


def lines(page: bytes) -> dict[str, float]:
    rows = (line.rpartition(" ") for line in page.decode().splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in rows}


def filled(route: str, seconds: float, lag_s: float | None = None) -> Metrics:
    metrics = Metrics(process=False)
    metrics.add("api_requests_total", (route, "200"), 2)
    metrics.observe("api_request_duration_seconds", (route,), seconds)
    if lag_s is not None:
        metrics.set("consumer_lag_seconds", ("headrace.events",), lag_s)
    return metrics


def test_packing_loses_nothing() -> None:
    metrics = filled("/a", 0.1, 3.5)
    assert rendered(decoded(encoded(metrics.families()))) == metrics.render()


def test_what_several_processes_count_is_added_up_and_gauges_are_not() -> None:
    one, other = filled("/a", 0.001, 3.5), filled("/a", 100.0, 7.0)
    other.add("api_requests_total", ("/b", "200"), 5)
    page = rendered(one.families(), other.families())
    assert page.count(b"# TYPE headrace_api_requests_total ") == 1
    found = lines(page)
    assert found['headrace_api_requests_total{code="200",route="/a"}'] == 4
    assert found['headrace_api_requests_total{code="200",route="/b"}'] == 5
    assert found['headrace_api_request_duration_seconds_count{route="/a"}'] == 2
    assert found['headrace_api_request_duration_seconds_bucket{le="1.0",route="/a"}'] == 1
    assert found['headrace_api_request_duration_seconds_sum{route="/a"}'] == 100.001
    assert found['headrace_consumer_lag_seconds{topic="headrace.events"}'] == 3.5
    build = [name for name in found if name.startswith("headrace_build_info")]
    assert [found[name] for name in build] == [1.0]


def test_memory_of_both_processes_counts() -> None:
    one, other = Metrics(), Metrics()
    found = lines(rendered(one.families(), other.families()))
    alone = lines(one.render())
    assert found["process_resident_memory_bytes"] > 1.5 * alone["process_resident_memory_bytes"]
    assert found["process_start_time_seconds"] == alone["process_start_time_seconds"]


def test_figures_of_a_process_that_does_not_answer_are_left_out() -> None:
    answers: list[bytes | None] = [encoded(filled("/b", 0.5, 2.0).families()), None]
    joined = JoinedMetrics(lambda: answers[0])
    joined.add("api_requests_total", ("/a", "200"))
    assert joined.known("consumer_lag_seconds", ("headrace.events",)) == 2.0
    assert joined.known("consumer_lag_seconds", ("headrace.gold",)) is None
    assert joined.known("api_requests_total", ("/a", "200")) == 1.0
    page = joined.render()
    assert b'topic="headrace.events"' in page
    assert lines(page)["headrace_learner_up"] == 1.0
    answers.pop(0)
    page = joined.render()
    assert b'topic="headrace.events"' not in page
    assert lines(page)["headrace_learner_up"] == 0.0
    assert joined.known("consumer_lag_seconds", ("headrace.events",)) is None
    assert b'route="/a"' in joined.render()


def test_a_sum_of_both_does_not_fall_while_one_of_them_is_silent() -> None:
    learner = Metrics()
    learner.add("duplicate_events_total", (), 1e6)
    learner.observe("batch_duration_seconds", (), 0.1)
    answer = encoded(learner.families())
    answers: list[bytes | None] = [None, answer, None, answer]
    joined = JoinedMetrics(lambda: answers.pop(0))
    joined.add("api_requests_total", ("/a", "200"))
    never, told, silent, again = (lines(joined.render()) for _ in range(4))
    assert told["headrace_duplicate_events_total"] == 1e6
    assert silent['headrace_api_requests_total{code="200",route="/a"}'] == 1
    # A counter that falls has begun anew: then all of it would have been counted just now.
    for page in (never, silent, again):
        sums = {name for name in told if name.partition("{")[0].endswith(SUMS)}
        assert not {name for name in page.keys() & sums if page[name] < told[name]}
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        assert name not in silent
        assert name in again
    assert "headrace_batch_duration_seconds_count" not in silent
