"""What is kept of one person: examples, the recommender's history, and what was seen already.

Bytes are versioned msgpack; nothing here knows how labels are made, or where state is stored.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeVar

import msgspec

from stream.evidence import DEFAULTS, Evidence
from stream.stored_evidence import packed_rows, unpacked_row

__all__ = [
    "FINAL",
    "OPENED",
    "PROVISIONAL",
    "Example",
    "Shown",
    "UserState",
    "stored_history",
    "users_to_bytes",
]

OPENED: Final = 0
PROVISIONAL: Final = 1
FINAL: Final = 2

USER_FORMAT: Final = 6
"""1: evidence as lists of numbers; 2: as bytes of little-endian doubles; 3: the history packed;
4: what was decided, and where revisions go on; 5: histories of more than 100 items; 6: of
evidence what differs from a blank row."""
_NEVER: Final = float("inf")


class Example(msgspec.Struct, array_like=True, gc=False):
    """One exposure of a user to an item, while its windows are open and a while after.

    Attributes
    ----------
    hash
        Second half of the example id; the first is the user's key.
    evidence
        Row of `stream.evidence.Column`.
    deadline
        Event time at which it closes, or at which it is forgotten when it is closed already.
    stage
        `OPENED`, `PROVISIONAL` or `FINAL`: the last label that was given.
    revision
        Number of the next label.
    engaged
        Whether it was predicted and learned by the recommender as an engagement.
    numbers
        What models remember of it; see `stream.numbers`.
    slot
        Row in the table of the batch at hand; -1 outside of a batch.
    reward
        What was predicted of its outcomes and which have arrived; see `models.rewards.records`.
    foreseen
        What its provisional labels expected, until it has final ones; see `stream.early_labels`.
    """

    hash: int
    item_id: str
    evidence: Evidence
    deadline: float
    stage: int
    revision: int
    engaged: bool
    numbers: bytes
    segment: str | None
    context: dict[str, str | bool | int | float]
    policy: str | None = None
    slot: int = -1
    reward: bytes = b""
    foreseen: bytes = b""


class Shown(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a decision says of an exposure; ``ts`` is the decision's."""

    ts: float
    position: int
    propensity: float
    policy: str


class _StoredHistory(msgspec.Struct, array_like=True):
    """How a user's stored state begins: all that who recommends reads of it."""

    format: int
    layout: str
    user_id: str
    last_ts: float
    rate: float
    segment: str | None
    history: bytes
    history_length: int


class _StoredUser(_StoredHistory, array_like=True):
    previous: int | None
    due: float | None
    seen: dict[int, float]
    examples: list[Example]
    visit: tuple[float, float, bytes] | None = None
    next_revision: int = 0
    decided: dict[int, Shown] = {}


def _evidence_in(kind: type, stored: bytes | list[float]) -> Evidence:
    return Evidence("d", stored) if isinstance(stored, list) else unpacked_row(stored)


_Stored = TypeVar("_Stored", _StoredUser, _StoredHistory)
_decoder: Final = msgspec.msgpack.Decoder(_StoredUser, dec_hook=_evidence_in)
_history_decoder: Final = msgspec.msgpack.Decoder(_StoredHistory)


