"""Who may ask for what: bearer tokens with roles, or, without tokens, this machine only."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stream.api.problems import Problem

__all__ = ["LoopbackOnly", "Role", "TokenTable", "is_loopback", "require"]

_CHALLENGE: Final = 'Bearer realm="headrace"'
_BEARER: Final = HTTPBearer(
    auto_error=False,
    description="Not needed on a service without tokens, which serves this machine only.",
)


class Role(StrEnum):
    """What a token may do; `ADMIN` may do everything."""

    INGEST = "ingest"
    RECOMMEND = "recommend"
    ANNOTATE = "annotate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Hashes of the tokens that are known, each with its roles; the tokens are not kept.

    Attributes
    ----------
    entries
        Digest and roles of each token.
    names
        Who bears each token, in the same order; may be empty.

    Examples
    --------
    >>> table = TokenTable.from_tokens({"s3cret": ["ingest"]})
    >>> table.roles("s3cret") == {Role.INGEST}, table.roles("guess")
    (True, None)
    """

    entries: tuple[tuple[bytes, frozenset[Role]], ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def from_tokens(
        cls, tokens: Mapping[str, Iterable[str]], names: Iterable[str] = ()
    ) -> TokenTable:
        """Make the table from tokens, the names of their roles, and those of their bearers."""
        hashes = {sha256(t.encode()).hexdigest(): r for t, r in tokens.items()}
        return cls.from_hashes(hashes, names)

    @classmethod
    def from_hashes(
        cls, hashes: Mapping[str, Iterable[str]], names: Iterable[str] = ()
    ) -> TokenTable:
        """Make the table from SHA-256 digests in hex, and names as `from_tokens` takes them."""
        return cls(
            tuple(
                (bytes.fromhex(digest), frozenset(Role(role) for role in roles))
                for digest, roles in hashes.items()
            ),
            tuple(names),
        )

    def __bool__(self) -> bool:
        return bool(self.entries)

    def roles(self, token: str) -> frozenset[Role] | None:
        """Return the roles of a token, or None if it is not known."""
        place = self._find(token)
        return None if place is None else self.entries[place][1]

    def bearer(self, token: str) -> str | None:
        """Return the name of who bears a token, or None if it is not known, or has none."""
        place = self._find(token)
        return None if place is None or place >= len(self.names) else self.names[place]

    def _find(self, token: str) -> int | None:
        # Every hash is compared, each in constant time, so that timing tells nothing.
        presented = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for place, (digest, _) in enumerate(self.entries):
            if hmac.compare_digest(digest, presented):
                found = place
        return found


def require(role: Role) -> Callable[..., Awaitable[None]]:
    """Return a dependency that lets a request pass if its token has the role, or is an admin's.

    The application keeps its `TokenTable` in ``app.state.tokens``; an empty one lets all pass,
    since `LoopbackOnly` has already refused whoever is not on this machine. The bearer's name,
    where there is one, is left in ``request.state.bearer`` for who records what was asked.
    """
    wanted = role if role is Role.ADMIN else f"{role} or {Role.ADMIN}"

    async def authorise(
        request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> None:
        tokens: TokenTable = request.app.state.tokens
        if not tokens:
            return
        if bearer is None or not bearer.credentials:
            raise Problem(
                401,
                f"a token is needed: Authorization: Bearer <token>, with the role {wanted}",
                headers={"WWW-Authenticate": _CHALLENGE},
            )
        roles = tokens.roles(bearer.credentials)
        if roles is None:
            raise Problem(
                401,
                "the token is not known",
                headers={"WWW-Authenticate": _CHALLENGE + ', error="invalid_token"'},
            )
        if not roles & {role, Role.ADMIN}:
            held = ", ".join(sorted(roles)) or "none"
            raise Problem(403, f"the token has the roles {held}; this needs {wanted}")
        request.state.bearer = tokens.bearer(bearer.credentials)

    return authorise


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only mean this machine.

    Examples
    --------
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.9", "[::1]", "0.0.0.0", "a.test")]
    [True, True, True, False, False]
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class LoopbackOnly:
    """Refuse whoever is not on this machine, and browsers that were led here by another site.

    A page may give its own name the address 127.0.0.1 (DNS rebinding), or post to that address
    from afar: the ``Host`` header betrays the first, ``Origin`` the second.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    @staticmethod
    def _refusal(scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        client = scope.get("client")
        hosts = headers.getlist("host")
        rule = "without tokens only this machine is served; set api.tokens to serve others"
        if client is not None and not is_loopback(client[0]):
            return Problem(403, f"the request came from {client[0]}: {rule}")
        for host in hosts:
            if not is_loopback(_host_name(host)):
                return Problem(403, f"Host {host!r} is not allowed (localhost, 127.0.0.1): {rule}")
        if not hosts and scope.get("http_version") != "1.0":
            return Problem(403, f"a Host header is needed: {rule}")
        for origin in headers.getlist("origin"):
            if not is_loopback(urlsplit(origin).hostname or ""):
                return Problem(403, f"Origin {origin!r} is not allowed: {rule}")
        return None


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
