"""What a labeling function is: how it is registered, fails, and is refused."""

from __future__ import annotations

import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lfs import ABSTAIN, Example, ExampleBatch, labeling_function
from lfs.core import Asked, LabelingFunctionError, Pass, Votes, vote_matrix
from lfs.readings import JUDGED, POSITIVE, VISITS, judged
from lfs.registry import BUILT_IN_MODULES, collect, for_tasks

CLASSES = ("negative", "positive")
DOC = """Vote at random.

Rationale: none. Sources: none. Known errors: all.
"""


@pytest.mark.parametrize("lacking", ["Rationale", "Sources", "Known errors"])
def test_a_missing_heading_is_refused_with_the_template(lacking: str) -> None:
    def undocumented(example: Example) -> str | int:
        return ABSTAIN

    undocumented.__doc__ = DOC.replace(lacking, "Nothing")
    with pytest.raises(LabelingFunctionError, match=f"lacks {lacking}.*\n.*\n.*Vote|lacks"):
        labeling_function()(undocumented)


def test_parameters_versions_and_forms_are_checked() -> None:
    def two(a: Example, b: Example) -> str | int:
        return ABSTAIN

    two.__doc__ = DOC
    with pytest.raises(LabelingFunctionError, match="takes 2 parameters"):
        labeling_function()(two)  # type: ignore[arg-type] # What it refuses.
    with pytest.raises(LabelingFunctionError, match="version"):
        labeling_function(version=0)
    with pytest.raises(LabelingFunctionError, match="form"):
        labeling_function(form="choir")


def test_a_row_that_fails_abstains_and_the_others_vote() -> None:
    def fragile(example: Example) -> str | int:
        return "positive" if 1 / (example.clicks or 0) else ABSTAIN

    fragile.__doc__ = DOC
    votes, failed = labeling_function()(fragile).vote(
        ExampleBatch.of([{"clicks": 1}, {}, {"clicks": 2}]), CLASSES
    )
    assert votes.tolist() == [1, ABSTAIN, 1]
    assert failed == {1: "ZeroDivisionError"}


@pytest.mark.parametrize("answer", ["maybe", 1, 7, None, True, [1], np.array([1, 0]), np.array([])])
def test_an_answer_that_is_no_class_name_is_a_failure(answer: Any) -> None:
    def odd(example: Example) -> Any:
        return answer

    odd.__doc__ = DOC
    votes, failed = labeling_function()(odd).vote(ExampleBatch.of([{}]), CLASSES)
    assert (votes.tolist(), failed) == ([ABSTAIN], {0: "answer"})


def test_a_vectorised_function_that_fails_costs_only_the_rows_at_fault() -> None:
    def fragile(batch: ExampleBatch) -> Votes:
        if (batch.column("clicks") == 3).any():
            raise KeyError("3")
        return np.where(batch.column("clicks") == 2, 9, 1).astype(np.int8)

    fragile.__doc__ = DOC
    lf = labeling_function()(fragile)
    votes, failed = lf.vote(ExampleBatch.of([{"clicks": k} for k in (1, 2, 3, 1)]), CLASSES)
    assert votes.tolist() == [1, ABSTAIN, ABSTAIN, 1]
    assert failed == {1: "answer", 2: "KeyError"}


def test_a_function_cannot_spoil_what_others_read() -> None:
    def greedy(batch: ExampleBatch) -> Votes:
        batch.reading("visits", lambda b: b.column("clicks") + 0.0)[:] = 5
        return np.zeros(len(batch), dtype=np.int8)

    greedy.__doc__ = DOC
    batch = ExampleBatch.of([{"clicks": 1}, {}])
    votes, failed = labeling_function()(greedy).vote(batch, CLASSES)
    assert set(failed.values()) == {"ValueError"}
    assert (votes == ABSTAIN).all()


@pytest.mark.parametrize("name", ["table", "columns", "observed", "judged"])
def test_what_a_team_calls_its_reading_is_nobody_elses(name: str) -> None:
    batch = ExampleBatch.of([{"clicks": 1}, {}])
    for _ in range(2):
        assert batch.reading(name, lambda b: np.full(len(b), 7.0)).tolist() == [7.0, 7.0]
        assert batch.column("clicks").tolist() == [1.0, 0.0]
        assert "clicks" in batch.observed()
        assert judged(batch, "clicked").tolist() == [POSITIVE, ABSTAIN]


