"""What the pipelines of a deployment have in common, and a batch on its way into one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monitoring.signals import DriftRules
from stream.control import Order
from stream.decisions import Decided
from stream.decoding.decode import Decoded, Decoder
from stream.decoding.rejection import Rejected
from stream.events import Decision
from stream.failing import FailureRule
from stream.gold import GoldAnswer
from stream.join_rules import JoinRules
from stream.learning import RecommenderSpec
from stream.outcomes import Outcome
from stream.records import RecordBatch
from stream.tasks import TaskSpec

__all__ = ["PipelineSpec", "Prepared"]


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """What every partition of a deployment has in common.

    Parameters
    ----------
    decoder
        Validates lines; holds limits and allowed types.
    rules
        Windows and bounds of the join.
    tasks
        Tasks with their classes, priors and labeling functions.
    recommender
        Which task's probability is the weight, and the bounds of the model.
    outcomes
        What exposures may bring, late; in the order of their heads.
    n_partitions
        Number of partitions of the events topic.
    secret
        Keys the hash of user ids; empty: unkeyed.
    pseudonymise
        Whether raw user ids are replaced by their keyed hash: such an event is published anew.
    learn
        False freezes every learner.
    cached_users
        People kept in memory; more are read from the store when they come back.
    provisional
        Whether provisional labels are published.
    foresee
        Whether these say what is expected in the end, instead of what has come so far.
    disabled
        Labeling functions that abstain until a control record switches them on.
    failures
        When a labeling function that fails is switched off.
    segments
        Segments with figures of their own.
    drift
        How changes are told from noise.
    timer
        A clock lent by the shell to measure labeling functions; nothing else depends on it.
    """

    decoder: Decoder
    rules: JoinRules
    tasks: Sequence[TaskSpec]
    recommender: RecommenderSpec
    outcomes: Sequence[Outcome] = ()
    n_partitions: int = 1
    secret: bytes = b""
    pseudonymise: bool = False
    learn: bool = True
    cached_users: int = 50_000
    provisional: bool = True
    foresee: bool = True
    disabled: Sequence[str] = ()
    failures: FailureRule = field(default_factory=FailureRule)
    segments: Sequence[str] = ()
    drift: DriftRules = field(default_factory=DriftRules)
    timer: Callable[[], float] | None = None


@dataclass(slots=True)
class Prepared:
    """A decoded batch, and the keys of the users whose state it needs and who are not here."""

    topic: str
    next_offset: int
    batch: RecordBatch
    skipped: int = 0
    decoded: Decoded | None = None
    gold: Sequence[GoldAnswer] = ()
    decisions: Sequence[Decided] = ()
    elsewhere: Sequence[Decision] = ()
    orders: Sequence[Order] = ()
    refused: Sequence[Rejected] = ()
    missing: list[bytes] = field(default_factory=list)
    newcomers: dict[str, bytes] = field(default_factory=dict)
    misplaced: set[str] = field(default_factory=set)
