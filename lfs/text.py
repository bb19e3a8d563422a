"""Text of items and of contexts, as labeling functions read it: folded, in words, kept once.

An item's text is read again only when its catalogue entry is another one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from lfs.core import ExampleBatch, LabelingFunctionError

__all__ = [
    "FIELDS",
    "PerItem",
    "context_values",
    "field_reader",
    "folded",
    "item_words",
    "labels_of",
    "words",
]

_WORD: Final = re.compile(r"[^\W_]+", re.UNICODE)
_MOST_ITEMS: Final = 100_000
FIELDS: Final = ("title", "text", "categories", "tags")
"""Fields of a catalogue entry that hold text; `attributes.NAME` and `context.KEY` do too."""

Entry = Mapping[str, Any]
Context = Mapping[str, str | float | bool]
T = TypeVar("T")


def folded(text: str) -> str:
    """Return text in lower case and without accents, so that spellings meet.

    Examples
    --------
    >>> folded("Café ÉLAN")
    'cafe elan'
    """
    if text.isascii():
        return text.lower()
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in spread if not unicodedata.combining(letter))


def words(text: str) -> list[str]:
    """Return the folded words of a text, in order.

    Examples
    --------
    >>> words("Chef's knife, 20 cm")
    ['chef', 's', 'knife', '20', 'cm']
    """
    return _WORD.findall(folded(text))


class PerItem(Generic[T]):
    """Remember what a function made of each catalogue entry, while the entry stands.

    *State* — at most 100,000 items; then it begins anew. What is returned never depends on it.

    Examples
    --------
    >>> length = PerItem(lambda entry: len(entry.get("title", "")))
    >>> batch = ExampleBatch.of([{}], item_ids=["i"], items=lambda _: {"title": "wok"})
    >>> length(batch, "i")
    3
    """

    def __init__(self, compute: Callable[[Entry], T]) -> None:
        self._compute = compute
        self._known: dict[str, tuple[Entry, T]] = {}

    def many(self, batch: ExampleBatch) -> list[T]:
        """Return what is made of each row's item, shape (n,)."""
        known, items = self._known, batch.items
        found = []
        for item_id in batch.item_ids:
            old = known.get(item_id)
            found.append(
                old[1] if old is not None and old[0] is items(item_id) else self(batch, item_id)
            )
        return found

    def __call__(self, batch: ExampleBatch, item_id: str) -> T:
        """Return what is made of the item's entry as it stands."""
        entry = batch.items(item_id)
        known = self._known.get(item_id)
        if known is not None and known[0] is entry:
            return known[1]
        made = self._compute(entry)
        if len(self._known) >= _MOST_ITEMS:
            self._known.clear()
        self._known[item_id] = (entry, made)
        return made


def context_values(batch: ExampleBatch, key: str) -> list[tuple[int, str | float | bool]]:
    """Return row and value of the contexts that have a key: few, as a rule."""
    return [(row, context[key]) for row, context in enumerate(batch.contexts) if key in context]


def labels_of(entry: Entry) -> frozenset[str]:
    """Return an item's categories and tags, folded."""
    named = [*entry.get("categories", ()), *entry.get("tags", ())]
    return frozenset(folded(name).strip() for name in named)


def _words_of(entry: Entry) -> frozenset[str]:
    parts = [entry.get("title", ""), *entry.get("categories", ()), *entry.get("tags", ())]
    return frozenset(word for part in parts for word in words(part))


item_words = PerItem(_words_of)
"""Words of an item's title, categories and tags: what it is, without what is told about it."""


def field_reader(name: str) -> tuple[bool, Callable[[Entry | Context], str]]:
    """Return whether a field lies in the context, and how its text is read (absent: empty).

    Raises
    ------
    LabelingFunctionError
        If there is no such field.
    """
    place, dot, key = name.partition(".")
    if name in ("title", "text"):
        return False, lambda entry: str(entry.get(name, ""))
    if name in ("categories", "tags"):
        return False, lambda entry: "\n".join(map(str, _listed(entry.get(name))))
    if place == "attributes" and key:
        return False, lambda entry: _scalar(_table(entry.get("attributes")).get(key, ""))
    if place == "context" and key:
        return True, lambda context: _scalar(context.get(key, ""))
    raise LabelingFunctionError(
        f"field: found {name!r}, allowed: {', '.join(FIELDS)}, attributes.NAME, context.KEY"
    )


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else str(value)
