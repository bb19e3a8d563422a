"""Decisions of the API: what was shown where, how likely, and by which policy.

They are believed over what the client echoes. A decision waits for the first event that happened
after it, and then stays with its person until the exposure that it speaks of has closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from pydantic import TypeAdapter

from stream.decoding.records import RecordDecoder
from stream.decoding.rejection import Rejected
from stream.events import Decision
from stream.ids import exposure_hash
from stream.records import RecordBatch
from stream.waiting import Waiting

__all__ = ["MOST_PLACES", "Decided", "DecisionQueue"]

MOST_PLACES: Final = 100_000
"""Places of slates that wait in a partition: some 30 MB, and 2 MB of each checkpoint."""

_DECODER: Final = RecordDecoder(TypeAdapter(Decision))


class Decided(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One decision, ordered by its time, then by where it lay in the log.

    ``places`` are exposures: second half of the example's id, position, propensity.
    """

    ts: float
    offset: int
    line: int
    key: bytes
    user_id: str
    policy: str
    places: tuple[tuple[int, int, float], ...]


class DecisionQueue(Waiting[Decided]):
    """Decisions whose time has not come yet.

    State
    -----
    At most `MOST_PLACES` places of slates: where decisions come and events do not, since their
    feed is down, the oldest go, and what the client echoes is believed of those.
    """

    def __init__(self) -> None:
        super().__init__(Decided)
        self._places = 0

    def take(self, decisions: Sequence[Decided], now: float) -> int:
        """Let decisions wait; return how many, of those not made before ``now``, had to go.

        None that waits was made before ``now``; those that were are popped next.
        """
        dropped = 0
        # Which ones go does not depend on how decisions are cut into batches.
        for decision in decisions:
            if decision.ts >= now:
                self.push(decision)
                while self._places > MOST_PLACES:
                    self._places -= len(self.pop().places)
                    dropped += 1
        for decision in decisions:
            if decision.ts < now:
                self.push(decision)
        return dropped

    def push(self, record: Decided) -> None:
        """Let a decision wait, however many there are."""
        super().push(record)
        self._places += len(record.places)

    def pop_before(self, ts: float) -> list[Decided]:
        """Remove and return the decisions of before ``ts``, in order."""
        ready = super().pop_before(ts)
        self._places -= sum(len(decision.places) for decision in ready)
        return ready

    def load(self, data: bytes) -> None:
        """Replace the decisions that wait by stored ones."""
        super().load(data)
        self._places = sum(len(decision.places) for decision in self)

    def decode(
        self, batch: RecordBatch, owner: Callable[[str], tuple[str, bytes] | None]
    ) -> tuple[list[Decided], list[Decision], list[Rejected]]:
        """Return a batch's decisions, those about people elsewhere, and the lines that are none.

        ``owner`` gives the id under which a person is kept, and the key; None: not here.
        """
        decoded = _DECODER.decode(batch)
        decisions, elsewhere = [], []
        for decision, origin in zip(decoded.records, decoded.origins, strict=True):
            known = owner(decision.user_id)
            if known is None:
                elsewhere.append(decision)
                continue
            user_id, key = known
            places = tuple(
                (exposure_hash(decision.request_id, item.item_id), item.position, item.propensity)
                for item in decision.items
            )
            decisions.append(
                Decided(
                    decision.ts, origin.offset, origin.line, key, user_id, decision.policy, places
                )
            )
        return decisions, elsewhere, decoded.rejected
