"""The join: feedback meets the exposure that it answers, and windows close by event time.

Everything here is decided by the order of the records of one partition: no clock, no batch.
Each event, and each window that closes, may add *rows*: an example as it stands at that moment,
which the models then label and learn from. See DESIGN §4, *Examples and labels*.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Final

from monitoring.counts import JoinCounts
from stream.decisions import Decided
from stream.events import Interaction
from stream.evidence import Column, blank_row
from stream.ids import event_hashes, exposure_hashes
from stream.join_rules import Feedback, JoinRules, TypeRule, feedback
from stream.keeping import Context, add_context, believe, forget, forget_events, leave, show
from stream.rows import ASSESSED, CORRECT, ENGAGE, NEGATIVE, NOTHING, REASONS, REVISED, Rows
from stream.timers import NEVER, Timers
from stream.user_state import FINAL, OPENED, PROVISIONAL, Example, UserState

__all__ = ["Join", "JoinRules", "TypeRule"]

_FIRST, _EARLY, _CLOSED, _LATE, _GOLD, _BOUND = range(len(REASONS))

_RATE_HALF_LIFE_S: Final = 60.0
_LOOK_EVERY: Final = 8
"""Event ids of a person between two looks for those that may be forgotten."""

_C_IMPRESSIONS: Final = int(Column.IMPRESSIONS)
_C_RATING: Final = int(Column.RATING)
_C_POSITION: Final = int(Column.POSITION)
_C_PROPENSITY: Final = int(Column.PROPENSITY)
_C_OPENED: Final = int(Column.OPENED_TS)
_C_FIRST: Final = int(Column.FIRST_FEEDBACK_TS)
_C_LAST: Final = int(Column.LAST_TS)
_C_REPEATS: Final = int(Column.REPEATS)
_C_RATE: Final = int(Column.USER_RATE)
_C_CLOSED: Final = int(Column.CLOSED)
_NO_CONTEXT: Final[Context] = {}


class Join:
    """The exposures of one partition: who waits for what, and until when.

    Attributes
    ----------
    max_ts
        Newest event time applied; the watermark lies ``disorder_s`` behind it.
    resident
        People in memory, by user id; `by_key` the same by key. The pipeline brings them in.
    timers
        When each known person's next timer is due, resident or not.
    counts
        What happened, additive.
    gone
        Who was forgotten since the last cut. They stay resident, blank, until the store knows.
    too_late
        Events older than the deduplication horizon: counted, not learned.
    ignored
        Events of the batch at hand that were repeats or too late; whoever asks clears it.
    """

    def __init__(self, rules: JoinRules) -> None:
        self.rules = rules
        self.max_ts = -NEVER
        self.resident: dict[str, UserState] = {}
        self.by_key: dict[bytes, UserState] = {}
        self.timers = Timers()
        self.counts = JoinCounts()
        self.delays_s: list[float] = []
        self.pending = 0
        self.duplicates = 0
        self.too_late = 0
        self.ignored: list[Interaction] = []
        self.gone: set[bytes] = set()
        self.dirty: dict[bytes, UserState] = {}
        window_s = rules.exposure_window_s
        self._feedback = {
            name: feedback(name, rule, window_s) for name, rule in rules.types.items()
        }
        self._unknown = feedback("", TypeRule(window_s=0.0), window_s)
        self._max_examples = rules.max_examples
        self._exposure_window_s = rules.exposure_window_s
        self._early_after_s = rules.early_after_s
        self._awaited = rules.awaited
        self._disorder_s = rules.disorder_s
        self._dedup_horizon_s = rules.dedup_horizon_s
        self._forget_after_s = rules.forget_after_s

    @property
    def watermark(self) -> float:
        """Return the event time up to which the partition is taken to be complete."""
        return self.max_ts - self._disorder_s

    def bring_in(self, user: UserState) -> None:
        """Make a person resident."""
        self.resident[user.user_id] = user
        self.by_key[user.key] = user

    def due_by(self, ts: float) -> list[bytes]:
        """Return the keys of everybody whose timer fires if an event of time ``ts`` arrives."""
        return self.timers.due_by(ts - self._disorder_s)

    def advance(self, ts: float, rows: Rows) -> None:
        """Move event time forward and close every window that is over."""
        if ts <= self.max_ts:
            return
        self.max_ts = ts
        watermark = ts - self._disorder_s
        if self.timers.next_at <= watermark:
            for key in self.timers.take(watermark):
                self._fire(self.by_key[key], watermark, rows)

    def apply(self, events: Sequence[Interaction], rows: Rows) -> None:
        """Apply events in order: nothing of one that was seen before, or comes too late."""
        resident, timers, dirty = self.resident, self.timers, self.dirty
        disorder_s, rules = self._disorder_s, self._feedback
        max_ts = self.max_ts
        hashes = event_hashes([event.event_id for event in events])
        names = exposure_hashes(events, hashes)
        for event, seen_as, name in zip(events, hashes, names, strict=True):
            ts = event.ts
            user = resident[event.user_id]
            seen = user.seen
            if seen_as in seen:
                self.duplicates += 1
                self.ignored.append(event)
                continue
            if ts > max_ts:
                max_ts = ts
                if timers.next_at <= ts - disorder_s:
                    self.advance(ts, rows)
                    # Whose own timer was due was forgotten, and comes back as somebody new.
                    user = resident[event.user_id]
                    seen = user.seen
                else:
                    self.max_ts = ts
            elif ts < max_ts - self._dedup_horizon_s:
                self.too_late += 1
                self.ignored.append(event)
                continue
            dirty[user.key] = user
            seen[seen_as] = ts
            if not len(seen) % _LOOK_EVERY:
                oldest = max_ts - self._dedup_horizon_s
                dropped = forget_events(seen, oldest, self.rules.max_event_ids, _LOOK_EVERY)
                if dropped:
                    self.counts.dropped["event_ids"] += dropped
            if event.segment is not None:
                user.segment = event.segment
            rate, since_s = user.rate, ts - user.last_ts
            if since_s > 0.0:
                rate *= 2.0 ** (-since_s / _RATE_HALF_LIFE_S)
                user.last_ts = ts
            user.rate = rate + 1.0
            kind = event.type
            if kind == "impression":
                self._expose(user, event, ts, name, rows)
            elif kind == "search":
                leave(user, ts)
                user.previous = None
            else:
                self._answer(user, event, ts, name, rules.get(kind, self._unknown), rows)
            if user.due == NEVER:
                self._schedule(user, user.last_ts + self._forget_after_s)

    def decide(self, user: UserState, decision: Decided) -> None:
        """Believe what a decision says of exposures, those that are yet to come included."""
        self.dirty[user.key] = user
        rules = self.rules
        oldest = decision.ts - rules.longest_window_s
        dropped = believe(user, decision, oldest, rules.max_examples)
        if dropped:
            self.counts.dropped["decisions"] += dropped
        if user.due == NEVER:
            self._schedule(user, decision.ts + self._forget_after_s)

    # --- one event ------------------------------------------------------------------------

    def _expose(
        self, user: UserState, event: Interaction, ts: float, name: int, rows: Rows
    ) -> None:
        example = user.examples.get(name)
        new = example is None
        if example is None:
            due = deadline = ts + self._exposure_window_s
            example = self._open(user, event, ts, name, deadline, rows)
            if self._early_after_s is not None:
                due = min(due, ts + self._early_after_s)
            if due < user.due:
                self._schedule(user, due)
            if user.busy is not None:
                leave(user, ts)
            user.previous = name
        elif event.context:
            self._add_context(example, event.context)
        evidence = example.evidence
        evidence[_C_IMPRESSIONS] += 1.0
        position, shown = event.position, user.decided.get(name)
        if shown is not None:
            show(example, shown)
            position = shown.position
        else:
            if position is not None:
                evidence[_C_POSITION] = position
            if event.propensity is not None:
                evidence[_C_PROPENSITY] = event.propensity
            if event.policy is not None:
                example.policy = event.policy
        if new and self._awaited is not None:
            opened = (user, example, True, "impression", ts, position, user.rate)
            rows.happened.append(opened)

    def _answer(
        self,
        user: UserState,
        event: Interaction,
        ts: float,
        name: int,
        does: Feedback,
        rows: Rows,
    ) -> None:
        counted, summed, window_s, opens_s, starts, positive, negative = does
        example = None
        if event.request_id:
            example = self._named(user, name)
        if example is None:
            example = user.latest.get(event.item_id)
            if example is not None and example.stage == FINAL:
                example = None
        if example is None:
            self.counts.organic += 1
            deadline = ts + opens_s
            example = self._open(user, event, ts, name, deadline, rows)
            if deadline < user.due:
                self._schedule(user, deadline)
            if name in user.decided:
                show(example, user.decided[name])
            if self._awaited is not None:
                rows.happened.append((user, example, True, event.type, ts, None, user.rate))
            evidence = example.evidence
        else:
            self.counts.matched += 1
            evidence = example.evidence
            self.delays_s.append(ts - evidence[_C_OPENED])
            if evidence[counted] > 0.0 and (
                event.value is None
                or (event.type == "rating" and event.value == evidence[_C_RATING])
            ):
                self.counts.duplicate_rewards += 1
            if event.context:
                self._add_context(example, event.context)
            if self._awaited is not None and event.type in self._awaited:
                rows.happened.append((user, example, False, event.type, ts, event.value, 0.0))
        if user.busy is not example:
            leave(user, ts)
            user.busy, user.previous = example, example.hash
        evidence[counted] += 1.0
        value = event.value
        if value is not None:
            if summed >= 0:
                evidence[summed] += value
            elif event.type == "rating":
                evidence[_C_RATING] = value
        if isnan(evidence[_C_FIRST]):
            evidence[_C_FIRST] = ts
        evidence[_C_LAST] = ts
        evidence[_C_RATE] = user.rate
        stage, reason = ASSESSED, _FIRST
        if example.stage == FINAL:
            stage, reason = REVISED, _LATE
            self.counts.late_corrections += 1
        else:
            if example.stage == OPENED:
                stage = example.stage = PROVISIONAL
            if window_s > 0.0 and ts + window_s > example.deadline:
                example.deadline = ts + window_s
        if starts or (positive and not example.engaged):
            task, example.engaged = ENGAGE, True
        elif example.engaged:
            task = CORRECT
        else:
            task = NEGATIVE if negative else NOTHING
        rows.add(user, example, stage, reason, task, ts)

    def _named(self, user: UserState, name: int) -> Example | None:
        """Return the exposure that a request names, if it still takes corrections."""
        example = user.examples.get(name)
        if example is None or example.stage < FINAL or example.deadline > self.watermark:
            return example
        # Past correction, though nobody had reason to forget it yet.
        forget(user, [example])
        return None

    def _open(
        self, user: UserState, event: Interaction, ts: float, name: int, deadline: float, rows: Rows
    ) -> Example:
        examples, latest, item_id = user.examples, user.latest, event.item_id
        if len(examples) >= self._max_examples:
            self._make_room(user, ts, rows)
        evidence = blank_row()
        evidence[_C_OPENED] = ts
        evidence[_C_RATE] = user.rate
        before = latest.get(item_id)
        if before is not None:
            evidence[_C_REPEATS] = before.evidence[_C_REPEATS] + (1.0 if before.engaged else 0.0)
        context = event.context or _NO_CONTEXT  # never changed in place: the event's own will do
        # A request may name an exposure that was known before; an event id names one only once.
        revision = user.next_revision if event.request_id else 0
        example = Example(
            name, item_id, evidence, deadline, OPENED, revision, False, b"", user.segment, context
        )
        examples[name] = latest[item_id] = example
        self.pending += 1
        return example

    def _add_context(self, example: Example, context: Context) -> None:
        excess = add_context(example, context)
        if excess:
            self.counts.dropped["context_keys"] += excess

    def _make_room(self, user: UserState, ts: float, rows: Rows) -> None:
        oldest = next(iter(user.examples.values()))
        if oldest.stage < FINAL:
            self.counts.dropped["open_examples"] += 1
            self._close(user, oldest, ts, _BOUND, rows)
        else:
            self.counts.dropped["closed_examples"] += 1
        forget(user, [oldest])

    # --- timers ---------------------------------------------------------------------------

    def _schedule(self, user: UserState, due: float) -> None:
        user.due = due
        self.timers.set(user.key, due)

    def _fire(self, user: UserState, watermark: float, rows: Rows) -> None:
        """Close what is due, give early labels, forget what is past correction.

        Only what is open has a timer of its own. What is closed is forgotten on the way, or when
        the last of it may be: one timer a visit instead of one an example.
        """
        self.dirty[user.key] = user
        early_after_s, lateness_s = self.rules.early_after_s, self.rules.lateness_horizon_s
        open_due, closed_until = NEVER, -NEVER
        forgotten = []
        for example in user.examples.values():
            deadline = example.deadline
            if example.stage != FINAL:
                if deadline > watermark:
                    if deadline < open_due:
                        open_due = deadline
                    if early_after_s is not None and example.stage == OPENED:
                        early = example.evidence[_C_OPENED] + early_after_s
                        if early <= watermark:
                            example.stage = PROVISIONAL
                            rows.add(user, example, PROVISIONAL, _EARLY, NOTHING, early)
                        elif early < open_due:
                            open_due = early
                    continue
                self._close(user, example, deadline, _CLOSED, rows)
                deadline = example.deadline = deadline + lateness_s
            if deadline > closed_until:
                closed_until = deadline
            if deadline <= watermark:
                forgotten.append(example)
        if forgotten:
            forget(user, forgotten)
        due = open_due
        if due == NEVER:
            due = closed_until
            if due <= watermark:
                # Nothing is left.
                due = user.last_ts + self._forget_after_s
                if due <= watermark:
                    self._drop(user)
                    return
        user.due = due
        self.timers.set(user.key, due)

    def _close(self, user: UserState, example: Example, ts: float, reason: int, rows: Rows) -> None:
        evidence = example.evidence
        evidence[_C_CLOSED] = 1.0
        example.stage = FINAL
        self.pending -= 1
        if isnan(evidence[_C_FIRST]):
            self.counts.expired += 1
        if example.engaged:
            task = CORRECT
        else:
            task = NEGATIVE if evidence[_C_IMPRESSIONS] > 0 else NOTHING
        rows.add(user, example, FINAL, reason, task, ts)

    def _drop(self, user: UserState) -> None:
        """Forget a person; a blank takes their place, so that nobody asks the store for the old."""
        self.timers.drop(user.key)
        self.gone.add(user.key)
        self.dirty.pop(user.key, None)
        blank = UserState(user.user_id, user.key)
        blank.touched = user.touched
        self.bring_in(blank)
