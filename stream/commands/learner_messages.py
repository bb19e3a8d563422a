"""What the process that answers and the one that learns say to each other.

All of it are msgpack values `Message`; an answer has its question's number, and number 0 is what
was not asked: that it is ready, or why it ended.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "METRICS", "READY", "REFUSED_BECAUSE", "STOP", "Message"]

READY: Final = "ready"
REFUSED_BECAUSE: Final = "refused"
FAILED: Final = "failed"
METRICS: Final = "metrics"
STOP: Final = "stop"

Message = tuple[int, str, bytes]
"""Number of the question, what it is about, and further bytes."""
