"""Stage counts as versioned bytes: a partition's counts are part of its checkpoint.

Time measured in labeling functions is left out: it differs between two runs of the same records,
and a checkpoint must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from monitoring.counts import BucketCounts, JoinCounts, PartitionGauges, StageCounts, TaskCounts

__all__ = ["counts_from_bytes", "counts_to_bytes"]

_FORMAT: Final = 1


def counts_to_bytes(counts: StageCounts) -> bytes:
    """Return the counts as bytes; equal counts give equal bytes."""
    join = counts.join
    document = {
        "format": _FORMAT,
        "consumed": sorted(counts.consumed.items()),
        "rejected": sorted((*key, n) for key, n in counts.rejected.items()),
        "duplicates": counts.duplicates,
        "misplaced": counts.misplaced,
        "ignored_fields": counts.ignored_fields,
        "join": {
            "matched": join.matched,
            "organic": join.organic,
            "expired": join.expired,
            "late_corrections": join.late_corrections,
            "duplicate_rewards": join.duplicate_rewards,
            "dropped": sorted(join.dropped.items()),
            "delay_s": _buckets(join.delay_s),
        },
        "tasks": {name: _task(counts.tasks[name]) for name in sorted(counts.tasks)},
        "partitions": [
            (number, gauges.pending, gauges.oldest_pending_s, gauges.watermark)
            for number, gauges in sorted(counts.partitions.items())
        ],
    }
    return msgspec.msgpack.encode(document)


def counts_from_bytes(data: bytes, lfs: Mapping[str, Sequence[str]] | None = None) -> StageCounts:
    """Return the counts that were written.

    Parameters
    ----------
    lfs
        Names of the labeling functions that each task has now: counts of functions that are gone
        are left out, new ones start at zero. Tasks that are not named stay as they were.

    Raises
    ------
    ValueError
        If the counts are of a newer format.
    """
    document: dict[str, Any] = msgspec.msgpack.decode(data)
    if document["format"] > _FORMAT:
        raise ValueError(
            f"counts have format {document['format']}, this program reads up to {_FORMAT}"
        )
    counts = StageCounts(
        duplicates=document["duplicates"],
        misplaced=document["misplaced"],
        ignored_fields=document["ignored_fields"],
    )
    counts.consumed.update(dict(document["consumed"]))
    counts.rejected.update({(topic, field): n for topic, field, n in document["rejected"]})
    stored = document["join"]
    join = JoinCounts(
        matched=stored["matched"],
        organic=stored["organic"],
        expired=stored["expired"],
        late_corrections=stored["late_corrections"],
        duplicate_rewards=stored["duplicate_rewards"],
    )
    join.dropped.update(dict(stored["dropped"]))
    _fill(join.delay_s, stored["delay_s"])
    counts.join = join
    for name, task in document["tasks"].items():
        names = (lfs or {}).get(name, task["lfs"])
        counts.tasks[name] = _restored(task, names)
    for number, pending, oldest, watermark in document["partitions"]:
        counts.partitions[number] = PartitionGauges(pending, oldest, watermark)
    return counts


_PER_LF: Final = ("votes", "abstains", "overlaps", "conflicts", "disagreements")


def _task(task: TaskCounts) -> dict[str, Any]:
    return {
        "classes": task.classes,
        "lfs": task.lfs,
        **{name: getattr(task, name).tolist() for name in _PER_LF},
        "failures": sorted((*key, n) for key, n in task.failures.items()),
        "labels": task.labels.tolist(),
        "gold": task.gold,
        "entropy_bits": _buckets(task.entropy_bits),
    }


def _restored(stored: Mapping[str, Any], names: Sequence[str]) -> TaskCounts:
    task = TaskCounts(tuple(stored["classes"]), tuple(names))
    columns = {name: column for column, name in enumerate(stored["lfs"])}
    for name in _PER_LF:
        values = np.asarray(stored[name], dtype=np.int64)
        for column, lf in enumerate(names):
            if lf in columns:
                getattr(task, name)[column] = values[columns[lf]]
    task.failures.update({(lf, reason): n for lf, reason, n in stored["failures"]})
    task.labels = np.asarray(stored["labels"], dtype=np.int64)
    task.gold = stored["gold"]
    _fill(task.entropy_bits, stored["entropy_bits"])
    return task


def _buckets(buckets: BucketCounts) -> tuple[list[int], float]:
    return buckets.counts.tolist(), buckets.total


def _fill(buckets: BucketCounts, stored: Sequence[Any]) -> None:
    buckets.counts = np.asarray(stored[0], dtype=np.int64)
    buckets.total = float(stored[1])
