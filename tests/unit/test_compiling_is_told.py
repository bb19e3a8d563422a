"""What a process says while it compiles, before its first event or its first answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

import stream.compiling
from stream.assembly import pipeline_spec
from stream.config import load_settings
from stream.readiness import get_ready
from stream.serving.ready import get_ready_to_serve


def _ready_to_learn() -> None:
    get_ready(pipeline_spec(load_settings(env={}), partitions=1))


@pytest.mark.parametrize("ready", [_ready_to_learn, get_ready_to_serve])
def test_whoever_waits_for_the_compiler_is_told(
    ready: Callable[[], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream.compiling, "SAY_AFTER_S", 0.0)
    with caplog.at_level(logging.WARNING):
        ready()
    assert "compiling the numeric kernels" in caplog.text
