"""Labels as records: the text is put together by hand, so it is held to the schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from stream.effects import LabelBlock
from stream.events import Label
from stream.evidence import blank_row
from stream.ids import user_key
from stream.rows import REASONS
from stream.user_state import Example, UserState

ODD = 'ü"\\\n\u2028</x>'


def block(**columns: Any) -> LabelBlock:
    users = [UserState(name, user_key(name)) for name in ("u", ODD)]
    examples = [
        Example(number, item, blank_row(), 0.0, 0, 0, False, b"", None, {})
        for number, item in enumerate(("i", ODD))
    ]
    given: dict[str, Any] = {
        "task": "relevance",
        "classes": ("negative", "positive"),
        "lfs": [("clicked", 1), (ODD, 2)],
        "model_id": "m",
        "blocks": np.array([3, 3, 4], dtype=np.int64),
        "examples": examples,
        "users": users,
        "example": np.array([0, 1, 1], dtype=np.int32),
        "user": np.array([0, 1, 1], dtype=np.int32),
        "stage": np.array([0, 1, 2], dtype=np.int8),
        "revision": np.array([0, 1, 2]),
        "ts": np.array([1.5, 1e9 + 0.123456, 2e9]),
        "proba": np.array([[0.25, 0.75], [0.25, 0.75], [1.0 - 1e-9, 1e-9]]),
        "votes": np.array([[1, -1], [1, -1], [-1, 0]], dtype=np.int8),
        "weights": np.array([[0.123456789, 0.0], [0.123456789, 0.0], [0.0, -2.0]]),
        "reason": np.array([0, 1, 2], dtype=np.int8),
    }
    return LabelBlock(**given | columns)


def test_every_record_reads_back_as_the_label_it_was() -> None:
    made = block(partition=5)
    records = list(made.records())
    labels = [Label.model_validate_json(record.value) for record in records]
    assert [record.key for record in records] == [b"u", ODD.encode(), ODD.encode()]
    assert {record.partition for record in records} == {5}
    assert [(label.user_id, label.item_id) for label in labels] == [
        ("u", "i"),
        (ODD, ODD),
        (ODD, ODD),
    ]
    assert [label.example_id for label in labels] == made.example_ids()
    assert [label.ts for label in labels] == made.ts.tolist()
    assert [label.revision for label in labels] == [0, 1, 2]
    assert [label.reason for label in labels] == list(REASONS[:3])
    assert [label.model_version for label in labels] == ["m-3", "m-3", "m-4"]
    assert [label.confidence for label in labels] == [0.75, 0.75, 1.0]
    assert labels[0].probabilities == {"negative": 0.25, "positive": 0.75}
    told = [orjson.loads(record.value)["votes"] for record in records]
    assert told[0] == [{"lf": "clicked", "version": 1, "vote": "positive", "weight": 0.123457}]
    assert told[2] == [{"lf": ODD, "version": 2, "vote": "negative", "weight": -2.0}]


def test_texts_that_are_kept_do_not_leak_into_another_models_labels() -> None:
    first = [record.value for record in block().records()]
    others = block(classes=("no", "yes"), model_id="n")
    labels = [orjson.loads(record.value) for record in others.records()]
    assert [label["model_version"] for label in labels] == ["n-3", "n-3", "n-4"]
    assert all(set(label["probabilities"]) == {"no", "yes"} for label in labels)
    assert [record.value for record in block().records()] == first
