"""What every labeling function keeps to: all are discovered, none is named here."""

from __future__ import annotations

import copy
import importlib.util
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lfs.core import ABSTAIN, ExampleBatch, LabelingFunction
from lfs.registry import BUILT_IN_MODULES, collect
from stream.evidence import COLUMNS, DEFAULTS

_PATH = Path(__file__).with_name("lf_cases.py")
_spec = importlib.util.spec_from_file_location("lf_cases", _PATH)
assert _spec is not None and _spec.loader is not None
lf_cases = importlib.util.module_from_spec(_spec)
sys.modules["lf_cases"] = lf_cases
_spec.loader.exec_module(lf_cases)

CLASSES = {
    "relevance": ("negative", "positive"),
    "intent": ("browse", "compare", "buy", "gift"),
}
LFS = collect(BUILT_IN_MODULES.values())
CONTEXTS: list[dict[str, str | float | bool]] = [
    {},
    {"query": "chef's knife for the kitchen", "language": "de", "similarity": 0.7},
    {"query": 5.0, "similarity": "x", "age": True, "budget": "", "interests": 1.0},
    {"interests": "kitchen", "excluded": "steel", "age": 12.0, "budget": 3.0, "comment": "broken"},
]
ITEMS = {
    "knife": lf_cases.KNIFE,
    "wine": lf_cases.WINE,
    "gone": {"title": "BEST OFFER EVER", "available": False},
}

each_lf = pytest.mark.parametrize("lf", LFS, ids=lambda lf: f"{lf.task}-{lf.name}")


def random_batch(n: int, seed: int = 0) -> ExampleBatch:
    """Return rows with everything in them: zeros, NaN, large and negative numbers."""
    rng = np.random.default_rng(seed)
    evidence = np.tile(np.asarray(DEFAULTS), (n, 1))
    kinds = np.array([0.0, 1.0, 2.0, 3.5, 9.0, 12.0, 40.0, 500.0, 1e9, -1.0, np.nan])
    touched = rng.random(evidence.shape) < 0.3
    evidence[touched] = rng.choice(kinds, size=int(touched.sum()))
    return ExampleBatch(
        evidence,
        rng.choice(["knife", "wine", "gone", "unknown"], size=n).tolist(),
        [CONTEXTS[k] for k in rng.integers(0, len(CONTEXTS), n)],
        rng.choice(np.array(["a", None]), size=n).tolist(),
        lambda item_id: ITEMS.get(item_id, {}),
    )


def classes_of(lf: LabelingFunction) -> tuple[str, ...]:
    return CLASSES[lf.task]


def test_the_table_is_about_the_functions_that_there_are() -> None:
    assert set(lf_cases.CASES) == {(lf.task, lf.name) for lf in LFS}


@each_lf
def test_it_votes_as_the_table_says(lf: LabelingFunction) -> None:
    cases = lf_cases.CASES[lf.task, lf.name]
    batch = ExampleBatch(
        np.concatenate([ExampleBatch.of([case.evidence]).evidence for case in cases]),
        [str(number) for number in range(len(cases))],
        [case.context for case in cases],
        [None] * len(cases),
        lambda number: cases[int(number)].item,
    )
    votes, failed = lf.vote(batch, classes_of(lf))
    assert not failed
    names = {ABSTAIN: "abstain", **dict(enumerate(classes_of(lf)))}
    assert [names[vote] for vote in votes.tolist()] == [case.vote for case in cases]
    counted = Counter(case.vote for case in cases)
    assert all(n >= 2 for n in counted.values()), "two rows of each class that it votes for"
    assert counted["abstain"] >= 2
    assert len(cases) >= 5


@each_lf
def test_it_abstains_where_nothing_is_known(lf: LabelingFunction) -> None:
    votes, failed = lf.vote(ExampleBatch.of([{}, {}]), classes_of(lf))
    assert votes.tolist() == [ABSTAIN, ABSTAIN]
    assert not failed
    assert lf.vote(ExampleBatch.of([]), classes_of(lf))[0].shape == (0,)


