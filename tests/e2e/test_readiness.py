"""What a process compiles, it compiles before its first event: nothing waits for it later."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("compiled")

# In a process of its own: other tests compile, too.
SCRIPT = """
import gc
from pathlib import Path
from tempfile import TemporaryDirectory

from numba.core.dispatcher import Dispatcher

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.readiness import get_ready
from stream.replay import Replay
from stream.simulate import WorldConfig, write_world
from stream.stores.memory import MemoryStore

ROOMS = ("stream", "models", "monitoring", "lfs")


def compiled():
    found = {}
    for one in gc.get_objects():
        if isinstance(one, Dispatcher) and (one.py_func.__module__ or "").split(".")[0] in ROOMS:
            name = f"{one.py_func.__module__}.{one.py_func.__qualname__}"
            found[name] = len(one.nopython_signatures)
    return found


spec = pipeline_spec(Settings(privacy={"pseudonymise": PSEUDONYMS, "hash_key": "k" * 16}))
get_ready(spec)
with TemporaryDirectory() as folder:
    write_world(WorldConfig(seed=1, events=4_000, users=100, days=3.0), Path(folder), force=True)
    before = compiled()
    assert len(before) > 50, before
    store = MemoryStore()
    run = Replay(pipeline_spec(Settings()), store)
    run.read_items(Path(folder, "items.ndjson"))
    run.read_gold(Path(folder, "gold.ndjson"))
    run.read_events([Path(folder, "events.ndjson")])
    run.checkpoint()
    # Read back, and gone on with.
    write_world(WorldConfig(seed=2, events=4_000, users=100, days=3.0), Path(folder), force=True)
    run = Replay(pipeline_spec(Settings()), store)
    run.read_items(Path(folder, "items.ndjson"))
    run.read_events([Path(folder, "events.ndjson")])
    run.checkpoint()
    run.close_windows()
    run.answer_rest()
    run.checkpoint()
    run.report()
late = sorted(name for name, n in compiled().items() if n > before.get(name, 0))
assert not late, late
"""


@pytest.mark.parametrize("pseudonyms", [False, True])
def test_nothing_is_compiled_after_a_process_is_ready(pseudonyms: bool) -> None:
    script = SCRIPT.replace("PSEUDONYMS", str(pseudonyms))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stderr
