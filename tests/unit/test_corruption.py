"""Damage to lines: every kind is rejected for the fault that was planted, nothing else suffers."""

from __future__ import annotations

import pytest

from stream.decoding.decode import Decoded, Decoder
from stream.records import RecordBatch
from stream.simulate import World, WorldConfig, corrupt
from stream.simulate.corruption import KINDS, OVERSIZE_BYTES

CONFIG = WorldConfig(seed=7, users=60, items=80, events=4_000, days=3)
NOW = CONFIG.start_ts + 1e7


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return next(World(CONFIG).chunks())


def decode(lines: list[bytes]) -> Decoded:
    times = [NOW] * len(lines)
    return Decoder().decode(RecordBatch("headrace.events", 0, range(len(lines)), lines, times))


def test_damaged_lines_are_rejected_for_the_fault_that_was_planted(lines: list[bytes]) -> None:
    damaged, faults = corrupt(lines, 0.02, seed=3)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert len(faults) == 80
    decoded = decode(damaged)
    assert [(r.offset + 1, r.field) for r in decoded.rejected] == [
        (fault.line, fault.field) for fault in faults
    ]
    bad = {fault.line - 1 for fault in faults}
    kept = [line for place, line in enumerate(lines) if place not in bad]
    assert decoded.events == decode(kept).events


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_every_way_of_damage_is_rejected(lines: list[bytes], kind: str, seed: int) -> None:
    damaged, faults = corrupt(lines[:40], 1.0 if kind != "oversized" else 0.05, seed, [kind])
    decoded = decode(damaged)
    assert [r.field for r in decoded.rejected] == [fault.field for fault in faults]
    if kind == "oversized":
        assert {len(damaged[fault.line - 1]) >= OVERSIZE_BYTES for fault in faults} == {True}


def test_the_same_seed_damages_the_same_bytes(lines: list[bytes]) -> None:
    assert corrupt(lines, 0.01, seed=1) == corrupt(lines, 0.01, seed=1)
    assert corrupt(lines, 0.01, seed=1) != corrupt(lines, 0.01, seed=2)
    assert corrupt(lines, 0.0, seed=1) == (lines, [])


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_beyond_all_lines_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        corrupt([b"{}"], share, seed=1)
