"""End the process groups that a test run leaves behind when it is itself killed.

Runs as a script beside pytest. Its standard input is a pipe from pytest: `+<pgid>` when a
group starts, `-<pgid>` when it has been reaped. When the pipe closes, whatever is left is
killed. Only groups that pytest named are ever touched.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Follow the pipe to its end, then kill the groups that are still listed."""
    groups: set[int] = set()
    for line in sys.stdin:
        pgid = int(line[1:])
        if line[0] == "+":
            groups.add(pgid)
        else:
            groups.discard(pgid)
    for pgid in sorted(groups):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pgid, signal.SIGKILL)


if __name__ == "__main__":
    main()
