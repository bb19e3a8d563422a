"""The shortest way to a recommendation: past everything that only unusual requests need."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from stream.api.auth import Role, TokenTable
from stream.api.problems import Problem
from stream.api.recommendations import Recommendations, asked_in_query, router

__all__ = ["DirectRecommendations"]

_PATH: Final = "/v1/recommendations"
_ROUTE: Final = next(route for route in router.routes if getattr(route, "methods", None) == {"GET"})
_BEARER: Final = b"bearer "


class DirectRecommendations:
    """ASGI middleware that answers `GET /v1/recommendations` itself where nothing is wrong.

    Routing, dependencies and their validation are two fifths of such a request's time. Whatever
    is unusual (no token, a field that is refused) goes on to the application, which says why.
    """

    def __init__(self, app: ASGIApp, recommendations: Recommendations, tokens: TokenTable) -> None:
        self._app = app
        self._recommendations = recommendations
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http" or scope["path"] != _PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        try:
            asked = asked_in_query(
                parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            )
        except (ValidationError, ValueError):
            asked = None
        if asked is None or not self._allowed(scope):
            await self._app(scope, receive, send)
            return
        # For whoever counts requests by route.
        scope["route"] = _ROUTE
        try:
            response = await self._recommendations.queried(asked)
        except Problem as problem:
            response = problem.response()
        await response(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        if not self._tokens:
            return True
        presented = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(presented) != 1 or presented[0][: len(_BEARER)].lower() != _BEARER:
            return False
        roles = self._tokens.roles(presented[0][len(_BEARER) :].decode("latin-1"))
        return roles is not None and bool(roles & {Role.RECOMMEND, Role.ADMIN})
