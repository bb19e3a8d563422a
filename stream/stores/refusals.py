"""What every store refuses, in the same words, and the one text form of next offsets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from stream.state import Checkpoint, Epoch

__all__ = [
    "check_dues",
    "decode_offsets",
    "encode_offsets",
    "older_generation",
    "wrong_offsets",
    "wrong_owner",
]


def encode_offsets(offsets: Mapping[str, int]) -> str:
    """Return the canonical text of next offsets: equal mappings give equal texts."""
    return json.dumps(dict(offsets), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def decode_offsets(text: str | bytes) -> dict[str, int]:
    """Return the mapping that `encode_offsets` wrote."""
    return {str(topic): int(offset) for topic, offset in json.loads(text).items()}


def check_dues(checkpoint: Checkpoint) -> None:
    """Refuse a timer that is due at no time: it would never fire, and not every store keeps it.

    Raises
    ------
    ValueError
        A due time is NaN.
    """
    for write in checkpoint.users.values():
        if write is not None and write.due is not None and math.isnan(write.due):
            raise ValueError(f"partition {checkpoint.partition}: a timer is due at NaN")


def older_generation(partition: int, epoch: Epoch, stored: int) -> str:
    """Say why a claim is refused."""
    return (
        f"partition {partition} belongs to generation {stored} of the consumer group; a claim of"
        f" generation {epoch.generation} is late. Rejoin the group for a newer one; if the group"
        " itself was deleted or renamed, claim with force"
    )


def wrong_owner(partition: int, epoch: Epoch, generation: int | None, owner: str) -> str:
    """Say why a save is refused: somebody else owns the partition."""
    holder = (
        f"generation {generation}, {'owner ' + owner if owner else 'released'}"
        if generation is not None
        else "nobody"
    )
    return (
        f"partition {partition} now belongs to {holder}; the save came from generation"
        f" {epoch.generation}, owner {epoch.owner}. Nothing was written: drop this partition's"
        " state and claim it again"
    )


def wrong_offsets(partition: int, expected: Mapping[str, int], stored: Mapping[str, int]) -> str:
    """Say why a save is refused: it does not continue what is stored."""
    return (
        f"partition {partition} is stored at {encode_offsets(stored)}; the save continues from"
        f" {encode_offsets(expected)}. Nothing was written: drop this partition's state and"
        " claim it again"
    )
