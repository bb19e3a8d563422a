"""Tell compiled code on disk from the code that it was compiled from.

Numba's cache looks at the file of the function that it compiles, not at the files of what that
function calls: after an update in place, an old machine code of a callee would go on running
inside its caller. An entry point that refers to the fingerprint of everything it calls is
compiled anew whenever any of it changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["fingerprint"]


def _code(code: CodeType) -> bytes:
    constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
    inner = b"".join(_code(c) for c in code.co_consts if isinstance(c, CodeType))
    return code.co_code + repr((constants, code.co_names, code.co_varnames)).encode() + inner


def fingerprint(*modules: ModuleType) -> int:
    """Return a number that changes with the compiled functions and constants of the modules."""
    found = 0
    for module in modules:
        for name, value in sorted(vars(module).items()):
            function: Callable[..., Any] | None = getattr(value, "py_func", None)
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                # What writes out compiled code itself.
                function = value
            if function is not None:
                found = zlib.crc32(_code(function.__code__), found)
            elif isinstance(value, (int, float)):
                found = zlib.crc32(f"{name}={value!r}".encode(), found)
    return found
