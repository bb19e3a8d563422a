"""A Docker container that a test owns, with the methods of `OwnedProcess`."""

import contextlib
import functools
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from docker.errors import NotFound
from docker.models.containers import Container


@functools.cache
def docker_answers() -> bool:
    """Tell whether a Docker engine is reachable from here."""
    if shutil.which("docker") is None:
        return False
    # Not through the library: it leaks a socket when the engine is away.
    with contextlib.suppress(subprocess.TimeoutExpired):
        return (
            subprocess.run(
                ["docker", "info"], capture_output=True, timeout=60, check=False
            ).returncode
            == 0
        )
    return False


class OwnedContainer:
    """Run an image with some of its ports at the same ports of the loopback interface.

    The container keeps its data between `kill` and `start`; `close` removes both.
    """

    def __init__(
        self,
        image: str,
        *,
        ports: Mapping[int, int],
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        # Imported late: it reads the Docker configuration, which most machines lack.
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        self._description = DockerContainer(image)
        for inside, outside in ports.items():
            self._description.with_bind_ports(inside, outside)
        for name, value in (env or {}).items():
            self._description.with_env(name, value)
        if command:
            self._description.with_command(list(command))
        self._container: Container | None = None

    @property
    def running(self) -> bool:
        if self._container is None:
            return False
        try:
            self._container.reload()
        except NotFound:
            return False
        return bool(self._container.status in {"created", "running", "paused"})

    def start(self) -> None:
        if self._container is None:
            self._description.start()
            self._container = self._description.get_wrapped_container()
        else:
            self._container.start()

    def kill(self) -> None:
        if self._container is not None and self.running:
            self._container.kill()
            self._container.wait(timeout=120)

    def terminate(self, timeout_s: float = 120.0) -> None:
        if self._container is not None and self.running:
            self._container.stop(timeout=int(timeout_s))

    def pause(self) -> None:
        if self._container is not None:
            self._container.pause()

    def resume(self) -> None:
        if self._container is not None:
            self._container.unpause()

    def tail(self, lines: int = 30) -> str:
        if self._container is None:
            return ""
        return bytes(self._container.logs(tail=lines)).decode("utf-8", "replace")

    def close(self) -> None:
        if self._container is not None:
            with contextlib.suppress(NotFound):
                self._container.remove(force=True, v=True)
            self._container = None
