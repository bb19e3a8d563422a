"""What the recommenders of other partitions learned, as the partitions of one process know it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from models.content import ContentIndex
from models.recommender import Config, Updates, World, contribution_of
from models.recommender.borrowing import Borrowing
from models.recommender.snapshot import NewerSnapshotError
from stream.state import PEER_PREFIX, SharedChunk

__all__ = ["RECOMMENDER_CHUNKS", "UPDATE_SLOTS", "Peers", "update_chunk"]

RECOMMENDER_CHUNKS: Final = "own/recommender/"
"""Chunks of a recommender's contribution; whoever serves recommendations reads them too."""

_UPDATES: Final = f"{PEER_PREFIX}recommender/"

UPDATE_SLOTS: Final = 8
"""Checkpoints whose updates are kept: a process that missed more reads whole contributions."""


def update_chunk(number: int) -> str:
    """Return the name under which a partition's ``number``-th updates are kept for a while."""
    return f"{_UPDATES}{number % UPDATE_SLOTS}"


class Peers:
    """The partitions of one process, which share a recommender, and those of the others.

    Parameters
    ----------
    config
        The deployment's, of the recommender.
    everybody
        Whether all partitions live in this process: then nobody else needs to be told anything.
    awaits
        Whether what `take_in` asks for is brought: until then nothing is given up that is known.
    """

    def __init__(self, config: Config, *, everybody: bool = False, awaits: bool = False) -> None:
        self.world = World(config, awaits=awaits)
        self.everybody = everybody
        self._config = config
        self._borrowing: Borrowing | None = None
        self._seen: dict[tuple[int, str], int] = {}

    def borrowing(self, content: ContentIndex, most: int) -> Borrowing:
        """Return what keeps the shared recommender's lenders in step with the catalogue."""
        if self._borrowing is None:
            self._borrowing = Borrowing(content, most)
        return self._borrowing

    def is_news(self, chunks: Iterable[SharedChunk]) -> bool:
        """Return whether updates are among the chunks that no partition here was given before."""
        return any(map(self._is_unseen_update, chunks))

    def take_in(self, chunks: Iterable[SharedChunk], *, whole: bool = False) -> str | None:
        """Learn what others learned; return the prefix of chunks that are needed whole, if any.

        Given those, all others' at once and told that they are ``whole``, the shared recommender
        is drawn up anew: also if there are none, since nobody else has learned anything yet.
        """
        updates: list[tuple[int, int, Updates]] = []
        contributions: dict[int, dict[str, bytes]] = {}
        for chunk in chunks:
            if chunk.name.startswith(RECOMMENDER_CHUNKS):
                name = chunk.name.removeprefix(RECOMMENDER_CHUNKS)
                contributions.setdefault(chunk.partition, {})[name] = chunk.data
            elif self._is_unseen_update(chunk):
                self._seen[chunk.partition, chunk.name] = chunk.version
                if self.world.is_home(chunk.partition):
                    continue
                try:
                    one = Updates.from_bytes(chunk.data)
                except NewerSnapshotError:
                    # Workers are being replaced, one by one. What that one learned counts here
                    # once this process is replaced, too.
                    continue
                updates.append((chunk.partition, one.start, one))
        if whole and self.world.lacking:
            self.world.draw_up(
                {
                    partition: contribution_of(data, self._config)
                    for partition, data in contributions.items()
                    if not self.world.is_home(partition)
                }
            )
        updates.sort(key=lambda one: one[:2])
        self.world.take_in((partition, one) for partition, _, one in updates)
        return RECOMMENDER_CHUNKS if self.world.lacking else None

    def _is_unseen_update(self, chunk: SharedChunk) -> bool:
        return (
            chunk.name.startswith(_UPDATES)
            and self._seen.get((chunk.partition, chunk.name)) != chunk.version
        )
