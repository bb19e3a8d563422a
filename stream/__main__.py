"""`headrace`: run the commands of `stream.cli`; an interruption ends them without a traceback."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["main"]

_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line; exit 130 when it is interrupted."""
    try:
        # Here, since it takes a second or two, in which a person may change their mind.
        from stream.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.stderr.write("headrace: interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
