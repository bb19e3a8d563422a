"""Callers share a write, and its failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from stream.group_commit import GroupCommit


class DiskFull(Exception):
    pass


def run_together(group: GroupCommit[int, int], items: Sequence[int]) -> dict[int, object]:
    """Submit every item from a thread of its own; give results, or what was raised."""
    outcome: dict[int, object] = {}

    def submit(item: int) -> None:
        try:
            outcome[item] = group.submit(item, item)
        except Exception as failure:
            outcome[item] = failure

    threads = [threading.Thread(target=submit, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def test_those_who_wait_for_a_write_share_the_next() -> None:
    writes: list[list[int]] = []
    waiting = threading.Event()

    def write(items: Sequence[int]) -> list[int]:
        writes.append(list(items))
        if len(writes) == 1:
            waiting.wait(60)
        return [item * 10 for item in items]

    group: GroupCommit[int, int] = GroupCommit(write, 100, DiskFull)
    first = threading.Thread(target=group.submit, args=(1, 1))
    first.start()
    while not writes:
        time.sleep(0.001)
    rest = threading.Thread(target=lambda: results.update(run_together(group, range(2, 8))))
    results: dict[int, object] = {}
    rest.start()
    while len(group) < 6:
        time.sleep(0.001)
    waiting.set()
    first.join()
    rest.join()
    assert [sorted(items) for items in writes] == [[1], [2, 3, 4, 5, 6, 7]]
    assert results == {item: item * 10 for item in range(2, 8)}


@pytest.mark.parametrize(("weights", "groups"), [([5, 5, 5], [2, 1]), ([11, 1], [1, 1])])
def test_a_write_has_a_limit(weights: list[int], groups: list[int]) -> None:
    writes: list[int] = []
    writing, waiting = threading.Event(), threading.Event()

    def write(items: Sequence[int]) -> list[int]:
        if not items[0]:
            writing.set()
            waiting.wait(60)
        else:
            writes.append(len(items))
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(write, 10, DiskFull)
    threads = [threading.Thread(target=group.submit, args=(0, 0))]
    threads[0].start()
    # Whoever comes before it would be written at once, and never be seen to wait.
    assert writing.wait(60)
    for count, weight in enumerate(weights):
        threads.append(threading.Thread(target=group.submit, args=(1, weight)))
        threads[-1].start()
        while len(group) <= count:
            time.sleep(0.001)
    waiting.set()
    for thread in threads:
        thread.join()
    assert writes == groups


def test_a_failed_write_fails_all_who_shared_it_and_none_after() -> None:
    broken = [True]

    def write(items: Sequence[int]) -> list[int]:
        if broken[0]:
            raise DiskFull("no space")
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(write, 1000, DiskFull)
    outcome = run_together(group, range(5))
    assert all(isinstance(failure, DiskFull) for failure in outcome.values())
    assert len({id(failure) for failure in outcome.values()}) == 5
    broken[0] = False
    assert group.submit(7, 1) == 7


def test_a_bug_in_a_write_is_not_dressed_up_for_its_writer() -> None:
    def write(items: Sequence[int]) -> list[int]:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError):
        GroupCommit[int, int](write, 10, DiskFull).submit(1, 1)


def test_a_bug_in_a_shared_write_is_a_bug_to_all() -> None:
    writing, waiting = threading.Event(), threading.Event()

    def write(items: Sequence[int]) -> list[int]:
        writing.set()
        waiting.wait(60)
        raise ZeroDivisionError("bug")

    group: GroupCommit[int, int] = GroupCommit(write, 100, DiskFull)
    outcome: dict[int, object] = {}
    threads = [threading.Thread(target=lambda: outcome.update(run_together(group, [1])))]
    threads[0].start()
    # The others come while it writes, and share the next write.
    assert writing.wait(60)
    threads.append(threading.Thread(target=lambda: outcome.update(run_together(group, [2, 3]))))
    threads[1].start()
    while len(group) < 2:
        time.sleep(0.001)
    waiting.set()
    for thread in threads:
        thread.join()
    kinds = sorted(type(failure).__name__ for failure in outcome.values())
    assert kinds == ["RuntimeError", "ZeroDivisionError", "ZeroDivisionError"]
