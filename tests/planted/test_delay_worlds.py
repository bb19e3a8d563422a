"""In worlds whose outcomes come late, the reward heads lose little against knowing at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.delay import losses
from bench.delay_methods import IGNORE, ORACLE, RETRACT, WINDOW, matured, peer
from bench.delay_worlds import WORLDS, World, stream
from models.rewards import HeadConfig


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_most_of_the_harm_is_undone(world: World) -> None:
    small = replace(world, exposures=80_000, days=42.0, items=150)
    config = HeadConfig(window_s=world.window_h * 3600.0)
    found = []
    for seed in (11, 12):
        of = stream(small, seed)
        found.append(
            [losses(matured(of, config), of)]
            + [losses(peer(of, way, config), of) for way in (ORACLE, WINDOW, RETRACT, IGNORE)]
        )
    ours, oracle, window, retracted, ignoring = np.mean(found, axis=0)
    closed = (window[0] - ours[0]) / (window[0] - oracle[0])
    assert closed > world.required - 0.05
    assert ours[2] < retracted[2] < ignoring[2]
    assert 0.96 < ours[3] < 1.04
    assert ignoring[3] < 0.9
