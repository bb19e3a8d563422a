"""What commands share: where they write, and how they end."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stream.refusal import Refusal

__all__ = [
    "BUG",
    "REFUSED",
    "ConfigOption",
    "Refused",
    "bytes_progress",
    "log_to_stderr",
    "note",
    "out",
    "require_writable",
]

BUG = 1
"""Exit code after an error of our own."""
REFUSED = 2
"""Exit code when something outside must change first; the message says what."""

out = Console()
note = Console(stderr=True, highlight=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file; by default the one that HEADRACE_CONFIG names, else headrace.toml.",
        show_default=False,
    ),
]


class Refused(Refusal):
    """A command that cannot do what was asked; the text is for the person who asked."""


def require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before long work for it begins."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise Refused(f"{path}: its folder does not exist")
    if path.is_dir():
        raise Refused(f"{path}: is a folder, allowed: a file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise Refused(f"{path}: may not be written, check its permissions and its folder's")


def log_to_stderr() -> None:
    """Write the program's own log lines to the terminal or the container's log."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("kafka", "aiokafka", "faust", "mode", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def bytes_progress(label: str, total: int | None) -> Iterator[Progress]:
    """Show how much of the input was read, on a terminal; a pipe gets nothing."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=note,
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with progress:
        progress.add_task(label, total=total, rate="")
        yield progress
