"""Files of events: NDJSON, gzip, Zstandard or Parquet, one after the other or merged by time."""

from __future__ import annotations

import codecs
import gzip
import heapq
import io
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from stream.decoding.fields import TS_LIMIT
from stream.events import Event
from stream.refusal import Refusal

__all__ = ["STDIN", "FileError", "Lines", "known_size", "read_merged", "require_readable"]

STDIN: Final = Path("-")
"""Stands for standard input: plain NDJSON."""

_PARQUET_ROWS: Final = 10_000


class FileError(Refusal):
    """A file that cannot be read; says which, why, and what is allowed."""


class Lines(NamedTuple):
    """A block of lines, and where each came from: index of its file, its number from 1."""

    lines: list[bytes]
    files: list[int]
    numbers: list[int]


def read_merged(
    paths: Sequence[Path], block: int, progress: Callable[[int], None] | None = None
) -> Iterator[Lines]:
    """Yield the lines of all files in blocks of ``block`` lines.

    One file keeps its own order, which is the order of a log. Several are merged by event time:
    always the file whose next event is oldest goes on. ``progress`` is told of bytes read.

    Raises
    ------
    FileError
        If a file is missing, damaged, or of an unknown kind.
    """
    if len(paths) == 1:
        yield from _blocks(paths[0], block, progress)
        return
    sources = [_numbered(index, path, progress) for index, path in enumerate(paths)]
    lines: list[bytes] = []
    files: list[int] = []
    numbers: list[int] = []
    for line, file, number in _by_time(sources):
        lines.append(line)
        files.append(file)
        numbers.append(number)
        if len(lines) >= block:
            yield Lines(lines, files, numbers)
            lines, files, numbers = [], [], []
    if lines:
        yield Lines(lines, files, numbers)


def _blocks(path: Path, block: int, progress: Callable[[int], None] | None) -> Iterator[Lines]:
    """Yield the lines of one file: nothing is done line by line."""
    source = _lines(path, progress)
    number = 1
    while lines := list(islice(source, block)):
        n = len(lines)
        yield Lines(lines, [0] * n, list(range(number, number + n)))
        number += n


_Numbered = tuple[bytes, int, int]


def _by_time(sources: Sequence[Iterator[_Numbered]]) -> Iterator[_Numbered]:
    def timed(source: Iterator[_Numbered]) -> Iterator[tuple[float, int, int, bytes]]:
        reached = float("-inf")
        for line, file, number in source:
            reached = max(reached, _time_of(line, reached))
            yield reached, file, number, line

    for _, file, number, line in heapq.merge(*(timed(source) for source in sources)):
        yield line, file, number


def _time_of(line: bytes, otherwise: float) -> float:
    """Return a line's event time if it has a plausible one; a bad line stays where it is."""
    try:
        ts = orjson.loads(line)["ts"]
        if isinstance(ts, str):
            ts = Event.model_validate(
                {"event_id": "e", "type": "view", "ts": ts, "user_id": "u", "item_id": "i"}
            ).ts
        if isinstance(ts, bool) or not isinstance(ts, int | float) or not 0 <= ts < TS_LIMIT:
            return otherwise
        return float(ts)
    except (ValueError, KeyError, TypeError, IndexError):
        return otherwise


def _numbered(
    index: int, path: Path, progress: Callable[[int], None] | None
) -> Iterator[_Numbered]:
    number = 0
    for line in _lines(path, progress):
        number += 1
        yield line, index, number


class _Counted(io.RawIOBase):
    """A file that tells how many bytes were read of it."""

    def __init__(self, raw: BinaryIO, progress: Callable[[int], None] | None) -> None:
        self._raw = raw
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        if self._progress is not None:
            self._progress(len(data))
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Frames(io.RawIOBase):
    """Zstandard frames one after the other, as several threads or `cat` write them.

    zstandard's own reader takes the end of the first frame, and a cut, for the end of the file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame: Any = None
        self._coded = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            self._coded = self._coded or self._raw.read(1 << 17)
            if not self._coded:
                if self._frame is not None:
                    raise EOFError("the file ends before the end of its last frame")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._plain = memoryview(self._frame.decompress(self._coded))
            self._coded = b""
            if self._frame.eof:
                self._coded, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size


def require_readable(path: Path) -> None:
    """Refuse a path that is no file; pipes, and `-` for standard input, are files, too.

    Raises
    ------
    FileError
        Saying what was found.
    """
    if path == STDIN:
        return
    if path.is_dir():
        raise FileError(f"{path}: is a folder; name the files in it")
    if not path.exists():
        raise FileError(f"{path}: there is no such file")


def known_size(paths: Sequence[Path]) -> int | None:
    """Return how many bytes the files have; None if one is a pipe."""
    if all(path.is_file() for path in paths):
        return sum(path.stat().st_size for path in paths)
    return None


def _lines(path: Path, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    require_readable(path)
    name = path.name
    if name.endswith(".parquet"):
        yield from _parquet_lines(path, progress)
        return
    opened = sys.stdin.buffer if path == STDIN else path.open("rb")
    raw = io.BufferedReader(_Counted(opened, progress), 1 << 20)
    stream: BinaryIO
    if name.endswith(".gz"):
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    elif name.endswith((".zst", ".zstd")):
        stream = cast(BinaryIO, io.BufferedReader(_Frames(raw), 1 << 20))
    else:
        stream = raw
    try:
        with raw:
            rest = b""
            first = True
            while block := stream.read(1 << 20):
                if first:
                    # Editors and spreadsheets put one before the first line.
                    block = block.removeprefix(codecs.BOM_UTF8)
                    first = False
                lines = (rest + block).split(b"\n")
                rest = lines.pop()
                yield from lines
            if rest:
                yield rest
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise FileError(
            f"{path}: cannot be read ({error}); allowed: NDJSON, also .gz or .zst, or Parquet"
        ) from error


def _parquet_lines(path: Path, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    try:
        with pq.ParquetFile(path) as file:
            rows = max(1, file.metadata.num_rows)
            size = path.stat().st_size
            maps = {field.name for field in file.schema_arrow if pa.types.is_map(field.type)}
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in batch.to_pylist():
                    yield _json_line(row, maps)
                if progress is not None:
                    progress(size * len(batch) // rows)
    except (OSError, pa.ArrowException) as error:
        raise FileError(f"{path}: cannot be read as Parquet ({error})") from error
    except (TypeError, ValueError) as error:
        raise FileError(
            f"{path}: a value cannot be written as JSON ({error.__cause__ or error}); allowed: "
            "strings, numbers, booleans, times, and lists, structs and maps of such"
        ) from error


def _json_line(row: Mapping[str, Any], maps: Collection[str]) -> bytes:
    """Return a Parquet row as an event line has it: a map is an object, absent keys left out."""
    line: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        known = dict(value) if name in maps else value
        if isinstance(known, dict):
            known = {key: part for key, part in known.items() if part is not None}
        line[name] = known
    return orjson.dumps(line, default=_plain, option=orjson.OPT_NAIVE_UTC | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    """Return what JSON has for a value that it does not know."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        # Text of writers that do not say that it is.
        return value.decode()
    raise TypeError(f"found {type(value).__name__}")
