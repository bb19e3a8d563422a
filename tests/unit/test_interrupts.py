"""Ctrl-C and SIGTERM while something is compiled are neither lost nor raised unseen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import getsource
from types import CodeType

import pytest

from stream.interrupts import Terminated, interruptible, terminable


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    # Who started the tests may have had them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(number: int = signal.SIGINT) -> None:
    """Press Ctrl-C, and go on for as long as that does not matter."""
    os.kill(os.getpid(), number)
    for _ in range(1_000):
        pass


LLVM = "site-packages/llvmlite/binding/executionengine.py"


def called_back(name: str, file: str = LLVM) -> Callable[[Callable[[], None]], None]:
    """Return a function that C code could have called, which calls another one."""
    space: dict[str, Callable[[Callable[[], None]], None]] = {}
    source = f"def {name}(inner):\n    inner()\n"
    exec(compile(source, file, "exec"), space)  # noqa: S102 - as if it lay there
    return space[name]


def test_it_is_raised_where_it_comes() -> None:
    passed = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupt()
        passed.append(True)
    assert not passed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("name", ["_raw_object_cache_notify", "_raw_object_cache_getbuffer"])
def test_it_waits_for_the_end_of_a_callback(name: str) -> None:
    # These are the names that it goes by.
    assert f"def {name}(" in getsource(import_module("llvmlite.binding.executionengine"))
    passed = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        called_back(name)(interrupt)
        passed.append(True)
        time.sleep(60)
    assert passed


def test_it_waits_until_an_import_has_let_go_of_its_lock() -> None:
    # This is the name that it goes by.
    lock = vars(import_module("importlib._bootstrap"))["_get_module_lock"]
    (found,) = [code for code in lock.__code__.co_consts if isinstance(code, CodeType)]
    passed = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        called_back(found.co_name, found.co_filename)(interrupt)
        passed.append(True)
        time.sleep(60)
    assert passed


def test_it_waits_for_the_end_of_a_finalizer() -> None:
    passed = []

    class Finalized:
        def __del__(self) -> None:
            interrupt()
            passed.append(True)

    with pytest.raises(KeyboardInterrupt), interruptible():
        Finalized()
        time.sleep(60)
    assert passed


def test_whoever_handles_it_already_goes_on_doing_so() -> None:
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    with interruptible():
        interrupt()
    assert seen == [signal.SIGINT]


@pytest.fixture
def usual_end() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("usual_end")
def test_the_end_that_sigterm_begins_is_not_cut_off_by_another_one() -> None:
    passed = []
    with pytest.raises(Terminated), terminable():
        try:
            interrupt(signal.SIGTERM)
            passed.append("too far")
        finally:
            interrupt(signal.SIGTERM)
            passed.append("to the end")
    assert passed == ["to the end"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("usual_end")
def test_sigterm_waits_for_the_end_of_a_callback() -> None:
    passed = []
    with pytest.raises(Terminated), terminable():
        called_back("_raw_object_cache_notify")(lambda: interrupt(signal.SIGTERM))
        passed.append(True)
        time.sleep(60)
    assert passed


@pytest.mark.usefixtures("usual_end")
def test_sigterm_told_twice_in_a_callback_ends_once() -> None:
    def told_twice() -> None:
        interrupt(signal.SIGTERM)
        interrupt(signal.SIGTERM)

    with pytest.raises(Terminated), terminable():
        called_back("_raw_object_cache_notify")(told_twice)
        time.sleep(60)
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    time.sleep(0.2)
    assert not seen


@pytest.mark.usefixtures("usual_end")
def test_whoever_handles_sigterm_already_goes_on_doing_so() -> None:
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with terminable():
        interrupt(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
