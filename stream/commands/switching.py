"""How long a thread that computes keeps another one waiting that has an answer to give."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["quick_switches"]

_SWITCH_S: Final = 0.000_1
"""While a thread learns, or reads a model, another answers; each of its five to ten turns waits so
long. Python's own 5 ms would be most of the answer's time."""


@contextmanager
def quick_switches() -> Iterator[None]:
    """Let the threads of this process take short turns, as whoever answers over HTTP needs them.

    Examples
    --------
    >>> with quick_switches():
    ...     round(sys.getswitchinterval(), 6)
    0.0001
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
