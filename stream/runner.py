"""One partition driven by one thread: load, process, checkpoint. Embedded service and replay."""

from __future__ import annotations

from stream.effects import Effects
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.state import Checkpoint, Epoch, StateStore

__all__ = ["PartitionRunner"]


class PartitionRunner:
    """A pipeline and the store that its state lives in.

    The caller publishes the effects of `run` before it calls `checkpoint`, and acknowledges to
    the log only after it: what is not covered by a checkpoint is delivered again.
    """

    def __init__(self, pipeline: PartitionPipeline, store: StateStore, epoch: Epoch) -> None:
        self.pipeline = pipeline
        self._store = store
        self._epoch = epoch
        self._unsaved: Checkpoint | None = None
        pipeline.restore(store.claim(pipeline.partition, epoch))

    def run(self, batch: RecordBatch) -> Effects:
        """Apply a batch and return what it asks for."""
        prepared = self.pipeline.prepare(batch)
        loaded = (
            self._store.load_users(self.pipeline.partition, prepared.missing)
            if prepared.missing
            else {}
        )
        return self.pipeline.process(prepared, loaded)

    def close_windows(self) -> Effects:
        """Close every window, as at the end of a replay that asks for it."""
        missing, finish = self.pipeline.close()
        return finish(self._store.load_users(self.pipeline.partition, missing) if missing else {})

    def answer_rest(self) -> Effects:
        """Apply the gold answers that still wait, as at the end of a replay."""
        missing = self.pipeline.gold.keys_before(float("inf"))
        absent = [key for key in missing if key not in self.pipeline.join.by_key]
        loaded = self._store.load_users(self.pipeline.partition, absent) if absent else {}
        return self.pipeline.answer_rest(loaded)

    def checkpoint(self) -> None:
        """Save everything that changed; after a failure the same cut is saved first."""
        if self._unsaved is None:
            self._unsaved = self.pipeline.cut()
        self._store.save(self._unsaved, self._epoch)
        self._unsaved = None
        self.pipeline.saved()

    def release(self) -> None:
        """Give the partition up."""
        self._store.release(self.pipeline.partition, self._epoch)
