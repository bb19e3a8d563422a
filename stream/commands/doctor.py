"""`headrace doctor`: check settings and every connection, and say what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import typer

from stream.assembly import open_state, pipeline_spec
from stream.commands.console import REFUSED, ConfigOption, out
from stream.config import Settings, SettingsError, load_settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.topics import require_topics, topic_plan
from stream.embedded_files import open_log
from stream.refusal import Refusal

__all__ = ["doctor"]


def doctor(config: ConfigOption = None) -> None:
    """Check the settings, the labeling functions, the log and the store.

    Each line says what was checked and what is wrong; exits 2 if anything is. Nothing is changed:
    a file that is not there yet is not made.
    """
    failed = False
    try:
        settings = load_settings(config)
    except SettingsError as error:
        _say("settings", str(error), bad=True)
        raise typer.Exit(REFUSED) from error
    _say("settings", _where(config))
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("labeling functions", _lfs),
        ("log", _embedded_log if settings.log.embedded else _kafka),
        ("store", _store),
    ]
    for name, check in checks:
        try:
            _say(name, check(settings))
        except (Refusal, OSError) as error:
            failed = True
            _say(name, str(error), bad=True)
    if failed:
        raise typer.Exit(REFUSED)


def _say(name: str, text: str, *, bad: bool = False) -> None:
    mark = "[red]✗[/]" if bad else "[green]✓[/]"
    out.print(f"{mark} {name}: ", end="")
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _where(config: Path | None) -> str:
    return "read" if config is None else f"read from {config}"


def _lfs(settings: Settings) -> str:
    spec = pipeline_spec(settings)
    counted = ", ".join(f"{len(task.lfs)} for {task.name}" for task in spec.tasks)
    return f"{counted}; {len(spec.disabled)} switched off by the settings"


def _creatable(path: Path) -> str:
    """Say of a file that is not there whether it can be made; it stays to be made by who needs it.

    Raises
    ------
    OSError
        It cannot.
    """
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path}: it cannot be made: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: it cannot be made: {folder} may not be written")
    return f"{path} is not there yet; the first start makes it"


def _embedded_log(settings: Settings) -> str:
    if not settings.log.path.exists():
        return _creatable(settings.log.path)
    log = open_log(settings)
    try:
        return log.ping()
    finally:
        log.close()


def _kafka(settings: Settings) -> str:
    require_topics(KafkaConnection.from_settings(settings), topic_plan(settings))
    return f"Kafka answers, and every topic is as it should be ({settings.log.partitions} each)"


def _store(settings: Settings) -> str:
    if settings.store.embedded and not settings.store.path.exists():
        return _creatable(settings.store.path)
    store = open_state(settings)
    try:
        return store.ping()
    finally:
        store.close()
