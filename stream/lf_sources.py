"""Labeling functions that the settings describe, and the files behind them.

Files of look-ups are read at start; a live process calls `FollowedFiles.follow`, and what changes
counts without a restart. A replay reads them once.
"""

from __future__ import annotations

import csv
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from lfs.content import pattern
from lfs.context_votes import context_vote
from lfs.core import LabelingFunction, LabelingFunctionError
from lfs.crowd import annotators
from lfs.knowledge import Table, item_vote, look_up
from lfs.model_based import LinearText, LoggedScore, ZeroShot, best_class, score_vote
from stream.config import Settings, SettingsError
from stream.settings.lfs import ClassifierSettings, LfsSettings, LookupSettings

__all__ = ["FollowedFiles", "configured_lfs", "read_votes"]

_log = logging.getLogger(__name__)

Classes = Mapping[str, Sequence[str]]


class FollowedFiles:
    """Tables of look-ups and the files that fill them."""

    def __init__(self) -> None:
        self._files: list[_Followed] = []
        self._stop = threading.Event()

    def __len__(self) -> int:
        return len(self._files)

    def add(self, path: Path, read: Callable[[], Mapping[str, str]], reload_s: float) -> Table:
        """Return a table filled from a file."""
        stamp = _stamp(path)
        table = Table(read())
        self._files.append(_Followed(path, read, reload_s, table, stamp))
        return table

    def follow(self, told: Callable[[str], None] = lambda result: None) -> None:
        """Read files anew when they change, in a thread of this process's own, until it ends.

        ``told`` hears of each time: ``read`` or ``refused``.
        """
        for file in self._files:
            name = f"look-up {file.path.name}"
            arguments = (self._stop, told)
            threading.Thread(target=file.run, args=arguments, name=name, daemon=True).start()

    def look(self, told: Callable[[str], None] = lambda result: None) -> None:
        """Look at every file once, as the threads of `follow` do again and again."""
        for file in self._files:
            file.look(told)

    def close(self) -> None:
        """Let the threads end."""
        self._stop.set()


class _Followed:
    def __init__(
        self,
        path: Path,
        read: Callable[[], Mapping[str, str]],
        reload_s: float,
        table: Table,
        stamp: tuple[int, int] | None,
    ) -> None:
        self.path = path
        self._read = read
        self._reload_s = reload_s
        self._table = table
        self._stamp = self._seen = stamp

    def run(self, stop: threading.Event, told: Callable[[str], None]) -> None:
        while not stop.wait(self._reload_s):
            self.look(told)

    def look(self, told: Callable[[str], None]) -> None:
        """Read the file anew if it changed, and is as the last look found it."""
        before, self._seen = self._seen, _stamp(self.path)
        # What has changed since the last look may be half written.
        if self._seen is None or self._seen == self._stamp or self._seen != before:
            return
        self._stamp = self._seen
        try:
            self._table.replace(self._read())
        except SettingsError as error:
            _log.warning("the look-up keeps its old entries: %s", error)
            told("refused")
        else:
            told("read")
            _log.info("%s: read anew, %d entries", self.path, len(self._table))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def configured_lfs(settings: Settings) -> tuple[list[LabelingFunction], FollowedFiles]:
    """Return the labeling functions that the settings describe, and their files.

    Raises
    ------
    SettingsError
        If a task or class is unknown, an expression is wrong, or a file cannot be read.
    """
    classes = {name: task.classes for name, task in settings.tasks.items()}
    files = FollowedFiles()
    try:
        return _made(settings.lfs, classes, files), files
    except LabelingFunctionError as error:
        raise SettingsError(f"a setting is refused:\n  {error}") from error


