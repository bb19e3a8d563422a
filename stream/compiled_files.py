"""Machine code on disk: each entry of numba's cache in a file of its own, written before its index.

Numba numbers the files of a function's signatures, and writes the index first. Two processes that
compile two of them at once take the same number, and a process that is killed in between leaves an
index that leads to the code of an older source. From then on every process runs the wrong code.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from numba.core.caching import IndexDataCacheFile

__all__ = ["keep_entries_apart"]

_OWN: Final = ".own-"
_UNNAMED_S: Final = 3_600.0
"""Files that no index names are deleted when they are as old: younger ones may be on their way."""
_NEEDED: Final = ("_load_index", "_save_index", "_load_data", "_save_data")


def keep_entries_apart() -> None:
    """Let this process write such files, and read no others.

    Without effect where a version of numba keeps its cache in another way.
    """
    if all(hasattr(IndexDataCacheFile, name) for name in _NEEDED):
        numbered: Any = IndexDataCacheFile
        numbered.save, numbered.load = _Apart.save, _Apart.load


class _Apart(IndexDataCacheFile):
    def save(self: Any, key: object, data: object) -> None:
        base = self._index_name.removesuffix(".nbi")
        name = f"{base}{_OWN}{uuid.uuid4().hex[:12]}.nbc"
        self._save_data(name, data)
        # At worst another process's entry is lost here, and compiled again.
        overloads = self._load_index() | {key: name}
        self._save_index(overloads)
        _drop_unnamed(Path(self._cache_path), base, set(overloads.values()))

    def load(self: Any, key: object) -> object:
        name = self._load_index().get(key)
        if name is None or _OWN not in name:
            return None
        try:
            return self._load_data(name)
        except OSError:
            return None


def _drop_unnamed(folder: Path, base: str, named: set[str]) -> None:
    oldest = time.time() - _UNNAMED_S
    for path in folder.glob(f"{base}.*.nbc"):
        with suppress(OSError):
            if path.name not in named and path.stat().st_mtime < oldest:
                path.unlink()
