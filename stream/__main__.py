"""`headrace`: run the commands of `stream.cli`; a signal ends them without a traceback."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Final

from stream.interrupts import ends_when_told

__all__ = ["main"]

_INTERRUPTED: Final = 130
_SERVICES: Final = frozenset({"up", "worker", "serve"})
"""Whoever runs them tells them to end, and takes any code but 0 for a failure."""


def main() -> None:
    """Run the command line; exit 130 when it is interrupted."""
    try:
        with ends_when_told() if _SERVICES & set(sys.argv[1:2]) else nullcontext():
            # Here, since it takes a second or two, in which a person may change their mind.
            from stream.cli import main as run  # noqa: PLC0415

            run()
    except KeyboardInterrupt:
        sys.stderr.write("headrace: interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
