"""`headrace state`: look at what is stored, take it out, or throw it away."""

from __future__ import annotations

import base64
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table

from stream.assembly import open_state
from stream.commands.console import ConfigOption, Refused, note, out, require_writable
from stream.config import load_settings
from stream.sole_learner import sole_learner
from stream.state import SHARED_PREFIX

__all__ = ["state_app"]

state_app = typer.Typer(help="Inspect, export or reset the stored state.", no_args_is_help=True)


@state_app.command()
def inspect(
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show every partition: where it stands in its topics, and its contributions."""
    store = open_state(load_settings(config))
    try:
        partitions = store.partitions()
        sizes: dict[int, dict[str, int]] = {}
        for chunk in store.shared(SHARED_PREFIX, {}):
            sizes.setdefault(chunk.partition, {})[chunk.name] = len(chunk.data)
    finally:
        store.close()
    if json:
        out.print_json(
            orjson.dumps(
                {
                    str(number): {"next_offsets": offsets, "shared_bytes": sizes.get(number, {})}
                    for number, offsets in sorted(partitions.items())
                }
            ).decode()
        )
        return
    table = Table("partition", "next offsets", "contributions", "bytes")
    for number, offsets in sorted(partitions.items()):
        shared = sizes.get(number, {})
        where = ", ".join(f"{topic} {offset}" for topic, offset in sorted(offsets.items()))
        table.add_row(str(number), where, str(len(shared)), f"{sum(shared.values()):,}")
    out.print(table if partitions else "nothing is stored yet")


@state_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="NDJSON file to write the contributions to.")],
    config: ConfigOption = None,
) -> None:
    """Write every partition's contributions (counts, statistics, figures; nothing personal)."""
    require_writable(file)
    store = open_state(load_settings(config))
    try:
        chunks = store.shared(SHARED_PREFIX, {})
    finally:
        store.close()
    with file.open("wb") as sink:
        for chunk in sorted(chunks):
            record = {
                "partition": chunk.partition,
                "name": chunk.name,
                "version": chunk.version,
                "data": base64.b64encode(chunk.data).decode(),
                "exported_at": time.time(),
            }
            sink.write(orjson.dumps(record) + b"\n")
    out.print(f"{len(chunks)} contributions written to {file}")


@state_app.command()
def reset(
    partition: Annotated[
        list[int] | None, typer.Option(help="Only this partition; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Delete the stored state: everything is learned anew from what the log still holds.

    On Kafka the group's committed offsets must be reset too, while no worker runs; embedded, the
    service must have been stopped.
    """
    settings = load_settings(config)
    number = settings.log.partitions
    for one in partition or ():
        if not 0 <= one < number:
            raise Refused(f"--partition: found {one}, allowed: 0 to {number - 1} (log.partitions)")
    what = f"partitions {partition}" if partition else "all partitions"
    if not yes:
        typer.confirm(f"Delete the state of {what} of {settings.store.instance!r}?", abort=True)
    with ExitStack() as stack:
        if settings.log.embedded:
            # Else a service that runs would end at its next save.
            stack.enter_context(sole_learner(settings.log.path, patience_s=0.0))
        store = open_state(settings)
        stack.callback(store.close)
        store.reset(partition)
    note.print(f"the state of {what} is deleted")
