"""The recommender's stage: every engagement is predicted, then learned by its probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.recommender import HISTORY, Config, PrequentialMetrics, Recommender
from stream.rows import CORRECT, ENGAGE, Rows
from stream.user_state import Example, UserState
from stream.watching import Watch

__all__ = ["Learning", "RecommenderSpec"]

_HISTORY_TYPE = np.dtype([("items", "<i4", (HISTORY,)), ("weights", "<f4", (HISTORY,))])


@dataclass(frozen=True, slots=True)
class RecommenderSpec:
    """Which task's last class is the weight of an engagement, and the model's sizes."""

    task: str = "relevance"
    config: Config = field(default_factory=Config)


class Learning:
    """One partition's recommender and how well it predicted so far.

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
    ) -> None:
        self.spec = spec
        self.model = Recommender(spec.config)
        self.metrics = PrequentialMetrics()
        self._watch = watch
        self._timer = timer
        self.seconds = 0.0

    def step(
        self, rows: Rows, table: NDArray[np.void], weight: NDArray[np.float64], learn: bool
    ) -> None:
        """Predict and learn the rows that ask for it, (n,) weights, in order."""
        columns = rows.columns
        kind = columns.kind
        chosen = np.flatnonzero(kind >= 0)
        if not len(chosen):
            return
        touched, users = rows.touched, rows.users
        example = columns.example[chosen]
        kind, weight = kind[chosen], weight[chosen]
        # What speaks against a thing is told by how sure it is.
        weight = np.where(kind <= CORRECT, weight, 1.0 - weight)
        items = self.model.item_indexes([touched[slot].item_id for slot in example.tolist()])
        history = np.frombuffer(b"".join([u.history for u in users]), dtype=_HISTORY_TYPE)
        hist_items = history["items"].copy()
        hist_weights = history["weights"].copy()
        hist_len = np.array([u.history_length for u in users], dtype=np.int32)
        ex_weight = np.ascontiguousarray(table["weight"])
        began = self._timer() if self._timer is not None else 0.0
        out = self.model.step_many(
            hist_items,
            hist_weights,
            hist_len,
            columns.user[chosen],
            items,
            example,
            ex_weight,
            weight,
            columns.ts[chosen],
            kind,
            learn,
        )
        if self._timer is not None:
            self.seconds += self._timer() - began
        table["weight"] = ex_weight
        pushed = np.empty(len(users), dtype=_HISTORY_TYPE)
        pushed["items"], pushed["weights"] = hist_items, hist_weights
        data, size = pushed.tobytes(), _HISTORY_TYPE.itemsize
        for position, (user, length) in enumerate(zip(users, hist_len.tolist(), strict=True)):
            user.history = data[position * size : (position + 1) * size]
            user.history_length = length
        engaged = kind == ENGAGE
        if engaged.any():
            code = self.metrics.segment_code
            segments = [code(touched[slot].segment or "") for slot in example[engaged].tolist()]
            self.metrics.update_many(
                out.rank[engaged],
                out.novelty_bits[engaged],
                np.asarray(segments, dtype=np.int32),
                out.n_items,
                self.model.covered,
            )
            if self._watch is not None:
                self._watch.engaged(
                    out.rank[engaged],
                    out.predicted[engaged],
                    weight[engaged],
                    columns.ts[chosen][engaged],
                    touched,
                    example[engaged],
                )

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

    def dirty_chunks(self) -> dict[str, bytes | None]:
        """Return the model's chunks that changed since the last call; None is to be deleted."""
        chunks = self.model.dirty_chunks()
        self.model.mark_clean()
        return chunks

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Take the model's chunks up again."""
        if chunks:
            self.model.load_chunks(chunks)
