"""The recommender's stage: every engagement is predicted, then learned by its probability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.content import ContentIndex
from models.recommender import Config, PrequentialMetrics, Recommender, SharedRecommender
from models.recommender.borrowing import Borrowing
from models.recommender.core import RecommenderCore
from stream.histories import pack, unpack
from stream.peers import Peers, update_chunk
from stream.rows import CORRECT, ENGAGE, Rows
from stream.state import SharedChunk
from stream.user_state import Example, UserState
from stream.watching import Watch

__all__ = ["Learning", "RecommenderSpec"]


@dataclass(frozen=True, slots=True)
class RecommenderSpec:
    """Which task's last class is the weight of an engagement, and the model's sizes."""

    task: str = "relevance"
    config: Config = field(default_factory=Config)


class Learning:
    """One partition's recommender and how well it predicted so far.

    Parameters
    ----------
    spec
        The task and the sizes.
    watch
        Told of what was engaged with.
    timer
        A clock lent by the shell.
    peers
        The recommenders of the other partitions; None where there is one partition only.
    partition
        Its number.
    content
        Which items are alike by their catalogue entries: lets new ones borrow.

    Attributes
    ----------
    seconds
        Time spent in the model, if the shell lent a clock; no part of the state.
    """

    def __init__(
        self,
        spec: RecommenderSpec,
        watch: Watch | None = None,
        timer: Callable[[], float] | None = None,
        peers: Peers | None = None,
        partition: int = 0,
        content: ContentIndex | None = None,
    ) -> None:
        self.spec = spec
        self.model: Recommender | SharedRecommender = (
            Recommender(spec.config)
            if peers is None
            else SharedRecommender(spec.config, partition, peers.world)
        )
        self._peers = peers
        self._told = 0
        self._borrowing: Borrowing | None = None
        if content is not None:
            make = peers.borrowing if peers is not None else Borrowing
            self._borrowing = make(content, spec.config.max_items // 2)
        self.metrics = PrequentialMetrics()
        self._watch = watch
        self._timer = timer
        self.seconds = 0.0

    def step(
        self, rows: Rows, table: NDArray[np.void], weight: NDArray[np.float64], learn: bool
    ) -> None:
        """Predict and learn the rows that ask for it, (n,) weights, in order."""
        columns = rows.columns
        chosen = (columns.kind >= 0).nonzero()[0]
        if not len(chosen):
            return
        if self._borrowing is not None:
            self._borrowing.catch_up(self.model.predicting)
        touched, users = rows.touched, rows.users
        example, user, kind, ts = columns.example, columns.user, columns.kind, columns.ts
        if len(chosen) < len(rows):
            example, user, kind, ts = example[chosen], user[chosen], kind[chosen], ts[chosen]
            weight = weight[chosen]
        # What speaks against a thing is told by how sure it is.
        weight = np.where(kind <= CORRECT, weight, 1.0 - weight)
        items = self.model.item_indexes([touched[slot].item_id for slot in example.tolist()])
        lengths = np.array([u.history_length for u in users], dtype=np.int32)
        hist_items, hist_weights = unpack([u.packed_history for u in users], lengths)
        ex_weight = np.ascontiguousarray(table["weight"])
        began = self._timer() if self._timer is not None else 0.0
        out = self.model.step_many(
            hist_items,
            hist_weights,
            lengths,
            user,
            items,
            example,
            ex_weight,
            weight,
            ts,
            kind,
            learn,
        )
        if self._timer is not None:
            self.seconds += self._timer() - began
        table["weight"] = ex_weight
        packed = pack(hist_items, hist_weights, lengths)
        for person, history, length in zip(users, packed, lengths.tolist(), strict=True):
            person.packed_history = history
            person.history_length = length
        engaged = (kind == ENGAGE).nonzero()[0]
        if not len(engaged):
            return
        rank, predicted, novelty_bits = out.rank, out.predicted, out.novelty_bits
        if len(engaged) < len(kind):
            example, weight, ts = example[engaged], weight[engaged], ts[engaged]
            rank, predicted = rank[engaged], predicted[engaged]
            novelty_bits = novelty_bits[engaged]
        code = self.metrics.segment_code
        segments = [code(touched[slot].segment or "") for slot in example.tolist()]
        self.metrics.update_many(
            rank,
            novelty_bits,
            np.array(segments, dtype=np.int32),
            out.n_items,
            self.model.covered,
        )
        if self._watch is not None:
            self._watch.engaged(rank, predicted, weight, ts, touched, example)

    def correct(
        self,
        user: UserState,
        example: Example,
        table: NDArray[np.void],
        weight: float,
        ts: float,
        learn: bool,
    ) -> None:
        """Learn that one engagement's probability changed."""
        rows = Rows()
        rows.add(user, example, 0, 0, CORRECT, ts)
        self.step(rows, table, np.array([weight]), learn)
        rows.release()

    def report(self) -> dict[str, object]:
        """Return the prequential figures of this partition."""
        return self.metrics.as_dict()

    @property
    def core(self) -> RecommenderCore:
        """Return this partition's contribution, as it is now; it goes on changing."""
        model = self.model
        return model if isinstance(model, RecommenderCore) else model.contribution().core

    @property
    def predicting(self) -> RecommenderCore:
        """Return what predictions come from, as it is now; it goes on changing."""
        return self.model.predicting

    @property
    def places(self) -> NDArray[np.int32] | None:
        """Return the index there of each item of this partition; None: the same as here."""
        return self.model.places if isinstance(self.model, SharedRecommender) else None

    def updates(self) -> dict[str, bytes]:
        """Return what was learned since the last call, as the chunk that other partitions read."""
        if self._peers is None or not isinstance(self.model, SharedRecommender):
            return {}
        updates = self.model.publish()
        if updates is None or self._peers.everybody:
            return {}
        self._told += 1
        return {update_chunk(self._told): updates.to_bytes()}

    def take_in(self, chunks: Iterable[SharedChunk]) -> str | None:
        """Learn what other partitions' recommenders learned; see `Peers.take_in`."""
        return None if self._peers is None else self._peers.take_in(chunks)

    def leave(self) -> None:
        """Let the partition go: another process learns it from here on."""
        if isinstance(self.model, SharedRecommender):
            self.model.leave()

    def dirty_chunks(self) -> dict[str, bytes | None]:
        """Return the model's chunks that changed since the last call; None is to be deleted."""
        chunks = self.model.dirty_chunks()
        self.model.mark_clean()
        return chunks

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Take the model's chunks up again."""
        if chunks:
            self.model.load_chunks(chunks)
