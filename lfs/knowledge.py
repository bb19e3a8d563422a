"""Knowledge: what is known about items and people beforehand, from the catalogue and from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from lfs.core import ABSTAIN, Example, ExampleBatch, LabelingFunction, Votes, labeling_function
from lfs.core import LabelingFunctionError as Refused
from lfs.readings import NEGATIVE, POSITIVE
from lfs.text import PerItem, context_values, field_reader, folded, labels_of

__all__ = [
    "Table",
    "below_minimum_age",
    "excluded_category",
    "favourite_category",
    "item_vote",
    "look_up",
    "over_budget",
]

_labels = PerItem(labels_of)
_NAMED: Final = "item_id, title, text, categories, tags, attributes.NAME, context.KEY"


class Table:
    """Votes by key, as a file or a knowledge base gives them; replaced whole while it is used.

    Keys are compared without case and accents. The core reads; the shell reloads.

    Examples
    --------
    >>> table = Table({"Garden tools": "positive"})
    >>> table.get("garden TOOLS")
    'positive'
    >>> table.replace({})
    >>> table.get("garden tools") is None
    True
    """

    def __init__(self, votes: Mapping[str, str]) -> None:
        self._votes: dict[str, str] = {}
        self.replace(votes)

    def __len__(self) -> int:
        return len(self._votes)

    def replace(self, votes: Mapping[str, str]) -> None:
        """Take other votes from now on; who is reading sees the old ones or the new ones."""
        self._votes = {folded(key).strip(): vote for key, vote in votes.items()}

    def get(self, key: str) -> str | None:
        """Return the vote of a key, None if it is not listed."""
        return self._votes.get(folded(key).strip())


@labeling_function(task="relevance", version=1, needs=("context.interests",))
def favourite_category(batch: ExampleBatch) -> Votes:
    """Vote positive for an item of a category or tag that the person named as an interest.

    Rationale: people know what they like, and a profile that they filled in is their word.
    Sources: `interests` in the context (names, separated by commas); the item's categories, tags.
    Known errors: profiles filled in years ago, or to win something.
    """
    return _listed(batch, "interests", POSITIVE)


@labeling_function(task="relevance", version=1, needs=("context.excluded",))
def excluded_category(batch: ExampleBatch) -> Votes:
    """Vote negative for an item of a category or tag that the person does not want to see.

    Rationale: an exclusion is stated with some effort, and rarely by mistake.
    Sources: `excluded` in the context (names, separated by commas); the item's categories, tags.
    Known errors: items filed under a category that they hardly belong to.
    """
    return _listed(batch, "excluded", NEGATIVE)


@labeling_function(task="relevance", version=1, needs=("context.age",))
def below_minimum_age(batch: ExampleBatch) -> Votes:
    """Vote negative for an item that is meant for older people.

    Rationale: what one may not use one has no use for.
    Sources: `age` in the context, `min_age` of the item's attributes; in years.
    Known errors: parents who look for themselves in a child's account.
    """
    return _above(batch, "age", "min_age")


@labeling_function(task="relevance", version=1, needs=("context.budget",))
def over_budget(batch: ExampleBatch) -> Votes:
    """Vote negative for an item that costs over a quarter more than the person wants to spend.

    Rationale: a stated budget is stretched a little, rarely by more.
    Sources: `budget` in the context, the item's price; both in the shop's one currency.
    Known errors: people who only look.
    """
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    for row, value in context_values(batch, "budget"):
        budget = _number(value)
        if budget is None:
            continue
        price = _number(batch.items(batch.item_ids[row]).get("price"))
        if price is not None and price > _STRETCH * budget:
            out[row] = NEGATIVE
    return out


_STRETCH: Final = 1.25


def look_up(
    name: str,
    table: Table,
    by: str,
    *,
    task: str = "relevance",
    version: int = 1,
    source: str = "a table",
) -> LabelingFunction:
    """Return a function that votes what a table says of an item or a context.

    Parameters
    ----------
    table
        Key to class name; may be replaced while the function runs.
    by
        What is looked up: item_id, a field of the item, or a key of the context. Of several
        categories the narrowest (the last) that is listed counts, so that a table over a
        taxonomy need name only where the answer changes; of tags the first.
    source
        Where the table comes from, for the documentation.

    Examples
    --------
    >>> lf = look_up("taxonomy", Table({"Food": "negative", "Tea": "positive"}), "categories")
    >>> items = {"a": {"categories": ["Food", "Tea"]}, "b": {"categories": ["Food", "Nuts"]}}
    >>> batch = ExampleBatch.of([{}, {}], item_ids=["a", "b"], items=items.__getitem__)
    >>> lf.vote(batch, ("negative", "positive"))[0].tolist()
    [1, 0]
    """
    if by != "item_id":
        try:
            in_context, read = field_reader(by)
        except Refused as error:
            raise Refused(
                f"labeling function {name!r}: by: found {by!r}, allowed: {_NAMED}"
            ) from error

    def keys(example: Example) -> list[str]:
        if by == "item_id":
            return [example.item_id]
        text = read(example.context if in_context else example.item)
        if by == "categories":
            return text.split("\n")[::-1]
        return text.split("\n") if by == "tags" else [text]

    def look(example: Example) -> str | int:
        for key in keys(example):
            vote = table.get(key)
            if vote is not None:
                return vote
        return ABSTAIN

    look.__doc__ = f"""Vote what {source} says, looked up by {by}.

    Rationale: distant supervision: what is known already need not be learned (Mintz et al. 2009).
    Sources: {source}; {by}.
    Known errors: entries that are old or too general; what is no class of the task is a failure.
    """
    return labeling_function(task=task, version=version, name=name, family="knowledge")(look)


def item_vote(key: str, task: str = "relevance") -> LabelingFunction:
    """Return a function that reads its vote from an attribute of the item.

    The items topic is followed, so a changed attribute counts from then on.

    Examples
    --------
    >>> lf = item_vote("editor")
    >>> entry = {"attributes": {"editor": "positive"}}
    >>> lf.vote(ExampleBatch.of([{}], items=lambda _: entry), ("negative", "positive"))[0].tolist()
    [1]
    """

    def look(example: Example) -> str | int:
        said = example.item.get("attributes", {}).get(key)
        return said if isinstance(said, str) and said else ABSTAIN

    look.__doc__ = f"""Vote what the item's attribute {key!r} says.

    Rationale: whoever keeps the catalogue knows the items.
    Sources: `attributes.{key}` of the items topic: the name of a class.
    Known errors: it says the same to everybody; what is no class of the task is a failure.
    """
    return labeling_function(task=task, name=key, family="knowledge")(look)


def _listed(batch: ExampleBatch, key: str, vote: int) -> Votes:
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    for row, named in context_values(batch, key):
        if not isinstance(named, str):
            continue
        wanted = {folded(name).strip() for name in named.split(",")}
        if wanted & _labels(batch, batch.item_ids[row]):
            out[row] = vote
    return out


def _above(batch: ExampleBatch, own: str, attribute: str) -> Votes:
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    for row, value in context_values(batch, own):
        has = _number(value)
        if has is None:
            continue
        needs = _number(batch.items(batch.item_ids[row]).get("attributes", {}).get(attribute))
        if needs is not None and has < needs:
            out[row] = NEGATIVE
    return out


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
