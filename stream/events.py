"""Public schemas: everything that enters or leaves Headrace through a topic.

The pydantic models are the schemas of record: `json_schemas` prints them, and a line that they
refuse is refused everywhere. `Interaction` is the same event as `Event`, as a slotted value that
the decoder fills at the speed of the stream; tests hold the two equal, line by line.

Schemas evolve by adding optional fields only. A field is never retyped or reused, and a reader
ignores fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter

from stream.decoding.fields import (
    INT64_MAX,
    INT64_MIN,
    MAX_CONTEXT_KEY_LENGTH,
    MAX_CONTEXT_KEYS,
    MAX_CONTEXT_STRING_LENGTH,
    MAX_EVENT_ID_LENGTH,
    MAX_FINITE,
    MAX_ID_LENGTH,
    MAX_TYPE_LENGTH,
    TS_LIMIT,
    Attributes,
    Context,
    EventId,
    EventType,
    Finite,
    Id,
    Integer,
    Probability,
    Propensity,
    Sentence,
    Text,
    Timestamp,
)
from stream.decoding.schema import Schema
from stream.orders import (
    Control,
    EraseUser,
    LfSwitch,
    ReferenceReset,
    ReferenceSet,
    SignalReference,
)

__all__ = [
    "ANNOTATION_REQUESTS",
    "CONTROL",
    "DEAD_LETTER",
    "DECISIONS",
    "EVENTS",
    "EVENT_TYPES",
    "GOLD",
    "GOVERNANCE",
    "ITEMS",
    "LABELS",
    "TOPICS",
    "AnnotationRequest",
    "Control",
    "DeadLetter",
    "Decision",
    "DecisionItem",
    "EraseUser",
    "Event",
    "Gold",
    "GovernanceRecord",
    "Interaction",
    "Item",
    "Label",
    "LabelVote",
    "LfSwitch",
    "ReferenceReset",
    "ReferenceSet",
    "SignalReference",
    "Tick",
    "json_schemas",
]

EVENTS: Final = "headrace.events"
ITEMS: Final = "headrace.items"
GOLD: Final = "headrace.gold"
DECISIONS: Final = "headrace.decisions"
CONTROL: Final = "headrace.control"
LABELS: Final = "headrace.labels"
ANNOTATION_REQUESTS: Final = "headrace.annotation-requests"
GOVERNANCE: Final = "headrace.governance"
DEAD_LETTER: Final = "headrace.dead-letter"

EVENT_TYPES: Final[frozenset[str]] = frozenset(
    {
        "impression",
        "click",
        "view",
        "dwell",
        "play",
        "add_to_cart",
        "purchase",
        "return",
        "rating",
        "like",
        "share",
        "skip",
        "hide",
        "report",
        "search",
    }
)
"""Event types that are always known; a deployment adds its own by configuration."""


class Event(Schema):
    """One interaction of a person with an item (topic `headrace.events`, key `user_id`)."""

    event_id: EventId = Field(
        description="Unique per user; a repeat within the deduplication horizon is ignored."
    )
    type: EventType = Field(description="What happened; one of the known or configured types.")
    ts: Timestamp
    user_id: Id = Field(description="Who; also the key of the record.")
    item_id: Id = Field(description="What was shown or acted upon.")
    request_id: Id | None = Field(
        default=None, description="Recommendation or page that this answers; joins feedback to it."
    )
    session_id: Id | None = Field(default=None, description="Visit that the event belongs to.")
    segment: Id | None = Field(default=None, description="Group that results are reported for.")
    position: Integer | None = Field(
        default=None, description="Rank at which the item was shown, as logged when shown."
    )
    propensity: Propensity | None = Field(
        default=None, description="Probability with which the policy showed the item there."
    )
    policy: Id | None = Field(default=None, description="Name of the policy that chose the item.")
    value: Finite | None = Field(
        default=None, description="Rating, seconds of dwell, or amount, depending on the type."
    )
    context: Context | None = Field(
        default=None, description="Further facts: strings, numbers, booleans; at most 64 keys."
    )


_StructId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
_StructKey = Annotated[str, msgspec.Meta(max_length=MAX_CONTEXT_KEY_LENGTH)]
_StructInteger = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
_StructString = Annotated[str, msgspec.Meta(max_length=MAX_CONTEXT_STRING_LENGTH)]


class Interaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One validated event as the pipeline sees it: the fields of `Event`, ``ts`` a float.

    ``context`` is None when the event had none. Untracked by the garbage collector: it holds
    only strings, numbers and a flat dict of them, so it cannot be part of a cycle.
    """

    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EVENT_ID_LENGTH)]
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TYPE_LENGTH)]
    ts: Annotated[float, msgspec.Meta(ge=0, lt=TS_LIMIT)]
    user_id: _StructId
    item_id: _StructId
    request_id: _StructId | None = None
    session_id: _StructId | None = None
    segment: _StructId | None = None
    position: _StructInteger | None = None
    propensity: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    policy: _StructId | None = None
    value: Annotated[float, msgspec.Meta(ge=-MAX_FINITE, le=MAX_FINITE)] | None = None
    context: (
        Annotated[
            dict[_StructKey, _StructString | bool | _StructInteger | float],
            msgspec.Meta(max_length=MAX_CONTEXT_KEYS),
        ]
        | None
    ) = None


