"""Read what policies logged: exposures with their propensities, and what came of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from models.off_policy import Logged
from stream.commands.console import Refused
from stream.event_files import read_merged

__all__ = ["Codes", "LogColumns", "PolicyLog", "Shown", "read_logs", "read_table"]

_BLOCK: Final = 4_096
_UNNAMED: Final = "(unnamed)"


@dataclass(slots=True)
class Codes:
    """Names as codes from 0, in order of appearance."""

    of: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        """Return a name's code; a new name gets the next."""
        return self.of.setdefault(name, len(self.of))


@dataclass(slots=True)
class Shown:
    """One exposure; ``where`` names its line."""

    item: str
    position: str
    propensity: float | None
    decision: str
    user: str
    where: str
    reward: float = 0.0


@dataclass(slots=True)
class PolicyLog:
    """The exposures of one policy."""

    name: str
    shown: list[Shown] = field(default_factory=list)

    def columns(
        self, items: Codes, positions: Codes, *, by_user: bool, skip_missing: bool
    ) -> Logged:
        """Return the exposures as columns.

        Raises
        ------
        Refused
            If an exposure has no propensity and those are not to be skipped.
        """
        missing = [one for one in self.shown if one.propensity is None]
        if missing and not skip_missing:
            raise Refused(
                f"{len(missing):,} of {len(self.shown):,} impressions of policy {self.name!r} have "
                f"no propensity, the first: {missing[0].where}; needed: the probability with which "
                "the policy showed the item there, logged when it did (--skip-missing leaves them "
                "out)"
            )
        rows = [one for one in self.shown if one.propensity is not None]
        if not rows:
            raise Refused(f"policy {self.name!r} has no impressions with a propensity")
        decisions = Codes()
        return Logged(
            _column(rows, lambda one: items.code(one.item)),
            _column(rows, lambda one: positions.code(one.position)),
            np.array([one.propensity for one in rows], dtype=np.float64),
            np.array([one.reward for one in rows], dtype=np.float64),
            _column(rows, lambda one: decisions.code(one.user if by_user else one.decision)),
        )


@dataclass(frozen=True, slots=True)
class LogColumns:
    """Codes that all logs share, and how rows become columns."""

    items: Codes
    positions: Codes
    by_user: bool
    skip_missing: bool

    def of(self, log: PolicyLog) -> Logged:
        """Return a log's exposures as columns."""
        return log.columns(
            self.items, self.positions, by_user=self.by_user, skip_missing=self.skip_missing
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many items and positions there are."""
        return len(self.items.of), len(self.positions.of)


def _column(rows: Sequence[Shown], code: Callable[[Shown], int]) -> NDArray[np.int64]:
    return np.array([code(one) for one in rows], dtype=np.int64)


def read_logs(
    paths: Sequence[Path],
    rewards: Collection[str],
    *,
    values: bool,
    progress: Callable[[int], None] | None = None,
    types: set[str] | None = None,
) -> dict[str, PolicyLog]:
    """Return the log of every policy in the files, by its name.

    Feedback counts for the exposure that it names by `request_id`, else for the user's latest
    exposure to the item. An exposure's reward is 1 if there was any, or the sum of the feedback's
    values. Into ``types`` go the types of the events.
    """
    logs: dict[str, PolicyLog] = {}
    named: dict[tuple[str, str, str], Shown] = {}
    latest: dict[tuple[str, str], Shown] = {}
    seen: set[tuple[str, str]] = set()
    for block in read_merged(paths, _BLOCK, progress):
        for line, file, number in zip(block.lines, block.files, block.numbers, strict=True):
            where = f"{paths[file].name}, line {number}"
            event = _event(line, where)
            if event is not None and types is not None:
                types.add(str(event["type"]))
            if event is None or event["type"] not in rewards and event["type"] != "impression":
                continue
            user, item = str(event["user_id"]), str(event["item_id"])
            if (name := event.get("event_id")) is not None:
                if (user, str(name)) in seen:
                    continue
                seen.add((user, str(name)))
            request = event.get("request_id")
            if event["type"] == "impression":
                one = _shown(event, user, item, where)
                name = str(event.get("policy") or _UNNAMED)
                logs.setdefault(name, PolicyLog(name)).shown.append(one)
                latest[user, item] = one
                if request is not None:
                    named[user, str(request), item] = one
                continue
            found = named.get((user, str(request), item)) if request is not None else None
            found = found or latest.get((user, item))
            if found is not None:
                found.reward = found.reward + _value(event, where) if values else 1.0
    return logs


def _event(line: bytes, where: str) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Refused(f"{where}: not JSON ({error})") from error
    if not isinstance(event, dict) or not {"type", "user_id", "item_id"} <= event.keys():
        raise Refused(f"{where}: not an event; needed: type, user_id, item_id, ts")
    return event


def _value(event: dict[str, Any], where: str) -> float:
    value = event.get("value") or 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise Refused(f"{where}: value: found {value!r}, allowed: a number")
    return float(value)


def _shown(event: dict[str, Any], user: str, item: str, where: str) -> Shown:
    propensity = event.get("propensity")
    if propensity is not None and not (
        isinstance(propensity, int | float) and 0.0 < propensity <= 1.0
    ):
        raise Refused(f"{where}: propensity: found {propensity!r}, allowed: above 0, at most 1")
    position = event.get("position")
    decision = event.get("request_id") or event.get("event_id") or where
    return Shown(
        item,
        "" if position is None else str(position),
        None if propensity is None else float(propensity),
        f"{user} {decision}",
        user,
        where,
    )


def read_table(path: Path) -> list[tuple[str, str | None, float]]:
    """Return (item, position or None for every one, probability) from NDJSON or CSV.

    Raises
    ------
    Refused
        If a row lacks `item_id` or `propensity`, or it is no probability.
    """
    text = path.read_text(encoding="utf-8")
    rows: list[dict[str, Any]]
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        try:
            rows = [orjson.loads(line) for line in text.splitlines() if line.strip()]
        except orjson.JSONDecodeError as error:
            raise Refused(f"{path}: neither .csv nor NDJSON ({error})") from error
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            item, propensity = str(row["item_id"]), float(row["propensity"])
        except (KeyError, TypeError, ValueError):
            raise Refused(f"{path}, row {number}: needed: item_id, propensity, a number") from None
        if not 0.0 <= propensity <= 1.0:
            raise Refused(f"{path}, row {number}: propensity: found {propensity}, allowed: 0 to 1")
        position = row.get("position")
        found.append((item, None if position in (None, "") else str(position), propensity))
    if not found:
        raise Refused(f"{path}: holds no rows")
    return found
