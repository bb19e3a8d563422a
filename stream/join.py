"""The join: feedback meets the exposure that it answers, and windows close by event time.

Everything here is decided by the order of the records of one partition: no clock, no batch.
Each event, and each window that closes, may add *rows*: an example as it stands at that moment,
which the models then label and learn from. See DESIGN §4, *Examples and labels*.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import isnan
from typing import Final, NamedTuple

from monitoring.counts import JoinCounts
from stream.events import Interaction
from stream.evidence import COUNT_COLUMN, DEFAULTS, SUM_COLUMN, Column
from stream.fields import MAX_CONTEXT_KEYS
from stream.ids import event_hash, exposure_hash
from stream.user_state import FINAL, OPENED, PROVISIONAL, Example, UserState

__all__ = [
    "CORRECT",
    "ENGAGE",
    "NEGATIVE",
    "NOTHING",
    "REASONS",
    "Join",
    "JoinRules",
    "Rows",
    "TypeRule",
]

NOTHING: Final = -1
ENGAGE: Final = 0
CORRECT: Final = 1
NEGATIVE: Final = 2
"""What a row asks of the recommender; numbers as in `models.recommender`."""

ASSESSED: Final = 0
"""Stage of a row that only asks for a posterior and publishes nothing."""
REVISED: Final = 3

REASONS: Final = (
    "first feedback",
    "early",
    "windows closed",
    "late feedback",
    "gold",
    "state bound",
)
_FIRST, _EARLY, _CLOSED, _LATE, _GOLD, _BOUND = range(len(REASONS))

_RATE_HALF_LIFE_S: Final = 60.0
_NEVER: Final = float("inf")

_C_IMPRESSIONS: Final = int(Column.IMPRESSIONS)
_C_RATING: Final = int(Column.RATING)
_C_POSITION: Final = int(Column.POSITION)
_C_PROPENSITY: Final = int(Column.PROPENSITY)
_C_OPENED: Final = int(Column.OPENED_TS)
_C_FIRST: Final = int(Column.FIRST_FEEDBACK_TS)
_C_LAST: Final = int(Column.LAST_TS)
_C_AWAY: Final = int(Column.AWAY_S)
_C_REPEATS: Final = int(Column.REPEATS)
_C_RATE: Final = int(Column.USER_RATE)
_C_CLOSED: Final = int(Column.CLOSED)


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What an event of one type does to the example that it joins.

    Parameters
    ----------
    window_s
        Keeps the example open at least so long after the event; 0: no longer than it is.
    starts
        Each such event is an engagement of its own (a click, a view), to be predicted.
    positive, negative
        Whether it speaks for or against the thing.
    """

    window_s: float
    starts: bool = False
    positive: bool = False
    negative: bool = False


@dataclass(frozen=True, slots=True)
class JoinRules:
    """Windows and bounds, in seconds of event time unless said otherwise.

    Parameters
    ----------
    exposure_window_s
        An exposure without engagement closes so long after it.
    early_after_s
        A provisional label is due so long after an exposure without feedback; None: never.
    disorder_s
        How far behind the newest event the watermark stays.
    lateness_horizon_s
        A closed example takes corrections for so long.
    dedup_horizon_s
        An event id is remembered for so long; older events are counted, not learned.
    user_horizon_s
        A person is forgotten so long after their last event, if no event id of theirs must be
        remembered for longer.
    max_examples
        Examples kept of one person; the oldest is closed early, and counted, to make room.
    max_event_ids
        Event ids remembered of one person; the oldest is forgotten early, and counted.
    types
        Rule of each type of feedback; `impression` and `search` need none.
    """

    types: Mapping[str, TypeRule]
    exposure_window_s: float = 1800.0
    early_after_s: float | None = None
    disorder_s: float = 60.0
    lateness_horizon_s: float = 2 * 86400.0
    dedup_horizon_s: float = 2 * 86400.0
    user_horizon_s: float = 90 * 86400.0
    max_examples: int = 200
    max_event_ids: int = 65_536

    @property
    def forget_after_s(self) -> float:
        """Return how long after the last event nothing of a person is needed any more."""
        return max(self.user_horizon_s, self.dedup_horizon_s)

    @property
    def longest_window_s(self) -> float:
        """Return the longest time for which any example stays open."""
        windows = [rule.window_s for rule in self.types.values()]
        return max([self.exposure_window_s, *windows])


class RowColumns(NamedTuple):
    """Rows as columns, each (n,): slots of example and user, stage, reason, task, event time."""

    example: tuple[int, ...]
    user: tuple[int, ...]
    stage: tuple[int, ...]
    reason: tuple[int, ...]
    kind: tuple[int, ...]
    ts: tuple[float, ...]


