"""The stage of late rewards: what an exposure will bring, predicted, awaited and corrected.

Pure. The join says in order what happened to exposures; each outcome has a head that learns a
negative at the exposure (as it matures) and a positive when the outcome arrives. What was
predicted, the features, and what has arrived already lie with the example, so that a repeat or a
replay changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, Final

import msgspec
import numpy as np

from models.formats import refuse_newer
from models.rewards import (
    ARRIVED,
    EXPOSED,
    HEAD_STATE,
    UNDONE,
    ExposureRecords,
    HeadConfig,
    RewardHead,
)
from stream.evidence import Column
from stream.forecasts import MARKED, Forecasts
from stream.outcomes import Outcome
from stream.reward_rows import NONE, Arrival, FeatureHashes, Fresh, regress, run_head
from stream.rows import Happened
from stream.user_state import Example, UserState

__all__ = ["REWARDS_CHUNK", "Rewards", "delay_report"]

REWARDS_CHUNK: Final = "share/rewards"
"""Curves and scores of a partition's heads: sums, which add up across partitions."""

_TABLES: Final = "own/rewards/"

_AMOUNT: Final = "amount"
_FORMAT: Final = 2
"""1: without what labels go by: how much has happened, and the curves as of then."""
_OPENED_TS: Final = int(Column.OPENED_TS)
_HELD: Final = 256


