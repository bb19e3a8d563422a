"""`headrace lfs`: the labeling functions that run, and what they are worth on a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Column, Table

from monitoring.lf_analysis import Analysis, LfReport, analyse
from monitoring.lf_heatmap import heat_map
from stream.assembly import open_state, pipeline_spec
from stream.commands.console import (
    ConfigOption,
    Refused,
    bytes_progress,
    note,
    out,
    require_writable,
)
from stream.config import load_settings
from stream.event_files import known_size, require_readable
from stream.lf_sample import LabelCollector
from stream.merged_view import MergedView
from stream.readiness import get_ready
from stream.replay import Replay

__all__ = ["lfs_app"]

lfs_app = typer.Typer(
    help="List labeling functions; analyse them on a sample.", invoke_without_command=True
)

_COLOURS = {"keep": "green", "review": "yellow", "drop": "red"}


@lfs_app.callback()
def lfs(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Show only this one, in full.")] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="What the running deployment has counted, and by segment."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """List the labeling functions of every task: name, version, family, what it votes on."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(config, stateless=not live)
    spec = pipeline_spec(settings)
    if live:
        store = open_state(settings)
        try:
            _show_live(MergedView(store, spec).read())
        finally:
            store.close()
        return
    known = {lf.name for task in spec.tasks for lf in task.lfs}
    if name is not None and name not in known:
        raise Refused(f"--name: found {name!r}, allowed: {', '.join(sorted(known))}")
    for task in spec.tasks:
        if name is None:
            out.print(f"[bold]{task.name}[/] ({', '.join(task.classes)})")
        for lf in task.lfs:
            if name is None:
                first = lf.doc.partition("\n")[0]
                state = " [yellow]off[/]" if lf.name in spec.disabled else ""
                out.print(f"  {lf.name} v{lf.version} ({lf.family}){state}: {escape(first)}")
            elif lf.name == name:
                out.print(f"{lf.name} v{lf.version}, task {lf.task}, family {lf.family}\n")
                out.print(lf.doc, markup=False, highlight=False)


