"""A partition as a checkpoint: what is written, what is read back, and what may leave memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from models import LabelModel
from models.recommender import PrequentialMetrics
from monitoring.counts_snapshot import counts_from_bytes, counts_to_bytes
from stream.control import SWITCHES_CHUNK
from stream.early_labels import EARLY_CHUNK
from stream.events import ITEMS
from stream.numbers import Layout
from stream.peers import RECOMMENDER_CHUNKS
from stream.quality import LabelQuality
from stream.state import Checkpoint, PartitionHead, Unreadable, UserWrite
from stream.tasks import stats_chunk
from stream.user_state import UserState, users_to_bytes

if TYPE_CHECKING:
    from stream.pipeline import PartitionPipeline

__all__ = ["LAYOUT_CHUNKS", "MODEL_CHUNKS", "RECOMMENDER_CHUNKS", "Snapshot"]

LAYOUT_CHUNKS: Final = "own/layout/"
MODEL_CHUNKS: Final = "own/labels/"
"""Layouts of the examples' numbers, and label models by task; who explains labels reads them."""

_ANSWERS_CHUNKS: Final = "own/label-answers/"
"""Gold answers that label models have at hand, by task."""

_CLOCK: Final = "own/clock"
_GOLD: Final = "own/gold"
_DECISIONS: Final = "own/decisions"
_COUNTS: Final = "share/counts"
_PREQUENTIAL: Final = "share/recommender/prequential"
_FORMAT: Final = 1


def _quality_chunk(task: str) -> str:
    return f"share/labels/{task}/quality"


