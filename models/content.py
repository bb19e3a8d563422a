"""Which items are alike by what the catalogue says of them: neighbours found when one is announced.

Math
----
An item is a set of features f (words, categories, tags, attributes, the price's magnitude), each
weighed by idf(f) = ln((N + 1) / (n_f + 1)), N items and n_f of them with the feature. Likeness is
the cosine of these; an item's rarest features decide whom it is compared with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["ContentIndex", "features"]

_WORD: Final = re.compile(r"\w{2,}")
_MOST_WORDS: Final = 64
_PRICE_STEPS: Final = 2.0
_COMPARED: Final = 24
_POSTINGS: Final = 512
_LEAST_COSINE: Final = 0.05


def features(entry: Mapping[str, Any]) -> list[str]:
    """Return what a catalogue entry says of its item, once each, in the order in which it says it.

    Examples
    --------
    >>> features({"title": "Red pot", "categories": ["kitchen"], "price": 8.0})
    ['c:kitchen', 'w:red', 'w:pot', 'p:6']
    """
    return list(dict.fromkeys(_features(entry)))


def _features(entry: Mapping[str, Any]) -> Iterator[str]:
    for category in entry.get("categories", ()):
        yield f"c:{category}"
    for tag in entry.get("tags", ()):
        yield f"t:{tag}"
    for name, value in entry.get("attributes", {}).items():
        if isinstance(value, (bool, str)):
            yield f"a:{name}={value}"
        elif value:
            yield f"a:{name}~{_magnitude(abs(float(value)))}"
    words = _WORD.findall(f"{entry.get('title') or ''} {entry.get('text') or ''}".casefold())
    for word in words[:_MOST_WORDS]:
        yield f"w:{word}"
    price = entry.get("price")
    if price:
        yield f"p:{_magnitude(float(price))}"


def _magnitude(value: float) -> int:
    return round(_PRICE_STEPS * math.log2(value))


class ContentIndex:
    """Items, and for each the ones most like it.

    Parameters
    ----------
    neighbours
        Neighbours kept of an item, the most alike first. A newcomer is let in among those of the
        items that it is like.

    Attributes
    ----------
    ids
        Items in the order in which they were announced; a row of the arrays each.
    near
        Rows of the neighbours, (n, neighbours), -1 where there are none.
    likeness
        Squares of their cosines, (n, neighbours).
    clock
        Items taken in to the end: another thread may read the rows of as many while one more is.
    changed
        When a row's neighbours changed last, by the clock of when that was done, (n,).
    since
        Event time of each row's entry, (n,); -inf where it says none.

    State
    -----
    8 bytes a neighbour, about 4 a feature of an item; of a feature, its latest 512 items.

    Complexity
    ----------
    About 0.1 ms an item announced.

    Replay
    ------
    A function of the entries in their order.

    Examples
    --------
    >>> index = ContentIndex()
    >>> for name, word in (("a", "kettle"), ("b", "lamp"), ("c", "kettle")):
    ...     index.add(name, {"title": word})
    >>> index.neighbours("c")
    ['a']
    """

    def __init__(self, neighbours: int = 32) -> None:
        self.width = neighbours
        self.ids: list[str] = []
        self.clock = 0
        self._rows: dict[str, int] = {}
        self._said: dict[str, list[str]] = {}
        self._numbers: dict[str, int] = {}
        self._count = np.zeros(1024, np.int64)
        self._postings: list[list[int]] = []
        # What each item has, one after the other: the features of row x lie from its start on.
        self._of = np.zeros(4096, np.int32)
        self._starts = np.zeros(257, np.int64)
        self.near = np.full((256, neighbours), -1, np.int32)
        self.likeness = np.zeros((256, neighbours), np.float32)
        self.changed = np.zeros(256, np.int64)
        self.since = np.full(256, -np.inf)
        self._scratch = np.zeros(256)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """Return the item's row, -1 for one that was never announced."""
        return self._rows.get(item_id, -1)

    def neighbours(self, item_id: str) -> list[str]:
        """Return the items most like this one, the most alike first."""
        row = self.row(item_id)
        return [self.ids[x] for x in self.near[row].tolist() if x >= 0] if row >= 0 else []

    def add(self, item_id: str, entry: Mapping[str, Any]) -> None:
        """Take an item in; of one that is known already only what is new of it counts."""
        if item_id in self._rows:
            return
        row = len(self.ids)
        self._rows[item_id] = row
        self.ids.append(item_id)
        self._reserve(row + 1)
        self.since[row] = entry.get("ts", -np.inf)
        numbers = [self._number(name) for name in features(entry)]
        start = int(self._starts[row])
        stop = start + len(numbers)
        if stop > len(self._of):
            self._of = np.concatenate([self._of, np.zeros(max(stop, len(self._of)), np.int32)])
        self._of[start:stop] = numbers
        self._starts[row + 1] = stop
        counts = self._count[numbers].tolist()
        self._compare(row, numbers, counts)
        for number, count in zip(numbers, counts, strict=True):
            postings = self._postings[number]
            if count < _POSTINGS:
                postings.append(row)
            else:
                postings[count % _POSTINGS] = row
        self._count[numbers] += 1
        self.clock += 1

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self._postings))
        if number == len(self._postings):
            self._postings.append([])
            if number == len(self._count):
                self._count = np.concatenate([self._count, np.zeros_like(self._count)])
        return number

    def _reserve(self, rows: int) -> None:
        capacity = len(self.near)
        if rows <= capacity:
            return
        width = self.width
        self.near = np.concatenate([self.near, np.full((capacity, width), -1, np.int32)])
        self.likeness = np.concatenate([self.likeness, np.zeros((capacity, width), np.float32)])
        self.changed = np.concatenate([self.changed, np.zeros(capacity, np.int64)])
        self._starts = np.concatenate([self._starts, np.zeros(capacity, np.int64)])
        self.since = np.concatenate([self.since, np.full(capacity, -np.inf)])
        self._scratch = np.zeros(2 * capacity)

    def _compare(self, row: int, numbers: list[int], counts: list[int]) -> None:
        """Find the item's neighbours, and let it in among theirs."""
        n = len(self.ids) + 1
        weights = {
            number: math.log(n / (count + 1)) ** 2
            for number, count in zip(numbers, counts, strict=True)
        }
        norm = sum(weights.values())
        if norm <= 0.0:
            return
        shared = [number for number, count in zip(numbers, counts, strict=True) if count]
        # Equal ones in the order in which the entry has them.
        shared.sort(key=lambda number: -weights[number])
        shared = shared[:_COMPARED]
        if not shared:
            return
        parts = [np.array(self._postings[number], np.int32) for number in shared]
        sizes = np.array([len(part) for part in parts], np.int64)
        found, dots = _accumulate(
            np.concatenate(parts),
            sizes,
            np.array([weights[number] for number in shared]),
            self._scratch,
        )
        if len(found) > 4 * self.width:
            best = np.argpartition(-dots, 4 * self.width)[: 4 * self.width]
            found, dots = found[best], dots[best]
        norms = _norms(found, self._of, self._starts, self._count, n)
        cosines = dots / np.sqrt(norm * np.maximum(norms, np.finfo(float).tiny))
        kept = cosines >= _LEAST_COSINE
        found, cosines = found[kept], np.minimum(cosines[kept], 1.0)
        order = np.lexsort((found, -cosines))[: self.width]
        _let_in(
            row,
            found[order],
            (cosines[order] ** 2).astype(np.float32),
            self.near,
            self.likeness,
            self.changed,
            self.clock + 1,
        )


