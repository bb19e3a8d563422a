"""The analysis finds what was planted: who is right, who repeats whom, who harms, and where."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from numpy.typing import NDArray

from models import LabelModel
from monitoring.lf_analysis import Analysis, LfReport, Sample, Share, analyse, wilson
from monitoring.lf_heatmap import heat_map

CLASSES = ("negative", "positive")
NAMES = ("best", "coin", "copy", "fair", "good", "liar", "local", "silent", "yes")
N = 4_000


def planted(seed: int, gold_share: float) -> tuple[Sample, NDArray[np.int64]]:
    """Return a sample of which the truth is known, and the truth."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(N) < 0.4).astype(np.int64)
    segments = np.where(rng.random(N) < 0.5, "north", "south")
    votes = np.full((N, len(NAMES)), -1, dtype=np.int8)

    def voter(accuracy: float | NDArray[np.float64], coverage: float) -> NDArray[np.int64]:
        said = np.where(rng.random(N) < accuracy, truth, 1 - truth)
        return np.where(rng.random(N) < coverage, said, -1)

    votes[:, NAMES.index("best")] = voter(0.92, 0.6)
    votes[:, NAMES.index("good")] = voter(0.85, 0.6)
    votes[:, NAMES.index("fair")] = voter(0.75, 0.6)
    votes[:, NAMES.index("coin")] = voter(0.5, 0.4)
    votes[:, NAMES.index("liar")] = voter(0.25, 0.4)
    votes[:, NAMES.index("copy")] = votes[:, NAMES.index("good")]
    votes[:, NAMES.index("local")] = voter(np.where(segments == "north", 0.95, 0.6), 0.5)
    votes[:, NAMES.index("yes")] = np.where(rng.random(N) < np.where(truth == 1, 0.3, 0.03), 1, -1)
    names = [f"{name}@1" for name in NAMES]
    model = LabelModel(CLASSES, names, prior=[0.6, 0.4])
    model.learn_many(votes)
    estimated = model.summary()["lfs"]
    gold = np.where(rng.random(N) < gold_share, truth, -1)
    sample = Sample(
        task="relevance",
        classes=CLASSES,
        lfs=tuple((name, 1) for name in NAMES),
        votes=votes,
        proba=model.predict_proba_many(votes),
        gold=gold,
        segments=segments.tolist(),
        estimated=np.array([estimated[name]["estimated_accuracy"] for name in names]),
        failures=np.zeros(len(NAMES), dtype=np.int64),
        balance=np.array([0.6, 0.4]),
        correlation=np.array(
            [[estimated[a]["correlated_with"].get(b, 0.0) for b in names] for a in names]
        ),
    )
    return sample, truth


@pytest.fixture(scope="module")
def with_gold() -> Analysis:
    return analyse(planted(0, 0.2)[0])


def report(analysis: Analysis, name: str) -> LfReport:
    return next(lf for lf in analysis.lfs if lf.name == name)


def test_figures_are_those_of_the_votes(with_gold: Analysis) -> None:
    sample, truth = planted(0, 0.2)
    for j, name in enumerate(NAMES):
        lf, vote = report(with_gold, name), sample.votes[:, j]
        others = np.delete(sample.votes, j, axis=1)
        cast = vote >= 0
        met = cast & (others >= 0).any(axis=1)
        differs = cast & ((others >= 0) & (others != vote[:, None])).any(axis=1)
        assert lf.coverage == pytest.approx(cast.mean())
        assert lf.overlap == pytest.approx(met.mean())
        assert lf.conflict == pytest.approx(differs.mean())
        asked = cast & (sample.gold >= 0)
        assert lf.gold_accuracy.n == asked.sum()
        if asked.any():
            assert lf.gold_accuracy.ratio == pytest.approx((vote == truth)[asked].mean())


@pytest.mark.parametrize("name", ["best", "fair", "yes"])
def test_what_helps_is_kept(with_gold: Analysis, name: str) -> None:
    lf = report(with_gold, name)
    assert lf.advice.verdict == "keep", lf.advice.reason
    assert lf.estimated_accuracy is not None
    assert lf.gold_accuracy.low is not None
    assert lf.gold_accuracy.low - 0.05 <= lf.estimated_accuracy <= 1.0


def test_the_best_contributes_most(with_gold: Analysis) -> None:
    gains = {lf.name: lf.contribution_nats for lf in with_gold.lfs}
    best, fair, coin = gains["best"], gains["fair"], gains["coin"]
    assert best is not None and fair is not None and coin is not None
    assert best > fair > coin