@each_lf
def test_without_what_it_needs_it_abstains(lf: LabelingFunction) -> None:
    """So that a batch in which nothing of it is known need not be shown to it."""
    assert lf.needs, "the families that are built in say what they need"
    batch = random_batch(300, seed=4)
    for position, name in enumerate(COLUMNS):
        if name in lf.needs:
            batch.evidence[:, position] = DEFAULTS[position]
    contexts = [
        {key: value for key, value in context.items() if f"context.{key}" not in lf.needs}
        for context in batch.contexts
    ]
    items = (lambda _: {}) if "item" in lf.needs else batch.items
    without = ExampleBatch(batch.evidence, batch.item_ids, contexts, batch.segments, items)
    assert lf.needs.isdisjoint(without.observed())
    votes, failed = lf.vote(without, classes_of(lf))
    assert not failed
    assert (votes == ABSTAIN).all()


@each_lf
def test_it_never_fails_and_votes_for_classes_only(lf: LabelingFunction) -> None:
    votes, failed = lf.vote(random_batch(500), classes_of(lf))
    assert not failed
    assert votes.dtype == np.int8
    assert votes.shape == (500,)
    assert set(votes.tolist()) <= {ABSTAIN, *range(len(classes_of(lf)))}


@each_lf
def test_a_row_gets_the_same_vote_in_any_company(lf: LabelingFunction) -> None:
    batch = random_batch(97, seed=1)
    together = lf.vote(batch, classes_of(lf))[0].tolist()
    alone = [int(lf.vote(batch.at(row), classes_of(lf))[0][0]) for row in range(97)]
    assert together == alone
    backwards = ExampleBatch(
        batch.evidence[::-1],
        batch.item_ids[::-1],
        batch.contexts[::-1],
        batch.segments[::-1],
        batch.items,
    )
    assert lf.vote(backwards, classes_of(lf))[0].tolist() == together[::-1]


@each_lf
def test_it_leaves_what_it_reads_as_it_is(lf: LabelingFunction) -> None:
    batch = random_batch(64, seed=2)
    evidence = batch.evidence.copy()
    contexts, items = copy.deepcopy(list(batch.contexts)), copy.deepcopy(ITEMS)
    batch.evidence.flags.writeable = False
    lf.vote(batch, classes_of(lf))
    np.testing.assert_array_equal(batch.evidence, evidence)
    assert list(batch.contexts) == contexts
    assert items == ITEMS


@each_lf
def test_it_says_what_it_is(lf: LabelingFunction) -> None:
    first, _, rest = lf.doc.partition("\n")
    assert first.startswith("Vote ")
    assert first.endswith(".")
    for section in ("Rationale: ", "Sources: ", "Known errors: "):
        written = rest.partition(section)[2]
        assert len(written) > 15, f"{section} says nothing"
    assert lf.family == lf.function.__module__.rpartition(".")[2]


@each_lf
def test_it_keeps_up_with_the_stream(lf: LabelingFunction) -> None:
    batch = random_batch(2_000, seed=3)
    best_s = min(_timed_s(lf, batch) for _ in range(5))
    # Of the thread's own time, on a machine several times slower than it need be: a loop over the
    # batch for each of its rows would be far above.
    assert best_s / len(batch) < (10e-6 if lf.vectorised else 100e-6)


def _timed_s(lf: LabelingFunction, batch: ExampleBatch) -> float:
    fresh = ExampleBatch(
        batch.evidence, batch.item_ids, batch.contexts, batch.segments, batch.items
    )
    began = time.thread_time()
    lf.vote(fresh, classes_of(lf))
    return time.thread_time() - began


def test_columns_are_as_many_as_evidence_has() -> None:
    assert random_batch(1).evidence.shape == (1, len(COLUMNS))
