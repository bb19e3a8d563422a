"""Compiled code on disk is told from the code that it was compiled from."""

from __future__ import annotations

from types import ModuleType

from models.kernel_cache import fingerprint
from models.recommender import counting


class _Compiled:
    """Stands where numba's dispatcher does: a function with the Python function that it was."""

    def __init__(self, source: str) -> None:
        space: dict[str, object] = {}
        exec(source, space)  # noqa: S102 - the point is code that changes
        self.py_func = space["f"]


def module(source: str, **constants: float) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(constants, kernel=_Compiled(source))
    return made


def test_any_change_is_seen() -> None:
    usual = fingerprint(module("def f(x):\n    return x + 1", A=1))
    assert usual == fingerprint(module("# moved\ndef f(x):\n    return x + 1", A=1))
    assert usual != fingerprint(module("def f(x):\n    return x + 2", A=1))
    assert usual != fingerprint(module("def f(x):\n    return x - 1", A=1))
    assert usual != fingerprint(module("def f(x):\n    return x + 1", A=2))


def test_functions_that_write_out_compiled_code_are_seen() -> None:
    def written(addend: int) -> ModuleType:
        made = ModuleType("made")
        source = f"def write():\n    def inner(x):\n        return x + {addend}\n    return inner"
        exec(source, vars(made))  # noqa: S102 - the point is code that changes
        return made

    assert fingerprint(written(1)) == fingerprint(written(1))
    assert fingerprint(written(1)) != fingerprint(written(2))


def test_our_own_modules_are_read() -> None:
    assert fingerprint(counting) != fingerprint(ModuleType("empty"))
