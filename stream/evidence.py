"""What has been observed of an example, as columns of numbers: the join fills, LFs read.

Every example carries one row of these. Columns are only appended (a stored row that is shorter is
filled with `DEFAULTS`), so that state written by an older version still reads.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final

__all__ = ["COLUMNS", "COUNT_COLUMN", "DEFAULTS", "SUM_COLUMN", "Column", "Evidence", "blank_row"]

if TYPE_CHECKING:
    Evidence = array[float]
else:
    Evidence = array

_NAN = float("nan")


class Column(IntEnum):
    """Position of each observation in an example's row; units end the names."""

    IMPRESSIONS = 0
    CLICKS = 1
    VIEWS = 2
    DWELLS = 3
    DWELL_S = 4
    PLAYS = 5
    PLAY_S = 6
    CARTS = 7
    PURCHASES = 8
    AMOUNT = 9
    RETURNS = 10
    RATINGS = 11
    RATING = 12
    LIKES = 13
    SHARES = 14
    SKIPS = 15
    HIDES = 16
    REPORTS = 17
    OTHERS = 18
    POSITION = 19
    PROPENSITY = 20
    OPENED_TS = 21
    FIRST_FEEDBACK_TS = 22
    LAST_TS = 23
    AWAY_S = 24
    REPEATS = 25
    USER_RATE = 26
    CLOSED = 27


COLUMNS: Final = tuple(column.name.lower() for column in Column)

DEFAULTS: Final[tuple[float, ...]] = tuple(
    _NAN
    if column
    in (
        Column.RATING,
        Column.POSITION,
        Column.PROPENSITY,
        Column.OPENED_TS,
        Column.FIRST_FEEDBACK_TS,
        Column.LAST_TS,
        Column.AWAY_S,
    )
    else 0.0
    for column in Column
)
"""The row of an example of which nothing is known yet; NaN where 0 would be an answer."""

_BLANK: Final = Evidence("d", DEFAULTS)

blank_row: Final[Callable[[], Evidence]] = _BLANK.__copy__
"""Returns a row of its own with the defaults."""


COUNT_COLUMN: Final[dict[str, Column]] = {
    "impression": Column.IMPRESSIONS,
    "click": Column.CLICKS,
    "view": Column.VIEWS,
    "dwell": Column.DWELLS,
    "play": Column.PLAYS,
    "add_to_cart": Column.CARTS,
    "purchase": Column.PURCHASES,
    "return": Column.RETURNS,
    "rating": Column.RATINGS,
    "like": Column.LIKES,
    "share": Column.SHARES,
    "skip": Column.SKIPS,
    "hide": Column.HIDES,
    "report": Column.REPORTS,
}
"""Column that counts events of a type; types of a product's own count as ``OTHERS``."""

SUM_COLUMN: Final[dict[str, Column]] = {
    "dwell": Column.DWELL_S,
    "play": Column.PLAY_S,
    "purchase": Column.AMOUNT,
}
"""Column to which an event's ``value`` is added; a rating's value replaces ``RATING``."""
