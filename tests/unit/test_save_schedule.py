"""When the partitions of a worker are saved."""

from __future__ import annotations

import pytest

from stream.distributed.save_schedule import SaveSchedule


def test_saves_after_the_first_are_spread_over_half_the_interval() -> None:
    schedule = SaveSchedule(0.25)
    assert [schedule.second(1.0, place, 5) for place in range(5)] == pytest.approx(
        [1.15, 1.175, 1.2, 1.225, 1.25]
    )


def test_a_cut_comes_earlier_by_as_long_as_saves_take() -> None:
    schedule = SaveSchedule(0.25)
    assert schedule.after(1.0, 1.0) == pytest.approx(1.25)
    for _ in range(100):
        schedule.took(0.04)
    assert schedule.after(1.0, 1.0) == pytest.approx(1.21, abs=1e-3)


def test_slow_saves_do_not_multiply() -> None:
    schedule = SaveSchedule(0.25)
    for _ in range(100):
        schedule.took(10.0)
    assert schedule.after(1.0, 1.0) == pytest.approx(1.25)
    assert schedule.after(1.0, 7.0) == pytest.approx(7.125)


def test_who_is_still_being_saved_is_tried_again_soon() -> None:
    assert SaveSchedule(2.0).postponed(1.0, 8) == pytest.approx(1.25)