class UserState:
    """One person, as long as a partition's cache holds them.

    *State* — ``examples``, ``latest`` and ``decided`` are bounded by the join's rules,
    ``seen`` by its deduplication horizon, the history by the recommender's.

    Attributes
    ----------
    packed_history, history_length
        Items and weights that are there, newest first: int32, then float32.
    busy
        The example that ``previous`` names, if it may have had feedback.
    next_revision
        No example that was forgotten has had it. One that a request names may be opened again
        after that, under the same id: its revisions go on from here.
    decided
        What decisions say of exposures, by the second half of the example's id.
    """

    __slots__ = (
        "busy",
        "decided",
        "due",
        "examples",
        "history_length",
        "key",
        "last_ts",
        "latest",
        "next_revision",
        "packed_history",
        "previous",
        "rate",
        "seen",
        "segment",
        "slot",
        "touched",
        "user_id",
        "visit",
    )

    def __init__(self, user_id: str, key: bytes) -> None:
        self.user_id = user_id
        self.key = key
        self.last_ts = -_NEVER
        self.rate = 0.0
        self.segment: str | None = None
        self.packed_history = b""
        self.history_length = 0
        self.previous: int | None = None
        self.busy: Example | None = None
        self.due = _NEVER
        self.seen: dict[int, float] = {}
        self.examples: dict[int, Example] = {}
        self.latest: dict[str, Example] = {}
        self.visit: tuple[float, float, bytes] | None = None
        self.next_revision = 0
        self.decided: dict[int, Shown] = {}
        self.slot = -1
        self.touched = 0

    def to_bytes(self, layout: str) -> bytes:
        """Return the state as versioned bytes; ``layout`` names the layout of the numbers."""
        return users_to_bytes([self], layout)[0]

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes) -> tuple[UserState, str]:
        """Return the state, and the layout in which its examples' numbers were written.

        Raises
        ------
        ValueError
            If the bytes are damaged, or of a newer format than this program reads.
        """
        stored = _read(_decoder, data)
        user = cls(stored.user_id, key)
        user.last_ts = stored.last_ts
        user.rate = stored.rate
        user.segment = stored.segment
        user.packed_history = _packed(stored.history, stored.history_length)
        user.history_length = stored.history_length
        user.previous = stored.previous
        user.due = stored.due if stored.due is not None else _NEVER
        user.seen = stored.seen
        user.visit = stored.visit
        user.next_revision = stored.next_revision
        user.decided = stored.decided
        for example in stored.examples:
            missing = len(DEFAULTS) - len(example.evidence)
            if missing < 0:
                raise ValueError(
                    f"the stored state of a user has {len(example.evidence)} columns of evidence, "
                    f"this program reads up to {len(DEFAULTS)}: run the newer version"
                )
            if missing:
                example.evidence.extend(DEFAULTS[-missing:])
            user.examples[example.hash] = example
            user.latest[example.item_id] = example
        if user.previous is not None:
            user.busy = user.examples.get(user.previous)
        return user, stored.layout


def stored_history(data: bytes) -> tuple[bytes, str | None]:
    """Return the packed history and the segment of a stored state, and read nothing else of it.

    Raises
    ------
    ValueError
        As `UserState.from_bytes`.
    """
    stored = _read(_history_decoder, data)
    return _packed(stored.history, stored.history_length), stored.segment


def _read(decoder: msgspec.msgpack.Decoder[_Stored], data: bytes) -> _Stored:
    try:
        stored = decoder.decode(data)
    except msgspec.DecodeError as error:
        _refuse_newer(_format_of(data))
        raise ValueError(f"the stored state of a user cannot be read: {error}") from error
    _refuse_newer(stored.format)
    return stored


def users_to_bytes(users: Collection[UserState], layout: str) -> list[bytes]:
    """Return each one's state as versioned bytes; ``layout`` names the layout of the numbers."""
    rows = iter(
        packed_rows([example.evidence for user in users for example in user.examples.values()])
    )
    # Evidence is encoded in the order in which it was packed.
    encode = msgspec.msgpack.Encoder(enc_hook=lambda _: next(rows)).encode
    return [
        encode(
            (
                USER_FORMAT,
                layout,
                user.user_id,
                user.last_ts,
                user.rate,
                user.segment,
                user.packed_history,
                user.history_length,
                user.previous,
                user.due if user.due != _NEVER else None,
                user.seen,
                list(user.examples.values()),
                user.visit,
                user.next_revision,
                user.decided,
            )
        )
        for user in users
    ]


def _packed(stored: bytes, length: int) -> bytes:
    """Return the items and weights that are there; up to format 2 all were stored."""
    used, half = 4 * length, len(stored) // 2
    return stored[:used] + stored[half : half + used]


def _format_of(data: bytes) -> int:
    """Return the format of a state that cannot be read, 0 if not even that can be told."""
    try:
        fields = msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return 0
    found = fields[0] if isinstance(fields, list) and fields else 0
    return found if isinstance(found, int) else 0


def _refuse_newer(format_: int) -> None:
    if format_ > USER_FORMAT:
        raise ValueError(
            f"the stored state of a user has format {format_}, this program reads up to "
            f"{USER_FORMAT}: run the newer version, or reset the state"
        )