def test_a_copy_is_dropped_and_named(with_gold: Analysis) -> None:
    pair = {name: report(with_gold, name).advice for name in ("good", "copy")}
    dropped = [name for name, advice in pair.items() if advice.verdict == "drop"]
    assert len(dropped) == 1
    assert "repeats" in pair[dropped[0]].reason
    assert report(with_gold, "copy").correlated_with["good"] > 0.9


def test_independent_functions_are_not_called_correlated(with_gold: Analysis) -> None:
    # Of one that says yes only, the label model cannot tell for certain.
    for name in ("best", "fair", "coin", "local", "liar"):
        assert set(report(with_gold, name).correlated_with) <= {"yes"}, name


def test_a_liar_is_dropped_and_a_coin_is_doubted(with_gold: Analysis) -> None:
    assert report(with_gold, "liar").advice.verdict == "drop"
    assert report(with_gold, "coin").advice.verdict in ("review", "drop")


def test_what_only_works_in_one_segment_is_reviewed(with_gold: Analysis) -> None:
    lf = report(with_gold, "local")
    assert lf.advice.verdict == "review"
    assert "north" in lf.advice.reason and "south" in lf.advice.reason
    north, south = lf.segments["north"]["gold_accuracy"], lf.segments["south"]["gold_accuracy"]
    assert north is not None and south is not None
    assert north > 0.9
    assert south < 0.7


def test_silence_is_reviewed(with_gold: Analysis) -> None:
    lf = report(with_gold, "silent")
    assert (lf.coverage, lf.polarity, lf.advice.verdict) == (0.0, {}, "review")


def test_without_gold_labels_judge_and_a_coin_is_still_doubted() -> None:
    found = analyse(planted(1, 0.0)[0])
    assert {lf.judged_by for lf in found.lfs} == {"labels"}
    assert report(found, "best").advice.verdict == "keep"
    assert report(found, "coin").advice.verdict == "review"
    assert report(found, "liar").advice.verdict != "keep"


def test_no_examples_and_one_function_are_no_error() -> None:
    sample, _ = planted(0, 0.2)
    m = len(NAMES)
    empty = Sample(
        "relevance", CLASSES, sample.lfs, np.zeros((0, m), dtype=np.int8), np.zeros((0, 2)),
        np.zeros(0, dtype=np.int64), [], np.full(m, np.nan), np.zeros(m, dtype=np.int64),
        np.array([0.5, 0.5]), np.zeros((m, m)),
    )  # fmt: skip
    assert {lf.advice.verdict for lf in analyse(empty).lfs} == {"review"}
    assert "–" in heat_map([analyse(empty)])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    right = rng.binomial(60, 0.85, size=2_000)
    held = [w.low is not None and w.low <= 0.85 <= (w.high or 0) for w in map(_of_60, right)]
    assert 0.93 <= np.mean(held) <= 0.97


def _of_60(right: int) -> Share:
    return wilson(int(right), 60)


class Outline(HTMLParser):
    """Headings of the tables, the language, and whatever is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[str] = []
        self.fetched: list[str] = []
        self.language = ""
        self.captions = self.tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.scopes += [given["scope"] or ""] if tag == "th" else []
        self.fetched += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.language = given.get("lang") or self.language if tag == "html" else self.language
        self.captions += tag == "caption"
        self.tables += tag == "table"


def test_the_heat_map_stands_alone_and_can_be_read_aloud(with_gold: Analysis) -> None:
    page = heat_map([with_gold])
    outline = Outline()
    outline.feed(page)
    assert outline.fetched == []
    assert "http" not in page.replace("http-equiv", "")
    assert outline.language == "en"
    assert outline.captions == outline.tables == 2
    assert set(outline.scopes) == {"row", "col"}
    liar, best = NAMES.index("liar"), NAMES.index("best")
    assert f"{100 * with_gold.conflicts[liar, best]:.0f}</td>" in page
    assert "liar and best" in page


def luminance(red: int, green: int, blue: int) -> float:
    def linear(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def test_numbers_in_the_heat_map_stand_out_at_every_share(with_gold: Analysis) -> None:
    m = len(with_gold.lfs)
    shares = np.linspace(0, 1, m * m).reshape(m, m)
    page = heat_map([replace(with_gold, conflicts=shares, overlaps=np.ones((m, m), dtype=int))])
    cells = re.findall(r"background:rgb\((\d+),(\d+),(\d+)\);color:#(\w+)", page)
    assert len(cells) > 50
    for red, green, blue, ink in cells:
        ground = luminance(int(red), int(green), int(blue)) + 0.05
        contrast = 1.05 / ground if ink == "fff" else ground / 0.05
        assert contrast >= 4.5, (red, green, blue, ink)
