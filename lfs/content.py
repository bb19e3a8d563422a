"""Content: words and patterns in what is written of an item, and in what the person asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from lfs.core import ABSTAIN, Example, ExampleBatch, LabelingFunction, Votes, labeling_function
from lfs.core import LabelingFunctionError as Refused
from lfs.readings import NEGATIVE, POSITIVE
from lfs.text import (
    Context,
    Entry,
    PerItem,
    context_values,
    field_reader,
    folded,
    item_words,
    words,
)

__all__ = [
    "condition_complaint",
    "pattern",
    "query_mismatch",
    "shouting_title",
    "unavailable",
    "wrong_language",
]

_STOP_WORDS: Final = frozenset(
    "a an and as at by de der die das en et for from in la le les mit of on or the to und".split()
)
_CAPITALS_RATIO, _FEWEST_LETTERS = 0.7, 8
_SHOUT: Final = re.compile(r"[!?]{3,}|!\s*!|\${2,}|\b(?:free|win|click here)\b.*!", re.I)
_COMPLAINT: Final = re.compile(
    r"\b(?:wrong (?:item|size|colou?r)|not (?:as described|what i (?:wanted|expected))|"
    r"(?:arrived |is )?(?:broken|damaged|defective)|misleading|disappoint(?:ed|ing))\b"
)


def _shouts(entry: Entry) -> bool:
    title = str(entry.get("title", ""))
    letters = [letter for letter in title if letter.isalpha()]
    capitals = sum(letter.isupper() for letter in letters)
    loud = len(letters) >= _FEWEST_LETTERS and capitals / len(letters) > _CAPITALS_RATIO
    return loud or _SHOUT.search(title) is not None


_shouting = PerItem(_shouts)


@labeling_function(task="relevance", version=1, needs=("context.query",))
def query_mismatch(batch: ExampleBatch) -> Votes:
    """Vote by the words that were searched for: positive if all name the item, negative if none.

    Rationale: who searched has said in words what is relevant.
    Sources: `query` in the event's context; the item's title, categories and tags.
    Known errors: synonyms, misspellings, and a query from earlier in the session.
    """
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    for row, query in context_values(batch, "query"):
        if not isinstance(query, str):
            continue
        asked = {word for word in words(query) if word not in _STOP_WORDS}
        known = item_words(batch, batch.item_ids[row])
        if not asked or not known:
            continue
        if asked <= known:
            out[row] = POSITIVE
        elif not asked & known:
            out[row] = NEGATIVE
    return out


@labeling_function(task="relevance", version=1, needs=("item",))
def unavailable(batch: ExampleBatch) -> Votes:
    """Vote negative for an item that cannot be had.

    Rationale: what is sold out disappoints, however well it fits.
    Sources: `available` of the item's catalogue entry.
    Known errors: entries that are late; people who want to be told when it is back.
    """
    return _marked(batch, [batch.items(i).get("available") is False for i in batch.item_ids])


@labeling_function(task="relevance", version=1, needs=("item",))
def shouting_title(batch: ExampleBatch) -> Votes:
    """Vote negative for an item whose title shouts or baits.

    Rationale: titles that promise too much are clicked and left (Chakraborty et al. 2016, "Stop
    clickbait"); the click does not make the item relevant.
    Sources: the item's title: capitals, repeated marks, words of bait.
    Known errors: acronyms, brands in capitals.
    """
    return _marked(batch, _shouting.many(batch))


@labeling_function(task="relevance", version=1, needs=("context.language",))
def wrong_language(batch: ExampleBatch) -> Votes:
    """Vote negative for an item in another language than the person's.

    Rationale: who cannot read it cannot want it.
    Sources: `language` in the context and in the item's attributes; the first subtag counts.
    Known errors: people who read several languages; music and pictures.
    """
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    for row, theirs in context_values(batch, "language"):
        if not isinstance(theirs, str) or not theirs:
            continue
        its = batch.items(batch.item_ids[row]).get("attributes", {}).get("language")
        if isinstance(its, str) and its and _subtag(its) != _subtag(theirs):
            out[row] = NEGATIVE
    return out


@labeling_function(task="relevance", version=1, needs=("context.comment", "context.return_reason"))
def condition_complaint(batch: ExampleBatch) -> Votes:
    """Vote negative when the person wrote that the thing is not what was wanted.

    Rationale: a complaint in words is as clear as a low rating, and comes with it or instead.
    Sources: `comment` and `return_reason` in the context of `rating`, `return` and `report`.
    Known errors: "not broken at all"; complaints about the delivery.
    """
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    for key in ("comment", "return_reason"):
        for row, said in context_values(batch, key):
            if isinstance(said, str) and _COMPLAINT.search(folded(said)):
                out[row] = NEGATIVE
    return out


def pattern(
    name: str,
    vote: str,
    *,
    keywords: Sequence[str] = (),
    patterns: Sequence[str] = (),
    fields: Sequence[str] = ("title", "text"),
    task: str = "relevance",
    version: int = 1,
) -> LabelingFunction:
    """Return a function that votes where a keyword or a regular expression is found.

    Parameters
    ----------
    keywords
        Whole words or phrases; case and accents do not count.
    patterns
        Regular expressions, searched for in folded text (lower case, no accents).
    fields
        Where: title, text, categories, tags, attributes.NAME, context.KEY.

    Raises
    ------
    LabelingFunctionError
        If there is nothing to look for, an expression is wrong, or a field is unknown.

    Examples
    --------
    >>> lf = pattern("refurbished", "negative", keywords=["refurbished"], fields=["title"])
    >>> items = {"a": {"title": "Phone, REFURBISHED"}, "b": {"title": "Phone"}}
    >>> batch = ExampleBatch.of([{}, {}], item_ids=["a", "b"], items=items.__getitem__)
    >>> lf.vote(batch, ("negative", "positive"))[0].tolist()
    [0, -1]
    """
    spaced = [r"\s+".join(re.escape(part) for part in folded(k).split()) for k in keywords]
    wanted = [rf"\b(?:{'|'.join(spaced)})\b"] if spaced else []
    if not wanted and not patterns:
        raise Refused(f"labeling function {name!r}: neither keywords nor patterns are given")
    compiled = []
    for expression in [*wanted, *patterns]:
        try:
            compiled.append(re.compile(expression))
        except re.error as error:
            raise Refused(
                f"labeling function {name!r}: {expression!r} is no regular expression ({error})"
            ) from error
    readers = [field_reader(field) for field in fields]
    of_item = [read for in_context, read in readers if not in_context]
    of_context = [read for in_context, read in readers if in_context]

    def found(text: str) -> bool:
        return bool(text) and any(expression.search(text) for expression in compiled)

    def in_entry(entry: Entry) -> bool:
        return any(found(folded(read(entry))) for read in of_item)

    item_has_it = PerItem(in_entry)

    def in_context(context: Context) -> bool:
        return any(found(folded(read(context))) for read in of_context)

    def look(example: Example) -> str | int:
        if item_has_it(example.batch, example.item_id) or (
            of_context and in_context(example.context)
        ):
            return vote
        return ABSTAIN

    look.__doc__ = f"""Vote {vote} where a configured word or expression is found.

    Rationale: whoever configured it knows what these words mean in this product.
    Sources: {", ".join(fields)}: {", ".join([*keywords, *patterns])}.
    Known errors: the words in another sense, or negated.
    """
    return labeling_function(task=task, version=version, name=name, family="content")(look)


def _marked(batch: ExampleBatch, marks: list[bool]) -> Votes:
    return np.where(np.array(marks, dtype=np.bool_), NEGATIVE, ABSTAIN).astype(np.int8)


def _subtag(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]
