"""Public schemas of the orders to every worker: topic `headrace.control`."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from stream.decoding.fields import Id, Sentence, Timestamp
from stream.decoding.schema import Schema

__all__ = [
    "Control",
    "EraseUser",
    "LfSwitch",
    "ReferenceReset",
    "ReferenceSet",
    "SignalReference",
]

_SHARES_TOLERANCE: Final = 0.01


class _Order(Schema):
    """What every control record says: when, who, why."""

    ts: Timestamp
    who: Id = Field(description="Who ordered it.")
    why: Sentence = Field(min_length=1, description="The reason, for the governance log.")


class LfSwitch(_Order):
    """Switch a labeling function on or off."""

    kind: Literal["lf"]
    name: Id = Field(description="The labeling function.")
    enabled: bool = Field(description="True: it votes; false: it abstains.")
    task: Id | None = Field(default=None, description="Its task; absent: every task that has it.")
    version: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Only this version of it; absent: any."
    )


class EraseUser(_Order):
    """Erase a person: state, examples, provenance; and keep them erased through replay."""

    kind: Literal["erase_user"]
    user_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16,128}$")] = Field(
        description="Keyed hash of the user's id, in hex; the id itself is never written."
    )


class ReferenceReset(_Order):
    """Take the present as the new reference of the drift detectors."""

    kind: Literal["reset_reference"]
    signal: Id | None = Field(default=None, description="Only this signal; absent: all.")


class SignalReference(Schema):
    """What one signal of drift detection was like while all was well."""

    signal: Id = Field(description="Name of the signal, as `labels:relevance/class`.")
    tag: str = Field(max_length=128, description="What it is of, as an LF's version; may be empty.")
    categories: list[str] = Field(min_length=2, max_length=64, description="Its categories.")
    version: Annotated[int, Field(ge=1)] = Field(description="How many references it has had.")
    since: Timestamp
    values: Annotated[int, Field(ge=1)] = Field(description="From how many values it was taken.")
    shares: list[Annotated[float, Field(ge=0, le=1)]] = Field(description="Of the categories.")
    design_effects: list[Annotated[float, Field(gt=0)]] = Field(
        description="By how much sessions widen the variance of each share."
    )
    freedom: Annotated[float, Field(gt=0)] = Field(description="Degrees of freedom of these.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        k = len(self.categories)
        if len(self.shares) != k or len(self.design_effects) != k:
            raise ValueError(f"{k} categories need as many shares and design effects")
        if abs(sum(self.shares) - 1.0) > _SHARES_TOLERANCE:
            raise ValueError("shares must add up to 1")
        return self


class ReferenceSet(_Order):
    """Compare with recorded references of drift detection from now on."""

    kind: Literal["set_reference"]
    references: list[SignalReference] = Field(
        min_length=1, max_length=4_096, description="Signals that are not watched are left out."
    )


Control = Annotated[
    LfSwitch | EraseUser | ReferenceReset | ReferenceSet, Field(discriminator="kind")
]
"""An order to every worker (topic `headrace.control`)."""
