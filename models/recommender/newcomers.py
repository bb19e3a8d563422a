"""Hold the last of the ten places for what is new, where that loses little, compiled.

Math
----
What nobody chose yet is expected to be average, and an average item is never among the best ten:
without a place of its own it stays unknown. Of each prediction that has a newcomer outside the
ten both are watched: did the best newcomer come, did what stands tenth? By how old the newcomer
is and how its score compares with the tenth's, the newcomer gets the place while

    came(newcomer) ≥ ⅗·(came(tenth) + 2).

Both are counted whoever stands there, so that nothing has to be tried out to learn it. Entries
that mislead never get the place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.recommender.kernel import kernel
from models.recommender.tables import (
    AGES,
    CONTENDERS,
    NEVER_CHOSEN,
    SHARES,
    Tables,
    Trait,
)

__all__ = ["contender", "hold_place", "learn_place", "rank_behind"]

_PLACE = Trait.PLACE
_LEAST = 0.6
"""Of a group a dozen newcomers come in a day: at a bar near their true rate chance would decide."""
_DOUBT = 2.0
_FIRST = AGES * SHARES
_RATIOS = CONTENDERS // NEVER_CHOSEN


@kernel
def contender(t: Tables, tenth: float) -> tuple[int, int]:
    """Return the place of the best newcomer outside the ten, and its group; 0 where there is none.

    ``tenth`` is the score of what stands tenth.
    """
    b = t.lending
    found = 0
    group = 0
    for y in range(b.used[1]):
        s = b.touched[y]
        i = b.item[s]
        age = b.group[s] // SHARES
        if i < 0 or age >= NEVER_CHOSEN:
            continue
        at = t.places[i, _PLACE]
        if at == 0 or not 0.0 < t.score[at] < tenth:
            continue
        best = t.score[found] if found > 0 else np.float32(0.0)
        if t.score[at] > best or (t.score[at] == best and i < t.touched[found]):
            found = at
            group = age * _RATIOS
    if found > 0:
        bound = tenth
        for _ in range(_RATIOS - 1):
            bound *= 0.5
            if t.score[found] > bound:
                break
            group += 1
    return found, group


@kernel
def hold_place(t: Tables, group: int, unit: float) -> bool:
    """Return whether newcomers of this group get the tenth place."""
    tenth, newcomer = t.borrowed[0, _FIRST + group], t.borrowed[1, _FIRST + group]
    return bool(newcomer >= _LEAST * (tenth + _DOUBT * unit))


@kernel
def learn_place(
    t: Tables, item: int, newcomer: int, group: int, best: NDArray[np.int32], w: float
) -> None:
    """Count whether it was the newcomer that came, or what stands tenth without it.

    ``w`` is what the event weighs.
    """
    if item == newcomer:
        t.borrowed[1, _FIRST + group] += w
    elif item == best[best.size - 1]:
        t.borrowed[0, _FIRST + group] += w


@kernel
def rank_behind(t: Tables, item: int, before: int, share: float, newcomer: int, places: int) -> int:
    """Return an item's rank once the newcomer stands last of ``places``.

    ``before`` and ``share`` are the item's rank and score without that.
    """
    if item == t.touched[newcomer]:
        return places - 1
    # What the newcomer passes moves one place back; what stood behind it already stays.
    return before + 1 if before >= places - 1 and share > t.score[newcomer] else before
