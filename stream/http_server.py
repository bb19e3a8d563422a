"""An HTTP server inside a running event loop, that leaves signals to whoever owns the process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from stream.http_transport import WholeAnswers
from stream.refusal import Refusal

__all__ = ["HttpServer", "StartFailed"]

_BACKLOG = 2048
# A connection is kept for longer than clients and load balancers (a minute, mostly) keep theirs:
# one that sends just when it is given up gets no answer, and cannot tell whether it was heard.
_IDLE_S = 75


class StartFailed(Refusal):
    """The server could not begin to listen; the message names the setting."""


class _Server(uvicorn.Server):
    """uvicorn's server, which would otherwise take the process' signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # Not for a part of a process to decide.
            raise StartFailed("the application did not start: the log says why") from None


class HttpServer:
    """Serve an ASGI application until stopped; requests that have begun are finished.

    Parameters
    ----------
    app
        The application; its lifespan begins with `start` and ends with `stop`.
    host, port
        Where to listen; port 0 for any free one (see `port` afterwards).
    setting
        Name of the settings' table, for error messages.
    finish_s
        How long `stop` waits for requests that have begun.
    lifespan
        Whether the application has one.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        setting: str,
        finish_s: float = 10.0,
        lifespan: bool = True,
    ) -> None:
        self.host = host
        self.port = port
        self._setting = setting
        self._server = _Server(
            uvicorn.Config(
                app,
                # Said, since a bound method is not recognised.
                interface="asgi3",
                http=WholeAnswers,
                ws="none",
                lifespan="on" if lifespan else "off",
                # The paths of requests hold ids of people.
                access_log=False,
                log_config=None,
                server_header=False,
                # A forwarded address is whatever the client says it is.
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(finish_s)),
                timeout_keep_alive=_IDLE_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Return where it answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Begin to listen; on return, requests are answered.

        Raises
        ------
        StartFailed
            The address cannot be used, or the application refused to start.
        """
        listener = self._listen()
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.005)
        if self._serving.done():
            listener.close()
            # Raises what serve() raised, if it did.
            self._serving.result()
            raise StartFailed("the server ended as soon as it had started")

    async def wait(self) -> None:
        """Wait until the server ends."""
        if self._serving is not None:
            await asyncio.wait([self._serving])

    async def stop(self) -> None:
        """Stop listening, finish the requests that have begun, end the application."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    def _listen(self) -> socket.socket:
        host = self.host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol is named since asyncio sets TCP_NODELAY only where it is: without that,
        # every answer waits 40 ms for the client's delayed acknowledgement of its header.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, self.port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise StartFailed(
                f"{self._setting}: cannot listen on {host!r}, port {self.port} "
                f"({error.strerror or error}); choose another, or 0 for any free port"
            ) from error
        self.port = listener.getsockname()[1]
        return listener
