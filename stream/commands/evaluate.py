"""`headrace evaluate`: what another policy would have earned, from logs with propensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import orjson
import typer
from numpy.typing import NDArray
from rich.table import Table

from models.off_policy import (
    Estimate,
    Interval,
    Logged,
    estimate,
    estimate_logged,
    marginal_propensities,
    support,
)
from stream.commands.console import Refused, bytes_progress, note, out
from stream.commands.policy_logs import Codes, PolicyLog, read_logs, read_table
from stream.event_files import known_size, require_readable

__all__ = ["evaluate"]

_UNIFORM: Final = "uniform"
_FEW: Final = 100
_THIN: Final = 0.05


def evaluate(
    logs: Annotated[
        list[Path],
        typer.Argument(
            help="Files of events with impressions (propensity, policy, position) and what came "
            "of them: NDJSON, also .gz or .zst, or Parquet."
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            help="The policy to evaluate: the name of one in the logs; a file, either its own log "
            "or a table (NDJSON or .csv: item_id, position, propensity); or `uniform`."
        ),
    ],
    logged: Annotated[
        str | None,
        typer.Option(help="The policy whose rows are used. [default: every other one]"),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(help="Event type that is a reward; may be repeated. [default: click]"),
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Sum the rewards' values; else any of them is 1.")
    ] = False,
    level: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    interval: Annotated[
        Literal["normal", "bernstein"],
        typer.Option(help="normal: by the variance between decisions; bernstein: wider, always."),
    ] = "normal",
    propensity: Annotated[
        Literal["harmonic", "arithmetic"],
        typer.Option(help="Mean of the target's logged propensities, per item and position."),
    ] = "harmonic",
    cap: Annotated[
        float | None, typer.Option(help="Largest weight of a row. [default: none]")
    ] = None,
    cluster: Annotated[
        Literal["request", "user"], typer.Option(help="Whose rows hang together.")
    ] = "request",
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out impressions without propensity.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Estimate what another policy would have earned, from what was logged.

    Every impression must carry the probability with which its policy showed the item at its
    position. Rows are weighed by target / logged probability: IPS is the weighted mean, SNIPS
    divides by the weights' sum (trust it first), DR adds a reward model. A target that is a log
    gets its probability per item and position as the harmonic mean of its logged ones: the
    arithmetic mean is too large, because it sees an item more often when it is likelier.

        headrace evaluate random.ndjson.gz bts.ndjson.gz --target bts
    """
    for path in logs:
        require_readable(path)
    if not 0.0 < level < 1.0:
        raise Refused(f"--level: found {level}, allowed: between 0 and 1")
    if cap is not None and cap <= 0.0:
        raise Refused(f"--cap: found {cap}, allowed: above 0")
    found = _read(logs, target, tuple(reward or ("click",)), values)
    names = _logging(found, target, logged)
    codes = _Codes(Codes(), Codes(), by_user=cluster == "user", skip_missing=skip_missing)
    rows = PolicyLog(", ".join(names), [one for name in names for one in found[name].shown])
    columns = codes.columns(rows)
    table, own = _target(found, target, codes, propensity)
    columns_own = codes.columns(own) if own is not None else None
    result = _evaluated(columns, table, columns_own, level, interval, cap)
    result |= {
        "target": target,
        "logged_policies": names,
        "propensity_model": f"{propensity} mean per item and position" if own else "given",
        "level": level,
        "interval": interval,
    }
    if json:
        text = orjson.dumps(result, option=orjson.OPT_INDENT_2).decode()
        out.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        _show(result)


@dataclass(frozen=True, slots=True)
class _Codes:
    """Codes that all logs share, and how rows become columns."""

    items: Codes
    positions: Codes
    by_user: bool
    skip_missing: bool

    def columns(self, log: PolicyLog) -> Logged:
        return log.columns(
            self.items, self.positions, by_user=self.by_user, skip_missing=self.skip_missing
        )

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.items.of), len(self.positions.of)


def _read(
    logs: Sequence[Path], target: str, rewards: tuple[str, ...], values: bool
) -> dict[str, PolicyLog]:
    with bytes_progress("evaluate", known_size(logs)) as progress:
        task = progress.task_ids[0]
        found = read_logs(
            logs, rewards, values=values, progress=lambda size: progress.advance(task, size)
        )
    if not found:
        raise Refused("the logs hold no impressions")
    if Path(target).is_file() and _is_log(Path(target)):
        theirs = read_logs([Path(target)], rewards, values=values)
        if target in found:
            raise Refused(f"--target: {target!r} is both a file and a policy in the logs")
        found[target] = PolicyLog(target, [s for log in theirs.values() for s in log.shown])
    return found


