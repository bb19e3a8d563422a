"""Which labeling functions run: those of the built-in families, and of modules a team names."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from traceback import extract_tb
from types import ModuleType

from lfs.core import LabelingFunction, LabelingFunctionError

__all__ = ["BUILT_IN_MODULES", "collect", "for_tasks", "unique"]

BUILT_IN_MODULES: dict[str, str] = {
    family: f"lfs.{family}"
    for family in ("behaviour", "content", "intent", "knowledge", "model_based", "trust")
}
"""Module of each built-in family."""


def collect(modules: Iterable[str | ModuleType]) -> list[LabelingFunction]:
    """Return the labeling functions that these modules define, in the order of definition.

    Raises
    ------
    LabelingFunctionError
        If a module cannot be imported, or two functions of one task share a name.
    """
    found: list[LabelingFunction] = []
    for module in modules:
        if isinstance(module, str):
            try:
                loaded = importlib.import_module(module)
            except ImportError as error:
                raise LabelingFunctionError(
                    f"lfs.modules: found {module!r}, which cannot be imported ({error}); "
                    "allowed: the dotted name of a module on the Python path"
                ) from error
            except LabelingFunctionError:
                raise
            except Exception as error:  # a team's module may raise anything
                raise LabelingFunctionError(
                    f"lfs.modules: {module!r} fails when it is imported: {type(error).__name__}: "
                    f"{error}{_where(error)}"
                ) from error
        else:
            loaded = module
        found += [value for value in vars(loaded).values() if isinstance(value, LabelingFunction)]
    return unique(found)


def _where(error: Exception) -> str:
    """Return the line of a team's own that failed, not that of a library which it called."""
    places = [
        place for place in extract_tb(error.__traceback__)[1:] if "importlib" not in place.filename
    ]
    if isinstance(error, SyntaxError) or not places:
        return ""  # A syntax error says itself where it is.
    home = PurePath(places[0].filename).parent
    place = [one for one in places if PurePath(one.filename).parent == home][-1]
    return f" ({place.filename}, line {place.lineno})"


def unique(lfs: Iterable[LabelingFunction]) -> list[LabelingFunction]:
    """Return the functions, each once.

    Raises
    ------
    LabelingFunctionError
        If two functions of one task share a name.
    """
    found: dict[tuple[str, str], LabelingFunction] = {}
    for lf in lfs:
        twin = found.setdefault((lf.task, lf.name), lf)
        if twin is not lf:
            raise LabelingFunctionError(
                f"two labeling functions of task {lf.task!r} are named {lf.name!r}: "
                f"in {twin.family!r} and in {lf.family!r}; names are unique in a task"
            )
    return list(found.values())


def for_tasks(
    lfs: Sequence[LabelingFunction], tasks: Mapping[str, Sequence[str]]
) -> dict[str, list[LabelingFunction]]:
    """Return each task's functions, sorted by name so that columns never depend on imports.

    Functions of tasks that are not configured are left out.
    """
    return {
        task: sorted((lf for lf in lfs if lf.task == task), key=lambda lf: lf.name)
        for task in tasks
    }
