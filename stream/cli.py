"""`headrace`: every command, and how errors reach the person who typed it."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import typer

from stream.api.problems import Problem
from stream.commands.console import REFUSED, Refused, note, out
from stream.commands.demo import demo
from stream.commands.doctor import doctor
from stream.commands.drift import drift_app
from stream.commands.evaluate import evaluate
from stream.commands.lfs import lfs_app
from stream.commands.replay import replay
from stream.commands.running import serve, up, worker
from stream.commands.schema import schema
from stream.commands.simulate import simulate
from stream.commands.state import state_app
from stream.commands.topics import topics
from stream.config import SettingsError
from stream.distributed.store_calls import WorkerStop
from stream.distributed.topics import BrokerUnreachable, TopicsUnfit
from stream.embedded_log import LogError
from stream.event_files import FileError
from stream.http_server import StartFailed
from stream.sinks import AppendFailed
from stream.state import StoreError

__all__ = ["app", "main"]

_EXPECTED: Final = (
    Refused,
    SettingsError,
    FileError,
    StoreError,
    LogError,
    StartFailed,
    AppendFailed,
    WorkerStop,
    BrokerUnreachable,
    TopicsUnfit,
    Problem,
)
"""Errors whose text says what must change; anything else is a bug, and shows its traceback."""

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Learn online from interaction events: weak supervision, late rewards, recommendations.",
    epilog="Settings: headrace.toml, or HEADRACE_… variables. Begin with `headrace demo`.",
)
for command in (demo, up, worker, serve, topics, replay, evaluate, simulate, schema, doctor):
    app.command()(command)
app.add_typer(drift_app, name="drift")
app.add_typer(lfs_app, name="lfs")
app.add_typer(state_app, name="state")


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            out.print(f"headrace {version('headrace')}", highlight=False)
        except PackageNotFoundError:
            out.print("headrace (not installed)", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Learn online from interaction events."""


def main() -> None:
    """Run the command line; exit 2 when something outside must change, 1 after a bug."""
    try:
        app()
    except _EXPECTED as error:
        note.print(f"headrace: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(REFUSED)
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
