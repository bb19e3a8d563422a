"""Tell whether what streams by is still what it was: votes, labels, features, rewards.

Every signal is a stream of categories. Its decayed shares are compared with a reference that was
frozen earlier, in units of their own standard deviation, which is measured on batch means, so that
sessions that cast many similar votes are no surprise. The threshold follows from an operator's
budget of false pages (`monitoring.drift_budget`).

`monitoring.pipeline_drift` says what a pipeline passes, and where.

Pass rows in the order of the stream. Whatever the cut into calls, the state is the same bit for
bit, since values are only looked at in whole blocks of their own signal, of 32 or more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.binning import bin_numbers
from monitoring.block_means import BlockMeans
from monitoring.detections import Detection
from monitoring.drift_kernels import BINARY, BLOCK, Crossings
from monitoring.drift_state import (
    BY_CATEGORY,
    DECAYED,
    change_block,
    empty_state,
    forget_reference,
    layout_of,
    pack_signals,
    pack_state,
    take_reference,
    unpack_state,
)
from monitoring.drift_update import (
    close_blocks,
    count_columns,
    count_coverage,
    count_numbers,
    count_rows,
    count_votes,
    room_for,
)
from monitoring.references import Reference
from monitoring.signals import DriftRules, SignalGroup, coverage_of
from monitoring.sparse_votes import SparseVotes

__all__ = ["Detection", "DriftMonitor"]

_NO_SEGMENTS: Final = np.zeros(0, dtype=np.int64)


class DriftMonitor:
    """All signals of one partition.

    Parameters
    ----------
    groups
        What is watched, each updated on its own.
    segments
        Names of the configured segments; whatever else comes is ``other``.
    keep_blocks
        Keep the means of closed blocks, in ``block_means``.

    State
    -----
    About 200 bytes a category of a signal, whatever streams by; bounded detections.

    Complexity
    ----------
    One increment a value; O(K) work every 32 values of a signal, or more (`SignalGroup.block`).

    Replay
    ------
    Integer counts and sequential sums over whole blocks: independent of the cut into calls.

    Examples
    --------
    >>> group = SignalGroup("lf_votes", ("viewed",), ("no", "yes"))
    >>> monitor = DriftMonitor([group], DriftRules(reference_values=8192))
    >>> calm = (np.arange(20_000) % 5 == 0)[:, None]
    >>> monitor.update("lf_votes", calm, np.arange(20_000.0))
    >>> monitor.detections
    []
    >>> monitor.update("lf_votes", np.ones((4_000, 1)), np.arange(4_000.0) + 20_000.0)
    >>> [(found.signal, found.category) for found in monitor.detections]
    [('lf_votes/viewed', 'yes')]
    """

    def __init__(
        self,
        groups: Iterable[SignalGroup],
        rules: DriftRules | None = None,
        segments: Sequence[str] = (),
        *,
        keep_blocks: bool = False,
    ) -> None:
        self.rules = rules or DriftRules()
        self.segments = tuple(segments)
        self.groups = {group.name: group for group in groups}
        self.signals: list[str] = []
        self.owners: list[SignalGroup] = []
        self.overall: list[bool] = []
        self._tags: list[str] = []
        self._first: dict[str, int] = {}
        for group in self.groups.values():
            self._first[group.name] = len(self.signals)
            for part in ("", *(("/" + s for s in (*self.segments, "other"))
                               if group.by_segment else ())):  # fmt: skip
                for column, tag in zip(
                    group.columns, group.tags or ("",) * len(group.columns), strict=True
                ):
                    self.signals.append(f"{group.name}/{column}{part}")
                    self.owners.append(group)
                    self.overall.append(not part)
                    self._tags.append(tag)
        # What is shown in full: only what is about everybody.
        self.detailed: NDArray[np.bool_] = np.array(
            [
                overall and owner.detail
                for overall, owner in zip(self.overall, self.owners, strict=True)
            ],
            dtype=np.bool_,
        )
        self._index = {name: at for at, name in enumerate(self.signals)}
        if len(self._index) != len(self.signals):
            raise ValueError("two signals of drift detection have the same name")
        # They never change, and are part of every checkpoint.
        self._packed_signals = pack_signals(
            [
                (name, tag, group.categories, group.block)
                for name, tag, group in zip(self.signals, self._tags, self.owners, strict=True)
            ]
        )
        self.layout = layout_of(self.owners, self.rules)
        self.state = empty_state(self.layout.first, len(self.rules.half_lives))
        self._closed, self._found = room_for(
            max([len(group.columns) for group in self.groups.values()], default=1),
            max([len(group.categories) for group in self.groups.values()], default=BINARY),
        )
        self._detections: list[Detection] = []
        self.block_means = BlockMeans() if keep_blocks else None

    # --- values in ------------------------------------------------------------------------

    def update(
        self,
        group: str,
        values: ArrayLike,
        ts: ArrayLike,
        segments: NDArray[np.int64] | None = None,
    ) -> None:
        """Take rows of one group in, in the order of the stream.

        Parameters
        ----------
        values
            Shape (n, columns): codes (negative: no value), or numbers if the group has edges.
        ts
            Event time of each row, (n,).
        segments
            Code of each row's segment, (n,), as `monitoring.segments` gives them; needed if the
            group is by segment.

        Raises
        ------
        ValueError
            For codes that no category has, or shapes that do not fit.
        """
        spec = self.groups[group]
        if spec.edges:
            rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
            edges = np.asarray(spec.edges)
            binned = [bin_numbers(np.ascontiguousarray(column), edges) for column in rows.T]
            codes = np.stack(binned, axis=1)
        else:
            codes = np.ascontiguousarray(values, dtype=np.int8)
        self.update_codes(group, codes, ts, segments)

    def update_codes(
        self,
        group: str,
        codes: NDArray[np.int8],
        ts: ArrayLike,
        segments: NDArray[np.int64] | None = None,
    ) -> None:
        """Take rows of codes in, (n, columns), numbers already binned; else as `update`."""
        spec = self.groups[group]
        codes = np.ascontiguousarray(codes, dtype=np.int8)
        times = np.ascontiguousarray(ts, dtype=np.float64)
        if codes.shape != (len(codes), len(spec.columns)) or times.shape != (len(codes),):
            raise ValueError(
                f"signals {group}: codes of shape {codes.shape} and {times.shape} times, "
                f"for {len(spec.columns)} columns"
            )
        parts = self._parts(spec, len(codes), segments)
        self._run(count_rows, spec, (codes, parts), times, looked_at=True)

    def update_votes(
        self,
        group: str,
        votes: SparseVotes,
        ts: ArrayLike,
        segments: NDArray[np.int64] | None = None,
    ) -> None:
        """Take votes in, and who voted at all where that is watched; else as `update`."""
        spec = self.groups[group]
        times = np.ascontiguousarray(ts, dtype=np.float64)
        m, starts, columns, codes = votes
        if m != len(spec.columns) or times.shape != (len(starts) - 1,):
            raise ValueError(f"signals {group}: votes of {m} functions do not fit")
        parts = self._parts(spec, len(times), segments)
        self._run(count_votes, spec, (m, starts, columns, codes, parts), times, looked_at=True)
        coverage = self.groups.get(coverage_of(spec).name)
        if coverage is not None:
            self._run(count_coverage, coverage, (m, starts, columns), times)

    def update_columns(self, group: str, codes: NDArray[np.int8], ts: ArrayLike) -> None:
        """Take codes in as columns, (c, n), of which none is negative, of a group without segments.

        The same as `update` of the rows, several times as fast.

        Raises
        ------
        ValueError
            For codes that no category has, or shapes that do not fit.
        """
        spec = self.groups[group]
        codes = np.ascontiguousarray(codes, dtype=np.int8)
        times = np.ascontiguousarray(ts, dtype=np.float64)
        if spec.by_segment or codes.shape != (len(spec.columns), len(times)):
            raise ValueError(f"signals {group}: columns of shape {codes.shape} do not fit")
        if codes.size and not 0 <= codes.min() <= codes.max() < len(spec.categories):
            raise ValueError(f"signals {group}: a code has no category")
        self._run(count_columns, spec, (codes,), times)

    def update_numbers(
        self,
        group: str,
        values: NDArray[np.float64],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        ts: ArrayLike,
    ) -> None:
        """Take numbers in: of some rows of values (n, any), those columns that the group has.

        The same as `update` of ``values[rows][:, columns]``, which is not made.

        Raises
        ------
        ValueError
            For a group that has segments or no bins, or shapes that do not fit.
        """
        spec = self.groups[group]
        times = np.ascontiguousarray(ts, dtype=np.float64)
        if spec.by_segment or not spec.edges or len(columns) != len(spec.columns):
            raise ValueError(f"signals {group}: {len(columns)} columns of numbers do not fit")
        if times.shape != rows.shape:
            raise ValueError(f"signals {group}: {len(rows)} rows and {len(times)} times")
        given = (np.ascontiguousarray(values), rows, columns, np.asarray(spec.edges))
        self._run(count_numbers, spec, given, times)

    def _parts(
        self, spec: SignalGroup, n: int, segments: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Return the segment of each row, nothing if the group has none."""
        if not spec.by_segment:
            return _NO_SEGMENTS
        if segments is None or segments.shape != (n,):
            raise ValueError(f"signals {spec.name}: a segment is needed for each row")
        if n and not 0 <= segments.min() <= segments.max() <= len(self.segments):
            raise ValueError(f"signals {spec.name}: segments must be 0 to {len(self.segments)}")
        return np.ascontiguousarray(segments, dtype=np.int64)

    def _run(
        self,
        count: Callable[..., int],
        spec: SignalGroup,
        given: tuple[Any, ...],
        ts: NDArray[np.float64],
        *,
        looked_at: bool = False,
    ) -> None:
        """Count rows with one of the loops, and judge the blocks that they fill."""
        layout, state, closed, found = self.layout, self.state, self._closed, self._found
        signals, row = self._first[spec.name], 0
        while row < len(ts):
            closed.used[:] = 0
            row = count(
                layout.first, state.counts, state.filled, signals, spec.block, *given, row, closed
            )  # fmt: skip
            if row < 0:
                raise ValueError(f"row {-1 - row}: a code of {spec.name} has no category")
            blocks = int(closed.used[0])
            if blocks:
                close_blocks(layout, state, closed, ts, found)
                if looked_at and self.block_means is not None:
                    self.block_means.keep(closed.signals[:blocks], found.means[:blocks])
                self._note(found, ts)

    def _note(self, found: Crossings, ts: NDArray[np.float64]) -> None:
        used = int(found.used[0])
        if not used:
            return
        for (signal, category, row), (z, share, reference) in zip(
            found.where[:used].tolist(), found.values[:used].tolist(), strict=True
        ):
            name = self.owners[signal].categories[category]
            version = int(self.state.version[signal])
            self._detections.append(
                Detection(
                    float(ts[row]), self.signals[signal], "zscore", name, z, share, reference,
                    version,
                )
            )  # fmt: skip
        # Sorted, so that neither the order of calls nor their cut decides what is kept.
        self._detections = sorted(self._detections)[-self.rules.detections :]

    # --- what was found -------------------------------------------------------------------

    @property
    def detections(self) -> list[Detection]:
        """The latest detections, oldest first."""
        return list(self._detections)

    @property
    def firing(self) -> list[str]:
        """Signals that are away from their reference now."""
        return [self.signals[at] for at in np.flatnonzero(self.state.firing).tolist()]

    # --- references -----------------------------------------------------------------------

    def reset(self, signal: str | None = None) -> None:
        """Take a new reference of a signal, or of all, from the next values on.

        What came before does not count any more: it would be a change from the new reference.
        """
        for at in range(len(self.signals)) if signal is None else [self._index[signal]]:
            begin, end = self.layout.first[at : at + 2]
            self.state.sums[:, begin:end] = 0.0
            self.state.weights[:, at] = 0.0
            forget_reference(self.layout, self.state, at)

    def references(self) -> list[Reference]:
        """Return every reference that is complete."""
        state, first = self.state, self.layout.first.tolist()
        return [
            Reference(
                name,
                self._tags[at],
                self.owners[at].categories,
                int(state.version[at]),
                float(state.since[at]),
                int(state.size[at]) * BLOCK,
                tuple(state.share[first[at] : first[at + 1]].tolist()),
                tuple(state.deff[first[at] : first[at + 1]].tolist()),
                float(state.freedom[at]),
            )
            for at, name in enumerate(self.signals)
            if state.size[at] > 0
        ]

    def set_references(self, references: Iterable[Reference]) -> list[str]:
        """Compare with these from now on; return the signals that took theirs.

        A reference of a signal that is not watched, or is something else now, is left out.
        """
        taken = []
        for reference in references:
            at = self._index.get(reference.signal)
            if at is None or self._tags[at] != reference.tag:
                continue
            if self.owners[at].categories != reference.categories:
                continue
            take_reference(self.layout, self.state, at, reference)
            taken.append(reference.signal)
        return taken

    # --- bytes ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        return pack_state(
            self._packed_signals,
            self.rules.half_lives,
            self.layout.first,
            self.state,
            self._detections,
        )

    def load(self, data: bytes) -> None:
        """Take up what was written, signal by signal, as far as it still is the same.

        A signal that is new, or whose tag or categories changed, starts afresh. With other
        half-lives the decayed sums start afresh.

        Raises
        ------
        ValueError
            If the bytes are none of these, or of a newer format.
        """
        stored = unpack_state(data)
        same_decay = stored.half_lives == self.rules.half_lives
        for source, (name, tag, categories, block) in enumerate(stored.signals):
            at = self._index.get(name)
            if at is None or self._tags[at] != tag or self.owners[at].categories != categories:
                continue
            begin, end = self.layout.first[at : at + 2]
            first, last = stored.first[source : source + 2]
            for field, array in self.state._asdict().items():
                if field in DECAYED and not same_decay:
                    continue
                if field in BY_CATEGORY:
                    array[..., begin:end] = stored.arrays[field][..., first:last]
                else:
                    array[..., at] = stored.arrays[field][..., source]
            if block != self.owners[at].block:
                change_block(self.layout, self.state, at)
        self._detections = sorted(stored.detections)[-self.rules.detections :]
