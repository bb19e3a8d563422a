"""`headrace`: every command, and how errors reach the person who typed it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import typer

from stream.commands.console import REFUSED, note, out
from stream.refusal import Refusal

__all__ = ["COMMANDS", "command_line", "main"]

COMMANDS: Final = {
    "demo": "demo",
    "up": "up",
    "worker": "worker",
    "serve": "serve",
    "topics": "topics",
    "replay": "replay",
    "evaluate": "evaluate",
    "simulate": "simulate",
    "schema": "schema",
    "doctor": "doctor",
    "drift": "drift_app",
    "lfs": "lfs_app",
    "state": "state_app",
}
"""What each module of `stream.commands` defines that is a command, or a group of some."""


def command_line(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """Return the command line, with these commands only.

    Each brings libraries of its own into memory: a process that stays has those that it uses.
    """
    app = typer.Typer(
        name="headrace",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Learn online from interaction events: weak supervision, late rewards, "
        "recommendations.",
        epilog="Settings: headrace.toml, or HEADRACE_… variables. Begin with `headrace demo`.",
    )
    app.callback()(root)
    for name in names:
        found: Any = getattr(import_module(f"stream.commands.{name}"), COMMANDS[name])
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            out.print(f"headrace {version('headrace')}", highlight=False)
        except PackageNotFoundError:
            out.print("headrace (not installed)", highlight=False)
        raise typer.Exit


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
    asked = sys.argv[1:2]
    try:
        command_line(asked if asked and asked[0] in COMMANDS else COMMANDS)()
    except Refusal as error:
        note.print(f"headrace: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(REFUSED)
    except BrokenPipeError:
        sys.exit(0)
    finally:
        # Python looks through all that is left for garbage as it ends: half a second to a second.
        gc.freeze()


if __name__ == "__main__":
    main()
