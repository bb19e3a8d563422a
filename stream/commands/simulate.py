"""`headrace simulate`: write a shop with planted truth as files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from pydantic import ValidationError
from rich.progress import Progress, TimeRemainingColumn

from stream.commands.console import Refused, note, out
from stream.simulate import WorldConfig, write_world

__all__ = ["simulate", "world_config"]


def world_config(plan: Path | None, overrides: dict[str, Any]) -> WorldConfig:
    """Return the world's plan: a JSON file, overridden by options that were given."""
    data: dict[str, Any] = {}
    if plan is not None:
        try:
            data = orjson.loads(plan.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise Refused(f"{plan}: cannot be read as JSON ({error})") from error
        if not isinstance(data, dict):
            raise Refused(f"{plan}: should be one JSON object with the fields of a world")
    data |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return WorldConfig(**data)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}; found {fault['input']!r}"
            for fault in error.errors(include_url=False)
        ]
        raise Refused("the world cannot be made:\n  " + "\n  ".join(lines)) from error


def simulate(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder to write to; made if it is not there.")
    ] = None,
    events: Annotated[
        int | None,
        typer.Option(min=1, help="Exactly so many events; --days then sets how fast they come."),
    ] = None,
    users: Annotated[int | None, typer.Option(min=1, help="Users, bots included.")] = None,
    items: Annotated[int | None, typer.Option(min=2, help="Items, later ones included.")] = None,
    days: Annotated[float | None, typer.Option(help="Length of the world, in days.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of every random number.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="JSON with any of the fields that --fields lists.")
    ] = None,
    compress: Annotated[
        Literal["none", "gz", "zst"], typer.Option(help="How to compress the files.")
    ] = "none",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    fields: Annotated[
        bool, typer.Option("--fields", help="List every field of a plan, and write nothing.")
    ] = False,
) -> None:
    """Make a shop with planted truth: users with tastes, items, impressions, late rewards, bots.

    Writes events, items, gold answers, the truth, and world.json, which says what was planted.
    The same plan and seed give the same bytes.
    """
    if fields:
        for name, field in WorldConfig.model_fields.items():
            out.print(f"{name} = {field.get_default(call_default_factory=True)!r}", highlight=False)
            out.print(f"    {field.description}", highlight=False)
        return
    if folder is None:
        raise Refused("FOLDER is missing: where should the world be written?")
    config = world_config(
        plan, {"events": events, "users": users, "items": items, "days": days, "seed": seed}
    )
    bar = Progress(
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        console=note,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("simulate", total=None)
        try:
            files = write_world(
                config,
                folder,
                lambda done, total: bar.update(task, completed=done, total=total),
                compression=compress,
                force=force,
            )
        except OSError as error:
            if isinstance(error, FileExistsError) and folder.is_dir():
                raise Refused(f"{error}; --force overwrites") from error
            raise Refused(f"{folder}: the world cannot be written: {error.strerror}") from error
    for path, count in (
        (files.events, files.event_count),
        (files.items, files.item_count),
        (files.gold, files.gold_count),
        (files.truth, files.truth_count),
    ):
        out.print(f"{count:>12,} {path}", highlight=False)
