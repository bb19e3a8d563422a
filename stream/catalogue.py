"""What is known of the items: read whole by every process, looked up by labeling functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from stream.events import Item
from stream.rejection import Invalid, explain, parse_object, refuse_long

__all__ = ["Catalogue"]

_EMPTY: Final[Mapping[str, Any]] = {}


class Catalogue:
    """Items by id; the last entry of an item counts.

    *State* — one entry an item, as the items topic holds after compaction.
    """

    def __init__(self, *, max_line_bytes: int = 1_048_576) -> None:
        self._items: dict[str, Mapping[str, Any]] = {}
        self._max_line_bytes = max_line_bytes

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, item_id: str) -> Mapping[str, Any]:
        """Return an item's entry, empty if there is none."""
        return self._items.get(item_id, _EMPTY)

    def apply(self, lines: Iterable[bytes]) -> list[tuple[int, Invalid]]:
        """Take entries in; return (position, fault) of the lines that are none."""
        faults = []
        for position, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                refuse_long(line, self._max_line_bytes)
                item = Item.model_validate(parse_object(line))
            except ValidationError as error:
                faults.append((position, explain(error)))
            except Invalid as fault:
                faults.append((position, fault))
            else:
                self._items[item.item_id] = item.model_dump(exclude_none=True)
        return faults

    def forget(self, item_id: str) -> None:
        """Remove an item: its record in the log is a tombstone."""
        self._items.pop(item_id, None)
