"""Each test here runs over every store that can show what it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.state import StateStore
from tests.conformance.stores.backends import DURABLE, KINDS, Backend, make_backend


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = make_backend(request.param, tmp_path, request)
    yield made
    made.close()


@pytest.fixture
def store(backend: Backend) -> StateStore:
    return backend.open()


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    # Memory is left out: nothing in it can fail midway, and nothing outlives its process.
    made = make_backend(request.param, tmp_path, request)
    yield made
    made.close()
