"""A world as files: events, items, gold, truth, and what was planted."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import orjson
import zstandard

from stream.simulate.config import WorldConfig
from stream.simulate.world import World

__all__ = ["Compression", "Progress", "WorldFiles", "write_world"]

Compression = Literal["none", "gz", "zst"]

Progress = Callable[[int, int], None]
"""Told, after each slice, how many events are written and how many there will be (about)."""

_UNFINISHED = ".partial"


@dataclass(frozen=True, slots=True)
class WorldFiles:
    """Where a world was written, and how many lines each file has."""

    events: Path
    items: Path
    gold: Path
    truth: Path
    rejections: Path
    world: Path
    event_count: int
    item_count: int
    gold_count: int
    truth_count: int
    rejection_count: int


class _Lines:
    """A file of lines under a provisional name, plain or compressed."""

    def __init__(self, path: Path, compression: Compression, stack: ExitStack) -> None:
        self.path = path
        self.partial = path.with_name(path.name + _UNFINISHED)
        self.count = 0
        raw = stack.enter_context(self.partial.open("wb"))
        self._file: BinaryIO
        if compression == "gz":
            # No name and no time in the header: the bytes depend on the lines only.
            squeezed = gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0)
            self._file = cast(BinaryIO, stack.enter_context(squeezed))
        elif compression == "zst":
            writer = zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False)
            self._file = cast(BinaryIO, stack.enter_context(writer))
        else:
            self._file = raw

    def write(self, lines: Iterable[bytes]) -> None:
        lines = list(lines)
        if lines:
            self.count += len(lines)
            self._file.write(b"\n".join(lines) + b"\n")

    def finish(self) -> None:
        self.partial.replace(self.path)


def write_world(
    config: WorldConfig,
    folder: Path,
    progress: Progress | None = None,
    *,
    compression: Compression = "none",
    force: bool = False,
) -> WorldFiles:
    """Write a world's files into a folder and return where they are.

    ``events``, ``items``, ``gold``, ``truth`` and ``rejections`` (what must be said of the damaged
    lines) are NDJSON; ``world.json`` tells what was planted. Files get their names when all of
    them are whole; an interrupted run leaves nothing behind.

    Parameters
    ----------
    config
        The world.
    folder
        Created where it is missing.
    progress
        Called after every slice.
    compression
        Of the events file, by suffix; the others are small and stay plain.
    force
        Replace the files of an earlier world.

    Raises
    ------
    FileExistsError
        If one of the files is there and ``force`` is not set.
    """
    suffix = "" if compression == "none" else f".{compression}"
    names = [f"events.ndjson{suffix}", "items.ndjson", "gold.ndjson", "truth.ndjson"]
    names += ["rejections.ndjson", "world.json"]
    paths = [folder / name for name in names]
    # Events in another compression are of an earlier world, too.
    others = [folder / f"events.ndjson{other}" for other in ("", ".gz", ".zst")]
    present = [path.name for path in dict.fromkeys([*paths, *others]) if path.exists()]
    if present and not force:
        raise FileExistsError(
            f"{folder} holds {', '.join(present)} already; choose another folder or force it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    world = World(config)
    expected = world.expected_events
    with ExitStack() as leftovers:
        with ExitStack() as stack:
            events, *plain = (
                _Lines(path, compression if place == 0 else "none", stack)
                for place, path in enumerate(paths)
            )
            for lines in (events, *plain):
                leftovers.callback(lines.partial.unlink, missing_ok=True)
            items, gold, truth, rejections, summary = plain
            items.write(orjson.dumps(record) for record in world.items())
            for part in world.slices(truth=True):
                rejections.write(
                    orjson.dumps(fault._replace(line=fault.line + events.count)._asdict())
                    for fault in part.rejections
                )
                events.write(part.events)
                gold.write(part.gold)
                truth.write(part.truth)
                if progress is not None:
                    progress(events.count, max(expected, events.count))
            counts = {"events": events.count, "items": items.count, "gold": gold.count}
            counts |= {"truth": truth.count, "rejections": rejections.count}
            told = world.summary() | {"counts": counts}
            summary.write([orjson.dumps(told, option=orjson.OPT_INDENT_2)])
        for path in present:
            (folder / path).unlink()
        for lines in (events, *plain):
            lines.finish()
    return WorldFiles(
        events=events.path,
        items=items.path,
        gold=gold.path,
        truth=truth.path,
        rejections=rejections.path,
        world=summary.path,
        event_count=events.count,
        item_count=items.count,
        gold_count=gold.count,
        truth_count=truth.count,
        rejection_count=rejections.count,
    )
