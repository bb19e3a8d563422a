"""Errors as RFC 9457 problem details: what was wrong, what was found, what is allowed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stream.decoding.rejection import reason_of
from stream.refusal import Refusal

__all__ = ["PROBLEM_JSON", "Problem", "install", "problem_response"]

PROBLEM_JSON: Final = "application/problem+json"

log = logging.getLogger(__name__)


class Problem(Refusal):
    """A request that cannot be answered as asked.

    Parameters
    ----------
    status
        HTTP status code.
    detail
        A sentence for the person who reads it: the offending value, and what is allowed.
    headers
        Further response headers, such as ``Retry-After``.
    members
        Further members of the problem object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """Return it as a response."""
        return problem_response(self.status, self.detail, headers=self.headers, **self.members)


def problem_response(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Return a problem+json response.

    Examples
    --------
    >>> problem_response(429, "too fast", headers={"Retry-After": "2"}).body
    b'{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"too fast"}'
    """
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    return Response(
        orjson.dumps(content), status, headers=dict(headers or {}), media_type=PROBLEM_JSON
    )


def install(app: FastAPI) -> None:
    """Make every error of the application a problem+json response."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)


async def _on_problem(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    detail = str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"{request.url.path} does not exist; /docs lists what does"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "other methods")
        detail = f"{request.method} is not allowed on {request.url.path}; allowed: {allowed}"
    return problem_response(error.status_code, detail, headers=error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {"field": ".".join(str(part) for part in each["loc"]), "reason": reason_of(each)}
        for each in error.errors()
    ]
    return problem_response(422, "the request does not have the required form", errors=errors)


async def _on_bug(request: Request, error: Exception) -> Response:
    # The traceback goes to the log by way of the server; what it holds is not for the client.
    del error
    log.error("%s %s failed because of a bug", request.method, request.scope.get("route_path", ""))
    return problem_response(500, "a bug of the service; its log says more")
