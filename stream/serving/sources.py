"""Where the served model and the people's histories come from, in either deployment."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from models.content import ContentIndex
from models.recommender import Config
from models.recommender.borrowing import Borrowing
from models.recommender.core import RecommenderCore
from models.recommender.snapshot import SnapshotError
from models.recommender.vocabulary import UNKNOWN
from stream.checkpointing import RECOMMENDER_CHUNKS
from stream.ids import user_key
from stream.serving.model import NOBODY, Person, ServedModel, merged, person_from
from stream.serving.recommend import Catalogued
from stream.state import StateStore, StoreError
from stream.user_state import UserState, stored_history

__all__ = ["ModelSource", "Served", "StoreSource", "person_of"]

log = logging.getLogger(__name__)

_REST: Final = 4.0
"""Reading takes at most this part's inverse of a core: after a second of it, four are rested."""


class ModelSource(Protocol):
    """Port to what was learned, as serving needs it."""

    @property
    def model(self) -> ServedModel | None:
        """Return the newest model; None before there is any."""
        ...

    def resident(self, user_id: str) -> Person | None:
        """Return what is known of a person without waiting; None if the store must be asked."""
        ...

    def person(self, user_id: str, partition: int | None = None) -> Person:
        """Return what is known of a person, `NOBODY` for a stranger; may wait for the store.

        ``partition`` is the person's, where the caller knows it; else all of them are asked.
        """
        ...

    def start(self) -> None:
        """Begin to follow what is learned."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Served(NamedTuple):
    """What recommendations are made from."""

    source: ModelSource
    catalogue: Catalogued


def person_of(user: UserState, partition: int) -> Person:
    """Return what serving needs of a person's state."""
    # Read once: the learning thread may be about to replace it.
    return person_from(partition, user.packed_history, user.segment)


class StoreSource:
    """Follow the partitions' checkpoints: in the state store, whoever writes them.

    A thread of its own reads what changed, adds it up and puts the sum in place whole, so that
    whoever is served meanwhile is served from the sum before.

    Parameters
    ----------
    store
        Where the partitions' state lies; usable from any thread.
    config
        The deployment's, of the recommender.
    secret
        Keys the hash under which a person's state is kept.
    refresh_s
        How often to look for something new.
    content
        Lets new items borrow from items like them.

    *State* — a copy of every partition's contribution, and their sum.
    """

    def __init__(
        self,
        store: StateStore,
        config: Config,
        secret: bytes,
        refresh_s: float = 1.0,
        content: ContentIndex | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._secret = secret
        self._refresh_s = refresh_s
        self._content = content
        self._content_at = 0
        self._borrowing: Borrowing | None = None
        self._announced = 0
        self._parts: dict[int, RecommenderCore] = {}
        self._known: dict[tuple[int, str], int] = {}
        self._model: ServedModel | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="served-model", daemon=True)

    @property
    def model(self) -> ServedModel | None:
        """Return the newest sum."""
        return self._model

    def resident(self, user_id: str) -> Person | None:
        """Return None: nobody's state is here."""
        del user_id
        return None

    def key(self, user_id: str) -> bytes:
        """Return the key under which a person's state is kept."""
        return user_key(user_id, self._secret)

    def person(self, user_id: str, partition: int | None = None) -> Person:
        """Return what the last checkpoint knows of a person; `StoreError` if it cannot be read."""
        key = self.key(user_id)
        found = self._store.find_user(key, partition)
        if found is None:
            return NOBODY
        place, data = found
        try:
            packed, segment = stored_history(data)
        except ValueError as error:
            # As while a newer version of the workers is at work already.
            raise StoreError(str(error)) from error
        return person_from(place, packed, segment)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def refresh(self) -> bool:
        """Read what changed, and serve it from now on; tell whether anything had."""
        chunks = self._store.shared(RECOMMENDER_CHUNKS, self._known)
        now = self._content.clock if self._content is not None else 0
        if not chunks and (now == self._content_at or not self._parts):
            return False
        self._content_at = now
        changed: dict[int, dict[str, bytes]] = {}
        for chunk in chunks:
            name = chunk.name.removeprefix(RECOMMENDER_CHUNKS)
            changed.setdefault(chunk.partition, {})[name] = chunk.data
        for partition, data in sorted(changed.items()):
            part = self._parts.get(partition) or RecommenderCore(self._config)
            try:
                part.apply_chunks(data)
            except SnapshotError:
                # Its state was reset: what is known of it is of another life.
                if self._parts.pop(partition, None) is None:
                    raise
                self._announced = 0
                self._known = {at: v for at, v in self._known.items() if at[0] != partition}
                return self.refresh()
            self._parts[partition] = part
        self._known |= {(chunk.partition, chunk.name): chunk.version for chunk in chunks}
        version = max(self._known.values())
        name = f"{len(self._parts)}.{version}"
        self._model = merged(self._parts, self._config, name, self._unknown_content())
        return True

    def _unknown_content(self) -> ContentIndex | None:
        """Return the content of which the sum is to be told; None if it follows from its part.

        Items are announced to whoever learns, too, and so become known to a part. One that knows
        all of them takes note of what is new, instead of each of its copies of all there is.
        """
        content = self._content
        if content is None or len(self._parts) != 1:
            return content
        (only,) = self._parts.values()
        # Another thread may take more in meanwhile.
        now = content.clock
        most = min(now, self._config.max_items // 2)
        known = only.vocabulary
        while self._announced < most and known.find(content.ids[self._announced]) != UNKNOWN:
            self._announced += 1
        if self._announced < most:
            return content
        if self._borrowing is None:
            self._borrowing = Borrowing(content, self._config.max_items // 2)
        self._borrowing.catch_up(only, now)
        return None

    def _follow(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            quietly(self.refresh)
            took_s = time.monotonic() - began
            self._stopping.wait(max(self._refresh_s, _REST * took_s))


def quietly(work: Callable[[], object]) -> None:
    """Do something again and again that may fail for now: what was served is served on."""
    try:
        work()
    except (StoreError, SnapshotError) as error:
        log.warning("the served model could not be refreshed: %s", error)
