"""What a recommender writes when it is checkpointed, and how it is taken up again.

``meta`` holds what belongs to no item, ``ids/`` the vocabulary, ``segments/`` rows, and
``segments`` says which of these count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Config
from models.recommender.entry import copy, derive_items
from models.recommender.journal import MAX_SEGMENTS, Journal, Plan
from models.recommender.legacy import ROWS_PREFIX, bring_forward, read_rows
from models.recommender.segments import (
    IDS,
    IDS_PREFIX,
    TABLE,
    ids_chunk_name,
    pack_ids,
    pack_segment,
    pack_table,
    segment_name,
    segment_number,
    unpack_ids,
    unpack_segment,
    unpack_table,
)
from models.recommender.snapshot import META, SnapshotError, pack_text, unpack, version_of
from models.recommender.tables import GLOBAL_ARRAYS, Tables, Total
from models.recommender.vocabulary import Vocabulary

__all__ = ["Checkpoints", "Meta"]

_SEGMENT_ROWS = 4096
_LAGS = ("lag_hits", "lag_seen", "lag_expected")
_LATER = ("again", "borrowed")
"""Arrays that what was written by earlier programs lacks."""


class Meta(NamedTuple):
    """What ``meta`` says beside arrays."""

    items: int
    dropped: int
    last_ts: float
    arrays: Mapping[str, NDArray[Any]]
    version: int

    @classmethod
    def read(cls, chunks: Mapping[str, bytes | None]) -> Meta:
        """Return what the chunk ``meta`` says."""
        data = chunks.get(META)
        if data is None:
            raise SnapshotError("the recommender's snapshot has no meta chunk")
        head, arrays = unpack(data)
        return cls(
            int(head["items"]),
            int(head["dropped"]),
            float(head["last_ts"]),
            arrays,
            version_of(data),
        )


class _Written(NamedTuple):
    """What the chunks hold that were written last: where which rows lie, of how many items."""

    plan: Plan
    items: int


class Checkpoints:
    """Knows what is stored of one recommender, and what changed since."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._journal = Journal()
        self._written: _Written | None = None
        self._ids_stored = 0
        self._obsolete: list[str] = []
        self._config_text = json.dumps(config.as_dict(), separators=(",", ":"), sort_keys=True)

    # ---- out

    def changed(self, t: Tables, vocabulary: Vocabulary, meta: bytes) -> dict[str, bytes | None]:
        """Return what changed since `commit`, by name; None is to be deleted."""
        journal, items = self._journal, len(vocabulary)
        plan = journal.plan(np.flatnonzero(t.dirty[:items].view(np.bool_)), items)
        self._written = _Written(plan, items)
        chunks: dict[str, bytes | None] = dict.fromkeys(self._obsolete)
        table = journal.table()
        sequence = journal.sequence
        if len(plan.rows):
            for slot in plan.freed:
                chunks[segment_name(slot)] = None
                del table[slot]
            chunks[segment_name(plan.slot)] = pack_segment(t, sequence, plan.rows, copy)
            table[plan.slot] = sequence
            sequence += 1
        chunks.update(_ids(vocabulary, self._ids_stored))
        chunks[TABLE] = pack_table(sequence, table)
        chunks[META] = meta
        return chunks

    def commit(self, t: Tables) -> None:
        """Take note that what `changed` returned last is stored; what changed since is not."""
        written, self._written = self._written, None
        if written is None:
            return
        if len(written.plan.rows):
            self._journal.commit(written.plan)
        self._ids_stored = written.items
        self._obsolete = []
        t.dirty[written.plan.rows] = 0

    def everything(self, t: Tables, vocabulary: Vocabulary, meta: bytes) -> dict[str, bytes]:
        """Return everything learned, by name, the same however it was stored before."""
        items = len(vocabulary)
        size = max(_SEGMENT_ROWS, -(-items // (MAX_SEGMENTS // 2)))
        chunks: dict[str, bytes] = {}
        table = {}
        for slot, start in enumerate(range(0, items, size)):
            rows = np.arange(start, min(items, start + size))
            chunks[segment_name(slot)] = pack_segment(t, slot, rows, copy)
            table[slot] = slot
        chunks.update(_ids(vocabulary, 0))
        chunks[TABLE] = pack_table(len(table), table)
        chunks[META] = meta
        return chunks

    def meta(self, t: Tables, vocabulary: Vocabulary, last_ts: float) -> bytes:
        """Return the chunk of what belongs to no item."""
        # The configuration does not change: making it text each time took longer than the rest.
        head = (
            f'{{"config":{self._config_text},"dropped":{vocabulary.dropped},'
            f'"items":{len(vocabulary)},"last_ts":{json.dumps(last_ts)}}}'
        )
        arrays = {name: getattr(t, name) for name in GLOBAL_ARRAYS}
        # Lags that no history reached yet hold zeros.
        used = np.flatnonzero(t.lag_seen.any(axis=0) | t.lag_hits.any(axis=0))
        lags = int(used[-1]) + 1 if len(used) else 0
        arrays.update({name: arrays[name][..., :lags] for name in _LAGS})
        return pack_text(head, arrays)

    # ---- in

    def read(
        self, t: Tables, vocabulary: Vocabulary, meta: Meta, chunks: Mapping[str, bytes | None]
    ) -> None:
        """Overwrite what the chunks hold; there must be room for all items."""
        self._written = None
        _take_globals(t, meta)
        if meta.version == 1:
            self._read_first_version(t, vocabulary, chunks)
        else:
            self._read_segments(t, vocabulary, meta, chunks)
        if len(vocabulary) != meta.items:
            raise SnapshotError(f"the snapshot has {len(vocabulary)} of {meta.items} items")
        derive_items(t, self._config.parameters(), meta.items)

    def _read_segments(
        self, t: Tables, vocabulary: Vocabulary, meta: Meta, chunks: Mapping[str, bytes | None]
    ) -> None:
        data = chunks.get(TABLE)
        if data is None:
            raise SnapshotError("the recommender's snapshot does not say which segments there are")
        for name in sorted(name for name in chunks if name.startswith(IDS_PREFIX)):
            first, ids = unpack_ids(chunks[name] or b"")
            _admit(vocabulary, first, ids, name)
        sequence, table = unpack_table(data)
        known = self._journal
        found = []
        for slot, number in table.items():
            segment = chunks.get(segment_name(slot))
            if segment is None or segment_number(segment) != number:
                if known.table().get(slot) != number:
                    raise SnapshotError(f"{segment_name(slot)} of the snapshot is missing")
                continue
            found.append((number, slot, segment))
        journal = Journal() if len(found) == len(table) else known
        covered = np.zeros(meta.items, np.bool_)
        for _, slot, segment in sorted(found):
            number, rows = unpack_segment(t, segment, meta.items)
            journal.note(slot, number, rows)
            covered[rows] = True
        if len(found) == len(table) and not covered.all():
            raise SnapshotError("rows of the recommender's snapshot are missing")
        journal.forget(set(journal.table()) - set(table))
        journal.sequence = sequence
        self._journal = journal
        self._ids_stored = meta.items
        t.dirty[:] = 0

    def _read_first_version(
        self, t: Tables, vocabulary: Vocabulary, chunks: Mapping[str, bytes | None]
    ) -> None:
        names = sorted(name for name in chunks if name.startswith(ROWS_PREFIX))
        for name in names:
            epoch = float(t.totals[Total.COUNT_EPOCH])
            first, ids = read_rows(t, chunks[name] or b"", self._config, epoch)
            _admit(vocabulary, first, ids, name)
        bring_forward(t, self._config)
        # All of it is to be written anew.
        self._journal = Journal()
        self._ids_stored = 0
        self._obsolete = names
        t.dirty[: len(vocabulary)] = 1


def _ids(vocabulary: Vocabulary, stored: int) -> dict[str, bytes]:
    chunks = {}
    items = len(vocabulary)
    if items > stored:
        for chunk in range(stored // IDS, (items - 1) // IDS + 1):
            first = chunk * IDS
            chunks[ids_chunk_name(chunk)] = pack_ids(first, vocabulary.part(first, first + IDS))
    return chunks


def _admit(vocabulary: Vocabulary, first: int, ids: list[str], name: str) -> None:
    vocabulary.admit(ids)
    if vocabulary.part(first, first + len(ids)) != ids:
        raise SnapshotError(f"chunk {name} of the recommender's snapshot is out of place")


def _take_globals(t: Tables, meta: Meta) -> None:
    for name in GLOBAL_ARRAYS:
        own, stored = getattr(t, name), meta.arrays.get(name)
        if stored is None and name in _LATER:
            own[...] = 0.0
            continue
        if stored is None or stored.ndim != own.ndim:
            raise SnapshotError(f"the recommender's snapshot has no {name}")
        if name in _LAGS:
            # Histories may have been shorter or longer when it was written.
            lags = min(own.shape[-1], stored.shape[-1])
            own[...] = 0.0
            own[..., :lags] = stored[..., :lags]
        elif stored.shape != own.shape:
            raise SnapshotError(f"{name} of the recommender's snapshot has another size")
        else:
            own[...] = stored
