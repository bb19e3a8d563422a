"""`GET|POST /v1/recommendations`: a slate for a person, with the probabilities that it had."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from monitoring.metrics import Metrics
from stream.api.auth import Role, require
from stream.api.body import read_body
from stream.api.problems import PROBLEM_JSON, Problem
from stream.api.rate import RateLimit
from stream.config import Settings
from stream.decoding.fields import Context, Id
from stream.events import DECISIONS, EVENTS
from stream.partitioning import partition_for
from stream.pseudonyms import pseudonym
from stream.records import Outgoing
from stream.serving.model import NOBODY, Person
from stream.serving.recommend import BEST, Catalogued, Question, Slate, recommend
from stream.serving.sources import ModelSource
from stream.sinks import AppendFailed, EventSink
from stream.state import StoreError

__all__ = ["Recommendations", "asked_in_query", "router"]

log = logging.getLogger(__name__)

MAX_ITEMS: Final = 500
_ROUTE: Final = "/v1/recommendations"
_BODY_BYTES: Final = 256 * 1024
_IN_FLIGHT: Final = 1_000
"""Decisions on their way to the log; beyond that a request waits for its own."""
_LINGER_S: Final = 0.02
"""Decisions of so long a time are written together."""


class _Asked(BaseModel):
    """What to recommend, and to whom."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    user_id: Id = Field(description="For whom; somebody unknown gets what is popular.")
    k: int = Field(default=10, ge=1, le=MAX_ITEMS, description="How many items.")
    exclude: list[Id] = Field(
        default_factory=list, max_length=1_000, description="Items to leave out."
    )
    categories: list[Id] = Field(
        default_factory=list, max_length=64, description="Only items of one of these categories."
    )
    available: bool = Field(
        default=True, description="Leave out what the catalogue calls unavailable."
    )
    diversity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="0: by score alone; 1: as different as can be (recommendations.diversity).",
    )
    explore: bool = Field(
        default=True, description="False: the best items, each with probability 1."
    )
    segment: Id | None = Field(
        default=None,
        description="Group whose choices count for a stranger, and that results are reported for; "
        "the person's if absent.",
    )
    request_id: Id | None = Field(
        default=None, description="Names the answer; made up if absent. Send it with feedback."
    )


_LISTS: Final = frozenset(
    name for name, field in _Asked.model_fields.items() if field.default_factory is list
)


def asked_in_query(fields: Sequence[tuple[str, str]]) -> _Asked:
    """Return what the fields of a query ask for, as a request's own validation reads them.

    Raises
    ------
    ValidationError
        A field is wrong.

    Examples
    --------
    >>> asked = asked_in_query([("user_id", "ann"), ("k", "3"), ("exclude", "a"), ("exclude", "b")])
    >>> asked.k, asked.exclude
    (3, ['a', 'b'])
    """
    found: dict[str, str | list[str]] = {}
    for name, value in fields:
        if name in _LISTS:
            found[name] = [*found.get(name, ()), value]
        else:
            found[name] = value
    return _Asked.model_validate(found)


class Asked(_Asked):
    """What to recommend, to whom, and what is known of the moment."""

    context: Context | None = Field(
        default=None, description="Further facts: strings, numbers, booleans; at most 64 keys."
    )


class Reason(BaseModel):
    """Why an item is recommended."""

    expert: str = Field(
        description="together, together_before (goes with the latest items, or earlier ones), "
        "popular_now, popular, segment (what others of it choose), again (chosen before), "
        "category, new."
    )
    because: str | None = Field(default=None, description="The person's item that led to it.")


class Recommended(BaseModel):
    """One place of the slate."""

    item_id: str
    position: int = Field(description="Rank, from 1.")
    propensity: float = Field(description="True probability of this item at this rank.")
    score: float = Field(description="The higher the better; comparable within the answer.")
    reason: Reason


