"""Read a request's body to its end before it is answered, so that the answer arrives."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ReadToTheEnd"]

_BYTES: Final = 256 * 1024 * 1024
_SECONDS: Final = 30.0
_BODILESS: Final = frozenset({"GET", "HEAD"})


class ReadToTheEnd:
    """ASGI middleware for requests that are refused before all of their body was read.

    A client that wants the connection closed afterwards (``Connection: close``) is cut off while
    it still sends, and sees a broken connection instead of the refusal. What is left is thrown
    away first; not of a client that waits to be told to go on (``Expect: 100-continue``).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; read what is left of it before its answer begins."""
        if scope["type"] != "http" or scope["method"] in _BODILESS:
            await self._app(scope, receive, send)
            return
        asked = complete = False

        async def watched_receive() -> Message:
            nonlocal asked, complete
            asked = True
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def patient_send(message: Message) -> None:
            if message["type"] == "http.response.start" and not complete:
                waits = not asked and any(name == b"expect" for name, _ in scope["headers"])
                # Who was waited for long enough is not waited for again.
                if not waits and message["status"] != HTTPStatus.REQUEST_TIMEOUT:
                    await _throw_away(watched_receive)
            await send(message)

        await self._app(scope, watched_receive, patient_send)


async def _throw_away(receive: Receive) -> None:
    left = _BYTES
    try:
        async with asyncio.timeout(_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
