"""The delay curve: what it learns while outcomes are still due, and how it adds up."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.delay import DelayCurve

HOUR = 3_600.0
WEEK = 168 * HOUR


def observed(
    seed: int, n: int, span_h: float, mean_h: float, rate: float = 0.2
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return exposures, and what arrived of their outcomes by the end: when, at which age."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.random(n)) * span_h * HOUR
    age = rng.exponential(mean_h * HOUR, n)
    came = (rng.random(n) < rate) & (age <= WEEK) & (ts + age <= span_h * HOUR)
    when = (ts + age)[came]
    order = np.argsort(when)
    return ts, when[order], age[came][order]


def learned(
    seed: int = 0, n: int = 20_000, span_h: float = 2_000, mean_h: float = 24
) -> DelayCurve:
    ts, when, age = observed(seed, n, span_h, mean_h)
    curve = DelayCurve(WEEK, half_life_s=1e9)
    curve.expose(ts)
    curve.arrive(when, age)
    curve.fit()
    return curve


AGES = np.array([1.0, 6.0, 24.0, 48.0, 96.0]) * HOUR


def truth(mean_h: float) -> NDArray[np.float64]:
    return np.asarray(np.expm1(-AGES / (mean_h * HOUR)) / np.expm1(-168 / mean_h))


@pytest.mark.parametrize("mean_h", [4.0, 24.0, 60.0])
def test_it_finds_the_delays(mean_h: float) -> None:
    curve = learned(mean_h=mean_h)
    assert curve.cdf(AGES) == pytest.approx(truth(mean_h), abs=0.05)


def test_a_young_stream_is_not_taken_for_a_fast_one() -> None:
    """After two days only short delays were seen; the curve knows how few could be long."""
    ts, when, age = observed(1, 40_000, 48.0, 24.0)
    curve = DelayCurve(WEEK, half_life_s=1e9)
    curve.expose(ts)
    curve.arrive(when, age)
    curve.fit()
    seen = float((age <= 6 * HOUR).mean())
    # Up to 48 h the curve can be known; how the rest splits, cannot.
    found = curve.cdf(6 * HOUR) / curve.cdf(40 * HOUR)
    true = np.expm1(-6 / 24) / np.expm1(-40 / 24)
    assert abs(float(found) - true) < 0.05 < seen - true


def test_components_follow_the_curve() -> None:
    curve = learned(mean_h=40.0)
    fast, *pools = curve.shares.tolist()
    assert sum(curve.shares) == pytest.approx(1.0)
    assert max(pools) == pools[2] > 0.7
    assert fast < 0.05
    by_parts = fast + sum(
        share * -np.expm1(-rate * AGES) for share, rate in zip(pools, curve.rates, strict=True)
    )
    assert by_parts == pytest.approx(curve.cdf(AGES), abs=0.08)


def test_an_open_example_is_given_up_slowly() -> None:
    curve = learned(mean_h=24.0)
    left = curve.eventual(0.3, np.concatenate(([0.0], AGES, [WEEK])))
    assert left[0] == pytest.approx(0.3, abs=1e-6)
    assert (np.diff(left) < 0).all()
    assert left[-1] == pytest.approx(0.0, abs=1e-9)
    share = curve.to_come(24 * HOUR)
    assert curve.eventual(0.3, 24 * HOUR) == pytest.approx(0.3 * share / (0.7 + 0.3 * share))


def test_the_share_still_to_come_is_that_of_the_last_window() -> None:
    curve = learned(mean_h=24.0)
    # Exposures are even: the mean over ages 0 to 168 h of what is left.
    assert curve.share_to_come() == pytest.approx(24 / 168, abs=0.03)
    assert DelayCurve(WEEK).share_to_come() == 0.0


def test_parts_of_a_stream_add_up_in_any_order() -> None:
    ts, when, age = observed(2, 9_000, 900.0, 24.0)
    whole = DelayCurve(WEEK)
    whole.expose(ts)
    whole.arrive(when, age)
    whole.fit()
    parts = []
    for part in range(3):
        curve = DelayCurve(WEEK)
        curve.expose(ts[part::3])
        curve.arrive(when[part::3], age[part::3])
        parts.append(curve.to_bytes())
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = DelayCurve.from_bytes(parts[order[0]])
        for part in order[1:]:
            merged.merge(DelayCurve.from_bytes(parts[part]))
        assert merged.cdf(AGES) == pytest.approx(whole.cdf(AGES), rel=1e-9)
        assert merged.outcomes == pytest.approx(whole.outcomes)
        assert merged.share_to_come() == pytest.approx(whole.share_to_come())


def test_how_it_is_told_does_not_matter() -> None:
    ts, when, age = observed(3, 3_000, 900.0, 24.0)
    one, other = DelayCurve(WEEK), DelayCurve(WEEK)
    one.expose(ts)
    one.arrive(when, age)
    for start in range(0, len(ts), 7):
        other.expose(ts[start : start + 7])
    for start in range(0, len(when), 11):
        other.arrive(when[start : start + 11], age[start : start + 11])
    one.fit()
    other.fit()
    assert one.to_bytes() == other.to_bytes()


def test_the_past_fades() -> None:
    fast, slow = observed(4, 20_000, 2_000.0, 2.0), observed(5, 20_000, 2_000.0, 48.0)
    curve = DelayCurve(WEEK, half_life_s=100 * HOUR)
    curve.expose(fast[0])
    curve.arrive(fast[1], fast[2])
    after = 2_000 * HOUR
    curve.expose(slow[0] + after)
    curve.arrive(slow[1] + after, slow[2])
    curve.fit()
    assert curve.cdf(AGES) == pytest.approx(truth(48.0), abs=0.08)


def test_what_was_taken_back_does_not_count() -> None:
    ts, when, age = observed(6, 5_000, 900.0, 24.0)
    curve, plain = DelayCurve(WEEK), DelayCurve(WEEK)
    for made in (curve, plain):
        made.expose(ts)
        made.arrive(when, age)
    last = when[-1:]
    curve.arrive(np.repeat(last, 500), np.full(500, 60.0))
    curve.arrive(np.repeat(last, 500), np.full(500, 60.0), sign=-1.0)
    curve.fit()
    plain.fit()
    assert curve.cdf(AGES) == pytest.approx(plain.cdf(AGES))


def test_state_is_bounded_and_comes_back() -> None:
    curve = learned()
    long = learned(n=60_000, span_h=9_000.0)
    assert abs(len(long.to_bytes()) - len(curve.to_bytes())) < 600
    again = DelayCurve.from_bytes(curve.to_bytes())
    assert again.to_bytes() == curve.to_bytes()
    again.arrive([9e6], [60.0])
    curve.arrive([9e6], [60.0])
    assert again.to_bytes() == curve.to_bytes()


def test_bad_windows_newer_formats_and_other_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="window_s"):
        DelayCurve(0.0)
    with pytest.raises(ValueError, match="do not add"):
        DelayCurve(10.0).merge(DelayCurve(20.0))
    stored = msgspec.msgpack.decode(DelayCurve(10.0).to_bytes())
    newer = msgspec.msgpack.encode([99, *stored[1:]])
    with pytest.raises(ValueError, match="newer version"):
        DelayCurve.from_bytes(newer)
