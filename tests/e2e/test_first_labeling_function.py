"""The page for newcomers is run as it stands: its files are written, its commands typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

pytestmark = pytest.mark.usefixtures("compiled")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-labeling-function.md"
FENCE = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Reader:
    """Somebody who follows the page in an empty folder."""

    folder: Path
    environment: dict[str, str]

    def type(self, command: str) -> str:
        """Run a command; what it exports stays for the next one."""
        done = subprocess.run(
            ["bash", "-euc", f"{command}\nenv -0 > {self.folder}/.environment"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        kept = (self.folder / ".environment").read_text().split("\0")
        self.environment = dict(pair.split("=", 1) for pair in kept if "=" in pair)
        return done.stdout

    def follow(self, text: str) -> None:
        """Write the files and type the commands, in the order of the page."""
        for language, title, body in FENCE.findall(text):
            if title:
                (self.folder / title).write_text(body, encoding="utf-8")
            elif language == "console":
                self._type_all(body)

    def _type_all(self, session: str) -> None:
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            said = self.type(command)
            if shown.strip():
                wanted = ".*".join(re.escape(piece.strip()) for piece in shown.split("…"))
                assert re.search(_loose(wanted), _flat(said), re.DOTALL), f"$ {command}\n{said}"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _loose(pattern: str) -> str:
    return re.sub(r"(\\\s|\s)+", r"\\s*", pattern)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("first")
    commands = folder / "bin"
    commands.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    # The page's reader has Headrace installed; here it is found where this test lies.
    for name, call in (("headrace", "-m stream.cli"), ("python", "")):
        script = commands / name
        script.write_text(
            f'#!/bin/sh\nPYTHONPATH="{ROOT}:$PYTHONPATH" exec "{sys.executable}" {call} "$@"\n'
        )
        script.chmod(0o755)
    path = f"{commands}:{environment.get('PATH', '')}"
    made = environment | {"PATH": path, "COLUMNS": "200", "PYTHONPATH": ""}
    reader = Reader(folder, made)
    reader.follow(PAGE.read_text(encoding="utf-8"))
    return reader


def test_the_new_function_votes_in_the_replay_and_can_be_left_out(reader: Reader) -> None:
    on, off = (
        orjson.loads((reader.folder / name).read_bytes()) for name in ("with.json", "without.json")
    )
    assert on["lfs"]["stayed_a_while"]["coverage"] > 0.001
    assert on["lfs"]["stayed_a_while"]["failures"] == 0
    assert off["lfs"]["stayed_a_while"]["coverage"] == 0
    assert on["labels"]["relevance"]["gold"]["n"] > 100


def test_the_heat_map_is_there_and_json_says_the_same(reader: Reader) -> None:
    page = (reader.folder / "conflicts.html").read_text(encoding="utf-8")
    assert "stayed_a_while" in page
    said = reader.type(
        "headrace lfs analyse shop/events.ndjson --items shop/items.ndjson "
        "--gold shop/gold.ndjson --json"
    )
    (task,) = orjson.loads(said)
    ours = next(lf for lf in task["lfs"] if lf["name"] == "stayed_a_while")
    assert ours["polarity"].keys() == {"positive"}
    assert ours["advice"]["verdict"] in ("keep", "review")


def test_registration_without_documentation_shows_the_template(reader: Reader) -> None:
    (reader.folder / "bad_lfs.py").write_text(
        "from lfs import labeling_function\n@labeling_function()\ndef f(example):\n    return -1\n"
    )
    done = subprocess.run(
        ["headrace", "lfs"],
        cwd=reader.folder,
        env=reader.environment | {"HEADRACE_LFS__MODULES": "bad_lfs"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "Known errors:" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
