"""Recommenders of other libraries: run where they are, named where they are not."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from bench.recommender_libraries import LIBRARIES, predict


def test_a_library_that_is_here_ranks_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_PEERS_PYTHON", raising=False)
    users, items = np.arange(60) % 3, np.arange(60) // 2 % 4
    found = predict("river FunkMF", users, items, np.arange(60.0), 10)
    assert not isinstance(found, str)
    assert found.row.tolist() == [0, 10, 20, 30, 40, 50]
    assert found.rank[0] == -1
    assert (found.rank[1:] >= 0).all()


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_PEERS_PYTHON", raising=False)
    missing = [name for name, module in LIBRARIES.items() if find_spec(module) is None]
    if not missing:
        pytest.skip("this Python has all of them")
    found = predict(missing[0], np.zeros(1, int), np.zeros(1, int), np.zeros(1), 1)
    assert isinstance(found, str)
    assert f"not installed: {LIBRARIES[missing[0]]}" in found
