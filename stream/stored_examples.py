"""One example as the state store holds it: its labels and where they come from, and its join."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from math import isnan
from typing import Any, Final

import numpy as np

from models import LabelModel
from stream.checkpointing import LAYOUT_CHUNKS, MODEL_CHUNKS
from stream.evidence import COLUMNS, Column
from stream.ids import KEY_BYTES
from stream.numbers import Layout, TaskLayout
from stream.state import StateStore
from stream.user_state import FINAL, OPENED, Example, UserState

__all__ = ["StoredExamples", "is_example_id"]

_ID: Final = re.compile(r"[0-9a-f]{36}")
_STAGES: Final = ("open", "provisional", "final")
_TIMES: Final = (Column.OPENED_TS, Column.FIRST_FEEDBACK_TS, Column.LAST_TS)
_KEY_DIGITS: Final = 2 * KEY_BYTES


def is_example_id(example_id: str) -> bool:
    """Return whether a text has the form of an example id: 36 hex digits.

    Examples
    --------
    >>> is_example_id("a40fc8c38e450006ec5a" + "0" * 16), is_example_id("a40f")
    (True, False)
    """
    return _ID.fullmatch(example_id) is not None


class StoredExamples:
    """Finds examples in the state store, as of their partitions' last checkpoints.

    An example's votes and its person's answers are stored with it. Probabilities and weights
    follow from the votes by the partition's label model, which is stored, too; a label that was
    published earlier was judged by the model of then. Usable from any thread; nobody who learns
    waits for it.

    Parameters
    ----------
    store
        Where the partitions' state lies.

    *State* — a copy of each partition's label models and layouts.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._chunks: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._models: dict[tuple[int, str], tuple[int, LabelModel]] = {}
        self._lock = threading.Lock()

    def find(self, example_id: str) -> dict[str, Any] | None:
        """Return what is known of an example; None if it is none, or is not known (any more).

        Raises
        ------
        StoreError
            If the state store does not answer.
        ValueError
            If the state was written by a newer version.
        """
        if not is_example_id(example_id):
            return None
        # The id begins with the user's key, and so leads to the partition without an index.
        key = bytes.fromhex(example_id[:_KEY_DIGITS])
        found = self._store.find_user(key)
        if found is None:
            return None
        partition, data = found
        user, layout_id = UserState.from_bytes(data, key)
        example = user.examples.get(int(example_id[_KEY_DIGITS:], 16))
        if example is None:
            return None
        with self._lock:
            labels = self._labels(partition, layout_id, example)
        return _described(example_id, partition, user, example) | {"labels": labels}

    def _labels(self, partition: int, layout_id: str, example: Example) -> dict[str, Any]:
        self._read(LAYOUT_CHUNKS)
        stored = self._chunks.get((partition, LAYOUT_CHUNKS + layout_id))
        if stored is None or not example.numbers:
            return {}
        self._read(MODEL_CHUNKS)
        layout = Layout.from_bytes(stored[1])
        numbers = layout.table([example.numbers])
        found = {}
        for task in layout.tasks:
            model = self._model(partition, task)
            if model is not None:
                found[task.name] = _label(layout_id, task, model, example, numbers)
        return found

    def _read(self, prefix: str) -> None:
        known = {place: version for place, (version, _) in self._chunks.items()}
        for chunk in self._store.shared(prefix, known):
            self._chunks[chunk.partition, chunk.name] = (chunk.version, chunk.data)

    def _model(self, partition: int, task: TaskLayout) -> LabelModel | None:
        place = (partition, MODEL_CHUNKS + task.name)
        stored = self._chunks.get(place)
        if stored is None:
            return None
        version, data = stored
        known = self._models.get(place)
        if known is None or known[0] != version:
            known = self._models[place] = (version, LabelModel.from_bytes(data))
        # Its classes were changed since, and nothing is left of what was said of the old ones.
        return known[1] if known[1].classes == task.classes else None


def _described(
    example_id: str, partition: int, user: UserState, example: Example
) -> dict[str, Any]:
    evidence = dict(zip(COLUMNS, example.evidence, strict=True))
    opened, first, last = (_known(example.evidence[column]) for column in _TIMES)
    closed = example.stage == FINAL
    return {
        "example_id": example_id,
        "user_id": user.user_id,
        "item_id": example.item_id,
        "segment": example.segment,
        "context": example.context,
        "stage": _STAGES[example.stage],
        # Stages share the numbers; the one that comes next is stored.
        "revision": example.revision - 1 if example.revision > 0 else None,
        "join": {
            "partition": partition,
            "opened_ts": opened,
            "first_feedback_ts": first,
            "last_ts": last,
            "engaged": example.engaged,
            "closed": closed,
            "closes_ts": None if closed else example.deadline,
            "forgotten_ts": example.deadline if closed else None,
            "position": _known(example.evidence[Column.POSITION]),
            "propensity": _known(example.evidence[Column.PROPENSITY]),
            "policy": example.policy,
        },
        "evidence": {name: value for name, value in evidence.items() if value and not isnan(value)},
    }


def _label(
    layout_id: str, task: TaskLayout, model: LabelModel, example: Example, numbers: Any
) -> dict[str, Any]:
    gold = int(numbers[f"gold_{task.name}"][0])
    stored = numbers[f"votes_{task.name}"][0]
    columns = {name: column for column, name in enumerate(model.lf_names)}
    votes = np.full((1, len(columns)), -1, dtype=np.int8)
    for name, vote in zip(task.lfs, stored.tolist(), strict=True):
        if name in columns:
            votes[0, columns[name]] = vote
    judged = model.assess_many(votes)
    # What a person said stands; else the votes are judged, as for a label that is published.
    proba = numbers[f"proba_{task.name}"][0] if gold >= 0 else judged.proba[0]
    labelled = gold >= 0 or example.stage != OPENED
    chances = {
        name: round(chance, 6) for name, chance in zip(task.classes, proba.tolist(), strict=True)
    }
    return {
        "stage": "revised" if gold >= 0 else _STAGES[example.stage] if labelled else None,
        "probabilities": chances if labelled else None,
        "confidence": max(chances.values()) if labelled else None,
        "gold": task.classes[gold] if gold >= 0 else None,
        "votes": [
            _vote(name, task.classes[vote], judged.weights[0], columns)
            for name, vote in zip(task.lfs, stored.tolist(), strict=True)
            if vote >= 0
        ],
        "model_version": f"{layout_id}-{model.clock // model.block}",
    }


def _vote(name: str, vote: str, weights: Any, columns: Mapping[str, int]) -> dict[str, Any]:
    lf, _, version = name.rpartition("@")
    weight = round(float(weights[columns[name]]), 6) if name in columns else None
    return {"lf": lf, "version": int(version), "vote": vote, "weight": weight}


def _known(value: float) -> float | None:
    return None if isnan(value) else value