def _made(lfs: LfsSettings, classes: Classes, files: FollowedFiles) -> list[LabelingFunction]:
    found = [context_vote(*_key_and_task(entry)) for entry in lfs.context_votes]
    found += [item_vote(*_key_and_task(entry)) for entry in lfs.item_votes]
    found += annotators(lfs.annotators, list(classes))
    for name, p in lfs.patterns.items():
        _check_vote(f"lfs.patterns.{name}.vote", p.vote, p.task, classes)
        found.append(
            pattern(
                name,
                p.vote,
                keywords=p.keywords,
                patterns=p.patterns,
                fields=p.fields,
                task=p.task,
                version=p.version,
            )
        )
    for name, look in lfs.lookups.items():
        found.append(_look_up(name, look, classes, files))
    for name, s in lfs.scores.items():
        last = len(_classes(f"lfs.scores.{name}.task", s.task, classes)) - 1
        found.append(
            score_vote(
                name,
                LoggedScore(s.context_key),
                at_most=s.at_most,
                at_least=s.at_least,
                above=last,
                task=s.task,
                version=s.version,
                source=f"`{s.context_key}` in the context",
            )
        )
    for name, z in lfs.zero_shot.items():
        wanted = _classes(f"lfs.zero_shot.{name}.task", z.task, classes)
        if len(z.descriptions) != len(wanted):
            raise SettingsError(
                f"a setting is refused:\n  lfs.zero_shot.{name}.descriptions: should be "
                f"{len(wanted)} texts, one for each of {', '.join(wanted)}; "
                f"found {len(z.descriptions)}"
            )
        found.append(
            best_class(
                name,
                ZeroShot(z.descriptions),
                least=z.least,
                margin=z.margin,
                task=z.task,
                version=z.version,
                source="the item's text beside a description of each class",
            )
        )
    for name, c in lfs.classifiers.items():
        last = len(_classes(f"lfs.classifiers.{name}.task", c.task, classes)) - 1
        found.append(
            score_vote(
                name,
                _classifier(name, c),
                at_most=c.at_most,
                at_least=c.at_least,
                above=last,
                task=c.task,
                version=c.version,
                source=f"the classifier in {c.file.name}",
            )
        )
    return found


def _look_up(
    name: str, look: LookupSettings, classes: Classes, files: FollowedFiles
) -> LabelingFunction:
    where = f"lfs.lookups.{name}"
    allowed = _classes(f"{where}.task", look.task, classes)
    if look.vote is not None:
        _check_vote(f"{where}.vote", look.vote, look.task, classes)

    def read() -> Mapping[str, str]:
        return read_votes(look.file, allowed, look.vote)

    table = files.add(look.file, read, look.reload_s)
    return look_up(
        name, table, look.by, task=look.task, version=look.version, source=look.file.name
    )


def read_votes(path: Path, classes: Sequence[str], vote: str | None = None) -> dict[str, str]:
    """Return key to class of a file: CSV (key,vote), or NDJSON with ``key`` and ``vote``.

    Parameters
    ----------
    vote
        What a line votes that names no class; None: each must name one.

    Raises
    ------
    SettingsError
        If the file cannot be read, or a line names what is no class; line and remedy are told.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error
    votes: dict[str, str] = {}
    for number, cells in _lines(path, text):
        said = cells[1].strip() if len(cells) > 1 and cells[1].strip() else vote
        if said is None or said not in classes:
            if number == 1 and vote is None and cells[1:2] and cells[1].strip() == "vote":
                continue  # A heading.
            raise SettingsError(
                f"{path}:{number}: vote: found {said!r}, allowed: {', '.join(classes)}"
            )
        votes[cells[0]] = said
    return votes


def _lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    rows = []
    if path.suffix in (".json", ".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = orjson.loads(line)
                rows.append((number, [str(entry["key"]), str(entry.get("vote") or "")]))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise SettingsError(
                    f'{path}:{number}: should be {{"key": …, "vote": …}}'
                ) from error
        return rows
    reader = csv.reader(text.splitlines())
    begins = 1
    try:
        for cells in reader:
            if cells and cells[0].strip():
                rows.append((reader.line_num, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        # As where a quotation mark begins a cell that nothing ends.
        raise SettingsError(f"{path}:{begins}: is not CSV ({error})") from error
    return rows


def _classifier(name: str, settings: ClassifierSettings) -> LinearText:
    try:
        model: Any = orjson.loads(settings.file.read_bytes())
        weights = {str(word): float(weight) for word, weight in model["weights"].items()}
        return LinearText(weights, float(model.get("bias", 0.0)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"a setting is refused:\n  lfs.classifiers.{name}.file: {settings.file} should be "
            f'JSON with "bias" and "weights" ({error})'
        ) from error


def _key_and_task(entry: str) -> tuple[str, str]:
    task, colon, name = entry.rpartition(":")
    return name, task if colon else "relevance"


def _classes(where: str, task: str, classes: Classes) -> Sequence[str]:
    if task not in classes:
        raise SettingsError(
            f"a setting is refused:\n  {where}: names no task; found {task!r}, "
            f"allowed: {', '.join(classes)}"
        )
    return classes[task]


def _check_vote(where: str, vote: str, task: str, classes: Classes) -> None:
    allowed = _classes(where.rpartition(".")[0] + ".task", task, classes)
    if vote not in allowed:
        raise SettingsError(
            f"a setting is refused:\n  {where}: names no class of {task!r}; found {vote!r}, "
            f"allowed: {', '.join(allowed)}"
        )
