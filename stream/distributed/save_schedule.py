"""When partitions are saved: each in its turn, early enough to be covered within the interval."""

from __future__ import annotations

__all__ = ["SaveSchedule"]


class SaveSchedule:
    """Plans the saves of the partitions of a worker.

    What was applied just after a cut waits for the next one, and then until that is saved: its
    effects acknowledged, its state written. So the next cut comes earlier than the interval by as
    long as saves have taken of late, and a checkpoint covers everything about once an interval.

    Parameters
    ----------
    interval_s
        How long after being applied a record is to be covered by a checkpoint.
    """

    SMOOTHING = 0.1
    #: No more than this share of the interval is gained, and less again of saves that take longer:
    #: where time is short, saves must not multiply.
    EARLIEST = 0.25

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._save_s = 0.0

    def took(self, elapsed_s: float) -> None:
        """Learn how long a save took, from its cut."""
        self._save_s += self.SMOOTHING * (elapsed_s - self._save_s)

    def second(self, now: float, place: int, count: int) -> float:
        """Return when the partition in this place of so many is saved next, after its first save.

        First saves come one after another; from here on each has a moment of its own, since cuts
        in a row hold everything up.
        """
        return now + self._interval_s * (1.0 + (place + 1) / count) / 2.0

    def after(self, planned: float, now: float) -> float:
        """Return when a partition is saved next whose save was planned for then, and begins now."""
        most_s = self.EARLIEST * self._interval_s
        ahead_s = max(0.0, most_s - abs(self._save_s - most_s))
        return max(planned + self._interval_s - ahead_s, now + self._interval_s / 2)

    def postponed(self, now: float, count: int) -> float:
        """Return when to try again, of so many partitions, whose last save is still under way."""
        return now + self._interval_s / count
