"""The label model's one configuration: the same numbers for every task and every set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.label_model.layout import TEMPERATURES, Config

__all__ = ["HALF_LIVES", "default_config"]

HALF_LIVES = (125.0, 500.0, 2000.0, float("inf"))
"""Half-lives kept side by side, in examples of the whole stream."""


def default_config(
    *, learn_balance: bool, correlations: bool, half_lives: Sequence[float] = HALF_LIVES
) -> Config:
    """Return the configuration; ``learn_balance`` is for annotators, who show all classes."""
    lives = np.array(half_lives, dtype=np.float64)
    wrong = lives.ndim != 1 or not len(lives) or not (lives > 0.0).all()
    if wrong or (lives[1:] <= lives[:-1]).any():
        message = f"half_lives must be above 0 and increasing, and at least one; not {half_lives}"
        raise ValueError(message)
    return Config(
        half_lives=lives,
        growth=2.0 ** (1.0 / lives),
        temperatures=TEMPERATURES,
        # Labeling functions: better than chance, worth twenty examples.
        lf_accuracy=0.7,
        lf_strength=20.0,
        # Annotators: as many votes of the average one as they are alike, four at the start, and
        # three of their own accuracy.
        crowd_accuracy=0.7,
        crowd_strength=4.0,
        crowd_limit=30.0,
        spread_votes=100.0,
        # People change more slowly than code: that they do not starts ahead, in nats.
        crowd_lasting=2.0,
        coin_strength=3.0,
        crowd_shrinkage=1.0,
        # One item in twenty is hard: annotators' votes say a quarter there of what they say
        # elsewhere. Votes alone cannot tell: what all get wrong looks like what all know.
        hard_share=0.05,
        hard_weight=0.25,
        # Examples for which the share of votes stands in, where balance is learned.
        vote_share=3000.0,
        evidence_half_life=200.0,
        # A pair of labeling functions counts as correlated when its excess is large and sure.
        pair_half_life=5000.0,
        pair_shrinkage=10.0,
        pair_z=4.5,
        pair_floor=0.25,
        # Gold is not forgotten.
        gold_half_life=float("inf"),
        prior_strength=10.0,
        crowd_prior_strength=100.0,
        balance_strength=200.0,
        # Few answers say little of the balance beside what many annotators' votes do.
        balance_answers=100.0 if learn_balance else 0.0,
        temperature_strength=20.0,
        corrector_variance=0.25,
        # Standard errors of gain. It is looked at after each answer: one is passed by chance.
        corrector_z=1.5,
        learn_balance=learn_balance,
        replay_passes=4,
        # A block of annotators' votes may become so many times as long in a long stream, and twice
        # that in a very long one.
        block_growth=4 if learn_balance else 1,
        use_pairs=correlations,
    )
