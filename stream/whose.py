"""Whose a batch is: who is kept here and under which id, and whose state must be loaded for it."""

from __future__ import annotations

from stream.decisions import DecisionQueue
from stream.gold import GoldQueue
from stream.ids import user_key
from stream.join import Join
from stream.partitioning import partition_for
from stream.pipeline_spec import PipelineSpec, Prepared
from stream.pseudonyms import pseudonym

__all__ = ["Whose"]


class Whose:
    """Fills in of a prepared batch what it holds, who is in it, and who is missing.

    Parameters
    ----------
    spec, partition
        Of the pipeline that prepares.
    join, gold, decisions
        Its parts: who is resident, and who is waited for.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        partition: int,
        join: Join,
        gold: GoldQueue,
        decisions: DecisionQueue,
    ) -> None:
        self._spec = spec
        self._partition = partition
        self._join = join
        self._gold = gold
        self._decisions = decisions

    def events(self, prepared: Prepared, now_round: int) -> None:
        """Decode events; who is resident and needed stays so, as touched in this round."""
        spec, join = self._spec, self._join
        decoded = spec.decoder.decode(prepared.batch)
        prepared.decoded = decoded
        events = decoded.events
        resident = join.resident
        for user_id in dict.fromkeys([event.user_id for event in events]):
            user = resident.get(user_id)
            if user is not None:
                user.touched = now_round
                continue
            if spec.pseudonymise and self.pseudonym(user_id) != user_id:
                # Published anew under the pseudonym before anybody owns it.
                prepared.misplaced.add(user_id)
                continue
            if not self._is_here(user_id):
                prepared.misplaced.add(user_id)
                continue
            prepared.newcomers[user_id] = user_key(user_id, spec.secret)
        reached = max([event.ts for event in events], default=join.max_ts)
        reached = max([reached, *(tick.ts for tick in decoded.ticks)])
        # Whoever was ever saved has a timer; the others are not in the store.
        known = join.timers.due
        wanted = dict.fromkeys(key for key in prepared.newcomers.values() if key in known)
        for key in (
            *join.due_by(reached),
            *self._gold.keys_before(reached),
            *self._decisions.keys_before(reached),
        ):
            user = join.by_key.get(key)
            if user is None:
                wanted[key] = None
            else:
                user.touched = now_round
        prepared.missing = list(wanted)

    def gold_answers(self, prepared: Prepared) -> None:
        """Decode gold answers."""
        prepared.gold, prepared.refused = self._gold.decode(prepared.batch)
        keys = [answer.key for answer in prepared.gold]
        prepared.missing = list(dict.fromkeys(k for k in keys if k not in self._join.by_key))

    def decided(self, prepared: Prepared) -> None:
        """Decode decisions; those about people of other partitions are set apart."""
        prepared.decisions, prepared.elsewhere, prepared.refused = self._decisions.decode(
            prepared.batch, self._owner
        )
        keys = [decision.key for decision in prepared.decisions]
        prepared.missing = list(dict.fromkeys(k for k in keys if k not in self._join.by_key))

    def pseudonym(self, user_id: str) -> str:
        """Return the id that somebody has in here."""
        spec = self._spec
        return pseudonym(user_id, spec.secret) if spec.pseudonymise else user_id

    def _owner(self, user_id: str) -> tuple[str, bytes] | None:
        """Return under which id and key somebody is kept; None: in another partition."""
        user_id = self.pseudonym(user_id)
        return (user_id, user_key(user_id, self._spec.secret)) if self._is_here(user_id) else None

    def _is_here(self, user_id: str) -> bool:
        """Return whether this is the partition of an id."""
        n = self._spec.n_partitions
        return n <= 1 or partition_for(user_id.encode(), n) == self._partition
