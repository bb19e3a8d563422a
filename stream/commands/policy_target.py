"""The policy to evaluate: one from the logs, a file, `uniform`, or a mixture of such."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isclose
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.off_policy import marginal_propensities
from stream.commands.console import Refused
from stream.commands.policy_logs import LogColumns, PolicyLog, read_table

__all__ = ["UNIFORM", "Target", "parse_target"]

UNIFORM: Final = "uniform"
_TERM: Final = re.compile(r"\s*([0-9.eE-]+)\s*\*\s*(.+?)\s*")
_SLACK: Final = 1e-6

Mean = Literal["harmonic", "arithmetic"]


@dataclass(frozen=True, slots=True)
class Target:
    """A mixture: with each probability, the named part chooses."""

    parts: tuple[tuple[float, str], ...]

    @property
    def alone(self) -> str | None:
        """Return the name of the only part."""
        return self.parts[0][1] if len(self.parts) == 1 else None

    def table(
        self, found: Mapping[str, PolicyLog], columns: LogColumns, mean: Mean
    ) -> NDArray[np.float64]:
        """Return the probability of each item at each position.

        Raises
        ------
        Refused
            If a part is neither in the logs nor a table, or is no policy.
        """
        tables = {
            name: read_table(Path(name))
            for _, name in self.parts
            if name not in found and name != UNIFORM
        }
        own = {name: columns.of(found[name]) for _, name in self.parts if name in found}
        for rows in tables.values():
            for item, position, _ in rows:
                columns.items.code(item)
                if position is not None:
                    columns.positions.code(position)
        mixed = np.zeros(columns.shape)
        for weight, name in self.parts:
            if name in own:
                part = marginal_propensities(own[name], columns.shape, mean)
            elif name in tables:
                part = _filled(name, tables[name], columns)
            else:
                part = np.full(columns.shape, 1.0 / columns.shape[0])
            mixed += weight * part
        return mixed


def parse_target(written: str, policies: Collection[str]) -> Target:
    """Return what ``--target`` names, given the policies in the logs.

    Examples
    --------
    >>> parse_target("0.9 * better + 0.1*uniform", ["better"]).parts
    ((0.9, 'better'), (0.1, 'uniform'))
    >>> parse_target("better", ["better"]).alone
    'better'

    Raises
    ------
    Refused
        If it names nothing that is there, or its weights are no shares of 1.
    """
    if _is_there(written, policies):
        return Target(((1.0, written),))
    parts = []
    for term in written.split("+"):
        matched = _TERM.fullmatch(term)
        if matched is None or not _is_number(matched[1]):
            if "*" in written or "+" in written:
                raise Refused(
                    f"--target: in {written!r}, found {term.strip()!r}, needed: SHARE*POLICY, as "
                    "in `0.9*better + 0.1*uniform`"
                )
            raise _unknown(written, policies)
        if not _is_there(matched[2], policies):
            raise _unknown(matched[2], policies)
        if (share := float(matched[1])) <= 0.0:
            raise Refused(f"--target: {matched[2]}: found a share of {share:g}, allowed: above 0")
        parts.append((share, matched[2]))
    if not isclose(total := sum(share for share, _ in parts), 1.0, abs_tol=_SLACK):
        raise Refused(f"--target: the shares in {written!r} sum to {total:g}, needed: 1")
    return Target(tuple(parts))


def _is_there(name: str, policies: Collection[str]) -> bool:
    return name in policies or name == UNIFORM or Path(name).is_file()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unknown(name: str, policies: Collection[str]) -> Refused:
    close = get_close_matches(name, [*policies, UNIFORM], 1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return Refused(
        f"--target: found {name!r}, which is neither a file nor `{UNIFORM}` nor a policy in the "
        f"logs: {', '.join(sorted(policies))}{meant}; a mixture is written "
        "`0.9*POLICY + 0.1*uniform`"
    )


def _filled(
    name: str, rows: list[tuple[str, str | None, float]], columns: LogColumns
) -> NDArray[np.float64]:
    table = np.zeros(columns.shape)
    for item, position, probability in rows:
        at = slice(None) if position is None else columns.positions.of[position]
        table[columns.items.of[item], at] = probability
    sums = table.sum(axis=0)
    worst = int(sums.argmax())
    if sums[worst] > 1.0 + _SLACK:
        position = list(columns.positions.of)[worst]
        raise Refused(
            f"{name}: at position {position or '(none)'} the items' probabilities sum to "
            f"{sums[worst]:.4g}, allowed: at most 1; `propensity` is the chance that the item "
            "stands at that position"
        )
    return table
