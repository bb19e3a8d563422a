"""`GET /v1/lfs`, `PATCH /v1/lfs/{name}`: how labeling functions stand; switch them on and off."""

from __future__ import annotations

import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.responses import Response

from stream.api.auth import Role, require
from stream.api.body import read_body
from stream.api.problems import PROBLEM_JSON, Problem
from stream.api.stored import read_stored
from stream.decoding.fields import MAX_SENTENCE_LENGTH, NOT_NUL, Id
from stream.events import CONTROL, LfSwitch
from stream.lf_standing import LfStandings
from stream.records import Outgoing
from stream.sinks import AppendFailed, EventSink

__all__ = ["Change", "LfList", "Lfs", "router"]

_BODY_BYTES: Final = 64 * 1024
_RETRY_AFTER_S: Final = "2"
_NEAREST: Final = 3
_ALIKE: Final = 0.4
_LOCAL: Final = "somebody on the service's machine"


class Change(BaseModel):
    """Whether a labeling function votes from now on, and why."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"enabled": False, "reason": "new page layout", "by": "ann"}]
        },
    )

    enabled: bool = Field(strict=True, description="True: it votes; false: it abstains.")
    reason: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True, min_length=1, max_length=MAX_SENTENCE_LENGTH, pattern=NOT_NUL
        ),
    ] = Field(
        description="Why; the governance log and the open status page show it, so name nobody."
    )
    by: (
        Annotated[
            str,
            StringConstraints(strip_whitespace=True, min_length=1, max_length=128, pattern=NOT_NUL),
        ]
        | None
    ) = Field(
        default=None,
        description="Who asks for it; stands behind the token's name, where there are tokens.",
    )
    task: Id | None = Field(default=None, description="Only in this task; absent: in every task.")


class Switched(BaseModel):
    """The last order about a function; what is not known is null."""

    ts: float | None
    who: str | None
    why: str


class Documentation(BaseModel):
    """What a function's author says of it."""

    summary: str
    rationale: str | None
    sources: str | None
    known_errors: str | None


class Figures(BaseModel):
    """What the deployment has counted of a function, as `headrace lfs --live` shows it."""

    model_config = ConfigDict(extra="allow")

    coverage: float | None = Field(description="Share of labels on which it voted.")
    overlap: float | None = Field(description="Share on which another one voted, too.")
    conflict: float | None = Field(description="Share on which another one voted otherwise.")
    estimated_accuracy: float | None = Field(description="By the label model.")
    gold_accuracy: float | None = Field(description="Against gold answers.")
    failures: int = Field(description="How often it raised, or answered what is no class.")


class Lf(BaseModel):
    """A labeling function of a task."""

    name: str
    task: str
    version: int
    family: str
    form: str = Field(description="`lf`, or `crowd`: judged only when it votes.")
    enabled: bool = Field(description="Whether it votes, in every partition.")
    off_in_partitions: list[int] = Field(description="Where it is off, if not everywhere.")
    switched: Switched | None = Field(description="Who switched it last, when and why, if known.")
    documentation: Documentation
    figures: Figures


class LfList(BaseModel):
    """The labeling functions of a deployment, by task, in their order."""

    lfs: list[Lf]