class Rewards:
    """One partition's reward heads.

    *State* — a head an outcome, and one for amounts where they count; all of fixed size.

    What happened waits until there are some hundreds of rows, or until somebody looks: a small
    batch costs a few references, and since nothing depends on how rows are cut into calls, nobody
    can tell.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = tuple(outcomes)
        self.records = ExposureRecords([outcome.name for outcome in outcomes])
        self._heads = {o.name: RewardHead(HeadConfig(window_s=o.window_s)) for o in outcomes}
        self._amounts = {
            o.name: RewardHead(HeadConfig(window_s=o.window_s, linear=True, base_rate=0.0, bits=12))
            for o in outcomes
            if o.amount
        }
        self._late = dict.fromkeys(self._heads, 0)
        self._seen = 0
        self._visits = next((n for n, o in enumerate(outcomes) if o.back_after_s > 0.0), NONE)
        self._visit_record = ExposureRecords(["visit"])
        self._by_event: dict[str, list[tuple[int, int]]] = {}
        for number, outcome in enumerate(outcomes):
            for name in outcome.events:
                self._by_event.setdefault(name, []).append((number, ARRIVED))
            for name in outcome.undone_by:
                self._by_event.setdefault(name, []).append((number, UNDONE))
        self._hashes = FeatureHashes()
        self._held: list[Happened] = []
        self._learns = True
        self._taken = 0
        self.forecasts = Forecasts(outcomes, self.records, _HELD, self.flush)
        self.forecasts.mark(0, self._heads)

    @property
    def heads(self) -> dict[str, RewardHead]:
        """The head of each outcome by name, everything taken in."""
        self.flush()
        return self._heads

    @property
    def amounts(self) -> dict[str, RewardHead]:
        """The heads of amounts by name of the outcome, everything taken in."""
        self.flush()
        return self._amounts

    @property
    def late(self) -> dict[str, int]:
        """Outcomes by name that came after their window: counted, not learned."""
        self.flush()
        return self._late

    @property
    def seen(self) -> int:
        """Exposures so far."""
        self.flush()
        return self._seen

    # --- rows -----------------------------------------------------------------------------

    def step(self, happened: Sequence[Happened], learn: bool) -> None:
        """Take in what happened, in order: to be predicted, learned and remembered."""
        if not self.outcomes:
            return
        if learn != self._learns:
            self.flush()
            self._learns = learn
        self.forecasts.forget()
        self._held += happened
        whole = MARKED - self._taken % MARKED
        if len(self._held) >= min(_HELD, whole):
            self.flush()

    @property
    def number(self) -> int:
        """Return how much has happened so far."""
        return self._taken + len(self._held)

    def flush(self) -> None:
        """Predict and learn what waits; write to the examples what to remember."""
        if not self._held:
            return
        happened, self._held = self._held, []
        start = 0
        while start < len(happened):
            stop = min(len(happened), start + MARKED - self._taken % MARKED)
            self._take(happened[start:stop])
            self._taken += stop - start
            if self._taken % MARKED == 0:
                self.forecasts.mark(self._taken, self._heads)
            start = stop

    def _take(self, happened: Sequence[Happened]) -> None:
        fresh = Fresh(happened, len(self.outcomes), self._hashes)
        arrivals: list[list[Arrival]] = [[] for _ in self.outcomes]
        visits = self._visited(fresh, arrivals[self._visits]) if self._visits >= 0 else []
        if len(fresh) < len(happened):
            for place, (_, example, is_opened, kind, ts, number, _) in enumerate(happened):
                if is_opened:
                    continue
                wanted = self._by_event.get(kind, ())
                row = fresh.row(example)
                if row >= 0:
                    self._answer_fresh(wanted, place, ts, number, row, fresh, arrivals)
                elif example.reward:
                    self._answer(wanted, place, ts, number, example, arrivals)
        self._learn(fresh, arrivals, visits)

    def expected(self, example: Example, ts: float) -> float | None:
        """Return the reward that is expected of an example in the end, as things stand.

        What has arrived is worth its value, what was undone nothing, and what is open its value
        times the chance that it still comes. None for an example that was never predicted.
        """
        self.flush()
        record = self.records.unpack(example.reward)
        if record is None:
            return None
        age_s = max(0.0, ts - example.evidence[_OPENED_TS])
        total = 0.0
        for number, outcome in enumerate(self.outcomes):
            p0 = record.p0[number]
            if isnan(p0):
                continue
            worth = outcome.value
            if outcome.amount:
                features = np.frombuffer(record.features, dtype="<u4")[None, :]
                worth *= float(self.amounts[outcome.name].predict_many(features, ts)[0])
            if record.state[number] == ARRIVED:
                total += worth
            elif record.state[number] == 0:
                total += worth * float(self.heads[outcome.name].eventual(p0, age_s))
        return total

    def share_to_come(self) -> dict[str, float]:
        """Return, of each outcome of the last window's exposures, the share still to come."""
        return {name: head.curve.share_to_come() for name, head in self.heads.items()}

    # --- state ----------------------------------------------------------------------------

    def dirty_chunks(self) -> dict[str, bytes]:
        """Return the chunks that changed since the last call, by name.

        What others read, curves and scores, is one small chunk; the tables are the partition's.
        """
        if not self.outcomes:
            return {}
        self.flush()
        chunks: dict[str, bytes] = {}
        states: dict[str, bytes] = {}
        for name, head in self._all_heads().items():
            for part, data in head.dirty_chunks().items():
                if part == HEAD_STATE:
                    states[name] = data
                else:
                    chunks[f"{_TABLES}{name}/{part}"] = data
        chunks[REWARDS_CHUNK] = msgspec.msgpack.encode(
            (_FORMAT, self.seen, self.late, states, self._taken, self.forecasts.state())
        )
        return chunks

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Take stored chunks up; outcomes that are new, or configured otherwise, start anew.

        Raises
        ------
        ValueError
            If they are of a newer format than this program reads.
        """
        if REWARDS_CHUNK not in chunks:
            return
        stored: tuple[Any, ...] = tuple(msgspec.msgpack.decode(chunks[REWARDS_CHUNK]))
        refuse_newer("the state of late rewards", stored[0], _FORMAT)
        self._seen, late, states = stored[1:4]
        self._late |= {name: n for name, n in late.items() if name in self._late}
        parts: dict[str, dict[str, bytes]] = {
            name: {HEAD_STATE: state} for name, state in states.items()
        }
        for name, data in chunks.items():
            if name.startswith(_TABLES):
                head, _, part = name.removeprefix(_TABLES).rpartition("/")
                parts.setdefault(head, {})[part] = data
        for name, known in self._all_heads().items():
            known.load_chunks(parts.get(name, {}))
        if stored[0] >= _FORMAT:
            self._taken = stored[4]
            self.forecasts.load(stored[5])

    def _all_heads(self) -> dict[str, RewardHead]:
        amounts = {f"{name}/{_AMOUNT}": head for name, head in self.amounts.items()}
        return {**self.heads, **amounts}

    # --- inside ---------------------------------------------------------------------------

    def _answer_fresh(
        self,
        wanted: Sequence[tuple[int, int]],
        place: int,
        ts: float,
        number: float | None,
        row: int,
        fresh: Fresh,
        arrivals: Sequence[list[Arrival]],
    ) -> None:
        for outcome, kind in wanted:
            if fresh.kinds[row] in self.outcomes[outcome].events:
                continue
            age_s = ts - fresh.times[row]
            if self._turns(outcome, kind, int(fresh.state[row, outcome]), age_s):
                fresh.state[row, outcome] = kind
                arrivals[outcome].append(
                    Arrival(place, kind, ts, max(age_s, 0.0), row, b"", 0.0, number)
                )

    def _answer(
        self,
        wanted: Sequence[tuple[int, int]],
        place: int,
        ts: float,
        number: float | None,
        example: Example,
        arrivals: Sequence[list[Arrival]],
    ) -> None:
        record = self.records.unpack(example.reward)
        if record is None:
            return
        state = bytearray(record.state)
        for outcome, kind in wanted:
            p0 = record.p0[outcome]
            if isnan(p0):
                continue
            age_s = ts - example.evidence[_OPENED_TS]
            if self._turns(outcome, kind, state[outcome], age_s):
                state[outcome] = kind
                arrivals[outcome].append(
                    Arrival(place, kind, ts, max(age_s, 0.0), NONE, record.features, p0, number)
                )
        if state != record.state:
            example.reward = self.records.restated(example.reward, bytes(state))

    def _turns(self, outcome: int, kind: int, state: int, age_s: float) -> bool:
        """Return whether this is news; an outcome past its window is counted only."""
        if kind == UNDONE:
            return state == ARRIVED
        if state != EXPOSED:
            return False
        spec = self.outcomes[outcome]
        if age_s > spec.window_s:
            self._late[spec.name] += 1
            return False
        return True

    def _visited(self, fresh: Fresh, arrivals: list[Arrival]) -> list[tuple[int, UserState]]:
        """Note who is here: on the same visit, or on a new one, which is of the last one.

        Returns the rows with which visits began, and whose they are.
        """
        spec = self.outcomes[self._visits]
        pause_s = spec.back_after_s
        begun: list[tuple[int, UserState]] = []
        for row, (user, ts) in enumerate(zip(fresh.users, fresh.times, strict=True)):
            last = user.visit
            if last is not None:
                if ts - last[1] <= pause_s:
                    if ts > last[1]:
                        user.visit = (last[0], ts, last[2])
                    continue
                age_s = ts - last[0]
                before = next((r for r, who in reversed(begun) if who is user), NONE)
                record = self._visit_record.unpack(last[2])
                place = int(fresh.place[row])
                if age_s > spec.window_s:
                    self._late[spec.name] += 1
                elif before >= 0:
                    arrivals.append(Arrival(place, ARRIVED, ts, age_s, before, b"", 0.0, None))
                elif record is not None:
                    said, features = record.p0[0], record.features
                    arrivals.append(Arrival(place, ARRIVED, ts, age_s, NONE, features, said, None))
            user.visit = (ts, ts, b"")
            begun.append((row, user))
        return begun

    def _learn(
        self,
        fresh: Fresh,
        arrivals: Sequence[Sequence[Arrival]],
        visits: Sequence[tuple[int, UserState]],
    ) -> None:
        learn = self._learns
        exposures = len(fresh)
        p0 = np.full((exposures, len(self.outcomes)), np.nan)
        version = (self._taken + fresh.place) & 0xFFFFFFFF
        self._seen += exposures
        kinds = set(fresh.kinds)
        for number, outcome in enumerate(self.outcomes):
            head, came = self._heads[outcome.name], arrivals[number]
            if number == self._visits:
                if not visits and not came:
                    continue
                mine = np.array([row for row, _ in visits], dtype=np.int64)
                said = run_head(head, mine, fresh, came, learn)
                none = np.zeros((len(mine), 1), np.uint8)
                packed = self._visit_record.pack(
                    fresh.features[mine], said[:, None], version[mine], none
                )
                for (_, user), record in zip(visits, packed, strict=True):
                    if user.visit is not None:
                        user.visit = (user.visit[0], user.visit[1], record)
                continue
            if kinds.isdisjoint(outcome.events):
                p0[:, number] = run_head(head, None, fresh, came, learn)
            else:
                rows = np.flatnonzero([kind not in outcome.events for kind in fresh.kinds])
                p0[rows, number] = run_head(head, rows, fresh, came, learn)
            if outcome.amount:
                regress(self._amounts[outcome.name], came, fresh.features, learn)
        packed = self.records.pack(fresh.features, p0, version, fresh.state)
        for example, record in zip(fresh.examples, packed, strict=True):
            example.reward = record


def delay_report(parts: Sequence[Rewards]) -> dict[str, Any]:
    """Return what the report says of late rewards, of all partitions together."""
    outcomes: dict[str, Any] = {}
    loss = n = 0.0
    for name in parts[0].heads:
        head = RewardHead.from_bytes(parts[0].heads[name].to_bytes())
        for other in parts[1:]:
            head.merge(other.heads[name])
        score = head.score
        if score.log_loss is not None:
            loss += score.log_loss * score.n
            n += score.n
        outcomes[name] = {
            "n": score.n,
            "arrived": score.positives,
            "late": sum(part.late[name] for part in parts),
            "log_loss": score.log_loss,
            "base_log_loss": score.base_log_loss,
            "calibration": score.calibration,
            "share_to_come": head.curve.share_to_come() if score.n else None,
        }
    return {"log_loss": loss / n if n else None, "outcomes": outcomes}
