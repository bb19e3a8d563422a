"""Keep the lists of what is popular lately and over long, compiled.

What is listed is a candidate for everybody. It has a place of its own among the candidates,
``FIXED`` plus its position in the list of what is popular lately, else further back the one for
what is popular over long; so that nothing needs to be looked up when it is scored.
"""

from __future__ import annotations

from models.recommender.kernel import kernel
from models.recommender.tables import FIXED, Cell, Flag, Tables, Total, Trait

__all__ = ["list_popular", "relist"]

_N, _FRESH = Cell.COUNT, Cell.FRESH
_INVERSE, _N32, _FRESH32, _PLACE = Trait.INVERSE, Trait.COUNT, Trait.FRESH, Trait.PLACE
_LISTED = Total.LISTED_FRESH
_LOWEST = Total.LOWEST_FRESH
_FLAG_FRESH = Flag.FRESH
_FLAG_STEADY = Flag.STEADY


@kernel
def _settle(t: Tables, at: int, i: int) -> None:
    """Give a place to an item."""
    traits = t.traits[i]
    t.places[i, _PLACE] = at
    t.touched[at] = i
    t.inverse[at] = traits[_INVERSE]
    t.steady[at] = traits[_N32]
    t.fresh[at] = traits[_FRESH32]


@kernel
def _vacate(t: Tables, at: int) -> None:
    t.touched[at] = -1
    t.inverse[at] = 0.0
    t.steady[at] = 0.0
    t.fresh[at] = 0.0


@kernel
def relist(t: Tables, lists: bool) -> None:
    """Give what is listed its places anew; none where popular items are no candidates."""
    size = t.listed.shape[1]
    for at in range(FIXED, FIXED + 2 * size):
        if t.touched[at] >= 0:
            t.places[t.touched[at], _PLACE] = 0
        _vacate(t, at)
    for which in range(2 if lists else 0):
        for x in range(int(t.totals[_LISTED + which])):
            i = t.listed[which, x]
            if which == 0 or t.flags[i] & _FLAG_FRESH == 0:
                _settle(t, FIXED + which * size + x, i)


@kernel
def _leave(t: Tables, which: int, i: int) -> None:
    """Take an item's place from it when it leaves a list; the other list may have one for it."""
    size = t.listed.shape[1]
    if which == 1:
        t.flags[i] &= 255 - _FLAG_STEADY
        if t.flags[i] & _FLAG_FRESH == 0:
            _vacate(t, t.places[i, _PLACE])
            t.places[i, _PLACE] = 0
        return
    t.flags[i] &= 255 - _FLAG_FRESH
    _vacate(t, t.places[i, _PLACE])
    t.places[i, _PLACE] = 0
    if t.flags[i] & _FLAG_STEADY != 0:
        for x in range(size):
            if t.listed[1, x] == i:
                _settle(t, FIXED + size + x, i)


@kernel
def _enter(t: Tables, which: int, position: int, i: int) -> None:
    """Put an item into a list."""
    t.listed[which, position] = i
    if which == 0:
        t.flags[i] |= _FLAG_FRESH
        if t.places[i, _PLACE] > 0:
            _vacate(t, t.places[i, _PLACE])
        _settle(t, FIXED + position, i)
    else:
        t.flags[i] |= _FLAG_STEADY
        if t.places[i, _PLACE] == 0:
            _settle(t, FIXED + t.listed.shape[1] + position, i)


@kernel
def _list_one(t: Tables, which: int, i: int, value: float) -> None:
    """Let the item into a list of popular ones if it is more so than the last of them.

    Most are not, and are turned away by a bound that is never above the last one's value.
    """
    totals, listed = t.totals, t.listed
    flag = _FLAG_FRESH if which == 0 else _FLAG_STEADY
    column = _FRESH if which == 0 else _N
    if t.flags[i] & flag != 0:
        totals[_LOWEST + which] = min(totals[_LOWEST + which], value)
        return
    size = int(totals[_LISTED + which])
    if size < listed.shape[1]:
        totals[_LISTED + which] += 1.0
        totals[_LOWEST + which] = min(totals[_LOWEST + which], value) if size > 0 else value
        _enter(t, which, size, i)
        return
    if value <= totals[_LOWEST + which]:
        return
    least = 0
    lowest = t.cells[listed[which, 0], column]
    for x in range(1, size):
        v = t.cells[listed[which, x], column]
        if v < lowest:
            lowest = v
            least = x
    totals[_LOWEST + which] = lowest
    if value > lowest:
        out = listed[which, least]
        t.dirty[out] = 1
        _leave(t, which, out)
        _enter(t, which, least, i)


@kernel
def list_popular(t: Tables, i: int, fresh: float, count: float) -> None:
    """Let the item into the lists where its new counts put it there; call after `derive`."""
    at = t.places[i, _PLACE]
    if at > 0:
        _settle(t, at, i)
    _list_one(t, 0, i, fresh)
    _list_one(t, 1, i, count)
