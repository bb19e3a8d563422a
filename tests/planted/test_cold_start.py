"""In a simulated shop items that appear while it runs are found before anybody chose them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.cold_start import Clicks, clicks, gains, hits, ranks, shuffled, worst_window


@pytest.fixture(scope="module")
def shop() -> Clicks:
    return clicks(150_000, seed=1, items=1_000, new_items=0.3)


def test_new_items_are_found_and_nothing_is_lost(shop: Clicks) -> None:
    base, found = ranks(shop, content=False)[0], ranks(shop, content=True)[0]
    first = shop.first()
    known = {entry["item_id"]: born for entry, born in zip(shop.entries, shop.born, strict=True)}
    new = first & np.array([known[item] > shop.born[0] for item in shop.items])
    assert hits(base[first]) == 0.0
    assert hits(found[first]) >= 0.03
    assert hits(found[new]) >= 0.03
    assert gains(found).mean() >= 0.995 * gains(base).mean()
    assert hits(found) >= 0.99 * hits(base)


def test_entries_that_mislead_do_no_harm(shop: Clicks) -> None:
    base = ranks(shop, content=False)[0]
    assert worst_window(ranks(shuffled(shop), content=True)[0], base) > -0.01