@numba.njit(cache=True)
def _norms(
    rows: NDArray[np.int32],
    features: NDArray[np.int32],
    starts: NDArray[np.int64],
    count: NDArray[np.int64],
    n: int,
) -> NDArray[np.float64]:
    """Return the sum of the squared weights of what each row has, as weights are now."""
    out = np.zeros(rows.size)
    for x in range(rows.size):
        for at in range(starts[rows[x]], starts[rows[x] + 1]):
            weight = math.log(n / (count[features[at]] + 1))
            out[x] += weight * weight
    return out


@numba.njit(cache=True)
def _accumulate(
    rows: NDArray[np.int32],
    sizes: NDArray[np.int64],
    weights: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the rows, once each, with the sum of the weights of the runs that they stand in."""
    found = np.empty(rows.size, np.int32)
    n = 0
    at = 0
    for part in range(sizes.size):
        for _ in range(sizes[part]):
            row = rows[at]
            at += 1
            if scratch[row] == 0.0:
                found[n] = row
                n += 1
            scratch[row] += weights[part] + 1e-12
    dots = np.empty(n)
    for x in range(n):
        dots[x] = scratch[found[x]]
        scratch[found[x]] = 0.0
    return found[:n], dots


@numba.njit(cache=True)
def _let_in(
    row: int,
    found: NDArray[np.int32],
    likeness: NDArray[np.float32],
    near: NDArray[np.int32],
    alike: NDArray[np.float32],
    changed: NDArray[np.int64],
    clock: int,
) -> None:
    width = near.shape[1]
    for x in range(found.size):
        near[row, x] = found[x]
        alike[row, x] = likeness[x]
        other = found[x]
        if likeness[x] <= alike[other, width - 1]:
            continue
        at = width - 1
        while at > 0 and alike[other, at - 1] < likeness[x]:
            alike[other, at] = alike[other, at - 1]
            near[other, at] = near[other, at - 1]
            at -= 1
        alike[other, at] = likeness[x]
        near[other, at] = row
        changed[other] = clock
    changed[row] = clock