class Rows:
    """Examples as they stood when something happened to them, in order.

    Attributes
    ----------
    evidence
        Their evidence, one row after the other.
    touched, users
        Each example and each person once; a row names them by slot.
    """

    __slots__ = ("_columns", "_rows", "evidence", "touched", "users")

    def __init__(self) -> None:
        self.evidence: list[float] = []
        self.touched: list[Example] = []
        self.users: list[UserState] = []
        self._rows: list[tuple[int, int, int, int, int, float]] = []
        self._columns: RowColumns | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> RowColumns:
        """The rows as columns; no row may be added any more."""
        if self._columns is None:
            self._columns = RowColumns(*zip(*self._rows, strict=True))
        return self._columns

    def add(
        self, user: UserState, example: Example, stage: int, reason: int, kind: int, ts: float
    ) -> None:
        """Append the example as it stands."""
        slot = example.slot
        if slot < 0:
            slot = example.slot = len(self.touched)
            self.touched.append(example)
        who = user.slot
        if who < 0:
            who = user.slot = len(self.users)
            self.users.append(user)
        self.evidence += example.evidence
        self._rows.append((slot, who, stage, reason, kind, ts))


class Join:
    """The exposures of one partition: who waits for what, and until when.

    Attributes
    ----------
    max_ts
        Newest event time applied; the watermark lies ``disorder_s`` behind it.
    resident
        People in memory, by user id; `by_key` the same by key. The pipeline brings them in.
    due
        When each known person's next timer is due, resident or not.
    counts
        What happened, additive.
    gone
        Who was forgotten since the last cut. They stay resident, blank, until the store knows.
    too_late
        Events older than the deduplication horizon: counted, not learned.
    """

    def __init__(self, rules: JoinRules) -> None:
        self.rules = rules
        self.max_ts = -_NEVER
        self.resident: dict[str, UserState] = {}
        self.by_key: dict[bytes, UserState] = {}
        self.due: dict[bytes, float] = {}
        self._heap: list[tuple[float, bytes]] = []
        self.counts = JoinCounts()
        self.delays_s: list[float] = []
        self.pending = 0
        self.duplicates = 0
        self.too_late = 0
        self.gone: set[bytes] = set()
        self.dirty: dict[bytes, UserState] = {}

    @property
    def watermark(self) -> float:
        """Return the event time up to which the partition is taken to be complete."""
        return self.max_ts - self.rules.disorder_s

    def bring_in(self, user: UserState) -> None:
        """Make a person resident."""
        self.resident[user.user_id] = user
        self.by_key[user.key] = user

    def restore_timers(self, timers: Mapping[bytes, float]) -> None:
        """Replace all timers."""
        self.due = dict(timers)
        self._heap = [(due, key) for key, due in self.due.items()]
        heapq.heapify(self._heap)

    def due_by(self, ts: float) -> list[bytes]:
        """Return the keys of everybody whose timer fires if an event of time ``ts`` arrives.

        *Complexity* — O(due), plus what is stale.
        """
        limit = ts - self.rules.disorder_s
        heap, found = self._heap, []
        stack = [0]
        while stack:
            at = stack.pop()
            if at < len(heap) and heap[at][0] <= limit:
                due, key = heap[at]
                if self.due.get(key) == due:
                    found.append(key)
                stack += (2 * at + 1, 2 * at + 2)
        return found

    def next_due(self) -> float:
        """Return when the next timer is due, infinity without any."""
        while self._heap:
            due, key = self._heap[0]
            if self.due.get(key) == due:
                return due
            heapq.heappop(self._heap)
        return _NEVER

    def advance(self, ts: float, rows: Rows) -> None:
        """Move event time forward and close every window that is over."""
        if ts <= self.max_ts:
            return
        self.max_ts = ts
        watermark = ts - self.rules.disorder_s
        while self._heap and self._heap[0][0] <= watermark:
            due, key = heapq.heappop(self._heap)
            if self.due.get(key) == due:
                self._fire(self.by_key[key], watermark, rows)

    def apply(self, event: Interaction, rows: Rows) -> None:
        """Apply one event: nothing, if it was seen before or comes too late."""
        ts = event.ts
        user = self.resident[event.user_id]
        seen_hash = event_hash(event.event_id)
        seen = user.seen
        if seen_hash in seen:
            self.duplicates += 1
            return
        rules = self.rules
        if ts > self.max_ts:
            self.advance(ts, rows)
            # Whose own timer was due was forgotten, and comes back as somebody new.
            user = self.resident[event.user_id]
        elif ts < self.max_ts - rules.dedup_horizon_s:
            self.too_late += 1
            return
        self.dirty[user.key] = user
        self._remember(user, seen_hash, ts)
        segment = event.segment
        if segment is not None:
            user.segment = segment
        since_s = ts - user.last_ts
        if since_s > 0.0:
            user.rate *= 2.0 ** (-since_s / _RATE_HALF_LIFE_S)
            user.last_ts = ts
        user.rate += 1.0
        item_id = event.item_id
        kind = event.type
        if kind == "search":
            self._left(user, None, ts)
        elif kind == "impression":
            self._expose(user, event, item_id, seen_hash, rows)
        else:
            self._answer(user, event, item_id, kind, seen_hash, rows)
        if user.due == _NEVER:
            self._schedule(user, user.last_ts + rules.forget_after_s)

    # --- one event ------------------------------------------------------------------------

    def _remember(self, user: UserState, seen_hash: int, ts: float) -> None:
        seen = user.seen
        seen[seen_hash] = ts
        # Two looks an event empty the front at least as fast as it grows.
        oldest = self.max_ts - self.rules.dedup_horizon_s
        for _ in range(2):
            first = next(iter(seen))
            if seen[first] >= oldest:
                if len(seen) <= self.rules.max_event_ids:
                    break
                self.counts.dropped["event_ids"] += 1
            del seen[first]

    def _expose(
        self, user: UserState, event: Interaction, item_id: str, seen_hash: int, rows: Rows
    ) -> None:
        request_id = event.request_id
        name = exposure_hash(request_id, item_id) if request_id else seen_hash
        example = user.examples.get(name)
        if example is None:
            example = self._open(user, event, item_id, name, rows)
        elif event.context:
            self._add_context(example, event.context)
        evidence = example.evidence
        evidence[_C_IMPRESSIONS] += 1.0
        if event.position is not None:
            evidence[_C_POSITION] = float(event.position)
        if event.propensity is not None:
            evidence[_C_PROPENSITY] = event.propensity
        if event.policy is not None:
            example.policy = event.policy

    def _answer(
        self,
        user: UserState,
        event: Interaction,
        item_id: str,
        kind: str,
        seen_hash: int,
        rows: Rows,
    ) -> None:
        ts = event.ts
        request_id = event.request_id
        example = None
        name = seen_hash
        if request_id:
            name = exposure_hash(request_id, item_id)
            example = user.examples.get(name)
            if (
                example is not None
                and example.stage == FINAL
                and example.deadline <= self.max_ts - self.rules.disorder_s
            ):
                # Past correction, though nobody had reason to forget it yet.
                self._forget(user, example)
                example = None
        if example is None:
            example = user.latest.get(item_id)
            if example is not None and example.stage == FINAL:
                example = None
        if example is None:
            self.counts.organic += 1
            example = self._open(user, event, item_id, name, rows)
        else:
            self.counts.matched += 1
            self.delays_s.append(ts - example.evidence[_C_OPENED])
            if event.context:
                self._add_context(example, event.context)
        self._left(user, example, ts)
        evidence = example.evidence
        evidence[COUNT_COLUMN.get(kind, Column.OTHERS)] += 1.0
        value = event.value
        if value is not None:
            if kind == "rating":
                evidence[_C_RATING] = value
            elif kind in SUM_COLUMN:
                evidence[SUM_COLUMN[kind]] += value
        if isnan(evidence[_C_FIRST]):
            evidence[_C_FIRST] = ts
        evidence[_C_LAST] = ts
        evidence[_C_RATE] = user.rate
        rule = self.rules.types.get(kind, _NO_RULE)
        if example.stage == FINAL:
            stage, reason = REVISED, _LATE
            self.counts.late_corrections += 1
        else:
            stage, reason = (PROVISIONAL, _FIRST) if example.stage == OPENED else (ASSESSED, 0)
            example.stage = PROVISIONAL
            if rule.window_s > 0.0 and ts + rule.window_s > example.deadline:
                example.deadline = ts + rule.window_s
        if rule.starts or (rule.positive and not example.engaged):
            task, example.engaged = ENGAGE, True
        elif example.engaged:
            task = CORRECT
        else:
            task = NEGATIVE if rule.negative else NOTHING
        rows.add(user, example, stage, reason, task, ts)

    def _open(
        self, user: UserState, event: Interaction, item_id: str, name: int, rows: Rows
    ) -> Example:
        examples = user.examples
        rules = self.rules
        if len(examples) >= rules.max_examples:
            self._make_room(user, event.ts, rows)
        ts = event.ts
        evidence = list(DEFAULTS)
        evidence[_C_OPENED] = ts
        evidence[_C_RATE] = user.rate
        before = user.latest.get(item_id)
        if before is not None:
            evidence[_C_REPEATS] = before.evidence[_C_REPEATS] + (1.0 if before.engaged else 0.0)
        context = event.context
        example = Example(
            name,
            item_id,
            evidence,
            ts + rules.exposure_window_s,
            OPENED,
            0,
            False,
            b"",
            user.segment,
            dict(context) if context else {},
        )
        examples[name] = example
        user.latest[item_id] = example
        self.pending += 1
        due = example.deadline
        if rules.early_after_s is not None:
            due = min(due, ts + rules.early_after_s)
        if due < user.due:
            self._schedule(user, due)
        self._left(user, example, ts)
        return example

    def _add_context(
        self, example: Example, context: Mapping[str, str | bool | int | float]
    ) -> None:
        """Add what a later event says; of more keys than one event may have, the first stay."""
        merged = {**example.context, **context}
        excess = len(merged) - MAX_CONTEXT_KEYS
        if excess > 0:
            self.counts.dropped["context_keys"] += excess
            merged = dict(islice(merged.items(), MAX_CONTEXT_KEYS))
        example.context = merged

    def _left(self, user: UserState, now: Example | None, ts: float) -> None:
        """Note on the previous example how soon the person turned to something else."""
        previous = user.previous
        user.previous = now.hash if now is not None else None
        if previous is None or previous == user.previous:
            return
        example = user.examples.get(previous)
        if example is None:
            return
        evidence = example.evidence
        last, away = evidence[_C_LAST], evidence[_C_AWAY]
        if ts >= last and isnan(away):
            evidence[_C_AWAY] = ts - last

    def _make_room(self, user: UserState, ts: float, rows: Rows) -> None:
        oldest = next(iter(user.examples.values()))
        if oldest.stage < FINAL:
            self.counts.dropped["open_examples"] += 1
            self._close(user, oldest, ts, _BOUND, rows)
        else:
            self.counts.dropped["closed_examples"] += 1
        self._forget(user, oldest)

    # --- timers ---------------------------------------------------------------------------

    def _schedule(self, user: UserState, due: float) -> None:
        user.due = due
        self.due[user.key] = due
        heap = self._heap
        heapq.heappush(heap, (due, user.key))
        if len(heap) > 4 * len(self.due) + 1024:
            self.restore_timers(self.due)

    def _fire(self, user: UserState, watermark: float, rows: Rows) -> None:
        """Close what is due, give early labels, forget what is past correction.

        Only what is open has a timer of its own. What is closed is forgotten on the way, or when
        the last of it may be: one timer a visit instead of one an example.
        """
        self.dirty[user.key] = user
        rules = self.rules
        early_after_s = rules.early_after_s
        open_due, closed_until = _NEVER, 0.0
        for example in list(user.examples.values()):
            deadline = example.deadline
            if example.stage < FINAL:
                if deadline > watermark:
                    open_due = min(open_due, deadline)
                    if example.stage == OPENED and early_after_s is not None:
                        early = example.evidence[_C_OPENED] + early_after_s
                        if early <= watermark:
                            example.stage = PROVISIONAL
                            rows.add(user, example, PROVISIONAL, _EARLY, NOTHING, early)
                        else:
                            open_due = min(open_due, early)
                    continue
                self._close(user, example, deadline, _CLOSED, rows)
                deadline = example.deadline = deadline + rules.lateness_horizon_s
            if deadline <= watermark:
                self._forget(user, example)
            else:
                closed_until = max(closed_until, deadline)
        next_due = open_due if open_due != _NEVER else closed_until
        if not next_due:
            next_due = user.last_ts + rules.forget_after_s
            if next_due <= watermark:
                self._drop(user)
                return
        self._schedule(user, next_due)

    def _close(self, user: UserState, example: Example, ts: float, reason: int, rows: Rows) -> None:
        evidence = example.evidence
        evidence[_C_CLOSED] = 1.0
        example.stage = FINAL
        self.pending -= 1
        untouched = isnan(evidence[_C_FIRST])
        if untouched:
            self.counts.expired += 1
        if example.engaged:
            task = CORRECT
        else:
            task = NEGATIVE if evidence[_C_IMPRESSIONS] > 0 else NOTHING
        rows.add(user, example, FINAL, reason, task, ts)

    def _forget(self, user: UserState, example: Example) -> None:
        del user.examples[example.hash]
        item_id = example.item_id
        if user.latest.get(item_id) is not example:
            return
        # What is latest follows from what is kept: it must be the same after a restart.
        for other in reversed(user.examples.values()):
            if other.item_id == item_id:
                user.latest[item_id] = other
                return
        del user.latest[item_id]

    def _drop(self, user: UserState) -> None:
        """Forget a person; a blank takes their place, so that nobody asks the store for the old."""
        self.due.pop(user.key, None)
        self.gone.add(user.key)
        self.dirty.pop(user.key, None)
        blank = UserState(user.user_id, user.key)
        blank.touched = user.touched
        self.bring_in(blank)


_NO_RULE: Final = TypeRule(window_s=0.0)
GOLD: Final = _GOLD
