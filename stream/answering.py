"""Gold answers, one by one: each meets its example, is learned from, and revises its labels."""

from __future__ import annotations

from collections.abc import Callable

from lfs.crowd import answer_key
from monitoring.counts import StageCounts
from stream.effects import Effects
from stream.gold import GoldAnswer
from stream.join import Join
from stream.labelling import Labelling
from stream.learning import Learning
from stream.numbers import Layout
from stream.pipeline_spec import PipelineSpec
from stream.rows import CORRECT, NOTHING, REASONS, REVISED, Rows

__all__ = ["Answering"]


class Answering:
    """Applies answers to the examples of one partition.

    Parameters
    ----------
    spec, join, labelling, layout, learning
        Parts of the pipeline.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        join: Join,
        labelling: Labelling,
        layout: Layout,
        learning: Learning,
    ) -> None:
        self._task = spec.recommender.task
        self._learn = spec.learn
        self._join = join
        self._labelling = labelling
        self._layout = layout
        self._learning = learning

    def apply(
        self,
        answer: GoldAnswer,
        make_rows: Callable[[], Rows],
        counts: StageCounts,
        effects: Effects,
    ) -> Rows | None:
        """Apply an answer whose time has come.

        Returns what is still to be labelled because of it: an answer that is one more vote only
        changes what is known of its example.
        """
        join, layout = self._join, self._layout
        user = join.by_key.get(answer.key)
        example = user.examples.get(answer.hash) if user is not None else None
        if user is None or example is None:
            self._labelling.unmatched(answer)
            return None
        join.dirty[user.key] = user
        if self._labelling.is_vote(answer):
            key = answer_key(answer.annotator, answer.task)
            example.context = {**example.context, key: answer.label}
            rows = make_rows()
            kind = CORRECT if example.engaged else NOTHING
            rows.add(user, example, REVISED, REASONS.index("gold"), kind, answer.ts)
            return rows
        table = layout.table([example.numbers or layout.empty])
        weight = self._labelling.answer(
            answer, user, example, table, counts, effects.labels, self._task, self._learn
        )
        example.numbers = layout.cut(table)[0]
        if weight is not None and example.engaged:
            self._learning.correct(user, example, weight, answer.ts, self._learn)
        return None
