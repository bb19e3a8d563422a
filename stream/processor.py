"""What a worker asks of whoever processes a partition; `stream.pipeline` implements it.

The worker moves records, state and effects; it never looks inside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint, PartitionHead, SharedChunk

__all__ = ["Effects", "Prepared", "Processor", "ProcessorFactory"]


class Prepared(Protocol):
    """A decoded batch, and whose state it needs before it can be processed."""

    @property
    def missing(self) -> Sequence[bytes]:
        """Keys of users that the processor does not hold in memory."""
        ...


class Effects(Protocol):
    """What one batch asks to be published."""

    def outgoing(self) -> Sequence[Outgoing]:
        """Return the records to publish, in order."""
        ...


P = TypeVar("P", bound=Prepared)


class Processor(Protocol[P]):
    """State of one partition and the pure function that moves it."""

    @property
    def next_offsets(self) -> Mapping[str, int]:
        """First offset not applied yet, by input topic."""
        ...

    def restore(self, head: PartitionHead) -> None:
        """Begin from a checkpoint, or raise `Unreadable`; called once, before anything else."""
        ...

    def prepare(self, batch: RecordBatch) -> P:
        """Decode a batch, and say which users must be loaded first."""
        ...

    def process(self, prepared: P, loaded: Mapping[bytes, bytes]) -> Effects:
        """Apply a batch. ``loaded`` holds the missing users that the store knows."""
        ...

    def settling(self) -> Sequence[Callable[[], None]]:
        """Return what a cut begins with, in order: who must not compute for long does it before.

        What comes in between waits for the cut.
        """
        ...

    def cut(self) -> Checkpoint:
        """Return everything that changed since the last cut; made again only once it is saved."""
        ...

    def saved(self) -> None:
        """Learn that the last cut was saved: what it held may leave memory."""
        ...

    def take_in(self, chunks: Sequence[SharedChunk], *, whole: bool = False) -> str | None:
        """Replace other partitions' contributions by these newer ones.

        Returns the prefix of other partitions' chunks that it needs whole to go on, if any; it is
        given all there are of them next, perhaps none, as ``whole``.
        """
        ...

    def tick(self, idle_s: float) -> Outgoing | None:
        """Return the record that tells this partition that time has passed, if any is due."""
        ...

    def tell(self) -> bool:
        """Bring the metrics up to date, where there are any; False: call again a little later."""
        ...

    def close(self) -> None:
        """Learn that the partition has moved away."""
        ...


ProcessorFactory = Callable[[int], Processor[Any]]
"""Makes the processor of a partition."""
