"""Run the API: connect to the log, listen, and end in the reverse order."""

from __future__ import annotations

from monitoring.metrics import Metrics
from stream.api.app import create_app
from stream.api.health import Check, Readiness
from stream.api.limits import DEFAULT_LIMITS, Limits
from stream.api.status import StatusSource
from stream.config import Settings
from stream.explained import Explained
from stream.http_server import HttpServer
from stream.serving.sources import Served
from stream.sinks import EventSink

__all__ = ["ApiService"]


class ApiService:
    """The API of a deployment, inside a running event loop.

    Parameters
    ----------
    settings
        The deployment's settings.
    sink
        The events log; the service starts and closes it.
    metrics
        Filled by requests, rendered at ``/metrics``.
    checks
        What must answer, beside the log, for the service to be ready (``store``).
    limits
        How much is taken on.
    status_source
        What the status page shows; without one there is no page.
    served
        What recommendations are made from; without it there are none.
    explained
        Where labeling functions and examples are read from; without it neither is answered for.
    """

    def __init__(
        self,
        settings: Settings,
        sink: EventSink,
        metrics: Metrics,
        checks: dict[str, Check] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        status_source: StatusSource | None = None,
        served: Served | None = None,
        explained: Explained | None = None,
    ) -> None:
        self._sink = sink
        readiness = Readiness({"log": sink.ping, **(checks or {})})
        self._server = HttpServer(
            create_app(
                settings, sink, metrics, readiness, limits, status_source, served, explained
            ),
            settings.api.host,
            settings.api.port,
            setting="api.host, api.port",
        )

    @property
    def url(self) -> str:
        """Return where it answers, once started."""
        return self._server.url

    async def start(self) -> None:
        """Connect and listen.

        Raises
        ------
        AppendFailed
            The log cannot be reached; the message names the setting.
        StartFailed
            The address cannot be used.
        """
        # Here and not first in the application, so that the reason reaches the caller.
        await self._sink.start()
        try:
            await self._server.start()
        except BaseException:
            await self._sink.close()
            raise

    async def wait(self) -> None:
        """Wait until the server ends."""
        await self._server.wait()

    async def stop(self) -> None:
        """Finish the requests that have begun, then close the log."""
        await self._server.stop()
