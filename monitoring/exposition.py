"""Show the metrics of several processes as those of one service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

__all__ = ["decoded", "encoded", "rendered", "text", "without_parts"]

_ADDED_TYPES: Final = frozenset({"counter", "histogram"})
_ADDED: Final = frozenset(
    {"process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"}
)
_LEAST: Final = frozenset({"process_start_time_seconds", "process_max_fds"})

_Place = tuple[str, tuple[tuple[str, str], ...]]
_Sample = tuple[str, tuple[tuple[str, str], ...], float]


class _Family(msgspec.Struct, array_like=True):
    name: str
    type: str
    documentation: str
    samples: list[_Sample]


_DECODER: Final = msgspec.msgpack.Decoder(list[_Family])


def encoded(families: Iterable[Metric]) -> bytes:
    """Return families of one process as bytes, for the process that shows them."""
    return msgspec.msgpack.encode(
        [
            _Family(
                family.name,
                family.type,
                family.documentation,
                [
                    (sample.name, tuple(sample.labels.items()), sample.value)
                    for sample in family.samples
                ],
            )
            for family in families
        ]
    )


def decoded(data: bytes) -> list[Metric]:
    """Return what `encoded` was given."""
    families = []
    for each in _DECODER.decode(data):
        family = Metric(each.name, each.documentation, each.type)
        for name, labels, value in each.samples:
            family.add_sample(name, dict(labels), value)
        families.append(family)
    return families


def text(families: Collector) -> bytes:
    """Return families in Prometheus' text format, whole numbers as such: most of them are."""
    return generate_latest(families).replace(b".0\n", b"\n")


def rendered(*processes: Iterable[Metric]) -> bytes:
    """Return one page in Prometheus' text format of what several processes export.

    Counters, histograms, memory and open files are added up. Of a gauge that several set alike,
    the first one's value counts, the earliest start, and the smallest limit of files.
    """
    return text(_Joined(processes))


def without_parts(families: Iterable[Metric], other: Iterable[Metric] | None) -> Iterator[Metric]:
    """Yield a process' families without the sums of which another process has a part.

    ``other``: what that one exports, as far as is known; None leaves out all that is added up.
    """
    parts: set[_Place] | None = None
    if other is not None:
        parts = {
            _place(sample) for family in other if _is_added(family) for sample in family.samples
        }
    for family in families:
        if not _is_added(family):
            yield family
        elif parts is not None:
            rest = Metric(family.name, family.documentation, family.type)
            rest.samples = [each for each in family.samples if _place(each) not in parts]
            if rest.samples:
                yield rest


def _is_added(family: Metric) -> bool:
    return family.type in _ADDED_TYPES or family.name in _ADDED


def _place(sample: Sample) -> _Place:
    return sample.name, tuple(sample.labels.items())


class _Joined(Collector):
    def __init__(self, processes: Sequence[Iterable[Metric]]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        values: dict[_Place, float] = {}
        order: dict[str, list[_Place]] = {}
        for process in self._processes:
            for family in process:
                families.setdefault(family.name, family)
                places = order.setdefault(family.name, [])
                added = _is_added(family)
                for sample in family.samples:
                    place = _place(sample)
                    before = values.get(place)
                    if before is None:
                        places.append(place)
                        values[place] = sample.value
                    elif added:
                        values[place] = before + sample.value
                    elif family.name in _LEAST:
                        values[place] = min(before, sample.value)
        for name, family in families.items():
            joined = Metric(name, family.documentation, family.type)
            for place in order[name]:
                joined.add_sample(place[0], dict(place[1]), values[place])
            yield joined
