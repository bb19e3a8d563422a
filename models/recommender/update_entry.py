"""The compiled functions that write down and apply updates, kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from models.kernel_cache import fingerprint
from models.recommender import counting, listing, rows, step, update_kernels
from models.recommender.update_kernels import apply_rows, record_rows

__all__ = ["apply_updates", "record_updates"]


def _compiled(mark: int) -> tuple[Callable[..., int], Callable[..., int]]:
    """Return the entry points; ``mark`` is part of the key under which they are kept."""

    @numba.njit(cache=True, nogil=True)
    def record(*rows: Any) -> int:
        return record_rows(*rows) + 0 * mark

    @numba.njit(cache=True, nogil=True)
    def apply(*rows: Any) -> int:
        apply_rows(*rows)
        return mark

    return record, apply


record_updates, apply_updates = _compiled(
    fingerprint(counting, listing, rows, step, update_kernels)
)
