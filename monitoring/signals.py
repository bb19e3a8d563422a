"""What drift detection watches: groups of categorical signals that are updated together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from monitoring.drift_budget import DriftBudget
from monitoring.drift_kernels import BATCHES, BLOCK

__all__ = [
    "COVERAGE",
    "NUMBER_EDGES",
    "WIDE_BLOCK",
    "DriftRules",
    "SignalGroup",
    "coverage_of",
    "numbers",
]

COVERAGE: Final = ("abstain", "vote")

NUMBER_EDGES: Final = (0.0, 1.0, 4.0, 16.0, 64.0, 256.0)
"""Upper ends of the bins of counts, seconds and amounts: the last bin is open."""

WIDE_BLOCK: Final = 4 * BLOCK
"""Values between two looks at signals of which there are dozens, a value of each in every row."""

_MAX_CATEGORIES: Final = 64
_BLOCKS: Final = (BLOCK, 2 * BLOCK, 4 * BLOCK)


@dataclass(frozen=True, slots=True)
class SignalGroup:
    """Signals with the same categories, a column each.

    Parameters
    ----------
    name
        Kind of the signals: ``lf_votes``, ``lf_coverage``, ``labels``, ``features``,
        ``predictions``, ``rewards``; with several tasks ``lf_votes:relevance``. The signal of a
        column is called ``name/column``, that of a segment ``name/column/segment``.
    columns
        Names, in the order of the columns of the codes.
    categories
        At least two, at most 64; code k is the k-th.
    tags
        Of each column, for example the version of a labeling function: a reference of another tag
        is not taken over. None: all empty.
    edges
        If the columns are numbers: upper ends of their bins; `numbers` makes the categories.
    by_segment
        Whether each configured segment, and the rest, has signals of its own.
    block
        Values of a signal between two looks: `BLOCK` times a power of two. Where a group has many
        signals of which every row has a value, looking costs more than counting.
    detail
        Whether PSI, Jensen-Shannon and the reference are exported, besides z.
    """

    name: str
    columns: tuple[str, ...]
    categories: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    edges: tuple[float, ...] = ()
    by_segment: bool = False
    block: int = BLOCK
    detail: bool = True

    def __post_init__(self) -> None:
        if not 1 < len(self.categories) <= _MAX_CATEGORIES:
            raise ValueError(f"signals {self.name}: 2 to {_MAX_CATEGORIES} categories are possible")
        if self.block not in _BLOCKS:
            raise ValueError(f"signals {self.name}: a block has {_BLOCKS} values")
        if self.tags is not None and len(self.tags) != len(self.columns):
            raise ValueError(f"signals {self.name}: a tag is needed for each column")
        if self.edges and len(self.categories) != len(self.edges) + 2:
            raise ValueError(f"signals {self.name}: {len(self.edges)} edges make other categories")


def coverage_of(votes: SignalGroup) -> SignalGroup:
    """Return the group that watches how often the functions of a group of votes vote at all."""
    kind, colon, task = votes.name.partition(":")
    name = kind.removesuffix("_votes") + "_coverage" + colon + task
    return SignalGroup(name, votes.columns, COVERAGE, votes.tags, block=WIDE_BLOCK, detail=False)


def numbers(
    name: str,
    columns: Sequence[str],
    edges: Sequence[float] = NUMBER_EDGES,
    block: int = BLOCK,
) -> SignalGroup:
    """Return a group of columns of numbers.

    Examples
    --------
    >>> numbers("features", ["dwell_s"], [0.0, 10.0]).categories
    ('missing', 'up to 0', 'up to 10', 'above 10')
    """
    names = ("missing", *(f"up to {edge:g}" for edge in edges), f"above {edges[-1]:g}")
    return SignalGroup(name, tuple(columns), names, edges=tuple(edges), block=block, detail=False)


@dataclass(frozen=True, slots=True)
class DriftRules:
    """How changes are told from noise.

    Parameters
    ----------
    half_lives
        Of the decayed means, in values of a signal. The first sees jumps soon and its shares are
        what PSI is computed from; a longer one sees smaller changes that the budget's threshold
        would hide from the first.
    settle_values
        Values of a signal that pass before its first reference begins: while histories are empty
        and no window has closed yet, nothing is as it will be.
    first_reference, reference_values
        Values of a signal from which its first reference is taken, and its last; rounded up to
        powers of two. In between the reference doubles as long as nothing was detected: the
        longer it is, the less its own error costs. From the last, or from the first detection
        on, it stands until it is reset.
    min_effect
        A share that moved by less is no detection, however certain.
    budget
        From which the thresholds follow.
    detections
        How many of the latest detections are remembered.
    """

    half_lives: tuple[float, ...] = (1000.0, 3000.0)
    settle_values: int = 0
    first_reference: int = 8192
    reference_values: int = 524_288
    min_effect: float = 0.02
    budget: DriftBudget = field(default_factory=DriftBudget)
    detections: int = 256

    def __post_init__(self) -> None:
        if not BLOCK * BATCHES <= self.first_reference <= self.reference_values:
            raise ValueError(f"references need {BLOCK * BATCHES} values, the last not the fewest")
        if not self.half_lives or min(self.half_lives) < BLOCK:
            raise ValueError(f"a half-life must be at least {BLOCK} values")

    @property
    def first_blocks(self) -> int:
        """Blocks in the first reference."""
        return _power_of_two(self.first_reference)

    @property
    def reference_blocks(self) -> int:
        """Blocks in the last reference."""
        return _power_of_two(self.reference_values)


def _power_of_two(values: int) -> int:
    return 1 << ((values - 1) // BLOCK).bit_length()
