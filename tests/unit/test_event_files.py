"""What a file of events may be: pipes and byte order marks too, and what is said of others."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
