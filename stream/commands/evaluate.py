"""`headrace evaluate`: what another policy would have earned, from logs with propensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    support,
)
from stream.commands.console import Refused, bytes_progress, note, out
from stream.commands.policy_logs import Codes, LogColumns, PolicyLog, read_logs
from stream.commands.policy_target import Target, parse_target
from stream.event_files import known_size, require_readable

__all__ = ["evaluate"]

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
        headrace evaluate random.ndjson.gz bts.ndjson.gz --target '0.9*bts + 0.1*uniform'
    """
    for path in logs:
        require_readable(path)
    if not 0.0 < level < 1.0:
        raise Refused(f"--level: found {level}, allowed: between 0 and 1")
    if cap is not None and cap <= 0.0:
        raise Refused(f"--cap: found {cap}, allowed: above 0")
    found, named, chosen = _read(logs, target, tuple(reward or ("click",)), values)
    names = _logging(found, chosen, logged)
    columns = LogColumns(Codes(), Codes(), by_user=cluster == "user", skip_missing=skip_missing)
    rows = columns.of(PolicyLog(", ".join(names), [s for name in names for s in found[name].shown]))
    known = found | named
    table = chosen.table(known, columns, propensity)
    own = known.get(chosen.alone) if chosen.alone is not None else None
    result = _evaluated(rows, table, columns.of(own) if own else None, level, interval, cap)
    learned = any(name in known for _, name in chosen.parts)
    result |= {
        "target": target,
        "logged_policies": names,
        "propensity_model": f"{propensity} mean per item and position" if learned else "given",
        "level": level,
        "interval": interval,
    }
    if json:
        text = orjson.dumps(result, option=orjson.OPT_INDENT_2).decode()
        out.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        _show(result)


def _read(
    logs: Sequence[Path], target: str, rewards: tuple[str, ...], values: bool
) -> tuple[dict[str, PolicyLog], dict[str, PolicyLog], Target]:
    """Return what each policy logged, what the target names beside it, and the target."""
    types: set[str] = set()
    with bytes_progress("evaluate", known_size(logs)) as progress:
        task = progress.task_ids[0]
        found = read_logs(
            logs,
            rewards,
            values=values,
            progress=lambda size: progress.advance(task, size),
            types=types,
        )
    if not found:
        raise Refused("the logs hold no impressions")
    if types.isdisjoint(rewards):
        others = ", ".join(sorted(types - {"impression"})) or "none"
        raise Refused(
            f"--reward: found {', '.join(rewards)}, of which the logs hold no event; what they "
            f"hold beside impressions: {others}"
        )
    chosen = parse_target(target, found)
    named: dict[str, PolicyLog] = {}
    for _, name in chosen.parts:
        path = Path(name)
        if path.is_file() and _is_log(path):
            if name in found:
                raise Refused(f"--target: {name!r} is both a file and a policy in the logs")
            theirs = read_logs([path], rewards, values=values)
            named[name] = PolicyLog(name, [s for log in theirs.values() for s in log.shown])
    return found, named, chosen


def _is_log(path: Path) -> bool:
    """Return whether a file holds events; a table has no types."""
    if path.suffix in (".gz", ".zst", ".zstd", ".parquet"):
        return True
    with path.open("rb") as lines:
        return b'"type"' in lines.readline()


def _logging(found: Mapping[str, PolicyLog], target: Target, logged: str | None) -> list[str]:
    """Return the policies whose rows are weighed."""
    if logged is not None:
        if logged not in found:
            raise Refused(f"--logged: found {logged!r}, in the logs: {', '.join(sorted(found))}")
        return [logged]
    names = sorted(name for name in found if name != target.alone)
    if not names:
        raise Refused(
            f"--target: only {target.alone!r} itself is in the logs; needed: what another policy "
            "logged"
        )
    return names


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
