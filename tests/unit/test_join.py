"""What each event does to examples: a table of cases for each rule of the join."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.decisions import Decided
from stream.decoding.fields import MAX_CONTEXT_KEYS
from stream.events import Interaction
from stream.evidence import Column
from stream.ids import exposure_hash, user_key
from stream.join import Join, JoinRules, TypeRule
from stream.rows import REASONS, Rows
from stream.user_state import Example, UserState, users_to_bytes

STAGES = ("assessed", "provisional", "final", "revised")
DAY_S = 86_400.0
RULES = JoinRules(
    types={
        "click": TypeRule(window_s=3600.0, starts=True, positive=True),
        "purchase": TypeRule(window_s=7200.0, positive=True),
        "return": TypeRule(window_s=0.0, negative=True),
        "hide": TypeRule(window_s=0.0, negative=True),
        "dwell": TypeRule(window_s=600.0),
    },
    exposure_window_s=1800.0,
    disorder_s=60.0,
    lateness_horizon_s=DAY_S,
    dedup_horizon_s=2 * DAY_S,
    user_horizon_s=90 * DAY_S,
    max_examples=3,
)


def rules(**changed: Any) -> JoinRules:
    fields = {name: getattr(RULES, name) for name in JoinRules.__dataclass_fields__}
    return JoinRules(**{**fields, **changed})


@dataclass
class World:
    """A join, its people brought in on the way, and the labels that it asked for."""

    rules: JoinRules = RULES
    join: Join = field(init=False)
    labels: list[tuple[str, str, str]] = field(default_factory=list)
    _ids: int = 0

    def __post_init__(self) -> None:
        self.join = Join(self.rules)

    def event(self, kind: str, ts: float, user: str = "u", item: str = "i", **more: Any) -> Rows:
        self._ids += 1
        event_id = more.pop("event_id", f"e{self._ids}")
        if user not in self.join.resident:
            self.join.bring_in(UserState(user, user_key(user)))
        rows = Rows()
        self.join.apply([Interaction(event_id, kind, ts, user, item, **more)], rows)
        return self._keep(rows)

    def advance(self, ts: float) -> Rows:
        rows = Rows()
        self.join.advance(ts, rows)
        return self._keep(rows)

    def examples(self, user: str = "u") -> list[Example]:
        return list(self.join.resident[user].examples.values())

    def _keep(self, rows: Rows) -> Rows:
        if len(rows):
            columns = rows.columns
            for slot, stage, reason in zip(
                columns.example, columns.stage, columns.reason, strict=True
            ):
                example = rows.touched[slot]
                self.labels.append((example.item_id, STAGES[stage], REASONS[reason]))
        rows.release()
        return rows


@pytest.mark.parametrize(
    ("feedback", "matched"),
    [
        ({"request_id": "r"}, 1),
        ({}, 1),
        ({"request_id": "unknown"}, 1),
        ({"item": "other"}, 0),
        ({"user": "other", "request_id": "r"}, 0),
    ],
    ids=["by request", "by item", "by item, if the request is unknown", "item", "person"],
)
def test_feedback_joins_its_exposure(feedback: dict[str, str], matched: int) -> None:
    world = World()
    world.event("impression", 0.0, request_id="r")
    world.event("click", 10.0, **feedback)
    assert world.join.counts.matched == matched
    assert world.join.counts.organic == 1 - matched


@pytest.mark.parametrize(
    ("events", "labels"),
    [
        ([("impression", 0.0)], [("final", "windows closed")]),
        (
            [("impression", 0.0), ("click", 5.0)],
            [("provisional", "first feedback"), ("final", "windows closed")],
        ),
        (
            [("click", 0.0), ("dwell", 5.0)],
            [
                ("provisional", "first feedback"),
                ("assessed", "first feedback"),
                ("final", "windows closed"),
            ],
        ),
        ([("search", 0.0)], []),
    ],
)
def test_stages_of_an_example(
    events: list[tuple[str, float]], labels: list[tuple[str, str]]
) -> None:
    world = World()
    for kind, ts in events:
        world.event(kind, ts)
    world.advance(50_000.0)
    assert [label[1:] for label in world.labels] == labels
    assert world.join.pending == 0


@pytest.mark.parametrize(
    ("kinds", "closes_after_s"),
    [(["impression"], 1800.0), (["click"], 3600.0), (["click", "purchase"], 7200.0)],
)
def test_engagement_keeps_an_example_open(kinds: list[str], closes_after_s: float) -> None:
    world = World()
    for kind in kinds:
        world.event(kind, 0.0)
    world.advance(closes_after_s + 59.0)
    assert world.join.pending == 1
    world.advance(closes_after_s + 60.0)
    assert world.join.pending == 0


def test_an_impression_after_its_click_is_the_same_example() -> None:
    world = World()
    world.event("click", 10.0, request_id="r")
    world.event("impression", 9.0, request_id="r", position=4, context={"page": "home"})
    (example,) = world.examples()
    assert example.evidence[Column.IMPRESSIONS] == 1.0
    assert example.evidence[Column.POSITION] == 4.0
    assert example.context == {"page": "home"}


def test_an_early_label_is_given_once() -> None:
    world = World(rules(early_after_s=600.0))
    world.event("impression", 0.0)
    for ts in (659.0, 660.0, 700.0):
        world.advance(ts)
    assert world.labels == [("i", "provisional", "early")]


@pytest.mark.parametrize("known_by", ["request", "event"])
def test_late_feedback_corrects_inside_the_horizon_only(known_by: str) -> None:
    request = {"request_id": "r"} if known_by == "request" else {}
    inside, beyond = World(), World()
    for world in (inside, beyond):
        world.event("impression", 0.0, **request)
        # Something else stays open until later: it is visited after the horizon of the first.
        world.event("impression", 100.0, item="other")
        world.advance(2000.0)
    inside.event("click", 1800.0 + DAY_S - 1.0, user="v")
    inside.event("click", 1800.0 + DAY_S - 1.0, **request)
    beyond.event("click", 1800.0 + DAY_S + 61.0, user="v")
    beyond.event("click", 1800.0 + DAY_S + 61.0, **request)
    corrected = ("i", "revised", "late feedback")
    assert (corrected in inside.labels) == (known_by == "request")
    assert corrected not in beyond.labels
    assert beyond.labels[-1] == ("i", "provisional", "first feedback")


def test_the_oldest_example_makes_room_and_is_counted() -> None:
    world = World()
    for number in range(5):
        world.event("impression", float(number), item=f"i{number}")
    assert [example.item_id for example in world.examples()] == ["i2", "i3", "i4"]
    assert world.labels == [("i0", "final", "state bound"), ("i1", "final", "state bound")]
    assert world.join.counts.dropped == {"open_examples": 2}
    assert world.join.pending == 3


@pytest.mark.parametrize(
    ("ts", "counted"),
    [(50.0, "duplicates"), (1e6, "duplicates"), (-1.0, "duplicates")],
    ids=["same time", "later", "earlier"],
)
def test_a_repeated_id_is_ignored_whatever_its_time(ts: float, counted: str) -> None:
    world = World()
    world.event("click", 50.0, event_id="same")
    before = world.join.max_ts
    world.event("purchase", ts, event_id="same")
    assert getattr(world.join, counted) == 1
    assert world.join.max_ts == before
    assert world.examples()[0].evidence[Column.PURCHASES] == 0.0


def test_events_older_than_what_is_remembered_are_counted_only() -> None:
    world = World()
    world.event("click", 10 * DAY_S)
    world.event("click", 8 * DAY_S - 1.0, user="v")
    assert world.join.too_late == 1
    assert not world.examples("v")


def test_a_person_is_not_forgotten_while_their_event_ids_must_be_known() -> None:
    world = World(rules(user_horizon_s=DAY_S, dedup_horizon_s=30 * DAY_S))
    world.event("click", 0.0, event_id="same")
    world.event("click", 20 * DAY_S, user="v")
    world.event("click", 20 * DAY_S, event_id="same")
    assert world.join.duplicates == 1


def test_who_was_forgotten_by_another_persons_event_comes_back_as_new() -> None:
    world = World()
    world.event("click", 0.0, segment="old")
    world.event("click", 200 * DAY_S, user="v")
    assert world.join.gone == {user_key("u")}
    world.event("click", 200 * DAY_S)
    user = world.join.resident["u"]
    assert user.segment is None
    assert user.rate == 1.0
    assert user.key in world.join.dirty


def test_event_ids_of_one_person_are_bounded() -> None:
    world = World(rules(max_event_ids=100))
    for number in range(250):
        world.event("search", float(number))
    remembered = len(world.join.resident["u"].seen)
    assert 100 <= remembered <= 108
    assert world.join.counts.dropped["event_ids"] == 250 - remembered


def test_context_of_many_events_is_bounded() -> None:
    world = World()
    world.event("impression", 0.0, request_id="r", context={"first": "kept"})
    for number in range(10):
        context = {f"{number}-{key}": key for key in range(MAX_CONTEXT_KEYS)}
        world.event("click", 1.0, request_id="r", context={**context, "first": "newer"})
    (example,) = world.examples()
    assert len(example.context) == MAX_CONTEXT_KEYS
    assert example.context["first"] == "newer"
    assert world.join.counts.dropped["context_keys"] > 0


def test_timers_of_a_busy_person_are_compacted() -> None:
    world = World(rules(max_examples=20_000, early_after_s=1.0))
    for number in range(6000):
        # Each is due before the last: every event schedules anew.
        world.event("impression", 50_000.0 - number, item=f"i{number}")
    assert len(world.join.timers) == 1
    heap = world.join.due_by(1e12)
    assert heap == [user_key("u")]


EVENT = st.tuples(
    st.sampled_from(["impression", "click", "purchase", "return", "hide", "dwell", "search"]),
    st.floats(0.0, 100 * DAY_S),
    st.sampled_from("uvw"),
    st.sampled_from("ijklm"),
    st.sampled_from([None, "r", "s"]),
    st.integers(0, 40),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, max_size=60))
def test_whatever_arrives_the_books_balance(events: list[tuple[Any, ...]]) -> None:
    world = World(rules(early_after_s=300.0))
    for kind, ts, user, item, request, number in events:
        world.event(kind, ts, user, item, request_id=request, event_id=f"e{number}")
        everybody = world.join.resident.values()
        open_ones = [e for u in everybody for e in u.examples.values() if e.stage < 2]
        assert world.join.pending == len(open_ones)
        for person in everybody:
            assert len(person.examples) <= RULES.max_examples
            assert set(person.latest) == {e.item_id for e in person.examples.values()}
            if person.examples or person.seen:
                assert world.join.timers.due[person.key] == person.due
    world.advance(1000 * DAY_S)
    assert world.join.pending == 0
    assert not len(world.join.timers)


def test_an_exposure_that_a_request_names_again_goes_on_with_its_revisions() -> None:
    """Whoever keeps the last revision of a label must not keep that of the first time."""
    world = World()
    revisions: list[int] = []
    for start in (0.0, 100 * 3600.0, 200 * 3600.0):
        for rows in (
            world.event("impression", start, request_id="r"),
            world.event("click", start + 5.0, request_id="r"),
            world.advance(start + 90 * 3600.0),
        ):
            if len(rows):
                revisions += [r for r in rows.columns.revision.tolist() if r >= 0]
        assert not world.examples()
    assert len(revisions) >= 3
    assert revisions == sorted(set(revisions))


def decision(ts: float, propensity: float, policy: str, request: str = "r") -> Decided:
    return Decided(
        ts, 0, 1, user_key("u"), "u", policy, ((exposure_hash(request, "i"), 2, propensity),)
    )


@pytest.mark.parametrize("late", [False, True], ids=["before the impression", "after it"])
@pytest.mark.parametrize("opened_by", ["impression", "click"])
def test_a_decision_is_believed_over_what_the_client_echoes(late: bool, opened_by: str) -> None:
    world = World()
    world.event("search", 0.0)
    user = world.join.resident["u"]
    if not late:
        world.join.decide(user, decision(1.0, 0.25, "softmax"))
    echo: dict[str, Any] = {}
    if opened_by == "impression":
        echo = {"position": 9, "propensity": 1.0, "policy": "x"}
    world.event(opened_by, 2.0, request_id="r", **echo)
    if late:
        world.join.decide(user, decision(1.0, 0.25, "softmax"))
    world.event("impression", 3.0, request_id="r", position=8, propensity=0.9, policy="y")
    [example] = world.examples()
    assert example.evidence[Column.POSITION] == 2.0
    assert example.evidence[Column.PROPENSITY] == 0.25
    assert example.policy == "softmax"


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("then", "away_s"),
    [
        ([("impression", 15.0, "other")], 5.0),
        ([("click", 15.0, "other")], 5.0),
        ([("search", 15.0, "other")], 5.0),
        ([("search", 9.0, "other"), ("search", 15.0, "other")], None),
        ([("click", 12.0, "i"), ("search", 15.0, "other")], 3.0),
        ([("impression", 12.0, "i"), ("search", 15.0, "other")], 5.0),
        ([("search", 15.0, "other"), ("click", 20.0, "i"), ("search", 50.0, "other")], 5.0),
        ([("click", 12.0, "i")], None),
    ],
)
def test_it_is_noted_how_soon_a_person_turns_away(
    then: list[tuple[str, float, str]], away_s: float | None, restarted: bool
) -> None:
    world = World()
    world.event("impression", 0.0, request_id="r")
    world.event("click", 10.0, request_id="r")
    clicked = world.examples()[0].hash
    for kind, ts, item in then:
        if restarted:
            [stored] = users_to_bytes([world.join.resident["u"]], "layout")
            world.join.bring_in(UserState.from_bytes(stored, user_key("u"))[0])
        world.event(kind, ts, item=item, request_id="r")
    away = world.join.resident["u"].examples[clicked].evidence[Column.AWAY_S]
    assert away == away_s or (away_s is None and isnan(away))


def test_decisions_are_kept_for_as_long_as_an_exposure_and_no_more_than_examples() -> None:
    world = World(rules(max_examples=3))
    world.event("search", 0.0)
    user = world.join.resident["u"]
    for number in range(10):
        world.join.decide(user, decision(float(number), 0.5, "p", f"r{number}"))
    assert [shown.ts for shown in user.decided.values()] == [7.0, 8.0, 9.0]
    assert world.join.counts.dropped["decisions"] == 7
    world.join.decide(user, decision(30 * 86_400.0 + 10.0, 0.5, "p", "new"))
    assert len(user.decided) == 1


def test_feedback_that_says_nothing_new_is_counted() -> None:
    world = World()
    world.event("impression", 0.0, request_id="r")
    for kind, value in [
        ("click", None),
        ("click", None),
        ("rating", 4.0),
        ("rating", 4.0),
        ("rating", 5.0),
        ("dwell", 3.0),
        ("dwell", 4.0),
    ]:
        world.event(kind, 1.0, request_id="r", value=value)
    assert world.join.counts.duplicate_rewards == 2
