"""The core calls no clock, draws nothing unseeded and opens no file.

The import contracts in `pyproject.toml` see packages; this reads the calls.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = [ROOT / "stream" / "pipeline.py", ROOT / "stream" / "join.py"]
CORE += sorted((ROOT / "models").rglob("*.py")) + sorted((ROOT / "lfs").rglob("*.py"))

# A dotted name, resolved through the file's imports, that the core may not use at all.
FORBIDDEN = (
    "time",
    "random",
    "secrets",
    "uuid",
    "socket",
    "asyncio",
    "threading",
    "subprocess",
    "logging.handlers",
    "logging.config",
    "os.environ",
    "os.getenv",
    "os.urandom",
    "os.open",
    "io.open",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "pickle",
    "numpy.load",
    "numpy.save",
    "numpy.fromfile",
)
FORBIDDEN_BUILTINS = {"open", "input", "print", "hash", "exec", "eval", "breakpoint"}
FORBIDDEN_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "tofile"}
# Of numpy.random only what is built from a given seed.
SEEDED = {"default_rng", "Generator", "PCG64", "Philox", "SeedSequence", "SFC64"}


def impurities(source: str) -> Iterator[str]:
    """Name each impure use in a module's source, with its line."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                names[bound] = alias.name if alias.asname else bound
                yield from _forbidden(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield from _forbidden(f"{node.module}.{alias.name}", node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = _dotted(node, names)
            if dotted is not None:
                yield from _forbidden(dotted, node.lineno)
        elif isinstance(node, ast.Call):
            yield from _impure_call(node, names)


def _forbidden(dotted: str, line: int) -> Iterator[str]:
    if any(dotted == name or dotted.startswith(f"{name}.") for name in FORBIDDEN):
        yield f"line {line}: {dotted}"
    head, _, tail = dotted.partition("numpy.random.")
    if not head and tail and tail.split(".")[0] not in SEEDED:
        yield f"line {line}: {dotted}, which shares one global seed"


def _impure_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    called = node.func
    if isinstance(called, ast.Name) and called.id not in names and called.id in FORBIDDEN_BUILTINS:
        yield f"line {node.lineno}: {called.id}()"
    if isinstance(called, ast.Attribute) and called.attr in FORBIDDEN_METHODS:
        yield f"line {node.lineno}: .{called.attr}()"
    seeded = _dotted(called, names)
    if seeded == "numpy.random.default_rng" and not (node.args or node.keywords):
        yield f"line {node.lineno}: default_rng() without a seed"


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_core_module_is_pure(path: Path) -> None:
    assert list(impurities(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\nnow = time.monotonic()",
        "from time import time",
        "from datetime import datetime\nnow = datetime.now(UTC)",
        "import datetime as dt\nday = dt.date.today()",
        "import random",
        "import numpy as np\nx = np.random.rand(3)",
        "import numpy as np\nrng = np.random.default_rng()",
        "from numpy.random import shuffle",
        "text = open('x').read()",
        "from pathlib import Path\ntext = Path('x').read_text()",
        "key = hash('user')",
        "from logging.handlers import SysLogHandler",
        "import os\nhome = os.environ['HOME']",
    ],
)
def test_an_impurity_is_found(source: str) -> None:
    assert list(impurities(source))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nrng = np.random.default_rng(7)",
        "from datetime import datetime, UTC\nwhen = datetime.fromtimestamp(ts, UTC)",
        "import logging\nlog = logging.getLogger(__name__)",
        "time = 3.0\nlater = time + 1",
    ],
)
def test_a_pure_use_is_left_alone(source: str) -> None:
    assert list(impurities(source)) == []
