"""Three real workers under faults publish and store exactly what one undisturbed replay does.

The full run, with every fault, is `python -m bench.exactly_once`.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import exactly_once

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("learn", [False, True], ids=["frozen", "learning"])
def test_labels_votes_dead_letters_and_counts_equal_a_replay(
    kafka: Any, redis_server: Any, learn: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    # The fixtures say why the test is skipped where these cannot run; it kills some of its own.
    del kafka, redis_server
    arguments = ["--events", "15000", "--rate", "700", "--faults", "2", "--seed", "5"]
    code = exactly_once.main([*arguments, *(["--learn"] if learn else [])])
    assert code == 0, capsys.readouterr().out[-4000:]
