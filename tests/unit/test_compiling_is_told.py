"""What a process does before its first event."""

from __future__ import annotations

import logging

import pytest

import stream.readiness
from stream.assembly import pipeline_spec
from stream.config import load_settings
from stream.readiness import get_ready


def test_whoever_waits_for_the_compiler_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream.readiness, "SAY_AFTER_S", 0.0)
    with caplog.at_level(logging.WARNING):
        get_ready(pipeline_spec(load_settings(env={}), partitions=1))
    assert "compiling the numeric kernels" in caplog.text
