"""Micro-batches: how long thin traffic is let gather."""

from __future__ import annotations

import itertools

import pytest

from stream.batching import Linger


def pauses(linger: Linger, round_s: float, count: int) -> list[float]:
    spent = itertools.accumulate(itertools.repeat(round_s, count))
    return [linger.pause_s(spent_s) for spent_s in spent]


def test_rounds_take_their_share_of_the_time() -> None:
    found = pauses(Linger(0.005, share=0.25), 0.004, 100)
    assert found[0] == 0.005
    assert found == sorted(found)
    assert found[-1] == pytest.approx(0.012, rel=1e-3)


def test_rounds_may_take_a_third_of_the_time() -> None:
    assert pauses(Linger(0.005), 0.004, 100)[-1] == pytest.approx(0.008, rel=1e-3)


def test_who_has_little_to_do_pauses_for_the_shortest_time() -> None:
    linger = Linger(0.005)
    pauses(linger, 0.012, 100)
    assert linger.pause_s(1.2) > 0.02
    assert [linger.pause_s(1.2) for _ in range(100)][-1] == 0.005


def test_nobody_pauses_for_longer_than_the_longest_time_unless_told_to() -> None:
    assert max(pauses(Linger(0.005, longest_s=0.025), 1.0, 100)) == 0.025
    assert max(pauses(Linger(0.1, longest_s=0.025), 1.0, 100)) == 0.1


def test_without_a_shortest_pause_there_is_none() -> None:
    assert set(pauses(Linger(0.0), 1.0, 10)) == {0.0}
