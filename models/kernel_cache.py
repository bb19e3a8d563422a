"""Tell compiled code on disk from the code that it was compiled from.

Numba's cache looks at the file of the function that it compiles, not at the files of what that
function calls: after an update in place, an old machine code of a callee would go on running
inside its caller. An entry point that refers to the fingerprint of everything it calls is
compiled anew whenever any of it changed.

Nor does it notice whose machine code a file holds. It numbers the files of a function's signatures
and writes the index first: two processes that compile two of them at once take the same number, and
a process that is killed in between leaves an index that leads to the code of an older source. From
then on everybody runs the wrong code. `keep_entries_apart` gives each entry a file of its own.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

from numba.core.caching import IndexDataCacheFile

__all__ = ["fingerprint", "keep_entries_apart"]


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


def keep_entries_apart() -> None:
    """Let numba, in this process, name a file of compiled code by its source and its signature.

    The file is written before the index names it, so that at worst an entry is missing there, and
    is compiled again. Without effect where a version of numba keeps its cache in another way.
    """
    needed = ("_load_index", "_save_index", "_save_data", "_data_name", "_dump")
    if all(hasattr(IndexDataCacheFile, name) for name in needed):
        numbered: Any = IndexDataCacheFile
        numbered.save = _Apart.save


class _Apart(IndexDataCacheFile):
    def save(self: Any, key: object, data: object) -> None:
        digest = hashlib.blake2b(self._dump((self._source_stamp, key)), digest_size=6).digest()
        name = self._data_name(int.from_bytes(digest, "big"))
        self._save_data(name, data)
        overloads = self._load_index()
        if overloads.get(key) != name:
            self._save_index({**overloads, key: name})