class Tick(Schema):
    """Time that passed on an idle partition; appended to its log by the partition's owner."""

    model_config = ConfigDict(extra="forbid")

    tick: Timestamp = Field(description="Event time that the partition has reached.")


class Item(Schema):
    """What is known of an item (topic `headrace.items`, key `item_id`, compacted)."""

    item_id: Id = Field(description="The item; also the key of the record.")
    title: Sentence | None = Field(default=None, description="Name that people see.")
    text: Text | None = Field(default=None, description="Description.")
    categories: list[Id] = Field(
        default_factory=list, max_length=64, description="Categories, the widest first."
    )
    tags: list[Id] = Field(default_factory=list, max_length=256, description="Free keywords.")
    attributes: Attributes = Field(
        default_factory=dict, description="Further facts: strings, numbers, booleans."
    )
    price: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Price in the shop's one currency."
    )
    available: bool = Field(default=True, description="False: known, but not to be recommended.")
    embedding: list[float] | None = Field(
        default=None, max_length=4_096, description="Vector from the product's own encoder."
    )
    ts: Timestamp | None = Field(
        default=None, description="When this became true; absent: when it was written to the log."
    )


class Gold(Schema):
    """A label that is trusted (topic `headrace.gold`, key: the example's `user_id`)."""

    example_id: Id = Field(description="The labelled example.")
    task: Id = Field(default="relevance", description="Task that the label belongs to.")
    label: Id = Field(description="Name of the true class.")
    annotator: Id = Field(description="Who or what says so.")
    ts: Timestamp
    reason: Sentence = Field(default="", description="Why this class.")
    user_id: Id | None = Field(default=None, description="The example's user.")
    inclusion: Propensity | None = Field(
        default=None,
        description="Probability with which the example was drawn for the random audit share; "
        "absent: it was chosen for another reason, and moves no class balance.",
    )


class DecisionItem(Schema):
    """One place of a slate."""

    item_id: Id = Field(description="What was shown.")
    position: Integer = Field(description="Rank in the slate, from 1.")
    propensity: Propensity = Field(description="True probability of this item at this rank.")


class Decision(Schema):
    """What the API recommended (topic `headrace.decisions`, key `user_id`)."""

    request_id: Id = Field(description="Names the decision; feedback carries it back.")
    user_id: Id = Field(description="For whom.")
    ts: Timestamp
    policy: Id = Field(description="Name of the policy that chose.")
    items: list[DecisionItem] = Field(max_length=1_000, description="The slate.")
    segment: Id | None = Field(default=None, description="Group that results are reported for.")
    model_version: Id | None = Field(default=None, description="Version of the model that chose.")
    context: Context | None = Field(default=None, description="Facts known when choosing.")


class LabelVote(Schema):
    """One labeling function's share in a label."""

    lf: Id = Field(description="Name of the labeling function.")
    version: Annotated[int, Field(ge=1)] = Field(description="Its version.")
    vote: Id = Field(description="Name of the class that it voted for.")
    weight: float = Field(description="Influence of the vote on the label.")


