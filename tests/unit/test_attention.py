"""What the status page says first."""

from typing import Any

import pytest

from monitoring.attention import concerns, lag_concern

CALM: dict[str, Any] = {
    "partitions": 1,
    "events": {"headrace.events": 1000},
    "rejected": 10,
    "drift": {"firing": 0, "signals": [{"signal": "labels:r/class", "firing": False}]},
    "tasks": {"r": {"gold": {"n": 0, "ece": None}}},
    "governance": [],
    "segments": [{"segment": "all", "functions": []}],
}


def change(action: str, subject: str = "r/clicked@1") -> dict[str, str]:
    return {"action": action, "subject": subject}


def test_nothing_is_said_when_all_is_well() -> None:
    assert concerns(CALM) == []
    assert lag_concern(None) == []
    assert lag_concern(5.0) == []


@pytest.mark.parametrize(
    ("figures", "where", "told"),
    [
        ({"partitions": 0}, "now", "Nothing has been learned yet"),
        ({"rejected": 200}, "now", "17% of the lines"),
        (
            {"drift": {"firing": 5, "signals": [{"signal": s, "firing": True} for s in "abcde"]}},
            "drifting",
            "5 signals have left the reference: a, b, c and 2 more.",
        ),
        (
            {"tasks": {"r": {"gold": {"n": 100, "ece": 0.21}}}},
            "labels",
            "Probabilities of r are off by 21% on 100 answers.",
        ),
        ({"governance": [change("lf_disabled")]}, "changed", "r/clicked@1 is switched off."),
        (
            {"segments": [{"segment": "loyal", "functions": [
                {"name": "viewed", "reason": "votes less here", "affected": 0.2},
                {"name": "clicked", "reason": "against the labels here", "affected": 0.1},
                {"name": "played", "reason": "against the labels here", "affected": 0.01},
            ]}]},
            "segmented",
            "clicked goes against the labels of loyal more than elsewhere.",
        ),
    ],
)  # fmt: skip
def test_what_needs_a_look_is_said_with_its_place(
    figures: dict[str, Any], where: str, told: str
) -> None:
    (found,) = concerns({**CALM, **figures})
    assert found["where"] == where
    assert told in found["what"]


def test_what_was_switched_on_again_and_few_answers_are_no_concern() -> None:
    # Newest first.
    again = [change("lf_enabled"), change("lf_disabled")]
    assert concerns({**CALM, "governance": again}) == []
    for order in ("*/clicked", "r/clicked", "*/clicked@1"):
        covered = [change("lf_enabled", order), change("lf_disabled")]
        assert concerns({**CALM, "governance": covered}) == []
    for order in ("*/click", "s/clicked", "*/clicked@2"):
        another = [change("lf_enabled", order), change("lf_disabled")]
        assert len(concerns({**CALM, "governance": another})) == 1
    assert concerns({**CALM, "tasks": {"r": {"gold": {"n": 99, "ece": 0.5}}}}) == []


def test_a_backlog_is_said() -> None:
    assert "waits for 90 s" in lag_concern(90.0)[0]["what"]