class Lfs:
    """Shows the labeling functions, and writes orders about them.

    Parameters
    ----------
    standings
        How they stand.
    sink
        Takes orders to the control topic.
    body_timeout_s
        How long a body may take.
    clock
        Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        standings: LfStandings,
        sink: EventSink,
        body_timeout_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._standings = standings
        self._sink = sink
        self._body_timeout_s = body_timeout_s
        self._clock = clock

    async def listed(self) -> Response:
        """Answer with every function."""
        found = await read_stored(self._standings.read)
        return Response(orjson.dumps({"lfs": found}), media_type="application/json")

    async def change(self, name: str, request: Request) -> Response:
        """Write an order to the control topic; answer with it once it is durable."""
        tasks = self._standings.tasks_of.get(name)
        if tasks is None:
            raise self._unknown(name)
        body = await read_body(request, limit=_BODY_BYTES, timeout_s=self._body_timeout_s)
        try:
            change = Change.model_validate_json(body)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from None
        if change.task is not None and change.task not in tasks:
            raise Problem(422, f"task: found {change.task!r}, {name} is of: {', '.join(tasks)}")
        bearer: str | None = getattr(request.state, "bearer", None)
        order = LfSwitch(
            kind="lf",
            name=name,
            enabled=change.enabled,
            task=change.task,
            ts=self._clock(),
            who=_who(bearer, change.by),
            why=change.reason,
        )
        value = order.model_dump_json(exclude_none=True).encode()
        # The control topic is compacted: the last order about a function stays.
        key = f"lf/{change.task or '*'}/{name}".encode()
        try:
            await self._sink.append([Outgoing(CONTROL, key, value)])
        except AppendFailed as failure:
            fate = "may have been stored" if failure.unknown else "was not stored"
            raise Problem(
                503,
                f"the log is not available, the order {fate}: {failure.reason}",
                headers={"Retry-After": _RETRY_AFTER_S},
            ) from failure
        return Response(value, 202, media_type="application/json")

    def _unknown(self, name: str) -> Problem:
        known = sorted(self._standings.tasks_of)
        nearest = get_close_matches(name, known, n=_NEAREST, cutoff=_ALIKE)
        hint = f"the nearest: {', '.join(nearest)}" if nearest else "GET /v1/lfs lists them"
        return Problem(404, f"no labeling function is called {name!r}; {hint}", nearest=nearest)


def _who(bearer: str | None, by: str | None) -> str:
    """Return who an order is from: the token's name is known, the rest is what they say.

    Examples
    --------
    >>> _who("ops", None), _who("ops", "ann"), _who(None, "ann")
    ('ops', 'ops: ann', 'ann')
    """
    if bearer is None:
        return by or _LOCAL
    return bearer if by is None else f"{bearer}: {by}"


router = APIRouter(tags=["labeling functions"], prefix="/v1")

_PROBLEM: Final[dict[str, Any]] = {"content": {PROBLEM_JSON: {}}}
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "No token, or an unknown one.", **_PROBLEM},
    403: {"description": "The token lacks the role.", **_PROBLEM},
}
_SAMPLE: Final[dict[str, Any]] = {
    "name": "long_dwell",
    "task": "relevance",
    "version": 2,
    "family": "behaviour",
    "form": "lf",
    "enabled": False,
    "off_in_partitions": [],
    "switched": {"ts": 1767225600.0, "who": "ops: ann", "why": "new page layout"},
    "documentation": {
        "summary": "Vote positive after half a minute, negative below ten seconds.",
        "rationale": "Who stays reads.",
        "sources": "`dwell` events.",
        "known_errors": "An open tab.",
    },
    "figures": {
        "votes": [120, 340],
        "coverage": 0.41,
        "overlap": 0.37,
        "conflict": 0.05,
        "estimated_accuracy": 0.83,
        "gold_accuracy": 0.81,
        "failures": 0,
        "disagreement": 0.06,
        "silence_s": 2.0,
    },
}
_ORDER: Final[dict[str, Any]] = {
    "ts": 1767225600.0,
    "who": "ops: ann",
    "why": "new page layout",
    "kind": "lf",
    "name": "long_dwell",
    "enabled": False,
}
_ROLE: Final = [Depends(require(Role.ADMIN))]


@router.get(
    "/lfs",
    response_class=Response,
    dependencies=_ROLE,
    responses={
        200: {
            "model": LfList,
            "description": "As of the partitions' last checkpoints.",
            "content": {"application/json": {"example": {"lfs": [_SAMPLE]}}},
        },
        **_REFUSED,
        503: {"description": "The state store does not answer.", **_PROBLEM},
    },
)
async def get_lfs(request: Request) -> Response:
    """List the labeling functions: what each is, whether it is on, and what it is worth."""
    lfs: Lfs = request.app.state.lfs
    return await lfs.listed()


@router.patch(
    "/lfs/{name}",
    status_code=202,
    response_class=Response,
    dependencies=_ROLE,
    responses={
        202: {
            "model": LfSwitch,
            "description": "The order is durable in `headrace.control`; every partition obeys it "
            "in its turn, without a restart, and `headrace.governance` records who and why.",
            "content": {"application/json": {"example": _ORDER}},
        },
        **_REFUSED,
        404: {"description": "No function has this name; `nearest` are alike.", **_PROBLEM},
        408: {"description": "The body did not arrive in time.", **_PROBLEM},
        413: {"description": "The body is too large.", **_PROBLEM},
        422: {"description": "A field is wrong; `errors` names it.", **_PROBLEM},
        503: {"description": "The log is not available; says if it may be stored.", **_PROBLEM},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Change.model_json_schema()}},
        }
    },
)
async def patch_lf(request: Request, name: str) -> Response:
    """Switch a labeling function on or off, in every partition, and say why."""
    lfs: Lfs = request.app.state.lfs
    return await lfs.change(name, request)
