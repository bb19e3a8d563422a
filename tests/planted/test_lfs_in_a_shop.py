"""In a simulated shop the built-in functions are as good as they look, and the model sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from monitoring.lf_analysis import Sample
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.ids import example_id, user_key
from stream.lf_sample import LabelCollector
from stream.replay import Replay
from stream.simulate import WorldConfig, write_world

SETTLED = 0.5
"""Share of the examples, the earlier ones, on which nothing is asserted: the model is young."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, NDArray[np.int64]]:
    """Return the labels of a shop, gold of which arrives late, and the planted truth."""
    folder = tmp_path_factory.mktemp("shop")
    write_world(WorldConfig(seed=8, events=60_000, users=2_000, days=28.0), folder)
    return labelled(folder)


def labelled(folder: Path) -> tuple[Sample, NDArray[np.int64]]:
    planted = {}
    for line in (folder / "truth.ndjson").read_bytes().splitlines():
        row = orjson.loads(line)
        name = example_id(
            user_key(row["user_id"]), row["request_id"], row["item_id"], row["event_id"]
        )
        planted[name] = int(row["relevance"])
    collector = LabelCollector()
    run = Replay(pipeline_spec(Settings()), on_effects=collector)
    run.read_items(folder / "items.ndjson")
    run.read_gold(folder / "gold.ndjson")
    run.read_events([folder / "events.ndjson"])
    run.close_windows()
    run.answer_rest()
    names = list(collector.labels["relevance"])
    truth = np.array([planted.get(name, -1) for name in names])
    return collector.sample(run.pipelines, "relevance"), truth


def test_labels_beat_the_base_rate(shop: tuple[Sample, NDArray[np.int64]]) -> None:
    sample, truth = shop
    rows = np.flatnonzero(truth >= 0)
    rows = rows[int(SETTLED * len(rows)) :]
    share = truth[rows].mean()
    ignorance = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    positive = np.clip(sample.proba[rows, 1], 1e-6, 1 - 1e-6)
    loss = -np.log(np.where(truth[rows] == 1, positive, 1 - positive)).mean()
    assert loss < 0.85 * ignorance
    assert ((positive > 0.5) == truth[rows]).mean() > max(share, 1 - share) + 0.05


def test_nobody_who_is_right_is_taken_for_a_liar(shop: tuple[Sample, NDArray[np.int64]]) -> None:
    sample, truth = shop
    judged = {}
    for j, (name, _) in enumerate(sample.lfs):
        rows = (sample.votes[:, j] >= 0) & (truth >= 0)
        if rows.sum() >= 300:
            right = float((sample.votes[rows, j] == truth[rows]).mean())
            judged[name] = (right, float(sample.estimated[j]), int(rows.sum()))
    assert judged.keys() >= {"long_dwell", "ignored", "robotic_rate", "accidental_click"}
    for name, (right, estimated, _) in judged.items():
        if right > 0.8:
            assert estimated > 0.65, (name, right, estimated)
    weight = np.array([n for _, _, n in judged.values()])
    errors = np.array([abs(right - estimated) for right, estimated, _ in judged.values()])
    assert (errors * weight).sum() / weight.sum() < 0.09
