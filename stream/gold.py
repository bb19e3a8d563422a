"""Gold answers wait for their moment: the first event that happened after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from pydantic import TypeAdapter

from stream.decoding.records import RecordDecoder, line_of
from stream.decoding.rejection import Invalid, Origin, Rejected
from stream.events import Gold
from stream.ids import KEY_BYTES
from stream.records import RecordBatch
from stream.waiting import Waiting

__all__ = ["GoldAnswer", "GoldQueue"]

_KEY_HEX: Final = 2 * KEY_BYTES
_ID_HEX: Final = _KEY_HEX + 16
_DECODER: Final = RecordDecoder(TypeAdapter(Gold))


class GoldAnswer(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One answer, ordered by its time, then by where it lay in the log.

    ``inclusion`` is the probability with which the example was drawn for the random audit;
    None when it was chosen for another reason.
    """

    ts: float
    offset: int
    line: int
    key: bytes
    hash: int
    task: str
    label: str
    inclusion: float | None = None
    annotator: str = ""


class GoldQueue(Waiting[GoldAnswer]):
    """Answers whose time has not come yet.

    Parameters
    ----------
    classes
        Of each task; an answer for another one is none.
    """

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__(GoldAnswer)
        self._classes = classes

    def decode(self, batch: RecordBatch) -> tuple[list[GoldAnswer], list[Rejected]]:
        """Return the answers of a batch of records, and the lines that are none."""
        decoded = _DECODER.decode(batch)
        answers: list[GoldAnswer] = []
        for gold, origin in zip(decoded.records, decoded.origins, strict=True):
            try:
                answers.append(_answer(gold, origin, self._classes))
            except Invalid as fault:
                raw = line_of(batch, origin)
                decoded.rejected.append(Rejected(*origin, fault.field, fault.reason, raw))
        return answers, decoded.rejected


def _answer(gold: Gold, origin: Origin, classes: Mapping[str, Sequence[str]]) -> GoldAnswer:
    allowed = classes.get(gold.task)
    if allowed is None:
        raise Invalid("task", f"is unknown; found {gold.task!r}, allowed: {', '.join(classes)}")
    if gold.label not in allowed:
        raise Invalid(
            "label",
            f"is no class of {gold.task}; found {gold.label!r}, allowed: {', '.join(allowed)}",
        )
    name = gold.example_id
    try:
        if len(name) != _ID_HEX:
            raise ValueError
        key, half = bytes.fromhex(name[:_KEY_HEX]), int(name[_KEY_HEX:], 16)
    except ValueError as error:
        raise Invalid(
            "example_id", f"found {name[:60]!r}, allowed: {_ID_HEX} hexadecimal digits"
        ) from error
    return GoldAnswer(
        gold.ts,
        origin.offset,
        origin.line,
        key,
        half,
        gold.task,
        gold.label,
        gold.inclusion,
        gold.annotator,
    )
