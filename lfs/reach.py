"""Which labeling functions an order is about: one version of one task's, or more of one name."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

__all__ = ["Reach"]

_ANY: Final = "*"


class Reach(NamedTuple):
    """Functions of one name: those of a task or of any (None), of a version or of any (None).

    Examples
    --------
    >>> order, one = Reach(None, "clicked", None), Reach("relevance", "clicked", 2)
    >>> order.covers(one), one.covers(order)
    (True, False)
    >>> str(order), str(one)
    ('*/clicked', 'relevance/clicked@2')
    >>> Reach.of("relevance/clicked@2") == one
    True
    """

    task: str | None
    name: str
    version: int | None

    @classmethod
    def of(cls, subject: str) -> Self:
        """Return what a governance record names as its subject, as `str` wrote it."""
        task, _, function = subject.partition("/")
        name, _, version = function.partition("@")
        return cls(
            None if task == _ANY else task, name, int(version) if version.isdecimal() else None
        )

    def covers(self, other: Reach) -> bool:
        """Return whether all that the other is about is among these."""
        return (
            other.name == self.name
            and self.task in (None, other.task)
            and self.version in (None, other.version)
        )

    def __str__(self) -> str:
        """Return it as governance records name it."""
        version = "" if self.version is None else f"@{self.version}"
        return f"{self.task or _ANY}/{self.name}{version}"
