"""What all services share: start and wait, stop, kill, restart, leave nothing behind."""

import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class ServiceError(Exception):
    """A service that should have started did not."""


class ServiceUnavailable(ServiceError):  # noqa: N818 - it is a state of the machine
    """The service needs what the machine lacks; the message says what."""


class Runner(Protocol):
    """What runs the service: a process or a container."""

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def terminate(self, timeout_s: float = ...) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def tail(self, lines: int = ...) -> str: ...
    def close(self) -> None: ...


class Service:
    """A service on its own port and folder, usable as a context manager.

    A subclass sets `runner` and says in `_answers` when the service can be used.
    """

    name = "service"
    # Only what hangs takes so long: a busy machine is waited for.
    start_timeout_s = 150.0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"headrace-{self.name}-"))
        self.runner: Runner | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        ServiceError
            It ended, or did not answer in time; the message ends with its last output.
        """
        runner = self._runner()
        runner.start()
        deadline = time.monotonic() + self.start_timeout_s
        while not self._answers():
            if not runner.running:
                raise ServiceError(f"{self.name} ended while starting:\n{runner.tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} did not answer in {self.start_timeout_s:.0f} s:\n{runner.tail()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in an orderly way; its data stays."""
        self._runner().terminate()

    def kill(self) -> None:
        """Kill −9; its data stays as the kill left it."""
        self._runner().kill()

    def restart(self) -> None:
        """Start again on the same port and data, killing it first if it runs."""
        self._runner().kill()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        self._runner().pause()

    def resume(self) -> None:
        self._runner().resume()

    @property
    def running(self) -> bool:
        return self.runner is not None and self.runner.running

    def close(self) -> None:
        """End it and delete its data."""
        try:
            if self.runner is not None:
                self.runner.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _runner(self) -> Runner:
        if self.runner is None:
            raise ServiceError(f"{self.name} is not run by these tests")
        return self.runner

    def _answers(self) -> bool:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