class Recommendation(BaseModel):
    """A slate; its impression event repeats request_id, position, propensity and policy."""

    request_id: str
    user_id: str
    policy: str = Field(description="How the slate was chosen; `best` explores nothing.")
    model_version: str
    items: list[Recommended]


class Recommendations:
    """Answers questions from what was learned so far.

    Decisions of a moment are handed to the log together, and no answer waits for that: a disk's
    or a broker's wait would be most of its time, and whoever was shown a slate whose decision is
    lost in a crash still sends its propensities along.

    Parameters
    ----------
    settings
        Policy, exploration, rate, pseudonyms.
    source
        Model and people; started and stopped by the application.
    catalogue
        What is known of the items.
    sink
        Where decisions go.
    metrics
        Counts answers, explored places, and the time it takes to rank.
    clock
        Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        catalogue: Catalogued,
        sink: EventSink,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings.recommendations
        self.source = source
        self._catalogue = catalogue
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._rate = RateLimit(self._settings.requests_per_s)
        self._body_timeout_s = settings.api.body_timeout_s
        self._sending: set[asyncio.Task[None]] = set()
        self._held: list[tuple[bytes, bytes]] = []
        self._lingering: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._secret: bytes | None = None
        if settings.privacy.pseudonymise:
            self._secret = settings.privacy.hash_key.get_secret_value().encode()

    async def close(self) -> None:
        """Wait for the decisions that are on their way."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def posted(self, request: Request) -> Response:
        """Answer a question that is the request's body."""
        self._admit()
        body = await read_body(request, limit=_BODY_BYTES, timeout_s=self._body_timeout_s)
        try:
            asked = Asked.model_validate_json(body)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from None
        return await self._answer(asked, asked.context)

    async def queried(self, asked: _Asked) -> Response:
        """Answer a question that is the request's query."""
        self._admit()
        return await self._answer(asked, None)

    def _admit(self) -> None:
        wait_s = self._rate.retry_after_s()
        if wait_s:
            raise Problem(
                429,
                f"more than {self._settings.requests_per_s:g} recommendations a second are asked "
                f"for (recommendations.requests_per_s); try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        self._rate.charge(1)

    async def _answer(
        self, asked: _Asked, context: Mapping[str, str | bool | int | float] | None
    ) -> Response:
        user_id = asked.user_id
        if self._secret is not None:
            user_id = pseudonym(user_id, self._secret)
        person = await self._person(user_id)
        if asked.segment is not None:
            person = person._replace(segment=asked.segment)
        question = Question(
            request_id=asked.request_id or uuid.uuid4().hex,
            k=asked.k,
            exclude=asked.exclude,
            categories=asked.categories,
            available_only=asked.available,
            diversity=self._settings.diversity if asked.diversity is None else asked.diversity,
            policy=self._settings.policy if asked.explore else BEST,
            exploration=self._settings.exploration,
        )
        began = time.perf_counter()
        slate = recommend(self.source.model, self._catalogue, person, question)
        self._metrics.observe("recommend_duration_seconds", (), time.perf_counter() - began)
        self._metrics.add("recommendations_total", (slate.policy,))
        if slate.explored:
            self._metrics.add("explorations_total", (slate.policy,), slate.explored)
        decision = {
            "request_id": question.request_id,
            "user_id": user_id,
            "ts": self._clock(),
            "policy": slate.policy,
            "items": [
                {"item_id": item_id, "position": rank, "propensity": propensity}
                for rank, (item_id, propensity) in enumerate(
                    zip(slate.item_ids, slate.propensities, strict=True), start=1
                )
            ],
            "model_version": slate.model_version,
        }
        if person.segment is not None:
            decision["segment"] = person.segment
        if context:
            decision["context"] = context
        await self._record(user_id, orjson.dumps(decision))
        return Response(
            orjson.dumps(_written(asked.user_id, question, slate)), media_type="application/json"
        )

    async def _person(self, user_id: str) -> Person:
        known = self.source.resident(user_id)
        if known is not None:
            return known
        try:
            partition = partition_for(user_id.encode(), await self._sink.partitions(EVENTS))
        except AppendFailed:
            partition = None
        try:
            return await asyncio.to_thread(self.source.person, user_id, partition)
        except StoreError as error:
            # What is popular is better than nothing; readiness tells the operator.
            log.warning("recommending without history, the state store fails: %s", error)
            return NOBODY

    async def _record(self, user_id: str, decision: bytes) -> None:
        key = user_id.encode()
        self._held.append((key, decision))
        task = self._lingering
        if task is None:
            task = self._lingering = asyncio.create_task(self._append())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._in_flight += 1
        if self._in_flight > _IN_FLIGHT:
            await asyncio.wait([task])

    async def _append(self) -> None:
        # A commit for each answer would keep the disk, and whoever else writes, busy.
        await asyncio.sleep(_LINGER_S)
        held, self._held, self._lingering = self._held, [], None
        lost = len(held)
        try:
            partitions = await self._sink.partitions(DECISIONS)
            await self._sink.append(
                [
                    Outgoing(DECISIONS, key, decision, partition_for(key, partitions))
                    for key, decision in held
                ]
            )
            lost = 0
        except AppendFailed as failure:
            lost -= len(failure.stored)
            self._metrics.add("api_events_total", (_ROUTE, "failed"), lost)
            log.warning("%d decisions could not be recorded: %s", lost, failure.reason)
        finally:
            self._in_flight -= len(held)
        self._metrics.add("api_events_total", (_ROUTE, "accepted"), len(held) - lost)


def _written(user_id: str, question: Question, slate: Slate) -> dict[str, Any]:
    items = [
        {
            "item_id": item_id,
            "position": rank,
            "propensity": propensity,
            "score": score,
            "reason": {"expert": reason}
            if because is None
            else {"expert": reason, "because": because},
        }
        for rank, (item_id, propensity, score, reason, because) in enumerate(
            zip(
                slate.item_ids,
                slate.propensities,
                slate.scores,
                slate.reasons,
                slate.because,
                strict=True,
            ),
            start=1,
        )
    ]
    return {
        "request_id": question.request_id,
        "user_id": user_id,
        "policy": slate.policy,
        "model_version": slate.model_version,
        "items": items,
    }


router = APIRouter(tags=["recommendations"], prefix="/v1")

_PROBLEM: Final[dict[str, Any]] = {"content": {PROBLEM_JSON: {}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Recommendation, "description": "The slate; short where little is known."},
    401: {"description": "No token, or an unknown one.", **_PROBLEM},
    403: {"description": "The token lacks the role.", **_PROBLEM},
    422: {"description": "A field is wrong; `errors` names it.", **_PROBLEM},
    429: {"description": "Over the accepted rate; see Retry-After.", **_PROBLEM},
}
_ROLE: Final = [Depends(require(Role.RECOMMEND))]


@router.get(
    "/recommendations",
    responses=_RESPONSES,
    response_class=Response,
    dependencies=_ROLE,
)
async def get_recommendations(request: Request, asked: Annotated[_Asked, Query()]) -> Response:
    """Recommend items to a person; anybody, known or not, gets an answer."""
    recommendations: Recommendations = request.app.state.recommendations
    return await recommendations.queried(asked)


@router.post(
    "/recommendations",
    responses={
        **_RESPONSES,
        408: {"description": "The body did not arrive in time.", **_PROBLEM},
        413: {"description": "The body is too large.", **_PROBLEM},
    },
    response_class=Response,
    dependencies=_ROLE,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Asked.model_json_schema()}},
        }
    },
)
async def post_recommendations(request: Request) -> Response:
    """Recommend items to a person, from a question that may carry a context."""
    recommendations: Recommendations = request.app.state.recommendations
    return await recommendations.posted(request)
