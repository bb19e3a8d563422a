"""The recommender's stage: every engagement is predicted, then learned by its probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.content import ContentIndex
from models.recommender import Config, PrequentialMetrics, Recommender, SharedRecommender
from models.recommender.borrowing import Borrowing
from models.recommender.core import RecommenderCore
from stream.histories import pack, unpack
from stream.numbers import weights_of, with_weights
from stream.peers import Peers, update_chunk
from stream.rows import CORRECT, ENGAGE, Rows
from stream.state import SharedChunk
from stream.user_state import Example, UserState
from stream.watching import Watch

__all__ = ["Learning", "RecommenderSpec"]

_HELD: Final = 256
_HELD_AMONG_PEERS: Final = 48
_Thing = TypeVar("_Thing", UserState, Example)


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

    Rows wait until there are some hundreds of them, or until somebody looks: what is learned does
    not depend on how rows are cut into calls. Only partitions of one process, which predict by
    what all of them learned, see each other's rows so much later: some dozens are enough there.
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
        # Alone, nobody can tell how long rows wait.
        self._held = _HELD if peers is None else _HELD_AMONG_PEERS
        self._told = 0
        self._borrowing: Borrowing | None = None
        if content is not None:
            make = peers.borrowing if peers is not None else Borrowing
            self._borrowing = make(content, spec.config.max_items // 2)
        self._metrics = PrequentialMetrics()
        self._people: list[UserState] = []
        self._examples: list[Example] = []
        self._kinds: list[int] = []
        self._weights: list[float] = []
        self._times: list[float] = []
        self._learns = True
        self._watch = watch
        self._timer = timer
        self.seconds = 0.0

    def make_way(self, rows: Rows, learn: bool) -> bool:
        """Learn what waits, if there are so many rows that waiting would only copy them, too.

        Returns whether that is so: `step` is to follow, and nobody may write to an example's
        numbers in between; else `wait`.
        """
        if np.count_nonzero(rows.columns.kind >= 0) < self._held:
            return False
        self.flush()
        self._learns = learn
        return True

    def step(self, rows: Rows, weight: NDArray[np.float64], ex_weight: NDArray[np.float64]) -> None:
        """Predict and learn the rows that ask for it, (n,) weights, in order.

        ``ex_weight`` is what the recommender was told of each touched example, (e,); it is
        brought up to date. Only for rows that `make_way` let through.
        """
        if self._kinds:
            raise RuntimeError("rows that came before still wait")
        example, user, kind, ts, weight = _asking(rows, weight)
        self._take(rows.users, user, rows.touched, example, kind, weight, ts, ex_weight)

    def wait(self, rows: Rows, weight: NDArray[np.float64], learn: bool) -> None:
        """Keep the rows that ask for it, (n,) weights, until there are more or somebody looks."""
        touched, users = rows.touched, rows.users
        example, user, kind, ts, weight = _asking(rows, weight)
        if not len(kind):
            return
        self._begin(learn)
        self._people += [users[slot] for slot in user.tolist()]
        self._examples += [touched[slot] for slot in example.tolist()]
        self._kinds += kind.tolist()
        self._weights += weight.tolist()
        self._times += ts.tolist()
        if len(self._kinds) >= self._held:
            self.flush()

    def correct(
        self, user: UserState, example: Example, weight: float, ts: float, learn: bool
    ) -> None:
        """Take in that one engagement's probability changed."""
        self._begin(learn)
        self._people.append(user)
        self._examples.append(example)
        self._kinds.append(CORRECT)
        self._weights.append(weight)
        self._times.append(ts)
        if len(self._kinds) >= self._held:
            self.flush()

    def _begin(self, learn: bool) -> None:
        if learn != self._learns:
            self.flush()
            self._learns = learn

    def flush(self) -> None:
        """Predict and learn what waits; write to people and examples what to remember."""
        if not self._kinds:
            return
        users, user = _slots(self._people)
        touched, example = _slots(self._examples)
        kind = np.array(self._kinds, dtype=np.int8)
        weight, ts = np.array(self._weights), np.array(self._times)
        self._people, self._examples = [], []
        self._kinds, self._weights, self._times = [], [], []
        numbers = [one.numbers for one in touched]
        ex_weight = weights_of(numbers)
        self._take(users, user, touched, example, kind, weight, ts, ex_weight)
        for one, told in zip(touched, with_weights(numbers, ex_weight), strict=True):
            one.numbers = told

    def _take(
        self,
        users: Sequence[UserState],
        user: NDArray[np.int32],
        touched: Sequence[Example],
        example: NDArray[np.int32],
        kind: NDArray[np.int8],
        weight: NDArray[np.float64],
        ts: NDArray[np.float64],
        ex_weight: NDArray[np.float64],
    ) -> None:
        """Predict and learn rows, in order: of whom, of what, what is asked, weights and times.

        ``ex_weight``, of each touched example, is mutated in place.
        """
        # What speaks against a thing is told by how sure it is.
        weight = np.where(kind <= CORRECT, weight, 1.0 - weight)
        if self._borrowing is not None:
            self._borrowing.catch_up(self.model.predicting)
        slots = example.tolist()
        items, segment = self.model.indexes(
            [touched[slot].item_id for slot in slots], [touched[slot].segment for slot in slots]
        )
        lengths = np.array([one.history_length for one in users], dtype=np.int32)
        hist_items, hist_weights = unpack([one.packed_history for one in users], lengths, user)
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
            self._learns,
            segment,
        )
        if self._timer is not None:
            self.seconds += self._timer() - began
        packed = pack(hist_items, hist_weights, lengths)
        for person, history, length in zip(users, packed, lengths.tolist(), strict=True):
            person.packed_history = history
            person.history_length = length
        engaged = (kind == ENGAGE).nonzero()[0]
        if not len(engaged):
            return
        if len(engaged) < len(kind):
            example, weight, ts = example[engaged], weight[engaged], ts[engaged]
            out = out.chosen(engaged)
        code = self._metrics.segment_code
        segments = [code(touched[slot].segment or "") for slot in example.tolist()]
        codes = np.array(segments, dtype=np.int32)
        self._metrics.update_many(out, codes, self.model.covered)
        if self._watch is not None:
            self._watch.engaged(out.rank, out.predicted, weight, ts, touched, example)

    @property
    def metrics(self) -> PrequentialMetrics:
        """How well it predicted, everything taken in."""
        self.flush()
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: PrequentialMetrics) -> None:
        self._metrics = metrics

    def report(self) -> dict[str, object]:
        """Return the prequential figures of this partition."""
        return self.metrics.as_dict()

    @property
    def core(self) -> RecommenderCore:
        """Return this partition's contribution, as it is now; it goes on changing."""
        self.flush()
        model = self.model
        return model if isinstance(model, RecommenderCore) else model.contribution().core

    @property
    def predicting(self) -> RecommenderCore:
        """Return what predictions come from, as it is now; it goes on changing."""
        self.flush()
        return self.model.predicting

    @property
    def places(self) -> NDArray[np.int32] | None:
        """Return the index there of each item of this partition; None: the same as here."""
        self.flush()
        return self.model.places if isinstance(self.model, SharedRecommender) else None

    def updates(self) -> dict[str, bytes]:
        """Return what was learned since the last call, as the chunk that other partitions read."""
        self.flush()
        if self._peers is None or not isinstance(self.model, SharedRecommender):
            return {}
        updates = self.model.publish()
        if updates is None or self._peers.everybody:
            return {}
        self._told += 1
        return {update_chunk(self._told): updates.to_bytes()}

    def take_in(self, chunks: Sequence[SharedChunk], *, whole: bool = False) -> str | None:
        """Learn what other partitions' recommenders learned; see `Peers.take_in`."""
        if self._peers is None:
            return None
        if not self._peers.world.lacking and self._peers.is_news(chunks):
            # Lacking, it is drawn up from what comes now, and what waits is learned after that.
            self.flush()
        return self._peers.take_in(chunks, whole=whole)

    def leave(self) -> None:
        """Let the partition go: another process learns it from here on."""
        if isinstance(self.model, SharedRecommender):
            self.model.leave()

    def settle(self) -> None:
        """Bring the contribution up to date with what was predicted from by all."""
        if isinstance(self.model, SharedRecommender):
            self.model.settle()

    def dirty_chunks(self) -> dict[str, bytes | None]:
        """Return the model's chunks that changed since the last call; None is to be deleted."""
        self.flush()
        chunks = self.model.dirty_chunks()
        self.model.mark_clean()
        return chunks

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Take the model's chunks up again."""
        if chunks:
            self.model.load_chunks(chunks)


def _asking(
    rows: Rows, weight: NDArray[np.float64]
) -> tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int8], NDArray[np.float64], NDArray[np.float64]
]:
    """Return example, user, kind, time and weight of the rows that ask for something."""
    columns = rows.columns
    example, user, kind, ts = columns.example, columns.user, columns.kind, columns.ts
    chosen = (kind >= 0).nonzero()[0]
    if len(chosen) == len(kind):
        return example, user, kind, ts, weight
    return example[chosen], user[chosen], kind[chosen], ts[chosen], weight[chosen]


def _slots(things: Sequence[_Thing]) -> tuple[list[_Thing], NDArray[np.int32]]:
    """Return each thing once, in the order of first appearance, and the place of each there."""
    ids = list(map(id, things))
    once = dict(zip(ids, things, strict=True))
    places = dict(zip(once, range(len(once)), strict=True))
    found = np.fromiter(map(places.__getitem__, ids), dtype=np.int32, count=len(ids))
    return list(once.values()), found
