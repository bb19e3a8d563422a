"""`headrace replay`: run files through the pipeline and report how it went."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer
from rich.table import Table

from stream.assembly import pipeline_spec
from stream.commands.console import ConfigOption, bytes_progress, note, out, require_writable
from stream.config import load_settings
from stream.effects import Effects
from stream.event_files import known_size, require_readable
from stream.readiness import get_ready
from stream.replay import Replay

__all__ = ["replay"]

_SHOWN_PROBLEMS = 10


def replay(
    events: Annotated[
        list[Path],
        typer.Argument(
            help="Files of events: NDJSON, also .gz or .zst, or Parquet; -: standard input."
        ),
    ],
    items: Annotated[Path | None, typer.Option(help="File of items.")] = None,
    gold: Annotated[Path | None, typer.Option(help="File of gold answers.")] = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=4096, help="Partitions to spread users over.")
    ] = 1,
    close: Annotated[
        bool, typer.Option("--close", help="Close at the end every window that is still open.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the report here, as JSON.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Write every label here, as NDJSON.")] = None,
    config: ConfigOption = None,
) -> None:
    """Run files of events through the pipeline, in memory, at full speed.

    Every event is predicted before it is learned, so the report's figures are prequential. A file
    keeps its own order; several are merged by event time. Nothing is kept but the report and the
    labels.
    """
    settings = load_settings(config, stateless=True)
    for path in [*events, *(p for p in (items, gold) if p is not None)]:
        require_readable(path)
    for target in (report, labels):
        if target is not None:
            require_writable(target)
    spec = pipeline_spec(settings, partitions=partitions, timer=time.perf_counter)
    get_ready(spec)
    sink = labels.open("wb") if labels is not None else None
    try:
        run = Replay(spec, on_effects=_label_writer(sink) if sink is not None else None)
        with bytes_progress("replay", known_size(events)) as progress:
            task = progress.task_ids[0]
            if items is not None:
                run.read_items(items)
            if gold is not None:
                run.read_gold(gold)

            def advance(n_bytes: int) -> None:
                progress.advance(task, n_bytes)

            run.progress = advance
            run.read_events(events)
        if close:
            run.close_windows()
        run.answer_rest()
    finally:
        if sink is not None:
            sink.close()
    result = run.report()
    if report is not None:
        report.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    _show(result)
    for problem in run.problems[:_SHOWN_PROBLEMS]:
        note.print("[yellow]rejected[/] ", end="")
        # It quotes the line, which may look like markup.
        note.print(str(problem), markup=False, soft_wrap=True)
    if run.refused > _SHOWN_PROBLEMS:
        note.print(f"… and {run.refused - _SHOWN_PROBLEMS} more lines were rejected")


def _label_writer(sink: BinaryIO) -> Callable[[Effects], None]:
    def write(effects: Effects) -> None:
        for block in effects.labels:
            sink.write(b"".join(record.value + b"\n" for record in block.records()))

    return write


def _show(report: dict[str, Any]) -> None:
    """Print what a person wants to know first."""
    rate = report["events_per_second"]
    out.print(
        f"{report['events']:,} events, {report['rejected']:,} rejected, "
        f"{report['duplicates']:,} duplicates in {report['seconds']:.1f} s"
        + (f" ({rate:,.0f} events/s)" if rate else ""),
        soft_wrap=True,
    )
    join = report["join"]
    out.print(
        f"join: {join['matched']:,} matched, {join['organic']:,} organic, "
        f"{join['expired']:,} expired, {join['late_corrections']:,} corrected late, "
        f"{join['pending']:,} still open",
        soft_wrap=True,
    )
    figures = report["recommender"]["prequential"]
    if figures["n"]:
        out.print(
            f"recommender: hit@10 {figures['hit@10']:.4f}, nDCG@10 {figures['ndcg@10']:.4f}, "
            f"MRR {figures['mrr']:.4f} over {figures['n']:,} engagements",
            soft_wrap=True,
        )
    for name, labels in report["labels"].items():
        gold = labels["gold"]
        told = (
            f"; gold: {gold['n']:,}, accuracy {gold['accuracy']:.4f}, "
            f"log-loss {gold['log_loss']:.4f}, ECE {gold['ece']:.4f}"
            if gold["n"]
            else ""
        )
        out.print(f"labels of {name}: {labels['count']:,}{told}", soft_wrap=True)
    table = Table("labeling function", "coverage", "overlap", "conflict", "est. accuracy", "gold")
    for name, row in sorted(report["lfs"].items(), key=lambda pair: -(pair[1]["coverage"] or 0)):
        if row["coverage"]:
            table.add_row(
                name,
                *(
                    "–" if row[key] is None else f"{row[key]:.3f}"
                    for key in (
                        "coverage",
                        "overlap",
                        "conflict",
                        "estimated_accuracy",
                        "gold_accuracy",
                    )
                ),
            )
    if table.row_count:
        out.print(table)
