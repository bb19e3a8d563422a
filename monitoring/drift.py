"""Tell whether what streams by is still what it was: votes, labels, features, rewards.

Every signal is a stream of categories. Its decayed shares are compared with a reference that was
frozen earlier, in units of their own standard deviation, which is measured on batch means, so that
sessions that cast many similar votes are no surprise. The threshold follows from an operator's
budget of false pages (`monitoring.drift_budget`).

`monitoring.pipeline_drift` says what a pipeline passes, and where.

Pass rows in the order of the stream. Whatever the cut into calls, the state is the same bit for
bit, since values are only looked at in whole blocks of 32 of their own signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.detections import Detection
from monitoring.drift_budget import threshold
from monitoring.drift_kernels import (
    BINARY,
    BLOCK,
    Crossings,
    Layout,
)
from monitoring.drift_state import BY_CATEGORY, DECAYED, empty_state, pack_state, unpack_state
from monitoring.drift_update import bin_columns, update_columns, update_sparse
from monitoring.references import Reference
from monitoring.signals import DriftRules, SignalGroup, coverage_of

__all__ = ["Detection", "DriftMonitor"]

_ROOM: Final = 4096
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
        Keep the means of closed blocks for `drain_blocks`, where somebody drains them.

    State
    -----
    About 200 bytes a category of a signal, whatever streams by; bounded detections.

    Complexity
    ----------
    One increment a value; O(K) work every 32 values of a signal.

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
        self._index = {name: at for at, name in enumerate(self.signals)}
        if len(self._index) != len(self.signals):
            raise ValueError("two signals of drift detection have the same name")
        self.layout = self._make_layout()
        self.state = empty_state(self.layout.first, len(self.rules.half_lives))
        self._found = _room(max([len(g.columns) for g in self.groups.values()], default=0))
        self._detections: list[Detection] = []
        self._blocks: list[tuple[NDArray[np.int64], NDArray[np.float64]]] | None = (
            [] if keep_blocks else None
        )

    def _make_layout(self) -> Layout:
        rules = self.rules
        sizes = [len(group.categories) for group in self.owners]
        limits = {
            k: threshold(rules.budget, rules.half_lives, 1 if k == BINARY else k)
            for k in set(sizes)
        }
        return Layout(
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.array([limits[k] for k in sizes], dtype=np.float64),
            np.array([2.0 ** (-BLOCK / half) for half in rules.half_lives]),
            -(-rules.settle_values // BLOCK),
            rules.first_blocks,
            rules.reference_blocks,
            rules.min_effect,
        )

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
            at, columns = (np.arange(side, dtype=np.int64) for side in rows.shape)
            codes = np.ascontiguousarray(bin_columns(rows, at, columns, np.asarray(spec.edges)).T)
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
        n = len(codes)
        if codes.shape != (n, len(spec.columns)) or times.shape != (n,):
            raise ValueError(
                f"signals {group}: codes of shape {codes.shape} and {times.shape} times, "
                f"for {len(spec.columns)} columns"
            )
        parts = _NO_SEGMENTS
        if spec.by_segment:
            if segments is None or segments.shape != (n,):
                raise ValueError(f"signals {group}: a segment is needed for each row")
            parts = np.ascontiguousarray(segments, dtype=np.int64)
            if n and not 0 <= parts.min() <= parts.max() <= len(self.segments):
                raise ValueError(f"signals {group}: segments must be 0 to {len(self.segments)}")
        self._run(self._first[group], codes, times, parts)

    def update_votes(
        self,
        group: str,
        votes: NDArray[np.int8],
        ts: ArrayLike,
        segments: NDArray[np.int64] | None = None,
    ) -> None:
        """Take votes in, (n, m) with −1 for none, and who voted at all where that is watched."""
        self.update(group, votes, ts, segments)
        coverage = coverage_of(self.groups[group]).name
        if coverage in self.groups:
            self.update_columns(coverage, (votes.T >= 0).view(np.int8), ts)

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
        first, row, found = self._first[group], 0, self._found
        while row < len(times):
            found.used[:] = 0
            row = update_columns(self.layout, self.state, first, codes, times, row, found)
            self._note(found, times)

    def _run(
        self,
        first: int,
        codes: NDArray[np.int8],
        ts: NDArray[np.float64],
        segments: NDArray[np.int64],
    ) -> None:
        row, n, found = 0, len(codes), self._found
        while row < n:
            found.used[:] = 0
            row = update_sparse(self.layout, self.state, first, codes, ts, segments, row, found)
            if row < 0:
                raise ValueError(
                    f"row {-1 - row}: a code of {self.owners[first].name} has no category"
                )
            self._note(found, ts)

    def _note(self, found: Crossings, ts: NDArray[np.float64]) -> None:
        used, blocks = found.used.tolist()
        if self._blocks is not None and blocks:
            self._blocks.append((found.blocks[:blocks].copy(), found.means[:blocks].copy()))
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

    def drain_blocks(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[str, float]]:
        """Yield the mean code, on 0 to 1, of each block of 32 values closed since the last call.

        Those of wanted signals, that is: one flag each, in the order of `signals`.
        """
        kept, self._blocks = self._blocks or [], [] if self._blocks is not None else None
        for signals, means in kept:
            chosen = wanted[signals]
            for signal, mean in zip(signals[chosen].tolist(), means[chosen].tolist(), strict=True):
                yield self.signals[signal], mean

    # --- references -----------------------------------------------------------------------

    def reset(self, signal: str | None = None) -> None:
        """Take a new reference of a signal, or of all, from the next values on.

        What came before does not count any more: it would be a change from the new reference.
        """
        for at in range(len(self.signals)) if signal is None else [self._index[signal]]:
            begin, end = self.layout.first[at : at + 2]
            self.state.sums[:, begin:end] = 0.0
            self.state.weights[:, at] = 0.0
        self._forget(signal)

    def _forget(self, signal: str | None) -> None:
        for at in range(len(self.signals)) if signal is None else [self._index[signal]]:
            begin, end = self.layout.first[at : at + 2]
            state = self.state
            state.reference[begin:end] = 0
            state.batches[:, begin:end] = 0
            state.squares[:, begin:end] = 0
            state.blocks[at] = 0
            state.growing[at] = 1
            state.size[at] = 0
            state.freedom[at] = 0.0
            state.firing[at] = 0

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
            self._forget(reference.signal)
            begin, end = self.layout.first[at : at + 2]
            self.state.share[begin:end] = reference.shares
            self.state.deff[begin:end] = reference.design_effects
            self.state.growing[at] = 0
            self.state.size[at] = max(reference.values // BLOCK, 1)
            self.state.freedom[at] = reference.freedom
            self.state.since[at] = reference.since
            self.state.version[at] = max(int(self.state.version[at]) + 1, reference.version)
            taken.append(reference.signal)
        return taken

    # --- bytes ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        signals = [
            (name, tag, group.categories)
            for name, tag, group in zip(self.signals, self._tags, self.owners, strict=True)
        ]
        return pack_state(
            signals, self.rules.half_lives, self.layout.first, self.state, self._detections
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
        for source, (name, tag, categories) in enumerate(stored.signals):
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
        self._detections = sorted(stored.detections)[-self.rules.detections :]


def _room(columns: int) -> Crossings:
    # A row may close a block in each of its columns, overall and in its segment.
    room = max(_ROOM, 4 * columns)
    return Crossings(
        np.zeros((room, 3), dtype=np.int64),
        np.zeros((room, 3)),
        np.zeros(room, dtype=np.int64),
        np.zeros(room),
        np.zeros(2, dtype=np.int64),
    )
