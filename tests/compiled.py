"""Compile what the services compile when they start: `python -m tests.compiled`.

Compiled code is kept on disk for every later process. The first time on a machine takes minutes,
which no test that waits for a service should have to count in: it asks for the fixture `compiled`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from models import LabelModel
from stream.assembly import pipeline_spec
from stream.config import load_settings
from stream.readiness import get_ready
from stream.serving.ready import get_ready_to_serve

ROOT = Path(__file__).parents[1]


def compile_apart() -> None:
    """Compile in a process of its own, which sees no settings of this one's environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    subprocess.run([sys.executable, "-m", "tests.compiled"], cwd=ROOT, env=kept, check=True)


def main() -> None:
    """Compile for a partition, for what several exchange, for serving, and for many classes."""
    settings = load_settings(env={})
    get_ready(pipeline_spec(settings, partitions=2))
    get_ready_to_serve()
    # Two and three classes have loops of their own; all other numbers share theirs.
    for classes in (["a", "b", "c"], ["a", "b", "c", "d"]):
        model = LabelModel(classes, ["x", "y"], form="crowd")
        model.learn_many([[0, 1]] * 3)
        model.learn_gold([[0, 1]], ["a"])
        LabelModel.from_bytes(model.to_bytes()).predict_proba_many([[0, 1]])


if __name__ == "__main__":
    main()