def test_a_function_is_not_shown_batches_without_what_it_needs() -> None:
    asked: list[int] = []

    def recorded(batch: ExampleBatch) -> Votes:
        asked.append(len(batch))
        return np.zeros(len(batch), dtype=np.int8)

    recorded.__doc__ = DOC
    items = {"i": {"title": "Knife"}}
    cases: list[tuple[str, ExampleBatch]] = [
        ("clicks", ExampleBatch.of([{}, {"clicks": 1}])),
        ("rating", ExampleBatch.of([{"rating": 0.0}])),
        ("context.query", ExampleBatch.of([{}, {}], contexts=[{}, {"query": "x"}])),
        ("item", ExampleBatch.of([{}], item_ids=["i"], items=lambda i: items.get(i, {}))),
    ]
    for need, batch in cases:
        for other, _ in cases:
            lf = labeling_function(needs=[other])(recorded)
            before = len(asked)
            votes, failed, _ = vote_matrix([lf], batch, CLASSES)
            assert not failed
            assert votes[:, 0].tolist() == [0 if other == need else ABSTAIN] * len(batch)
            assert len(asked) - before == (other == need)
    with pytest.raises(LabelingFunctionError, match="needs: found 'click'"):
        labeling_function(needs=["click"])


def test_who_votes_in_a_pass_says_there_what_it_says_alone() -> None:
    lfs = [lf for lf in collect(BUILT_IN_MODULES.values()) if lf.task == "relevance"]
    assert {lf.name for lf in lfs if lf.joint is not None} == set(JUDGED)
    rng = np.random.default_rng(6)
    batch = ExampleBatch.of([{}] * 500)
    touched = rng.random(batch.evidence.shape) < 0.3
    numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 12.0, 40.0, 500.0, np.nan]
    batch.evidence[touched] = rng.choice(numbers, size=int(touched.sum()))
    votes, failed, _ = vote_matrix(lfs, batch, CLASSES)
    assert not failed
    for column, lf in enumerate(lfs):
        assert votes[:, column].tolist() == lf.vote(batch, CLASSES)[0].tolist()
    enabled = [lf.name != "clicked" for lf in lfs]
    without, _, _ = vote_matrix(lfs, batch, CLASSES, enabled=enabled)
    assert (without[:, enabled] == votes[:, enabled]).all()
    assert (without[:, [not on for on in enabled]] == ABSTAIN).all()
    some, _, _ = vote_matrix(lfs[::-2], batch, CLASSES)
    assert (some == votes[:, ::-2]).all()


def test_a_function_that_is_not_in_its_pass_is_refused() -> None:
    def alone(batch: ExampleBatch) -> Votes:
        return np.zeros(len(batch), dtype=np.int8)

    alone.__doc__ = DOC
    with pytest.raises(LabelingFunctionError, match="joint: its pass has accidental_click"):
        labeling_function(joint=VISITS)(alone)


def test_a_pass_takes_its_time_together() -> None:
    lfs = [lf for lf in collect(BUILT_IN_MODULES.values()) if lf.joint is not None]
    ticks = iter(range(100))
    for enabled in (None, [lf.name != "clicked" for lf in lfs], [False] * len(lfs)):
        _, _, seconds = vote_matrix(
            lfs, ExampleBatch.of([{}]), CLASSES, timer=lambda: float(next(ticks)), enabled=enabled
        )
        on = enabled or [True] * len(lfs)
        assert seconds.tolist() == [1.0 / sum(on) if one else 0.0 for one in on]


def test_a_pass_that_fails_leaves_its_functions_to_vote_alone() -> None:
    def vote(evidence: NDArray[np.float64], columns: NDArray[np.int64], votes: Votes) -> None:
        votes[:, columns[columns >= 0]] = 1
        raise ZeroDivisionError

    joint = Pass(("first", "fragile"), vote)

    def first(batch: ExampleBatch) -> Votes:
        return np.zeros(len(batch), dtype=np.int8)

    def fragile(batch: ExampleBatch) -> Votes:
        if np.isnan(batch.column("rating")).any():
            raise KeyError
        return np.ones(len(batch), dtype=np.int8)

    first.__doc__ = fragile.__doc__ = DOC
    lfs = [labeling_function(joint=joint)(one) for one in (first, fragile)]
    batch = ExampleBatch.of([{"rating": 5.0}, {}])
    votes, failed, _ = vote_matrix(lfs, batch, CLASSES)
    assert (votes.tolist(), failed) == ([[0, 1], [0, ABSTAIN]], {"fragile": {1: "KeyError"}})
    votes, failed, _ = vote_matrix(lfs, batch, CLASSES, enabled=[True, False])
    assert (votes.tolist(), failed) == ([[0, ABSTAIN], [0, ABSTAIN]], {})


