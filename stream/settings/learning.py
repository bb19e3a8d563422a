"""Settings of what Headrace does with events: accept, join, label, recommend, show."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from stream.settings.durations import Duration
from stream.settings.setting import DAY_S, Name, Names, Numbers, Section, key, refused

__all__ = [
    "EventsSettings",
    "JoinSettings",
    "LabelsSettings",
    "MonitoringSettings",
    "OutcomeSettings",
    "PrivacySettings",
    "RecommenderSettings",
    "TaskSettings",
    "TicksSettings",
]

_SUM_TOLERANCE: Final = 1e-6
_MIN_CLASSES: Final = 2
_MAX_CLASSES: Final = 127
_MIN_HASH_KEY_LENGTH: Final = 16
_MAX_HASH_KEY_BYTES: Final = 64
_EXPERTS: Final = ("near", "far", "fresh", "steady")


class EventsSettings(Section):
    """What is accepted as an event."""

    types: Names = key((), "names", "Event types of the product's own, beside the known ones.")
    keep_unknown: bool = key(
        False, "true or false", "Move unknown fields into context; else they are only counted."
    )
    max_line_bytes: int = key(
        1_048_576, "bytes", "A longer line is rejected.", ge=1_024, le=16_777_216
    )
    max_future_skew_s: Duration = key(
        300.0, "seconds", "An event further ahead of the log's own time is rejected."
    )
    dedup_horizon_s: Duration = key(2 * DAY_S, "seconds", "An event id is remembered for so long.")


class OutcomeSettings(Section):
    """What is waited for after an engagement, and for how long."""

    window_s: Duration = key(..., "seconds", "How long it is waited for; 0: not at all.")
    opened_by: Names = key(..., "event types", "After which events it is waited for.", min_length=1)


_ENGAGEMENTS: Final = ("click", "play", "view")

_OUTCOMES: Final[dict[str, dict[str, Any]]] = {
    "dwell": {"window_s": 3_600.0, "opened_by": _ENGAGEMENTS},
    "purchase": {"window_s": 7 * DAY_S, "opened_by": (*_ENGAGEMENTS, "add_to_cart")},
    "return": {"window_s": 30 * DAY_S, "opened_by": ("purchase",)},
}


def _with_default_outcomes(value: object) -> object:
    if isinstance(value, dict):
        merged = {name: dict(outcome) for name, outcome in _OUTCOMES.items()}
        for name, outcome in value.items():
            default = merged.get(name)
            both = default is not None and isinstance(outcome, dict)
            merged[name] = {**default, **outcome} if both and default is not None else outcome
        return merged
    return value


class JoinSettings(Section):
    """How feedback meets the exposure that it answers."""

    exposure_window_s: Duration = key(
        1_800.0, "seconds", "An exposure without engagement closes after this.", gt=0
    )
    early_after_s: Duration = key(
        0.0, "seconds", "A provisional label without feedback is due after this; 0: never."
    )
    disorder_s: Duration = key(
        60.0, "seconds", "How far behind the newest event the watermark stays."
    )
    lateness_horizon_s: Duration = key(
        2 * DAY_S, "seconds", "A closed example takes corrections for so long."
    )
    user_horizon_s: Duration = key(
        90 * DAY_S, "seconds", "A person is forgotten so long after their last event.", gt=0
    )
    max_open_examples_per_user: int = key(
        200, "examples", "The oldest is closed early, and counted, to make room.", ge=1, le=10_000
    )
    engagements: Names = key(
        ("click", "play", "rating", "view"),
        "event types",
        "Each such event is an engagement of its own, to be predicted.",
    )
    positive: Names = key(
        ("add_to_cart", "like", "purchase", "share"),
        "event types",
        "Speak for the item; the first one of an exposure is its engagement if there is none.",
    )
    negative: Names = key(
        ("hide", "report", "return", "skip"), "event types", "Speak against the item."
    )
    outcomes: Annotated[dict[Name, OutcomeSettings], BeforeValidator(_with_default_outcomes)] = (
        Field(
            default_factory=lambda: {
                name: OutcomeSettings(**outcome) for name, outcome in _OUTCOMES.items()
            },
            description="What is waited for after an engagement; it keeps the example open.",
        )
    )

    def window_s(self, event_type: str) -> float:
        """Return how long an example stays open after an event of this type; 0: no longer."""
        return max(
            (o.window_s for o in self.outcomes.values() if event_type in o.opened_by), default=0.0
        )


class TicksSettings(Section):
    """Records that tell an idle partition that time has passed."""

    enabled: bool = key(True, "true or false", "Whether idle partitions get ticks.")
    idle_s: Duration = key(30.0, "seconds", "A partition that is idle for so long gets one.", gt=0)


class TaskSettings(Section):
    """A question that labels answer."""

    classes: Names = key(
        ("negative", "positive"), "names", "The possible answers, at least two; order is kept."
    )
    prior: Numbers | None = key(
        None, "probabilities", "Share of each class before anything is learned; absent: equal."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        classes, prior = self.classes, self.prior
        if not _MIN_CLASSES <= len(classes) <= _MAX_CLASSES or len(set(classes)) < len(classes):
            raise refused(
                "classes",
                f"should be {_MIN_CLASSES} to {_MAX_CLASSES} different names; "
                f"found {list(classes)}",
            )
        if prior is not None and (
            len(prior) != len(classes) or min(prior) <= 0 or abs(sum(prior) - 1) > _SUM_TOLERANCE
        ):
            raise refused(
                "prior",
                f"should be {len(classes)} numbers above 0 that add up to 1; found {list(prior)}",
            )
        return self


class LabelsSettings(Section):
    """Which labels are published."""

    provisional: bool = key(
        True, "true or false", "Publish provisional labels too, not only final and revised ones."
    )
    foresee: bool = key(
        True,
        "true or false",
        "Provisional labels say what is expected in the end, outcomes still to come included.",
    )


class RecommenderSettings(Section):
    """The recommender."""

    task: Name = key(
        "relevance", "task", "The probability of this task's last class weighs an engagement."
    )
    max_items: int = key(1_000_000, "items", "Vocabulary; later items are dropped, counted.", ge=1)
    experts: Names = key(
        _EXPERTS,
        "names",
        "What is mixed beside repeats: co-visitation with the last few items (near), with many "
        "(far); what is popular lately (fresh), over long (steady). Fewer cost less.",
        min_length=1,
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = sorted(set(self.experts) - set(_EXPERTS))
        if unknown:
            raise refused(
                "experts", f"should be some of {', '.join(_EXPERTS)}; found {', '.join(unknown)}"
            )
        return self


class PrivacySettings(Section):
    """Pseudonyms."""

    hash_key: SecretStr = key(
        SecretStr(""),
        "secret",
        "Keys the hash of user ids, 16 characters to 64 bytes; empty: unkeyed.",
    )
    pseudonymise: bool = key(
        False, "true or false", "Replace user ids by their keyed hash at the door."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        length = len(self.hash_key.get_secret_value())
        if 0 < length < _MIN_HASH_KEY_LENGTH:
            raise refused(
                "hash_key",
                f"should have at least {_MIN_HASH_KEY_LENGTH} characters; found {length}",
            )
        n_bytes = len(self.hash_key.get_secret_value().encode())
        if n_bytes > _MAX_HASH_KEY_BYTES:
            raise refused(
                "hash_key", f"should have at most {_MAX_HASH_KEY_BYTES} bytes; found {n_bytes}"
            )
        if self.pseudonymise and not length:
            raise refused("hash_key", "is missing; needed with privacy.pseudonymise = true")
        return self


class MonitoringSettings(Section):
    """What is shown apart."""

    segments: Names = key(
        (), "names", "Segments with figures of their own: the first 20; others are `other`."
    )
    false_pages: float = key(
        1.0, "pages", "False pages of drift that are accepted in 30 days; thresholds follow.", gt=0
    )
    values_per_day: float = key(
        1.1e10, "values", "Votes and other watched values a day, for the thresholds.", ge=1
    )
    first_reference: int = key(
        8_192, "values", "Values of a signal after which changes are detected.", ge=2_048
    )
    reference_values: int = key(
        524_288, "values", "Up to so many values its reference grows while all is calm.", ge=2_048
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reference_values < self.first_reference:
            raise refused(
                "reference_values",
                f"should be at least monitoring.first_reference ({self.first_reference}); "
                f"found {self.reference_values}",
            )
        return self
