"""What routes read from the state store, or the problem that they answer with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from stream.api.problems import Problem
from stream.state import StoreError

__all__ = ["read_stored"]

Given = ParamSpec("Given")
Found = TypeVar("Found")


async def read_stored(
    read: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
) -> Found:
    """Return what ``read`` finds; it runs in a thread.

    Raises
    ------
    Problem
        503: the store does not answer, or holds what this program cannot read.
    """
    try:
        return await asyncio.to_thread(read, *given, **named)
    except StoreError as error:
        raise Problem(503, f"the state store does not answer: {error}") from error
    except ValueError as error:
        raise Problem(503, f"the state cannot be read: {error}") from error