@lfs_app.command("analyse")
def analyse_command(
    events: Annotated[
        list[Path],
        typer.Argument(help="Files of events: NDJSON, also .gz or .zst, or Parquet."),
    ],
    items: Annotated[Path | None, typer.Option(help="File of items.")] = None,
    gold: Annotated[Path | None, typer.Option(help="File of gold answers.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    heatmap: Annotated[
        Path | None, typer.Option(help="Write a heat map of conflicts here, as HTML.")
    ] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="Show the figures of each segment too.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Say what each labeling function is worth: run a sample through the pipeline, and count.

    Coverage, overlaps, conflicts, polarity, accuracy as estimated and on gold, correlation, what
    the labels lose without it, and a plain recommendation. Nothing is kept.
    """
    spec = pipeline_spec(load_settings(config, stateless=True), partitions=1)
    for path in [*events, *(p for p in (items, gold) if p is not None)]:
        require_readable(path)
    if heatmap is not None and heatmap.suffix not in (".html", ".htm"):
        raise Refused(f"--heatmap: found {heatmap.name!r}, allowed: a name that ends in .html")
    if heatmap is not None:
        require_writable(heatmap)
    get_ready(spec)
    collector = LabelCollector()
    run = Replay(spec, on_effects=collector)
    with bytes_progress("analyse", known_size(events)) as progress:
        task = progress.task_ids[0]
        if items is not None:
            run.read_items(items)
        if gold is not None:
            run.read_gold(gold)
        run.progress = lambda n_bytes: progress.advance(task, n_bytes)
        run.read_events(events)
    run.close_windows()
    run.answer_rest()
    if run.problems:
        note.print(
            f"{run.refused} lines were rejected, the first: {run.problems[0]}",
            markup=False,
            soft_wrap=True,
        )
    found = [analyse(collector.sample(run.pipelines, task.name)) for task in spec.tasks]
    if heatmap is not None:
        heatmap.write_text(heat_map(found), encoding="utf-8")
        note.print(f"heat map: {heatmap}")
    if json:
        text = orjson.dumps([one.as_dict() for one in found], option=orjson.OPT_INDENT_2).decode()
        out.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    for one in found:
        _show(one)
        if segments:
            _show_segments(one.lfs)


def _show_live(figures: Mapping[str, Any]) -> None:
    """Print functions, and segments: how well they are served beside the labels behind them."""
    for name, task in figures["tasks"].items():
        table = Table(_key(name), "cov.", "overl.", "confl.", "against model", "est.", "gold")
        for lf in task["lfs"]:
            cells = ("coverage", "overlap", "conflict", "disagreement", "estimated_accuracy",
                     "gold_accuracy")  # fmt: skip
            table.add_row(f"{lf['name']} v{lf['version']}", *(_ratio(lf[cell]) for cell in cells))
        out.print(table)
        table = Table(
            _key("segment"), "hit@10", "confidence", "cov.", "confl.", "functions behind it"
        )
        for row in figures["segments"]:
            labels = row["tasks"][name]
            behind = ", ".join(_behind(lf) for lf in row["functions"])
            table.add_row(
                row["segment"],
                _ratio(row["hit@10"]),
                *(_ratio(labels[cell]) for cell in ("confidence", "coverage", "conflict")),
                behind or "–",
            )
        out.print(table)


def _behind(lf: Mapping[str, Any]) -> str:
    """Say what of a function is otherwise in a segment: how often it votes, or how rightly."""
    cell = "disagreement" if lf["reason"].startswith("against") else "coverage"
    here, elsewhere = _ratio(lf[cell]), _ratio(lf[f"{cell}_elsewhere"])
    return f"{lf['name']}: {lf['reason']} ({here}, elsewhere {elsewhere})"


def _show(found: Analysis) -> None:
    out.print(
        f"[bold]{found.task}[/]: {found.examples:,} examples, {found.gold:,} with a gold answer"
    )
    table = Table(
        _key("labeling function"),
        "cov.",
        "overl.",
        "confl.",
        "votes",
        "est.",
        "gold",
        "loss without",
    )
    for lf in found.lfs:
        share = lf.gold_accuracy
        gain, error = lf.contribution_nats, lf.contribution_error
        table.add_row(
            f"{lf.name} v{lf.version}",
            f"{lf.coverage:.3f}",
            f"{lf.overlap:.3f}",
            f"{lf.conflict:.3f}",
            ", ".join(f"{name} {n:,}" for name, n in lf.polarity.items()) or "–",
            _ratio(lf.estimated_accuracy),
            "–" if share.ratio is None else f"{share.ratio:.3f} of {share.n}",
            "–" if gain is None or error is None else f"{gain:+.4f} ±{error:.4f}",
        )
    out.print(table)
    silent = [lf.name for lf in found.lfs if not lf.polarity and not lf.failures]
    if silent:
        out.print(
            f"  [yellow]review[/] never voted, does their source arrive? {', '.join(silent)}",
            highlight=False,
            soft_wrap=True,
        )
    for lf in found.lfs:
        if lf.name in silent:
            continue
        colour = _COLOURS[lf.advice.verdict]
        near = ", ".join(f"{name} {rho:.2f}" for name, rho in lf.correlated_with.items())
        out.print(
            f"  [{colour}]{lf.advice.verdict:<6}[/] {lf.name}: {lf.advice.reason}"
            + (f" (votes with {near})" if near else ""),
            highlight=False,
            soft_wrap=True,
        )


def _show_segments(lfs: Sequence[LfReport]) -> None:
    table = Table(_key("labeling function"), "segment", "examples", "cov.", "agreement", "gold")
    for lf in lfs:
        for name, cells in lf.segments.items():
            if cells["votes"]:
                table.add_row(
                    lf.name,
                    name,
                    f"{cells['examples']:,}",
                    _ratio(cells["coverage"]),
                    _ratio(cells["agreement"]),
                    _ratio(cells["gold_accuracy"]),
                )
    out.print(table)


def _key(header: str) -> Column:
    """Return a column of names, which are never cut short: one is looked for by its name."""
    return Column(header, overflow="fold")


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
