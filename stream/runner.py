"""One partition driven by one thread: load, process, checkpoint. Embedded service and replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stream.effects import Effects
from stream.pipeline import Prepared
from stream.records import RecordBatch
from stream.state import Checkpoint, Epoch, PartitionHead, StateStore

__all__ = ["PartitionRunner"]


class _Pipeline(Protocol):
    def restore(self, head: PartitionHead) -> None: ...
    def prepare(self, batch: RecordBatch) -> Prepared: ...
    def process(self, prepared: Prepared, loaded: Mapping[bytes, bytes]) -> Effects: ...
    def cut(self) -> Checkpoint: ...
    def saved(self) -> None: ...


class PartitionRunner:
    """A pipeline, metered or not, and the store that its state lives in.

    The caller publishes the effects of `run` before it calls `checkpoint`, and acknowledges to
    the log only after it: what is not covered by a checkpoint is delivered again.
    """

    def __init__(
        self, pipeline: _Pipeline, store: StateStore, partition: int, epoch: Epoch
    ) -> None:
        self._pipeline = pipeline
        self._partition = partition
        self._store = store
        self._epoch = epoch
        self._unsaved: Checkpoint | None = None
        pipeline.restore(store.claim(partition, epoch))

    def run(self, batch: RecordBatch) -> Effects:
        """Apply a batch and return what it asks for."""
        prepared = self._pipeline.prepare(batch)
        loaded = (
            self._store.load_users(self._partition, prepared.missing) if prepared.missing else {}
        )
        return self._pipeline.process(prepared, loaded)

    def checkpoint(self) -> None:
        """Save everything that changed; after a failure the same cut is saved first."""
        if self._unsaved is None:
            self._unsaved = self._pipeline.cut()
        self._store.save(self._unsaved, self._epoch)
        self._unsaved = None
        self._pipeline.saved()

    def release(self) -> None:
        """Give the partition up."""
        self._store.release(self._partition, self._epoch)
