"""How the label model's loops are compiled: no reference counts, no checks of divisors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

__all__ = ["compiled", "hot", "inlined"]

Function = TypeVar("Function", bound=Callable[..., Any])

# A loop that hands the state's fifty arrays around would spend most of its time on counting who
# refers to them, atomically. The caller's handle holds them all: nothing here allocates.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}


def compiled(function: Function) -> Function:
    """Compile a function that is called by compiled code only, and allocates nothing."""
    return cast(Function, njit(**OPTIONS)(function))


def hot(function: Function) -> Function:
    """Compile a function whose machine code is part of its callers': it runs for each row.

    A call hands over each of an array's sizes and strides, which takes as long as a short loop.
    """
    return cast(Function, njit(forceinline=True, **OPTIONS)(function))


def inlined(function: Function) -> Function:
    """Compile a function into each of its callers: it takes whole groups of arrays."""
    return cast(Function, njit(inline="always", **OPTIONS)(function))