def _is_log(path: Path) -> bool:
    """Return whether a file holds events; a table has no types."""
    if path.suffix in (".gz", ".zst", ".zstd", ".parquet"):
        return True
    with path.open("rb") as lines:
        return b'"type"' in lines.readline()


def _logging(found: Mapping[str, PolicyLog], target: str, logged: str | None) -> list[str]:
    """Return the policies whose rows are weighed."""
    if logged is not None:
        if logged not in found:
            raise Refused(f"--logged: found {logged!r}, in the logs: {', '.join(sorted(found))}")
        return [logged]
    names = sorted(name for name in found if name != target)
    if not names:
        raise Refused(
            f"--target: only {target!r} itself is in the logs; needed: what another policy logged"
        )
    return names


def _target(
    found: Mapping[str, PolicyLog],
    target: str,
    codes: _Codes,
    mean: Literal["harmonic", "arithmetic"],
) -> tuple[NDArray[np.float64], PolicyLog | None]:
    """Return the target's probability of each item at each position, and its own log if any."""
    if target in found:
        own = found[target]
        rows = codes.columns(own)
        return marginal_propensities(rows, codes.shape, mean), own
    if Path(target).is_file():
        rows_ = read_table(Path(target))
        for item, position, _ in rows_:
            codes.items.code(item)
            if position is not None:
                codes.positions.code(position)
        table = np.zeros(codes.shape)
        for item, position, probability in rows_:
            at = slice(None) if position is None else codes.positions.of[position]
            table[codes.items.of[item], at] = probability
        return table, None
    if target == _UNIFORM:
        return np.full(codes.shape, 1.0 / codes.shape[0]), None
    raise Refused(
        f"--target: found {target!r}, which is neither a file nor `{_UNIFORM}` nor a policy in "
        f"the logs: {', '.join(sorted(found))}"
    )


def _evaluated(
    rows: Logged,
    table: NDArray[np.float64],
    own: Logged | None,
    level: float,
    interval: Interval,
    cap: float | None,
) -> dict[str, Any]:
    covered = support(rows, table, cap)
    return {
        "rows": len(rows),
        "rewards": float(rows.reward.sum()),
        "logged": _plain(estimate_logged(rows, level=level, interval=interval)),
        "estimates": [
            _plain(one) for one in estimate(rows, table, level=level, interval=interval, cap=cap)
        ],
        "target_logged": _plain(estimate_logged(own, level=level, interval=interval))
        if own is not None
        else None,
        "support": covered._asdict(),
    }


def _plain(found: Estimate) -> dict[str, float | str]:
    return found._asdict()


def _show(result: Mapping[str, Any]) -> None:
    out.print(
        f"{result['rows']:,} impressions of {', '.join(result['logged_policies'])}, "
        f"{result['rewards']:,.6g} rewards; target {result['target']} "
        f"({result['propensity_model']})",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("value per impression", "estimate", f"{100 * result['level']:g} % interval", "")
    truth = result["target_logged"]
    table.add_row(", ".join(result["logged_policies"]) + ", as logged", *_cells(result["logged"]))
    if truth is not None:
        table.add_row(f"{result['target']}, as logged", *_cells(truth))
    for one in result["estimates"]:
        held = ""
        if truth is not None:
            inside = one["low"] <= truth["value"] <= one["high"]
            held = "holds its logged value" if inside else "[yellow]misses its logged value[/]"
        table.add_row(f"{result['target']}, {one['estimator'].upper()}", *_cells(one)[:2], held)
    out.print(table)
    covered = result["support"]
    out.print(
        f"support: worth {covered['effective']:,.0f} rows, mean weight {covered['mean']:.3f}, "
        f"largest {covered['largest']:.1f}, {100 * covered['missing']:.1f} % of the target's "
        "choices were never logged",
        highlight=False,
        soft_wrap=True,
    )
    if covered["effective"] < _FEW or covered["missing"] > _THIN:
        note.print("[yellow]The log says little about this policy: the interval may lie.[/]")


def _cells(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{one['value']:.5f}", f"{one['low']:.5f} to {one['high']:.5f}", ""
