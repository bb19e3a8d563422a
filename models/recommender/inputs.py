"""Reading what callers give a recommender: ids and columns, checked before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.recommender.step import CORRECT, ENGAGE, NEGATIVE

__all__ = [
    "read_column",
    "read_id",
    "read_ids",
    "read_kinds",
    "read_reward",
    "read_time",
    "read_times",
]

_LATEST: Final = 1e15
_KINDS: Final = {"ENGAGE": ENGAGE, "CORRECT": CORRECT, "NEGATIVE": NEGATIVE}


def read_id(what: str, given: object) -> str:
    """Return an id: a string, or a whole number as one.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return str(given)
    message = f"{what} must be a string or a whole number; found {given!r}"
    raise TypeError(message)


def read_ids(what: str, given: Sequence[str]) -> Sequence[str]:
    """Return ids as strings; a sequence of strings as it is."""
    if isinstance(given, str):
        message = f"{what}s must be a sequence of ids; found {given!r}"
        raise TypeError(message)
    if set(map(type, given)) <= {str}:
        return given
    return [read_id(what, one) for one in given]


def read_column(what: str, given: Any, dtype: Any, n: int) -> Any:
    """Return an array of ``n`` values.

    Raises
    ------
    ValueError
        For another number of them.
    """
    array = np.asarray(given, dtype)
    if array.shape != (n,):
        message = f"{what} must be {n} values, one for each user; found shape {array.shape}"
        raise ValueError(message)
    return array


def read_times(given: Any, n: int) -> NDArray[np.float64]:
    """Return ``n`` times.

    Raises
    ------
    ValueError
        For what is no time at all; a number beyond any epoch would make all that was learned old.
    """
    times: NDArray[np.float64] = read_column("ts", given, np.float64, n)
    wrong = ~(np.abs(times) <= _LATEST)
    if wrong.any():
        message = f"ts must be seconds since the epoch; found {times[wrong][0]}"
        raise ValueError(message)
    return times


def read_kinds(given: Any, n: int) -> NDArray[np.int8]:
    """Return ``n`` kinds of rows.

    Raises
    ------
    ValueError
        For a number that is none.
    """
    kinds: NDArray[np.int8] = read_column("kinds", given, np.int8, n)
    wrong = (kinds < ENGAGE) | (kinds > NEGATIVE)
    if wrong.any():
        allowed = ", ".join(f"{code} ({name})" for name, code in _KINDS.items())
        message = f"kinds must be {allowed}; found {kinds[wrong][0]}"
        raise ValueError(message)
    return kinds


def read_reward(y: float | bool) -> float:
    """Return a reward; NaN says nothing that could be learned."""
    reward = float(y)
    if isnan(reward):
        message = f"y must be a number; found {y!r}"
        raise ValueError(message)
    return reward


def read_time(x: Mapping[str, Any] | None, otherwise: float) -> float:
    """Return the time ``ts`` of a context, if it has one."""
    if x is None or x.get("ts") is None:
        return otherwise
    return float(read_times([x["ts"]], 1)[0])
