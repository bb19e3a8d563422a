"""`GET /v1/examples/{id}`: why an example has its labels, as far as its state is kept."""

from __future__ import annotations

from typing import Any, Final, Literal

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from stream.api.auth import Role, require
from stream.api.problems import PROBLEM_JSON, Problem
from stream.api.stored import read_stored
from stream.stored_examples import StoredExamples, is_example_id

__all__ = ["ExampleAnswer", "router"]

_SAMPLE: Final[dict[str, Any]] = {
    "example_id": "a40fc8c38e450006ec5a3f1c29d7b0a48e61",
    "user_id": "u1",
    "item_id": "i1",
    "segment": "new",
    "context": {"device": "phone"},
    "stage": "final",
    "revision": 1,
    "join": {
        "partition": 0,
        "opened_ts": 1700000000.0,
        "first_feedback_ts": 1700000012.0,
        "last_ts": 1700000054.0,
        "engaged": True,
        "closed": True,
        "forgotten_ts": 1700176454.0,
        "position": 1.0,
        "propensity": 0.4,
        "policy": "inverse_gap",
    },
    "evidence": {"impressions": 1.0, "clicks": 1.0, "dwells": 1.0, "dwell_s": 42.0},
    "labels": {
        "relevance": {
            "stage": "final",
            "probabilities": {"negative": 0.08, "positive": 0.92},
            "confidence": 0.92,
            "votes": [{"lf": "long_dwell", "version": 2, "vote": "positive", "weight": 0.71}],
            "model_version": "5d2c9a70e1b4f386-12",
        }
    },
}


class Vote(BaseModel):
    """A labeling function's share in a label."""

    lf: str
    version: int
    vote: str = Field(description="Class that it voted for.")
    weight: float | None = Field(
        description="Influence on the label by the model of the last checkpoint, in log-odds."
    )


class TaskLabel(BaseModel):
    """An example's label of one task."""

    stage: Literal["provisional", "final", "revised"] | None = Field(
        description="How settled it is; null before the first. `revised`: by a gold answer; what "
        "late feedback revised is `final` here, and has a higher revision."
    )
    probabilities: dict[str, float] | None = Field(
        description="Of each class, by the stored votes and the model of the last checkpoint."
    )
    confidence: float | None
    gold: str | None = Field(default=None, description="What a person answered.")
    votes: list[Vote]
    model_version: str


class JoinState(BaseModel):
    """Where the example stands in the join; times are event times."""

    partition: int
    opened_ts: float | None
    first_feedback_ts: float | None
    last_ts: float | None
    engaged: bool
    closed: bool
    closes_ts: float | None = Field(
        default=None, description="When its windows close, while they are open."
    )
    forgotten_ts: float | None = Field(
        default=None, description="Until when corrections count, once closed."
    )
    position: float | None
    propensity: float | None
    policy: str | None


class ExampleAnswer(BaseModel):
    """An example with its labels and where they come from."""

    example_id: str
    user_id: str
    item_id: str
    segment: str | None
    context: dict[str, str | bool | int | float]
    stage: Literal["open", "provisional", "final"]
    revision: int | None = Field(description="Of the label that was published last, if any was.")
    join: JoinState
    evidence: dict[str, float] = Field(description="What labeling functions see; zeros left out.")
    labels: dict[str, TaskLabel] = Field(description="By task.")


router = APIRouter(tags=["labels"], prefix="/v1")

_PROBLEM: Final[dict[str, Any]] = {"content": {PROBLEM_JSON: {}}}


@router.get(
    "/examples/{example_id}",
    response_class=Response,
    dependencies=[Depends(require(Role.ANNOTATE))],
    responses={
        200: {
            "model": ExampleAnswer,
            "description": "As of its partition's last checkpoint.",
            "content": {"application/json": {"example": _SAMPLE}},
        },
        401: {"description": "No token, or an unknown one.", **_PROBLEM},
        403: {"description": "The token lacks the role.", **_PROBLEM},
        404: {"description": "No such example is known, or it is not any more.", **_PROBLEM},
        503: {"description": "The state store does not answer.", **_PROBLEM},
    },
)
async def get_example(request: Request, example_id: str) -> Response:
    """Answer with an example: its labels, who voted how, and how its join stands."""
    examples: StoredExamples = request.app.state.explained.examples
    found = await read_stored(examples.find, example_id)
    if found is None:
        if not is_example_id(example_id):
            raise Problem(404, "no example has this id: an example id has 36 hex digits, 0-9 a-f")
        raise Problem(
            404,
            "no such example is known: it never was, it is newer than its partition's last "
            "checkpoint (checkpoint.interval_s), or it was forgotten (join.lateness_horizon_s); "
            "its labels are then still in headrace.labels",
        )
    return Response(orjson.dumps(found), media_type="application/json")
