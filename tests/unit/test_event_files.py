"""What a file of events may be: pipes and byte order marks too, and what is said of others."""

import gzip
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stream.event_files import FileError, known_size, read_merged, require_readable

EVENT = b'{"event_id":"e","type":"view","ts":1700000000,"user_id":"u","item_id":"i"}'


def lines(path: Path) -> list[bytes]:
    return [line for block in read_merged([path], 10) for line in block.lines]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "marked.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + EVENT + b"\n" + EVENT)
    assert lines(path) == [EVENT, EVENT]


def test_a_pipe_is_read_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(EVENT + b"\n",))
    writer.start()
    require_readable(path)
    assert known_size([path]) is None
    assert lines(path) == [EVENT]
    writer.join()


def test_zstandard_frames_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "joined.ndjson.zst"
    many = b"\n".join([EVENT] * 40_000) + b"\n"
    path.write_bytes(zstandard.compress(many) + zstandard.compress(b"") + zstandard.compress(many))
    assert lines(path) == [EVENT] * 80_000


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.ndjson.{kind}"
    whole = b"\n".join(EVENT.replace(b"u", b"u%d" % number) for number in range(500))
    packed = gzip.compress(whole) if kind == "gz" else zstandard.compress(whole)
    path.write_bytes(packed[:-8])
    with pytest.raises(FileError, match="cannot be read"):
        lines(path)


def test_parquet_holds_what_events_hold(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    row = {
        "user_id": b"u\xc3\xbc",
        "ts": datetime(2024, 1, 1, tzinfo=UTC),
        "value": Decimal("1.50"),
        "took": timedelta(seconds=90),
        "categories": [],
        "tags": ["a"],
        "segment": None,
        "position": float("nan"),
    }
    context = pa.array([[("a", "x")], []], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.Table.from_pylist([row, row]).append_column("context", context), path)
    first, second = map(orjson.loads, lines(path))
    assert (first.pop("context"), second.pop("context")) == ({"a": "x"}, {})
    assert first == second
    assert first == {
        "user_id": "uü",
        "ts": "2024-01-01T00:00:00+00:00",
        "value": 1.5,
        "took": 90.0,
        "categories": [],
        "tags": ["a"],
        "position": None,
    }


def test_a_parquet_value_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"user_id": b"\xff"}]), path)
    with pytest.raises(FileError, match="cannot be written as JSON"):
        lines(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder; name the files in it"):
        require_readable(tmp_path)
    with pytest.raises(FileError, match="there is no such file"):
        require_readable(tmp_path / "absent")


def test_standard_input_is_a_dash() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stream", "replay", "-"],
        input=EVENT + b'\n{"type":"[/b]"}\n',
        capture_output=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"1 events, 1 rejected")
    # What looks like markup is shown as it is.
    assert b"rejected -:2: " in done.stderr


def test_interrupted_while_it_loads_it_ends_without_a_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'stream.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from stream.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=170
    )
    assert (done.returncode, done.stderr) == (130, "headrace: interrupted\n")
