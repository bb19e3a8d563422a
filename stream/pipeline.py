"""The order of the stages, in one file: records of one partition in, effects and state out.

    decode and validate → deduplicate → join → labeling functions → label model → late rewards
    → recommender → counts

Pure: no clock, no network, no unseeded randomness. What comes out depends on the records and on
their positions, never on how they were fetched: any cut of the same records into batches gives
byte-identical effects and state (DESIGN §2). A shell drives it in this order::

    prepared = pipeline.prepare(batch)                       # decode, name the missing users
    loaded = store.load_users(partition, prepared.missing)   # one round trip
    effects = pipeline.process(prepared, loaded)
    publish(effects.outgoing())                              # 1 and wait for the acknowledgements
    store.save(pipeline.cut(), epoch); pipeline.saved()      # 2
    acknowledge(pipeline.next_offsets)                       # 3
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from models.content import ContentIndex
from monitoring.counts import PartitionGauges, StageCounts
from stream.answering import Answering
from stream.catalogue import CatalogueReading
from stream.checkpointing import Snapshot
from stream.control import Order, Switches
from stream.decisions import DecisionQueue
from stream.decoding.decode import Decoded
from stream.decoding.rejection import WHOLE_LINE, Rejected, dead_letter
from stream.early_labels import EarlyLabels
from stream.effects import Effects
from stream.events import (
    CONTROL,
    DEAD_LETTER,
    DECISIONS,
    EVENTS,
    GOLD,
    ITEMS,
    Event,
    Gold,
    LfSwitch,
)
from stream.failing import order_record
from stream.gold import GoldQueue
from stream.join import Join
from stream.labelling import Labelling
from stream.learning import Learning
from stream.misplaced import send_on, turn_away
from stream.numbers import WEIGHT, Layout
from stream.peers import Peers
from stream.pipeline_spec import PipelineSpec, Prepared
from stream.records import Outgoing, RecordBatch
from stream.rewards import Rewards
from stream.rows import Rows
from stream.state import Checkpoint, PartitionHead, SharedChunk
from stream.user_state import UserState
from stream.watching import Watch
from stream.whose import Whose

__all__ = ["PartitionPipeline", "PipelineSpec", "Prepared"]

_DELAYS: Final = 4_096
_FIELDS: Final = frozenset({WHOLE_LINE, "tick", *Event.model_fields, *Gold.model_fields})


class PartitionPipeline:
    """Everything that one partition knows and does.

    Attributes
    ----------
    next_offsets
        First offset not applied yet, by input topic.
    reading
        How far the process has read the catalogue's topic; part of each checkpoint.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        partition: int,
        *,
        items: Callable[[str], Mapping[str, object]] | None = None,
        peers: Peers | None = None,
        content: ContentIndex | None = None,
        reading: CatalogueReading | None = None,
    ) -> None:
        if peers is None and spec.n_partitions > 1:
            peers = Peers(spec.recommender.config)
        self.spec = spec
        self.partition = partition
        self.next_offsets: dict[str, int] = {}
        self._counts = StageCounts()
        self.join = Join(spec.rules)
        self.gold = GoldQueue({task.name: task.classes for task in spec.tasks})
        self.decisions = DecisionQueue()
        self._whose = Whose(spec, partition, self.join, self.gold, self.decisions)
        self.switches = Switches(spec.disabled, spec.failures)
        self._watch = Watch(spec.tasks, sorted(spec.rules.types), spec.segments, spec.drift)
        self.layout = Layout([task.layout for task in spec.tasks])
        self.rewards = Rewards(spec.outcomes)
        self.early = EarlyLabels(spec.tasks, self.rewards.forecasts) if spec.foresee else None
        self.labelling = Labelling(
            spec.tasks,
            self.layout,
            self.switches,
            items,
            spec.timer,
            provisional=spec.provisional,
            partition=partition,
            watch=self._watch,
            early=self.early,
        )
        self.learning = Learning(
            spec.recommender, self._watch, spec.timer, peers, partition, content
        )
        self._answering = Answering(spec, self.join, self.labelling, self.layout, self.learning)
        self.reading = reading
        self._snapshot = Snapshot(self)
        self._round = 0

    @property
    def max_ts(self) -> float:
        """Return the newest event time applied; minus infinity before the first event."""
        return self.join.max_ts

    @property
    def watch(self) -> Watch:
        """What is watched, every label taken in."""
        self.labelling.flush()
        return self._watch

    @property
    def counts(self) -> StageCounts:
        """What the stages counted since the partition began; additive, part of the checkpoint."""
        counts, join = self._counts, self.join
        self.labelling.flush()
        self._note_delays()
        counts.duplicates = join.duplicates
        counts.join = join.counts
        counts.partitions[self.partition] = PartitionGauges(
            pending=join.pending,
            watermark=join.watermark if join.max_ts > float("-inf") else None,
            to_come=self.rewards.share_to_come,
        )
        return counts

    @counts.setter
    def counts(self, counts: StageCounts) -> None:
        self._counts = counts

    # --- state ----------------------------------------------------------------------------

    def restore(self, head: PartitionHead) -> None:
        """Take up the state of a checkpoint; call once, before the first batch."""
        self._snapshot.restore(head)

    def cut(self) -> Checkpoint:
        """Return everything that changed since the last cut, as one checkpoint."""
        return self._snapshot.cut()

    def settle(self) -> None:
        """Learn what still waits for more of its kind: whoever looks sees everything applied."""
        for part in self.settling():
            part()

    def settling(self) -> tuple[Callable[[], None], ...]:
        """Return what `settle` does, in order; each part may be done at any time before."""
        return self.rewards.flush, self.learning.flush, self.learning.settle, self.labelling.flush

    def saved(self) -> None:
        """Learn that the last cut was saved: what it held may now leave memory."""
        self._snapshot.saved()

    def take_in(self, chunks: Sequence[SharedChunk], *, whole: bool = False) -> str | None:
        """Take other partitions' contributions in: the label models' at the next block start.

        Returns the prefix of other partitions' chunks that are needed ``whole``, if any are.
        """
        self.labelling.take_in(chunks, self.partition)
        return self.learning.take_in(chunks, whole=whole)

    def leave(self) -> None:
        """Let the partition go: another process goes on with it from its last checkpoint."""
        self.learning.leave()

    def shared(self) -> dict[str, bytes]:
        """Return this partition's contributions by name, as other partitions would read them."""
        self.settle()
        return self._snapshot.shared()

    # --- records in -----------------------------------------------------------------------

    def prepare(self, batch: RecordBatch) -> Prepared:
        """Decode a batch and say whose state must be loaded before it can be processed.

        Records below the next offset are skipped and counted.
        """
        self._round += 1
        self._snapshot.evict(self.spec.cached_users)
        first = bisect_left(batch.offsets, self.next_offsets.get(batch.topic, 0))
        if first:
            batch = RecordBatch(
                batch.topic,
                batch.partition,
                batch.offsets[first:],
                batch.values[first:],
                batch.times[first:],
                batch.keys[first:] if batch.keys is not None else None,
            )
        next_offset = batch.offsets[-1] + 1 if len(batch) else self.next_offsets.get(batch.topic, 0)
        prepared = Prepared(batch.topic, next_offset, batch, skipped=first)
        if batch.topic == EVENTS:
            self._whose.events(prepared, self._round)
        elif batch.topic == GOLD:
            self._whose.gold_answers(prepared)
        elif batch.topic == DECISIONS:
            self._whose.decided(prepared)
        elif batch.topic == CONTROL:
            prepared.orders, refused = self.switches.decode(batch)
            # Every partition reads it; one of them tells.
            prepared.refused = refused if self.partition == 0 else ()
        else:
            raise ValueError(f"topic {batch.topic!r} is no input of a partition")
        return prepared

    def process(self, prepared: Prepared, loaded: Mapping[bytes, bytes]) -> Effects:
        """Apply a prepared batch; ``loaded`` holds the stored state of its missing users."""
        effects = Effects()
        for data_key, data in loaded.items():
            if data_key not in self.join.by_key:
                self._bring_in(*UserState.from_bytes(data, data_key))
        for user_id, key in prepared.newcomers.items():
            if key not in self.join.by_key:
                self.join.bring_in(UserState(user_id, key))
        decoded = prepared.decoded
        if decoded is not None:
            self._counts.ignored_fields += decoded.unknown_fields
            for rejected in decoded.rejected:
                self._bury(rejected, prepared.topic, effects)
            self._apply_events(prepared, decoded, effects)
        for answer in prepared.gold:
            self.gold.push(answer)
        self._counts.consumed[GOLD] += len(prepared.gold)
        if dropped := self.decisions.take(prepared.decisions, self.max_ts):
            self.join.counts.dropped["decisions"] += dropped
        self._counts.consumed[DECISIONS] += len(prepared.decisions)
        self._counts.misplaced += len(prepared.elsewhere)
        effects.misplaced += [send_on(each, self._whose.pseudonym) for each in prepared.elsewhere]
        for order in prepared.orders:
            self._obey(order)
            if self.partition == 0:
                # Every partition obeys; one of them tells.
                effects.governance.append(order_record(order))
        self._counts.consumed[CONTROL] += len(prepared.orders)
        for refused in prepared.refused:
            self._bury(refused, prepared.topic, effects)
        if self.reading is not None:
            untold, lost = self.reading.untold()
            if lost:
                self._counts.rejected[ITEMS, "other"] += lost
                self.join.counts.dropped["dead_letters"] += lost
            for refused in untold:
                self._bury(refused, ITEMS, effects)
        self._decide_due(self.max_ts)
        if len(self.gold):
            self._answer_due(self.max_ts, self._rows(), effects)
        self._watch.told(effects.governance)
        self.next_offsets[prepared.topic] = prepared.next_offset
        if len(self.join.delays_s) >= _DELAYS:
            self._note_delays()
        return effects

    def close(self) -> tuple[list[bytes], Callable[[Mapping[bytes, bytes]], Effects]]:
        """Close every window as if event time had run on, at the end of a replay.

        Returns the keys of users to load, and what to call with their stored state.
        """
        rules = self.spec.rules
        end = self.max_ts + rules.longest_window_s + rules.disorder_s
        wanted = dict.fromkeys((*self.join.due_by(end), *self.gold.keys_before(float("inf"))))
        missing = [key for key in wanted if key not in self.join.by_key]

        def finish(loaded: Mapping[bytes, bytes]) -> Effects:
            effects, rows = Effects(), self._rows()
            for key, data in loaded.items():
                self._bring_in(*UserState.from_bytes(data, key))
            # As before an event: what was answered speaks about labels that are still known.
            rows = self._answer_due(end, rows, effects)
            self.join.advance(end, rows)
            self._answer_due(float("inf"), rows, effects)
            return effects

        return missing, finish

    def answer_rest(self, loaded: Mapping[bytes, bytes]) -> Effects:
        """Apply every gold answer that still waits: the log has ended, or is idle."""
        effects = Effects()
        for key, data in loaded.items():
            self._bring_in(*UserState.from_bytes(data, key))
        self._answer_due(float("inf"), self._rows(), effects)
        return effects

    def tick(self, idle_s: float) -> Outgoing | None:
        """Return the tick to append to an idle partition's log, if anything would come due."""
        now = self.max_ts + idle_s
        due = (
            self.join.timers.next_due() <= now - self.spec.rules.disorder_s
            or self.gold.first_ts < now
        )
        # What is no item is told with a batch, and perhaps no other one comes.
        told = self.reading is None or not self.reading.waits or now == float("-inf")
        if told and not due:
            return None
        return Outgoing(EVENTS, None, b'{"tick":%s}' % repr(now).encode(), self.partition)

    def _rows(self) -> Rows:
        return Rows(self.labelling.first_stage)

    # --- stages ---------------------------------------------------------------------------

    def _obey(self, order: Order) -> None:
        if isinstance(order, LfSwitch):
            self.switches.apply(order)
        else:
            self.settle()  # what came before is watched under the references before
            self._watch.obey(order)

    def _bury(self, rejected: Rejected, topic: str, effects: Effects) -> None:
        """Send a refused line to the dead letters."""
        name = rejected.field.partition(".")[0]
        # Names outside the schema are made by whoever sends: they must not grow the state.
        self._counts.rejected[topic, name if name in _FIELDS else "other"] += 1
        letter = dead_letter(rejected, topic, self.partition)
        effects.dead_letters.append(
            Outgoing(DEAD_LETTER, letter.id.encode(), letter.model_dump_json().encode())
        )

    def _apply_events(self, prepared: Prepared, decoded: Decoded, effects: Effects) -> None:
        if prepared.misplaced:
            decoded, sent = turn_away(decoded, prepared.misplaced, self._whose.pseudonym)
            self._counts.misplaced += len(sent)
            effects.misplaced += sent
        events = decoded.events
        join, gold, decisions, rows = self.join, self.gold, self.decisions, self._rows()
        apply = join.apply
        before = join.duplicates + join.too_late
        start = 0
        for tick in [*decoded.ticks, None]:
            stop = tick.position if tick is not None else len(events)
            if len(gold) or len(decisions):
                for at in range(start, stop):
                    ts = events[at].ts
                    if ts > gold.first_ts or ts > decisions.first_ts:
                        apply(events[start:at], rows)
                        start = at
                        self._decide_due(ts)
                        if ts > gold.first_ts:
                            rows = self._answer_due(ts, rows, effects)
            apply(events[start:stop], rows)
            start = stop
            if tick is not None:
                self._decide_due(tick.ts)
                rows = self._answer_due(tick.ts, rows, effects)
                join.advance(tick.ts, rows)
        self._counts.consumed[EVENTS] += len(events) - (join.duplicates + join.too_late - before)
        self._watch.events(events, join.ignored)
        join.ignored.clear()
        self._learn(rows, effects)

    def _learn(self, rows: Rows, effects: Effects) -> None:
        """Label the rows, then let the reward heads and the recommender learn."""
        number = self.rewards.number
        if rows.happened:
            self.rewards.step(rows.happened, self.spec.learn)
        if not len(rows):
            return
        touched, learn = rows.touched, self.spec.learn
        at_once = self.learning.make_way(rows, learn)
        empty = self.layout.empty
        table = self.layout.table([example.numbers or empty for example in touched])
        weight = self.labelling.step(
            rows,
            table,
            self._counts,
            effects.labels,
            self.spec.recommender.task,
            learn,
            number,
        )
        effects.governance += self.labelling.switched_off(self.partition)
        if at_once:
            told = table[WEIGHT].copy()
            self.learning.step(rows, weight, told)
            table[WEIGHT] = told
        for example, numbers in zip(touched, self.layout.cut(table), strict=True):
            example.numbers = numbers
        if not at_once:
            self.learning.wait(rows, weight, learn)
        rows.release()

    def _decide_due(self, ts: float) -> None:
        """Believe the decisions that were made before ``ts``."""
        for decision in self.decisions.pop_before(ts):
            user = self.join.by_key.get(decision.key)
            if user is None:
                user = UserState(decision.user_id, decision.key)
                user.touched = self._round
                self.join.bring_in(user)
            self.join.decide(user, decision)

    def _answer_due(self, ts: float, rows: Rows, effects: Effects) -> Rows:
        """Apply the gold answers that lie before ``ts``, each on the labels as they stand."""
        self._learn(rows, effects)
        for answer in self.gold.pop_before(ts):
            revised = self._answering.apply(answer, self._rows, self._counts, effects)
            if revised is not None:
                self._learn(revised, effects)
        return self._rows()

    def _bring_in(self, user: UserState, layout_id: str) -> None:
        if layout_id != self.layout.id:
            old = self._snapshot.layouts.get(layout_id)
            for example in user.examples.values():
                if example.numbers:
                    example.numbers = (
                        self.layout.converted(example.numbers, old) if old is not None else b""
                    )
        user.touched = self._round
        self.join.bring_in(user)

    def _note_delays(self) -> None:
        """Count how long what was matched had taken."""
        delays_s = self.join.delays_s
        if delays_s:
            # Sums of multiples of 1/1024 are exact, however they are added up.
            rounded = np.rint(np.asarray(delays_s) * 1024.0) / 1024.0
            self.join.counts.delay_s.observe_many(rounded)
            delays_s.clear()