class Snapshot:
    """Writes one partition's state, and takes it up again.

    Attributes
    ----------
    layouts
        Layouts in which stored examples may still be written, by id.
    """

    def __init__(self, pipeline: PartitionPipeline) -> None:
        self._pipeline = pipeline
        self.layouts: dict[str, Layout] = {}
        self._layout_written = False
        self._expected: dict[str, int] = {}
        self._unsaved: set[bytes] = set()
        self._written: dict[str, bytes] = {}

    # --- out ------------------------------------------------------------------------------

    def cut(self) -> Checkpoint:
        """Return everything that changed since the last cut.

        A cut that could not be saved must be saved again before the next is made: it alone
        holds what changed.
        """
        pipeline = self._pipeline
        join = pipeline.join
        layout = pipeline.layout
        pipeline.settle()
        users: dict[bytes, UserWrite | None] = dict.fromkeys(sorted(join.gone))
        blobs = users_to_bytes(join.dirty.values(), layout.id)
        for (key, user), blob in zip(join.dirty.items(), blobs, strict=True):
            users[key] = UserWrite(blob, user.due)
        self._unsaved = set(users)
        join.dirty = {}
        join.gone = set()
        chunks: dict[str, bytes | None] = self._changed({**self.own(), **self.shared()})
        if not self._layout_written:
            chunks[LAYOUT_CHUNKS + layout.id] = layout.to_bytes()
            self._layout_written = True
        for name, data in pipeline.learning.dirty_chunks().items():
            chunks[RECOMMENDER_CHUNKS + name] = data
        chunks |= pipeline.learning.updates()
        chunks |= pipeline.rewards.dirty_chunks()
        if pipeline.reading is not None:
            # As far as the catalogue was known when these labels were given: read by the process,
            # for all its partitions, and at least so far by whoever claims this one next.
            pipeline.next_offsets[ITEMS] = max(
                pipeline.reading.next_offset, pipeline.next_offsets.get(ITEMS, 0)
            )
        checkpoint = Checkpoint(
            pipeline.partition, dict(self._expected), dict(pipeline.next_offsets), users, chunks
        )
        self._expected = dict(pipeline.next_offsets)
        return checkpoint

    def _changed(self, chunks: dict[str, bytes]) -> dict[str, bytes | None]:
        """Return those of the chunks that the cuts before did not hold as they are."""
        written = self._written
        changed = {name: data for name, data in chunks.items() if written.get(name) != data}
        written |= changed
        return {**changed}

    def saved(self) -> None:
        """Forget what the last cut held: it can be read from the store now."""
        self._unsaved = set()

    def own(self) -> dict[str, bytes]:
        """Return the chunks that nobody else reads, the recommender's excepted."""
        pipeline = self._pipeline
        join = pipeline.join
        chunks = {
            _CLOCK: msgspec.msgpack.encode(
                (_FORMAT, join.max_ts, join.pending, join.duplicates, join.too_late)
            ),
            _GOLD: pipeline.gold.to_bytes(),
            _DECISIONS: pipeline.decisions.to_bytes(),
            SWITCHES_CHUNK: pipeline.switches.to_bytes(),
        }
        if pipeline.early is not None:
            chunks[EARLY_CHUNK] = pipeline.early.to_bytes()
        for name, task in pipeline.labelling.tasks.items():
            model, answers = task.model.to_parts()
            chunks[MODEL_CHUNKS + name], chunks[_ANSWERS_CHUNKS + name] = model, answers
        return chunks

    def shared(self) -> dict[str, bytes]:
        """Return the partition's contributions."""
        pipeline = self._pipeline
        chunks = {
            _COUNTS: counts_to_bytes(pipeline.counts),
            _PREQUENTIAL: pipeline.learning.metrics.to_bytes(),
            **pipeline.watch.chunks(),
        }
        for name, task in pipeline.labelling.tasks.items():
            chunks[stats_chunk(task.spec)] = task.model.own_stats()
            chunks[_quality_chunk(name)] = task.quality.to_bytes()
        return chunks

    # --- in -------------------------------------------------------------------------------

    def restore(self, head: PartitionHead) -> None:
        """Take a checkpoint up; an empty head changes nothing.

        Raises
        ------
        Unreadable
            If a chunk is damaged, or of a newer format than this program reads.
        """
        try:
            self._take_up(head)
        except (ValueError, msgspec.DecodeError) as error:
            message = f"the state of partition {head.partition} cannot be read: {error}"
            raise Unreadable(message) from error

    def _take_up(self, head: PartitionHead) -> None:
        pipeline = self._pipeline
        pipeline.next_offsets = dict(head.next_offsets)
        self._expected = dict(head.next_offsets)
        if pipeline.reading is not None:
            pipeline.reading.begin(head.next_offsets.get(ITEMS, 0))
        pipeline.join.timers.load(dict(head.timers))
        chunks = head.chunks
        for name, data in chunks.items():
            if name.startswith(LAYOUT_CHUNKS):
                self.layouts[name.removeprefix(LAYOUT_CHUNKS)] = Layout.from_bytes(data)
        self._layout_written = pipeline.layout.id in self.layouts
        if _CLOCK in chunks:
            stored: tuple[Any, ...] = tuple(msgspec.msgpack.decode(chunks[_CLOCK]))
            if stored[0] > _FORMAT:
                raise ValueError(
                    f"it has format {stored[0]}, this program reads up to {_FORMAT}: run the newer "
                    "version"
                )
            join = pipeline.join
            _, join.max_ts, join.pending, join.duplicates, join.too_late = stored
        if _GOLD in chunks:
            pipeline.gold.load(chunks[_GOLD])
        if _DECISIONS in chunks:
            pipeline.decisions.load(chunks[_DECISIONS])
        if SWITCHES_CHUNK in chunks:
            pipeline.switches.load(chunks[SWITCHES_CHUNK])
        if pipeline.early is not None and EARLY_CHUNK in chunks:
            pipeline.early.load(chunks[EARLY_CHUNK])
        tasks = pipeline.labelling.tasks
        if _COUNTS in chunks:
            names = {name: task.names for name, task in tasks.items()}
            counts = counts_from_bytes(chunks[_COUNTS], names)
            for name, task in tasks.items():
                if name in counts.tasks and counts.tasks[name].classes != task.spec.classes:
                    del counts.tasks[name]
            pipeline.join.counts, pipeline.counts = counts.join, counts
        pipeline.watch.load(chunks)
        if _PREQUENTIAL in chunks:
            metrics = PrequentialMetrics.from_bytes(chunks[_PREQUENTIAL])
            pipeline.learning.metrics = metrics
        for name, task in tasks.items():
            if MODEL_CHUNKS + name in chunks:
                answers = chunks.get(_ANSWERS_CHUNKS + name)
                task.adopt(LabelModel.from_bytes(chunks[MODEL_CHUNKS + name], answers))
            if _quality_chunk(name) in chunks:
                quality = LabelQuality.from_bytes(chunks[_quality_chunk(name)])
                if quality.classes == task.spec.classes:
                    task.quality = quality.with_lfs(task.spec.layout.lfs)
        pipeline.learning.load(
            {
                name.removeprefix(RECOMMENDER_CHUNKS): data
                for name, data in chunks.items()
                if name.startswith(RECOMMENDER_CHUNKS)
            }
        )
        pipeline.rewards.load(chunks)

    # --- memory ---------------------------------------------------------------------------

    def evict(self, limit: int) -> None:
        """Let the people leave memory who were not needed for longest, down to three quarters.

        Whose state is not in the store yet stays, and so does who is still in it but forgotten.
        """
        join = self._pipeline.join
        excess = len(join.resident) - limit
        kept = len(join.dirty) + len(join.gone) + len(self._unsaved)
        if excess <= 0 or len(join.resident) - kept < limit // 4:
            # Looking through everybody for a few who may leave would cost more than they do.
            return
        free: list[UserState] = [
            user
            for key, user in join.by_key.items()
            if key not in join.dirty and key not in join.gone and key not in self._unsaved
        ]
        free.sort(key=lambda user: (user.touched, user.key))
        for user in free[: excess + limit // 4]:
            del join.resident[user.user_id]
            del join.by_key[user.key]
