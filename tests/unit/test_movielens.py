"""Ratings of MovieLens as events, without the network: rows as river yields them."""

from __future__ import annotations

import orjson

from stream.events import Event, Item
from stream.movielens import as_events

ROWS = [
    (
        {
            "user": "259", "item": "255", "timestamp": 874731910000000000, "occupation": "student",
            "title": "My Best Friend's Wedding (1997)", "genres": "comedy, romance",
        },
        4.0,
    ),
    (
        {
            "user": "259", "item": "255", "timestamp": 874731911000000000, "occupation": "student",
            "title": "My Best Friend's Wedding (1997)", "genres": "comedy, romance",
        },
        2.0,
    ),
]  # fmt: skip


def test_a_film_is_announced_once_before_its_first_rating() -> None:
    sent = list(as_events(ROWS))
    assert [one.topic for one in sent] == ["items", "events", "events"]
    item = Item.model_validate(orjson.loads(sent[0].line))
    assert item.categories == ["comedy", "romance"]
    events = [Event.model_validate(orjson.loads(one.line)) for one in sent[1:]]
    assert [event.value for event in events] == [4.0, 2.0]
    assert events[0].ts == sent[0].ts == 874731910.0
    assert events[0].item_id == item.item_id
    assert len({event.event_id for event in events}) == 2