def test_whoever_asks_one_function_may_change_its_answer() -> None:
    batch = ExampleBatch.of([{"clicks": 1}, {}])
    answer = judged(batch, "clicked")
    answer[1] = POSITIVE
    assert judged(batch, "clicked").tolist() == [POSITIVE, ABSTAIN]


def test_keys_of_context_that_somebody_makes_up_are_not_kept() -> None:
    def of_context(example: Example) -> str | int:
        return "positive" if example.context.get("k0") else ABSTAIN

    of_context.__doc__ = DOC
    lf = labeling_function(needs=["context.k0"])(of_context)
    asked = Asked([lf])
    contexts = [{f"k{64 * row + key}": True for key in range(64)} for row in range(8)]
    batch = ExampleBatch.of([{}] * len(contexts), contexts=contexts)
    votes, _, _ = vote_matrix([lf], batch, CLASSES, asked=asked)
    assert votes[:, 0].tolist() == [1, *[ABSTAIN] * 7]
    names = weakref.ref(batch.observed(columns=False))
    del batch
    assert names() is None


def test_names_are_unique_in_a_task_and_columns_are_sorted() -> None:
    one, other = types.ModuleType("one"), types.ModuleType("other")

    def same(example: Example) -> str | int:
        return ABSTAIN

    same.__doc__ = DOC
    one.__dict__["same"] = labeling_function()(same)
    other.__dict__["same"] = labeling_function()(same)
    with pytest.raises(LabelingFunctionError, match="are named 'same'"):
        collect([one, other])
    other.__dict__["same"] = labeling_function(task="intent")(same)
    assert len(collect([one, other])) == 2
    with pytest.raises(LabelingFunctionError, match=r"lfs\.modules: found 'nowhere'"):
        collect(["nowhere"])
    columns = for_tasks(collect(BUILT_IN_MODULES.values()), {"relevance": CLASSES})["relevance"]
    assert [lf.name for lf in columns] == sorted(lf.name for lf in columns)


def test_every_family_has_several_functions() -> None:
    families: dict[str, int] = {}
    for lf in collect(BUILT_IN_MODULES.values()):
        families[lf.family] = families.get(lf.family, 0) + 1
    assert families.keys() == {
        "behaviour",
        "content",
        "intent",
        "knowledge",
        "model_based",
        "trust",
    }
    assert min(families.values()) >= 2


def test_time_spent_is_one_fact_and_gets_one_vote() -> None:
    ladder = ("accidental_click", "clicked", "long_dwell", "quick_return", "viewed")
    lfs = [lf for lf in collect(BUILT_IN_MODULES.values()) if lf.name in ladder]
    rows = [
        {"clicks": 1, "dwells": 1, "dwell_s": s, "away_s": a}
        for s in (0.1, 1.9, 2, 5, 9.9, 10, 20, 30, 500)
        for a in (0.5, 5, 50)
    ]
    rows += [{kind: 1, "away_s": a} for kind in ("clicks", "views") for a in (0, 1.9, 2, 7.9, 8)]
    rows += [{"clicks": 1}, {"views": 1}, {"clicks": 1, "views": 1}]
    votes, _, _ = vote_matrix(lfs, ExampleBatch.of(rows), CLASSES)
    assert (votes >= 0).sum(axis=1).max() == 1


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = = 1", "Syntax"),
        # Fails within the library that is called.
        ("__import__('json').loads('{')", "JSONDecodeError"),
    ],
)
def test_a_module_that_fails_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    (tmp_path / f"broken_{told.lower()}.py").write_text(f"import math\n\n{code}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    match = rf"lfs.modules: 'broken_.*{told}.*broken_{told.lower()}\.py, line 3\)"
    with pytest.raises(LabelingFunctionError, match=match):
        collect([f"broken_{told.lower()}"])
