"""What lies behind the HTTP doors of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.embedded_log import EmbeddedLog
from tests.integration.api_harness import PARTITIONS


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    embedded = EmbeddedLog(tmp_path / "log.db", PARTITIONS)
    yield embedded
    embedded.close()