class Label(Schema):
    """A probabilistic label with its provenance (topic `headrace.labels`, key `user_id`)."""

    example_id: Id = Field(description="The example.")
    task: Id = Field(description="The task.")
    stage: Literal["provisional", "final", "revised"] = Field(description="How settled it is.")
    revision: Annotated[int, Field(ge=0)] = Field(
        description="Counts the labels of this example and task; the last one counts."
    )
    ts: Timestamp
    user_id: Id = Field(description="The example's user.")
    item_id: Id = Field(description="The example's item.")
    probabilities: dict[str, Probability] = Field(description="Probability of each class.")
    confidence: Probability = Field(description="Probability of the likeliest class.")
    votes: list[LabelVote] = Field(description="Who voted, and how much it counted.")
    model_version: Id = Field(description="Version of the label model.")
    reason: Sentence = Field(description="What caused this label.")


class AnnotationRequest(Schema):
    """A question for a person (topic `headrace.annotation-requests`)."""

    id: Id = Field(description="Names the question; derived from the example.")
    example_id: Id = Field(description="The example to be labelled.")
    task: Id = Field(description="The task.")
    ts: Timestamp
    user_id: Id = Field(description="The example's user.")
    item_id: Id = Field(description="The example's item.")
    probabilities: dict[str, Probability] = Field(description="What the model believes.")
    inclusion: Propensity | None = Field(
        default=None, description="Probability of being drawn for the random audit share."
    )
    reason: Sentence = Field(description="Why this example is worth asking about.")


class GovernanceRecord(Schema):
    """One change that somebody answers for (topic `headrace.governance`)."""

    id: Id = Field(description="Names the record; derived from what caused it.")
    ts: Timestamp
    who: Id = Field(description="Who did it.")
    action: Id = Field(description="What was done, as `lf_disabled`.")
    subject: Id = Field(description="To what, as the name of a labeling function.")
    why: Sentence = Field(description="The reason given.")
    before: dict[str, Any] | None = Field(default=None, description="How it was.")
    after: dict[str, Any] | None = Field(default=None, description="How it is.")


class DeadLetter(Schema):
    """A line that was refused (topic `headrace.dead-letter`)."""

    id: Id = Field(description="Derived from topic, partition, offset and line.")
    topic: Id = Field(description="Topic in which it lies.")
    partition: Annotated[int, Field(ge=0)] = Field(description="Partition in which it lies.")
    offset: Annotated[int, Field(ge=0)] = Field(description="Offset of its record.")
    line: Annotated[int, Field(ge=1)] = Field(description="Line in the record, from 1.")
    ts: Annotated[float, Field(ge=0)] = Field(description="The log's own time of the record.")
    field: str = Field(description="Field at fault, as `context.price`; `line`: all of it.")
    reason: str = Field(description="What was found and what is allowed.")
    encoding: Literal["utf-8", "base64"] = Field(description="How `value` is written.")
    value: str = Field(description="First 64 KiB of the line.")
    value_bytes: Annotated[int, Field(ge=0)] = Field(description="Length of the whole line.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="Hash of the whole line."
    )


TOPICS: Final[dict[str, TypeAdapter[Any]]] = {
    EVENTS: TypeAdapter(Event),
    ITEMS: TypeAdapter(Item),
    GOLD: TypeAdapter(Gold),
    DECISIONS: TypeAdapter(Decision),
    CONTROL: TypeAdapter(Control),
    LABELS: TypeAdapter(Label),
    ANNOTATION_REQUESTS: TypeAdapter(AnnotationRequest),
    GOVERNANCE: TypeAdapter(GovernanceRecord),
    DEAD_LETTER: TypeAdapter(DeadLetter),
}
"""Every topic and the schema of its records."""


def json_schemas(extra_types: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every topic's records, by topic.

    Parameters
    ----------
    extra_types
        Event types that the deployment adds to `EVENT_TYPES`.
    """
    schemas = {topic: adapter.json_schema() for topic, adapter in TOPICS.items()}
    schemas[EVENTS]["properties"]["type"]["enum"] = sorted(EVENT_TYPES | set(extra_types))
    for topic, schema in schemas.items():
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        schema.setdefault("title", topic)
    return schemas
