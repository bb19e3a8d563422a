"""The labeling stage: votes, posteriors, what was learned from them, and the labels to publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lfs.core import ExampleBatch, vote_matrix
from lfs.crowd import annotator_name, is_annotator
from models import StepResult
from monitoring.counts import StageCounts, TaskCounts
from stream.control import Switches
from stream.early_labels import EarlyLabels
from stream.effects import LabelBlock
from stream.failing import Stopped, stop_record
from stream.gold import GoldAnswer
from stream.numbers import Layout
from stream.records import Outgoing
from stream.rows import NOTHING, REASONS, REVISED, Rows
from stream.state import SharedChunk
from stream.tally import Tally
from stream.tasks import TaskAtWork, TaskSpec, stats_chunk
from stream.user_state import Example, UserState
from stream.watching import Watch

__all__ = ["Labelling"]

_GOLD_REASON = REASONS.index("gold")
_NO_CONTEXT: Mapping[str, str | float | bool] = {}


class Labelling:
    """All tasks of one partition."""

    def __init__(
        self,
        specs: Sequence[TaskSpec],
        layout: Layout,
        switches: Switches,
        items: Callable[[str], Mapping[str, object]] | None,
        timer: Callable[[], float] | None,
        *,
        provisional: bool = True,
        partition: int | None = None,
        watch: Watch | None = None,
        early: EarlyLabels | None = None,
    ) -> None:
        self._early = early
        self._partition = partition
        self._watch = watch
        self._tasks = {spec.name: TaskAtWork(spec) for spec in specs}
        self._tally = Tally(self._tasks, watch)
        self._layout = layout
        self._switches = switches
        self._items = items
        self._timer = timer
        self.first_stage = 1 if provisional else 2
        self._stopped: list[Stopped] = []
        self._weighed = {
            (spec.name, lf.name) for spec in specs for lf in spec.lfs if is_annotator(lf.name)
        }

    @property
    def tasks(self) -> dict[str, TaskAtWork]:
        """The tasks by name, every label counted."""
        self.flush()
        return self._tasks

    def flush(self) -> None:
        """Count the labels that wait for more, and have them watched."""
        self._tally.flush()

    def is_vote(self, answer: GoldAnswer) -> bool:
        """Return whether an answer is a vote to be weighed: its annotator is a function here."""
        if (
            not self._weighed
            or (answer.task, annotator_name(answer.annotator)) not in self._weighed
        ):
            return False
        return answer.label in self._tasks[answer.task].spec.classes

    def switched_off(self, partition: int) -> list[Outgoing]:
        """Return the governance records of functions that failed too often since the last call."""
        records = [stop_record(stopped, partition) for stopped in self._stopped]
        self._stopped.clear()
        return records

    def step(
        self,
        rows: Rows,
        table: NDArray[np.void],
        counts: StageCounts,
        blocks: list[LabelBlock],
        weight_task: str,
        learn: bool,
        number: int = 0,
    ) -> NDArray[np.float64]:
        """Vote on the rows, learn their labels, and append the blocks to publish.

        ``number`` is how much had happened to exposures before the rows began.
        Returns the probability of ``weight_task``'s last class for each row, shape (n,).
        """
        columns = rows.columns
        example = columns.example
        batch = self._batch(rows)
        ahead = self._early.look(rows, number) if self._early is not None else None
        published = rows.published
        weight: NDArray[np.float64] | None = None
        made: list[LabelBlock] = []
        counted: list[TaskCounts] = []
        for name, task in self._tasks.items():
            votes, failures, seconds = self._votes(task, batch)
            self._stopped += self._switches.failing.observe(
                name, task.names, task.versions, votes, failures, columns.ts
            )
            ex_proba = table[task.proba]
            answers = table[task.gold]
            emit = columns.stage > 0
            gold = None
            if answers.max() >= 0:
                gold = answers[example] >= 0
                emit &= ~gold
            result = task.step(
                votes, example, emit, table[task.votes], ex_proba, table[task.clock], learn
            )
            proba = result.proba
            if gold is not None:
                # What a person said stands, whatever the evidence does afterwards.
                proba = np.where(gold[:, None], ex_proba[example], proba)
            if name == weight_task:
                weight = proba[:, -1]
            if ahead is not None:
                proba = ahead.said(name, proba, gold, learn)
            if failures:
                told = counts.task(name, task.spec.classes, task.names).failures
                told.update((lf, why) for lf, failed in failures.items() for why in failed.values())
            if len(published):
                made.append(self._block(task, rows, published, proba, votes, result))
                counted.append(counts.task(name, task.spec.classes, task.names))
                if self._timer is not None:
                    counted[-1].seconds += seconds
        if ahead is not None:
            ahead.keep()
        self._tally.take(rows, made, counted)
        blocks += made
        return weight if weight is not None else np.ones(len(rows))

    def answer(
        self,
        answer: GoldAnswer,
        user: UserState,
        example: Example,
        table: NDArray[np.void],
        counts: StageCounts,
        blocks: list[LabelBlock],
        weight_task: str,
        learn: bool,
    ) -> float | None:
        """Apply one gold answer to one example (table of one row) and publish the revised label.

        Returns the new weight of the engagement, or None if the answer is for another task, or
        for none.
        """
        task = self._tasks.get(answer.task)
        if task is None or answer.label not in task.spec.classes:
            self.unmatched(answer)
            return None
        name, label = answer.task, task.spec.classes.index(answer.label)
        rows = Rows()
        rows.add(user, example, REVISED, _GOLD_REASON, NOTHING, answer.ts)
        rows.release()
        votes, _, _ = self._votes(task, self._batch(rows))
        ex_votes = np.ascontiguousarray(table[f"votes_{name}"])
        ex_proba = np.ascontiguousarray(table[f"proba_{name}"])
        ex_clock = np.ascontiguousarray(table[f"clock_{name}"])
        first = np.zeros(1, dtype=np.int32)
        unlearned = bool(ex_clock[0] < 0)
        # What was learned of the example is what the answer speaks about, and what is shown.
        judged = votes if unlearned else ex_votes.copy()
        result = task.step(
            judged, first, np.array([unlearned]), ex_votes, ex_proba, ex_clock, learn
        )
        if unlearned:
            ex_votes, ex_proba = votes.copy(), result.proba
        if table[f"gold_{name}"][0] < 0:
            # A second opinion would be scored against the first one, not against the model.
            task.quality.answer(ex_proba[0], ex_votes[0], label)
            if self._watch is not None:
                self._watch.answered(name, ex_proba[0], label, answer.ts, example)
        counted = counts.task(name, task.spec.classes, task.names)
        counted.gold += 1
        proba = np.zeros((1, len(task.spec.classes)))
        proba[0, label] = 1.0
        if learn:
            # An answer of unknown origin has inclusion 0: it moves no class balance.
            proba[0] = task.learn_gold(
                ex_votes[0], label, ex_proba[0], int(ex_clock[0]), answer.inclusion or 0.0
            )
        table[f"votes_{name}"] = ex_votes
        table[f"proba_{name}"] = proba
        table[f"clock_{name}"] = ex_clock
        table[f"gold_{name}"] = label
        block = self._block(task, rows, np.zeros(1, dtype=np.intp), proba, ex_votes, result)
        blocks.append(block)
        counted.labels[REVISED - 1, label] += 1
        return float(proba[0, -1]) if name == weight_task else None

    def unmatched(self, answer: GoldAnswer) -> None:
        """Count an answer about an example, a task or a class that is not known here."""
        for task in self._tasks.values():
            if task.spec.name == answer.task:
                task.quality.unmatched += 1

    def enabled(self, task: str) -> list[bool]:
        """Return which of a task's functions are on."""
        at_work = self._tasks[task]
        return self._switches.enabled(task, at_work.names, at_work.versions)

    def contributions(self, partition: int) -> list[SharedChunk]:
        """Return what this partition's label models have counted, for the others to take in."""
        return [
            SharedChunk(partition, stats_chunk(task.spec), task.model.clock, task.model.own_stats())
            for task in self._tasks.values()
        ]

    def take_in(self, chunks: Iterable[SharedChunk], own_partition: int) -> None:
        """Replace other partitions' statistics; they count from the next block on."""
        changed: set[str] = set()
        for chunk in chunks:
            for name, task in self._tasks.items():
                if chunk.name == stats_chunk(task.spec) and chunk.partition != own_partition:
                    task.others[chunk.partition] = chunk.data
                    changed.add(name)
        for name in sorted(changed):
            task = self._tasks[name]
            task.model.take_others([task.others[p] for p in sorted(task.others)])

    def _votes(
        self, task: TaskAtWork, batch: ExampleBatch
    ) -> tuple[NDArray[np.int8], dict[str, dict[int, str]], NDArray[np.float64]]:
        return vote_matrix(
            task.spec.lfs,
            batch,
            task.spec.classes,
            timer=self._timer,
            enabled=self.enabled(task.spec.name),
            asked=task.asked,
        )

    def _batch(self, rows: Rows) -> ExampleBatch:
        touched = rows.touched
        examples = [touched[slot] for slot in rows.columns.example.tolist()]
        return ExampleBatch(
            rows.evidence(),
            [example.item_id for example in examples],
            [example.context for example in examples],
            [example.segment for example in examples],
            *(() if self._items is None else (self._items,)),
        )

    def _block(
        self,
        task: TaskAtWork,
        rows: Rows,
        published: NDArray[np.intp],
        proba: NDArray[np.float64],
        votes: NDArray[np.int8],
        result: StepResult,
    ) -> LabelBlock:
        spec, columns = task.spec, rows.columns
        example, user, stage, reason, _, revision, ts, _ = columns
        clock, weights = result.clock, result.weights
        if len(published) < len(rows):
            example, user = example[published], user[published]
            stage, reason = stage[published], reason[published]
            revision, ts, clock = revision[published], ts[published], clock[published]
            proba, votes, weights = proba[published], votes[published], weights[published]
        return LabelBlock(
            spec.name,
            spec.classes,
            task.shown,
            self._layout.id,
            clock // task.model.block,
            rows.touched,
            rows.users,
            example,
            user,
            stage - 1,
            revision,
            ts,
            proba,
            votes,
            weights,
            reason,
            self._partition,
        )
