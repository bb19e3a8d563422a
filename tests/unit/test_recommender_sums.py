"""Sums that partitions add up."""

import numpy as np

from models.recommender import Config, Recommender
from models.recommender.sums import NO_SUMS, Sums


def test_whoever_has_learned_nothing_adds_nothing() -> None:
    config = Config(max_items=64)
    model = Recommender(config)
    model.learn_one("somebody", "a", True)
    sums = Sums.of(model.tables)
    grown = sums.plus(NO_SUMS, NO_SUMS, config)
    assert grown.epochs == sums.epochs
    np.testing.assert_array_equal(grown.slow, sums.slow)
    np.testing.assert_array_equal(grown.fresh, sums.fresh)
