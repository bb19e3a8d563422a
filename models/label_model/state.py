"""State of a label model: its arrays, how columns are appended, and what partitions exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.label_model.entry import (
    Arrays,
    Handle,
    bind,
    derive,
    fold,
    rebuild,
    restore,
    scale,
)
from models.label_model.layout import (
    REPLAY_SIZE,
    Answers,
    Config,
    FloatArray,
    Recent,
    Sums,
    Tables,
    new_answers,
    new_recent,
    new_room,
    new_sizes,
    new_sums,
    new_tables,
    widen_sums,
)
from models.label_model.snapshot import pack_arrays, unpack_arrays
from models.label_model.stats import (
    Contribution,
    age_evidence,
    aged,
    align_sums,
    decode,
    encode,
    merge_contributions,
)

__all__ = ["LabelState"]

IntArray = npt.NDArray[np.int64]

OWN, CLOCK, IN_BLOCK, BLOCK, WAITING, LENGTH, AT_HAND, REVISED = range(8)
"""Places in ``counters``: own examples, stream clock, examples in this block, nominal block,
whether others' sums wait, length of this block, first examples at hand, later
stages in this block."""

KEPT = (
    "log_prior", "log_like", "bank", "given_vote", "agree", "rho", "corrector", "scalars",
    "weight", "product", "voted",
)  # fmt: skip
"""Tables in a snapshot, and those beside them: programs that do not know of these read the rest."""
BESIDE = ("column_prior", "shown_prior", "moments")


def _require_distinct(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        message = f"names of columns must be distinct: {list(names)}"
        raise ValueError(message)


@dataclass(slots=True)
class LabelState:
    """Everything that a label model is, besides the names of its classes."""

    config: Config
    prior: FloatArray
    lfs: tuple[str, ...]
    forms: IntArray
    counters: IntArray
    own: Sums
    other: Sums
    tables: Tables
    recent: Recent
    answers: Answers
    waiting: Contribution | None = None
    _handle: Handle | None = None
    _bound: Arrays | None = None

    @classmethod
    def empty(
        cls,
        config: Config,
        prior: FloatArray,
        block: int,
        names: Sequence[str],
        forms: Sequence[int],
        priors: FloatArray,
    ) -> LabelState:
        """Return the state of these columns with no examples; `append` says what ``priors`` are."""
        _require_distinct(names)
        m, k, h = len(names), len(prior), len(config.half_lives)
        state = cls(
            config=config,
            prior=prior,
            lfs=tuple(names),
            forms=np.array(forms, dtype=np.int64),
            counters=np.array([0, 0, 0, block, 0, 1, 0, 0], dtype=np.int64),
            own=new_sums(m, k, h),
            other=new_sums(m, k, h),
            tables=new_tables(m, k, h),
            # Only annotators' first examples get a second look.
            recent=new_recent(m, k, REPLAY_SIZE if config.learn_balance else 0),
            answers=new_answers(m),
        )
        state.tables.column_prior[:] = priors
        state.rebuild()
        return state

    @property
    def votes_seen(self) -> FloatArray:
        """Votes cast by each column anywhere: the clock of its evidence."""
        return np.asarray(self.own.cast + self.other.cast)

    def handle(self) -> Handle:
        """Return the arrays as compiled functions take them."""
        bound = self._bound
        if (
            bound is None
            or self._handle is None
            or bound.own is not self.own
            or bound.other is not self.other
            or bound.tables is not self.tables
            or bound.recent is not self.recent
            or bound.answers is not self.answers
            or bound.forms is not self.forms
        ):
            self._bound = Arrays(
                self.counters,
                self.recent,
                new_room(self.own, self.other, self.tables),
                new_sizes(self.prior, self.config.half_lives),
                self.own,
                self.other,
                self.tables,
                self.config,
                self.prior,
                self.forms,
                self.answers,
            )
            self._handle = bind(self._bound)
        return self._handle

    def rebuild(self) -> None:
        """Have the tables derived anew, without moving the clock or the block under way."""
        rebuild(self.handle())

    def derive(self) -> None:
        """Derive the rows of tables that nothing has needed since the block began."""
        derive(self.handle())

    def append(
        self, names: Sequence[str], forms: Sequence[int], priors: FloatArray | None = None
    ) -> None:
        """Append columns; their statistics start now.

        ``priors`` are rows of accuracy and strength, with strength 0 for the usual prior.
        """
        joined = self.lfs + tuple(names)
        _require_distinct(joined)
        m, old = len(joined), len(self.lfs)
        k, h = self.own.mass.shape[1], self.own.mass.shape[0]
        fold(self.own, self.other, self.tables, self.config)
        self.lfs = joined
        self.forms = np.concatenate([self.forms, np.array(forms, dtype=np.int64)])
        self.own = widen_sums(self.own, m)
        self.other = widen_sums(self.other, m)
        votes = new_recent(m, k, len(self.recent.votes)).votes
        votes[:, :old] = self.recent.votes
        self.recent = self.recent._replace(votes=votes)
        votes = new_answers(m).votes
        votes[:, :old] = self.answers.votes
        self.answers = self.answers._replace(votes=votes)
        weight, known = self.tables.weight, self.tables.column_prior
        of_pairs = self.tables.scalars[3]
        self.tables = new_tables(m, k, h)
        self.tables.weight[:] = weight
        self.tables.scalars[3] = of_pairs
        self.tables.column_prior[:old] = known
        if priors is not None:
            self.tables.column_prior[old:] = priors
        self.rebuild()

    # Partitions -------------------------------------------------------------------------------

    def contribution(self) -> Contribution:
        """Return this partition's own sums, as of now."""
        k, h = self.own.mass.shape[1], self.own.mass.shape[0]
        sums = Sums(*(array.copy() for array in self.own))
        # What is folded in is taken out of these two.
        product, voted = self.tables.product.copy(), self.tables.voted.copy()
        tables = self.tables._replace(product=product, voted=voted)
        fold(sums, new_sums(len(self.lfs), k, h), tables, self.config)
        sums.pairs[...] /= tables.scalars[3]
        scale(sums, self.config, float(self.counters[IN_BLOCK]), tables.weight)
        return Contribution(
            lfs=self.lfs,
            count=int(self.counters[OWN]),
            clock=int(self.counters[CLOCK]),
            half_lives=tuple(self.config.half_lives.tolist()),
            votes_seen=self.votes_seen,
            sums=sums,
        )

    def wait_for(self, theirs: Contribution | None) -> None:
        """Have the other partitions' sums taken in at the next block start, or now if at one."""
        self.waiting = theirs
        self.counters[WAITING] = 1
        self.take_in_waiting()

    def take_in_waiting(self) -> None:
        """Take in what waits, if between two blocks: the clock moves by what others have seen."""
        if not self.counters[WAITING] or self.counters[IN_BLOCK]:
            return
        theirs, self.waiting = self.waiting, None
        self.counters[WAITING] = 0
        k, h = self.own.mass.shape[1], self.own.mass.shape[0]
        if theirs is None:
            self.other = new_sums(len(self.lfs), k, h)
            self.rebuild()
            return
        where = {name: j for j, name in enumerate(theirs.lfs)}
        columns = [where.get(name, -1) for name in self.lfs]
        their_seen = np.array([theirs.votes_seen[j] if j >= 0 else 0.0 for j in columns])
        other = align_sums(theirs.sums, columns)
        clock, seen = int(self.counters[CLOCK]), self.votes_seen
        now = max(clock, theirs.clock, int(self.counters[OWN]) + theirs.count)
        now_seen = np.maximum(np.maximum(seen, their_seen), self.own.cast + other.cast)
        self.own.pairs[...] /= self.tables.scalars[3]
        self.tables.scalars[3] = 1.0
        for sums, since, votes in (
            (self.own, float(now - clock), now_seen - seen),
            (other, float(now - theirs.clock), now_seen - their_seen),
        ):
            scale(sums, self.config, since, aged(since, self.config))
            age_evidence(sums, votes, self.config.evidence_half_life)
        self.other = other
        self.counters[CLOCK] = now
        self.rebuild()

    def absorb(self, theirs: LabelState) -> None:
        """Add another model's own sums, at the later of both clocks."""
        forms = dict(zip(self.lfs, self.forms.tolist(), strict=True))
        for name, form in zip(theirs.lfs, theirs.forms.tolist(), strict=True):
            if forms.get(name, form) != form:
                message = f"column {name!r} is of another form in the model to be merged"
                raise ValueError(message)
        new = [j for j, name in enumerate(theirs.lfs) if name not in self.lfs]
        if new:
            self.append(
                [theirs.lfs[j] for j in new],
                [int(theirs.forms[j]) for j in new],
                theirs.tables.column_prior[new],
            )
        both = merge_contributions([self.contribution(), theirs.contribution()], self.config)
        where = {name: j for j, name in enumerate(both.lfs)}
        self.own = align_sums(both.sums, [where[name] for name in self.lfs])
        self.other.pairs[...] /= self.tables.scalars[3]
        since = float(both.clock - int(self.counters[CLOCK]))
        scale(self.other, self.config, since, aged(since, self.config))
        self._join_answers(theirs)
        k, h = self.own.mass.shape[1], self.own.mass.shape[0]
        priors = self.tables.column_prior
        self.tables = new_tables(len(self.lfs), k, h)
        self.tables.column_prior[:] = priors
        self.counters[[OWN, CLOCK, IN_BLOCK, REVISED]] = (both.count, both.clock, 0, 0)
        # What was learned elsewhere is not at hand: no second look at part of it.
        self.counters[AT_HAND] = 0
        self.rebuild()

    def _join_answers(self, theirs: LabelState) -> None:
        """Keep the latest of both models' answers, in an order that does not tell them apart."""
        rows: list[tuple[int, bytes, int, npt.NDArray[np.int8]]] = []
        for state in (self, theirs):
            columns = [state.lfs.index(name) if name in state.lfs else -1 for name in self.lfs]
            book = state.answers
            for i in range(min(int(book.total[0]), len(book.label))):
                votes = np.append(book.votes[i], np.int8(-1))[columns]
                rows.append((int(book.clock[i]), votes.tobytes(), int(book.label[i]), votes))
        rows.sort(key=lambda row: row[:3])
        fresh = new_answers(len(self.lfs))
        kept = rows[-len(fresh.label) :]
        for i, (clock, _, label, votes) in enumerate(kept):
            fresh.votes[i], fresh.label[i], fresh.clock[i] = votes, label, clock
        fresh.total[0] = len(kept)
        self.answers = fresh

    # Snapshots --------------------------------------------------------------------------------

    def dump(self, *, answers: bool = True) -> dict[str, Any]:
        """Return plain values that `load` turns back into an equal state.

        Without the ``answers`` at hand, these are for `dump_answers`.
        """
        self.derive()
        tables = {name: getattr(self.tables, name) for name in KEPT}
        beside = {"answers": pack_arrays(self.answers._asdict())} if answers else {}
        return {
            "lfs": list(self.lfs),
            "half_lives": self.config.half_lives.tolist(),
            "learn_balance": self.config.learn_balance,
            "correlations": self.config.use_pairs,
            "waiting": None if self.waiting is None else encode(self.waiting),
            "arrays": pack_arrays(
                {"prior": self.prior, "forms": self.forms, "counters": self.counters}
            ),
            "own": pack_arrays(self.own._asdict()),
            "other": pack_arrays(self.other._asdict()),
            "tables": pack_arrays(tables),
            **{name: pack_arrays({name: getattr(self.tables, name)}) for name in BESIDE},
            "recent": pack_arrays(self.recent._asdict()),
            **beside,
        }

    def dump_answers(self) -> dict[str, Any]:
        """Return plain values of the answers at hand, as many as there are."""
        book = self.answers
        used = min(int(book.total[0]), len(book.label))
        return pack_arrays(
            {
                "votes": book.votes[:used],
                "label": book.label[:used],
                "clock": book.clock[:used],
                "total": book.total,
            }
        )

    def take_answers(self, packed: dict[str, Any]) -> None:
        """Take up what `dump_answers` returned."""
        stored, book = unpack_arrays(packed), new_answers(len(self.lfs))
        used = len(stored["label"])
        for name, array in book._asdict().items():
            array[: used if name != "total" else None] = stored[name]
        self.answers = book

    def __deepcopy__(self, memo: dict[int, Any]) -> LabelState:
        # Not by attributes: what compiled functions hold of the arrays is nobody else's.
        return LabelState.load(self.dump(), self.config)

    @classmethod
    def load(cls, content: dict[str, Any], config: Config) -> LabelState:
        """Return the state that `dump` described."""
        arrays = unpack_arrays(content["arrays"])
        own, other = (Sums(**unpack_arrays(content[name])) for name in ("own", "other"))
        tables = new_tables(len(content["lfs"]), *own.counts.shape[1:3])
        kept = unpack_arrays(content["tables"])
        kept["shown_prior"] = kept["log_prior"]
        for name in BESIDE:
            kept.update(unpack_arrays(content.get(name, {})))
        if not kept["scalars"][3]:
            kept["scalars"][3] = 1.0
        for name, array in kept.items():
            getattr(tables, name)[...] = array
        state = cls(
            config=config,
            prior=arrays["prior"],
            lfs=tuple(content["lfs"]),
            forms=arrays["forms"],
            # Those of earlier programs end before the last.
            counters=np.pad(arrays["counters"], (0, REVISED + 1 - len(arrays["counters"]))),
            own=own,
            other=other,
            tables=tables,
            recent=Recent(**unpack_arrays(content["recent"])),
            answers=(
                Answers(**unpack_arrays(content["answers"]))
                if "answers" in content
                else new_answers(len(content["lfs"]))
            ),
            waiting=None if content["waiting"] is None else decode(content["waiting"]),
        )
        restore(state.handle(), "moments" not in content)
        return state
