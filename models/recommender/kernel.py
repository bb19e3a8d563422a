"""Compile functions that only read and write arrays that their caller holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["kernel"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Return the function compiled without counting references.

    Each array that is read out of `Tables`, and each row of one, would else be counted up and
    down again by an atomic instruction: two thirds of the time of a step. What is compiled so
    can allocate nothing, and the arrays must outlive the call; both hold for a step.
    """
    options: dict[str, Any] = {"_nrt": False}
    return cast(_Function, numba.njit(**options)(function))
