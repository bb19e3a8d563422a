"""`headrace drift`: how far signals are from their references; record, set and reset these."""

from __future__ import annotations

import asyncio
import getpass
import time
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from rich.table import Table

from monitoring.references import references_from_bytes, references_to_bytes
from stream.assembly import open_state, pipeline_spec
from stream.commands.console import ConfigOption, Refused, note, out, require_writable
from stream.config import Settings, load_settings
from stream.distributed.kafka_sink import KafkaSink
from stream.embedded_log import EmbeddedLog
from stream.events import CONTROL, ReferenceReset, ReferenceSet, SignalReference
from stream.merged_view import MergedView
from stream.records import Outgoing
from stream.sinks import EmbeddedSink, EventSink
from stream.watching import pipeline_drift

__all__ = ["drift_app"]

drift_app = typer.Typer(help="Show drift; record, set and reset references.", no_args_is_help=True)
reference_app = typer.Typer(help="References of drift detection.", no_args_is_help=True)
drift_app.add_typer(reference_app, name="reference")

WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the governance log.")]
WhoOption = Annotated[
    str | None, typer.Option("--who", help="Who orders it; your user name unless given.")
]


@drift_app.command()
def show(
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show the signals that are furthest from their references, and the latest detections."""
    with_view = load_settings(config)
    store = open_state(with_view)
    try:
        drift = MergedView(store, pipeline_spec(with_view)).read()["drift"]
    finally:
        store.close()
    if json:
        out.print(orjson.dumps(drift).decode(), markup=False, highlight=False, soft_wrap=True)
        return
    out.print(f"{drift['with_reference']} of {drift['watched']} signals have a reference")
    table = Table("signal", "z", "share moved by", "firing")
    for row in drift["signals"]:
        firing = "[red]yes[/]" if row["firing"] else ""
        table.add_row(row["signal"], f"{row['z']:+.1f}", f"{row['effect']:.3f}", firing)
    out.print(table)
    for found in drift["detections"]:
        out.print(
            f"  {found['ts']:.0f}: {found['signal']} {found['category']} "
            f"{found['reference']:.3f} -> {found['share']:.3f} (z {found['z']:+.1f})",
            highlight=False,
        )


@reference_app.command()
def record(
    file: Annotated[Path, typer.Argument(help="JSON file to write the references to.")],
    config: ConfigOption = None,
) -> None:
    """Write what every signal is compared with now to a file that `set` reads."""
    settings = load_settings(config)
    require_writable(file)
    store = open_state(settings)
    try:
        references = MergedView(store, pipeline_spec(settings)).references()
    finally:
        store.close()
    if not references:
        raise Refused("no signal has a reference yet: monitoring.first_reference values are needed")
    file.write_bytes(references_to_bytes(references))
    note.print(f"{len(references)} references: {file}")


@reference_app.command("set")
def set_(
    file: Annotated[Path, typer.Argument(help="JSON file that `record` wrote.")],
    why: WhyOption,
    signal: Annotated[str | None, typer.Option(help="Only this signal's.")] = None,
    who: WhoOption = None,
    config: ConfigOption = None,
) -> None:
    """Compare with the references of a file from now on, in every partition."""
    settings = load_settings(config)
    try:
        found = references_from_bytes(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(f"{file}: {error}") from error
    chosen = [one for one in found if signal in (None, one.signal)]
    if not chosen:
        raise Refused(f"{file}: holds no reference of {signal or 'any signal'}")
    order = ReferenceSet(
        kind="set_reference",
        ts=time.time(),
        who=who or getpass.getuser(),
        why=why,
        references=[
            SignalReference.model_validate_json(msgspec.json.encode(one)) for one in chosen
        ],
    )
    _send(settings, order)
    note.print(f"ordered: {len(chosen)} references are set; every partition obeys in its turn")


@reference_app.command()
def reset(
    why: WhyOption,
    signal: Annotated[str | None, typer.Option(help="Only this signal's; else all.")] = None,
    who: WhoOption = None,
    config: ConfigOption = None,
) -> None:
    """Take the present as the new reference: of a signal, or of all."""
    settings = load_settings(config)
    known = pipeline_signals(settings)
    if signal is not None and signal not in known:
        raise Refused(f"--signal: found {signal!r}, allowed: {', '.join(known)}")
    _send(
        settings,
        ReferenceReset(
            kind="reset_reference",
            ts=time.time(),
            who=who or getpass.getuser(),
            why=why,
            signal=signal,
        ),
    )
    note.print("ordered: the reference is taken anew; every partition obeys in its turn")


def pipeline_signals(settings: Settings) -> list[str]:
    """Return the names of all signals that a deployment watches."""
    spec = pipeline_spec(settings)
    drift = pipeline_drift(spec.tasks, sorted(spec.rules.types), spec.segments, spec.drift)
    return list(drift.monitor.signals)


def _send(settings: Settings, order: ReferenceReset | ReferenceSet) -> None:
    subject = (order.signal or "*") if isinstance(order, ReferenceReset) else "set"
    record = Outgoing(CONTROL, f"reference/{subject}".encode(), order.model_dump_json().encode())
    asyncio.run(_append(settings, record))


async def _append(settings: Settings, record: Outgoing) -> None:
    sink: EventSink
    if settings.log.embedded:
        log = EmbeddedLog(settings.log.path, settings.log.partitions, topics={CONTROL: 1})
        sink = EmbeddedSink(log)
    else:
        log, sink = None, KafkaSink.from_settings(settings)
    try:
        await sink.start()
        try:
            await sink.append([record])
        finally:
            await sink.close()
    finally:
        if log is not None:
            log.close()
