"""Ctrl-C and SIGTERM while something is compiled.

LLVM calls back into Python when it has compiled a function. An exception that is raised there goes
nowhere: the interruption is lost, and so is the compiled code, which its caller then misses; once
that ended in a segmentation fault. What is raised while an object is finalized is lost, too, and
so is what is raised while an import lets go of its lock.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

__all__ = ["Terminated", "ends_when_told", "interruptible", "terminable"]

_AGAIN_S: Final = 0.05
_CALLBACKS: Final = "_raw_object_cache_"
_UNLOCKING: Final = ("cb", "<frozen importlib._bootstrap>")
"""Called when the lock of a module that was imported is no longer needed."""
_AGAIN: Final[dict[int, threading.Timer]] = {}
"""Of each signal the one that waits to come again: it is one wish, however often it is told."""


class Terminated(BaseException):
    """SIGTERM came where nothing was to be saved."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` only where it arrives, as soon as that is possible.

    Does nothing where somebody else handles the signal, or outside the main thread.
    """
    with _handled(signal.SIGINT, signal.default_int_handler, _interrupt):
        yield


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM arrives, once: the end that begins so goes on to its end.

    An event loop that takes the signal over meanwhile has it. Does nothing where somebody else
    handles the signal, or outside the main thread.
    """
    with _handled(signal.SIGTERM, signal.SIG_DFL, _terminate):
        yield


@contextmanager
def ends_when_told(code: int = 0) -> Iterator[None]:
    """End the process in order if SIGTERM comes before an event loop listens to it."""
    try:
        with terminable():
            yield
    except Terminated:
        sys.stderr.write("headrace: told to end before it was at work\n")
        sys.exit(code)


@contextmanager
def _handled(
    number: signal.Signals,
    usual: Callable[[int, FrameType | None], Any] | signal.Handlers,
    handler: Callable[[int, FrameType | None], Any],
) -> Iterator[None]:
    """Handle a signal in the main thread, where its usual handler would."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(number) is not usual
    ):
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, usual)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _would_be_lost(frame):
        _forget(number)
        raise KeyboardInterrupt
    _come_again(number)


def _terminate(number: int, frame: FrameType | None) -> None:
    if not _would_be_lost(frame):
        signal.signal(number, signal.SIG_IGN)
        _forget(number)
        raise Terminated
    _come_again(number)


def _come_again(number: int) -> None:
    _forget(number)
    again = _AGAIN[number] = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _forget(number: int) -> None:
    waiting = _AGAIN.pop(number, None)
    if waiting is not None:
        waiting.cancel()


def _would_be_lost(frame: FrameType | None) -> bool:
    """Tell whether C code called one of these frames and ignores what it raises."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (code.co_name, code.co_filename) == _UNLOCKING:
            return True
        if code.co_name.startswith(_CALLBACKS) and "llvmlite" in code.co_filename:
            return True
        frame = frame.f_back
    return False
