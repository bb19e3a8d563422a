"""A process that a test owns: started, paused, killed by its own process group."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

GUARD_SCRIPT = Path(__file__).with_name("guard.py")


class _Guard:
    """The one watcher beside this test run; see `guard.py`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def add(self, pgid: int) -> None:
        self._tell(f"+{pgid}")

    def remove(self, pgid: int) -> None:
        self._tell(f"-{pgid}")

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            # Held for the life of the test run: the end of its stdin is what it waits for.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD_SCRIPT)],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            atexit.register(self._process.communicate)
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


_GUARD = _Guard()


class OwnedProcess:
    """Run a command in its own process group, with its output in a file.

    Parameters
    ----------
    argv
        The command; its first item is found on `PATH`.
    output
        File that collects standard output and error, appended to by each start.
    env
        The whole environment; the parent's if absent.
    cwd
        Working folder; the parent's if absent.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with OwnedProcess(["sleep", "60"], output=Path(folder) / "log") as process:
    ...         running = process.running
    ...     running, process.running
    (True, False)
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        output: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = [str(part) for part in argv]
        self.output = output
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id, also the id of its group."""
        if self._process is None:
            raise RuntimeError(f"{self.argv[0]} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the command; a second start while it runs is a mistake in the test."""
        if self.running:
            raise RuntimeError(f"{self.argv[0]} already runs as {self.pid}")
        with self.output.open("ab") as stream:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        _GUARD.add(self._process.pid)

    def kill(self) -> None:
        """Kill −9 the group and wait for its end."""
        self._signal(signal.SIGKILL)
        self.wait(timeout_s=120)

    def terminate(self, timeout_s: float = 120.0) -> None:
        """Ask with SIGTERM; what has not ended after `timeout_s` is killed."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout_s=timeout_s)
        if self.running:
            self.kill()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and give its return code.

        Raises
        ------
        subprocess.TimeoutExpired
            It still runs.
        """
        if self._process is None:
            raise RuntimeError(f"{self.argv[0]} was not started")
        returncode = self._process.wait(timeout_s)
        # Children that outlived their leader go with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _GUARD.remove(self._process.pid)
        return returncode

    def tail(self, lines: int = 30) -> str:
        """Give the last lines of its output."""
        if not self.output.exists():
            return ""
        text = self.output.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
