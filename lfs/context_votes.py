"""Votes that a product computes itself and sends along in an event's context."""

from __future__ import annotations

from lfs.core import ABSTAIN, Example, LabelingFunction

__all__ = ["context_vote"]

_DOC = """Vote what the event's context says under {key!r}.

Rationale: the product has a signal of its own, and its rule is kept with the product.
Sources: the context of the events of an example, key {key!r}: the name of a class.
Known errors: those of the product's rule; what is no class of the task counts as a failure.
"""


def context_vote(key: str, task: str = "relevance") -> LabelingFunction:
    """Return the labeling function that reads its vote from a key of the context.

    Examples
    --------
    >>> from lfs.core import ExampleBatch
    >>> lf = context_vote("fraud_rule")
    >>> batch = ExampleBatch.of([{}, {}], contexts=[{"fraud_rule": "negative"}, {}])
    >>> lf.vote(batch, ("negative", "positive"))[0].tolist()
    [0, -1]
    """

    def vote(example: Example) -> str | int:
        said = example.context.get(key, ABSTAIN)
        return said if isinstance(said, str) else ABSTAIN

    return LabelingFunction(key, task, 1, "context_votes", _DOC.format(key=key), vote, False)
