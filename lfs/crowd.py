"""Crowd: each annotator votes like a function, and is judged only where he or she answered.

An answer is evidence, not truth: an annotator in the conditional form is trusted as far as the
others bear him out. The join keeps the answers with the example, under `answer_key` in its
context; metrics show annotators only together, under `CROWD`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from lfs.core import ABSTAIN, Example, LabelingFunction, labeling_function

__all__ = ["CROWD", "annotator", "annotator_name", "annotators", "answer_key", "is_annotator"]

CROWD: Final = "crowd"
"""What all annotators are called together, where single people must not show."""

_PREFIX: Final = "crowd:"
_HASH_BYTES: Final = 6


def is_annotator(name: str) -> bool:
    """Return whether a labeling function's name stands for a person."""
    return name.startswith(_PREFIX)


def annotator_name(annotator_id: str) -> str:
    """Return the name of an annotator's labeling function: a pseudonym."""
    return f"{_PREFIX}{_pseudonym(annotator_id)}"


def answer_key(annotator_id: str, task: str) -> str:
    """Return the key of the context under which an annotator's answer lies.

    Examples
    --------
    >>> answer_key("ann", "relevance") == answer_key("ann", "intent")
    False
    """
    return f"{_PREFIX}{task}:{_pseudonym(annotator_id)}"


def annotator(annotator_id: str, task: str = "relevance") -> LabelingFunction:
    """Return the function that votes what an annotator answered.

    Its name is a pseudonym: it travels in labels and statistics.

    Examples
    --------
    >>> from lfs.core import ExampleBatch
    >>> lf = annotator("ann")
    >>> lf.form
    'crowd'
    >>> answers = {answer_key("ann", "relevance"): "positive"}
    >>> batch = ExampleBatch.of([{}, {}], contexts=[answers, {}])
    >>> lf.vote(batch, ("negative", "positive"))[0].tolist()
    [1, -1]
    """
    key = answer_key(annotator_id, task)

    def answered(example: Example) -> str | int:
        said = example.context.get(key)
        return said if isinstance(said, str) else ABSTAIN

    answered.__doc__ = """Vote what this annotator answered.

    Rationale: a person who looks at the example knows what no event tells.
    Sources: `headrace.gold`, the answers of one annotator, kept with the example.
    Known errors: fatigue, misread guidelines, answers for the sake of speed.
    """
    name = annotator_name(annotator_id)
    return labeling_function(task=task, name=name, form="crowd", family=CROWD)(answered)


def annotators(ids: Iterable[str], tasks: Sequence[str]) -> list[LabelingFunction]:
    """Return one function for each annotator and task."""
    return [annotator(one, task) for task in tasks for one in ids]


def _pseudonym(annotator_id: str) -> str:
    return blake2b(
        annotator_id.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES
    ).hexdigest()
