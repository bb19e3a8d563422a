"""Send an answer's head together with its body: one call of the system, and one waking of a client.

uvicorn writes the two one after the other, and the head wakes the client: where cores are few, it
takes the server's before the body is on its way.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PairedWrites", "WholeAnswers"]


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol, whose transport holds a first write back for the second one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        paired = PairedWrites(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, paired))


class PairedWrites:
    """A transport that sends two writes as one; a single one follows in the loop's next turn.

    Parameters
    ----------
    transport
        Does everything else.
    loop
        Whose turns count.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self._later: asyncio.Handle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold the data back, or send it with what was held."""
        held = self._held
        if held is None:
            self._held = data
            self._later = self._loop.call_soon(self._flush)
            return
        self._forget()
        self._transport.writelines((held, data))

    def close(self) -> None:
        """Send what was held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held = self._held
        if held is not None:
            self._forget()
            self._transport.write(held)

    def _forget(self) -> None:
        self._held = None
        if self._later is not None:
            self._later.cancel()
            self._later = None
