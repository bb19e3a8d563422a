"""Decisions of the API: what was shown where, how likely, and by which policy.

They are believed over what the client echoes. A decision waits for the first event that happened
after it, and then stays with its person until the exposure that it speaks of has closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from pydantic import TypeAdapter

from stream.decoding.records import RecordDecoder
from stream.decoding.rejection import Rejected
from stream.events import Decision
from stream.ids import exposure_hash
from stream.records import RecordBatch
from stream.waiting import Waiting

__all__ = ["Decided", "DecisionQueue"]

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
    """Decisions whose time has not come yet."""

    def __init__(self) -> None:
        super().__init__(Decided)

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
