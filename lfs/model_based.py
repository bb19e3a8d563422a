"""Model-based: votes from the score of any model, behind one small protocol.

A `Scorer` gives numbers for examples; `score_vote` and `best_class` turn them into votes. What a
live model says must be in the log, or a replay would vote otherwise than the live run did: a
recommender's similarity travels in the context of what it recommended (`LoggedScore`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import exp
from typing import Final, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lfs.core import ABSTAIN, ExampleBatch, LabelingFunction, Votes, labeling_function
from lfs.core import LabelingFunctionError as Refused
from lfs.readings import NEGATIVE, POSITIVE
from lfs.text import PerItem, context_values, words

__all__ = [
    "Embedder",
    "HashedWords",
    "LinearText",
    "LoggedScore",
    "Scorer",
    "ZeroShot",
    "best_class",
    "query_similarity",
    "score_vote",
    "served_similarity",
]

Floats = NDArray[np.float64]

_DIMENSIONS: Final = 256
_ALIKE, _UNLIKE = 0.45, 0.05
_SIMILAR, _DISSIMILAR = 0.6, 0.15


class Scorer(Protocol):
    """Whatever gives each example a number, or one for each class; NaN where it cannot.

    Called with a batch of any size: the score of a row must not depend on the other rows, and
    must be the same whenever it is asked for.
    """

    def __call__(self, batch: ExampleBatch) -> Floats:
        """Return scores, shape (n,) or (n, K)."""
        ...


class Embedder(Protocol):
    """Whatever turns a text into a vector of length one."""

    def __call__(self, text: str) -> Floats:
        """Return the vector, shape (d,); zeros for a text that says nothing."""
        ...


class LoggedScore:
    """A score that the product logged when it showed the item: its recommender's, a classifier's.

    Examples
    --------
    >>> batch = ExampleBatch.of([{}, {}], contexts=[{"similarity": 0.8}, {}])
    >>> LoggedScore("similarity")(batch).tolist()
    [0.8, nan]
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, batch: ExampleBatch) -> Floats:
        """Return what lies under the key of each context, shape (n,)."""
        scores = np.full(len(batch), np.nan)
        for row, value in context_values(batch, self.key):
            scores[row] = _number(value)
        return scores


class HashedWords:
    """An embedder that needs no model: words and their beginnings, hashed into a fixed width.

    Enough to tell a garden hose from a novel; a product with a text model of its own passes that.

    Examples
    --------
    >>> embed = HashedWords()
    >>> hoses, hose, novel = embed("garden hoses"), embed("A garden hose"), embed("A novel")
    >>> bool(hoses @ hose > 0.5 > hoses @ novel)
    True
    """

    def __init__(self, dimensions: int = _DIMENSIONS) -> None:
        self.dimensions = dimensions

    def __call__(self, text: str) -> Floats:
        """Return the vector, shape (dimensions,)."""
        vector = np.zeros(self.dimensions)
        for word in words(text):
            if len(word) < _SHORTEST_WORD:
                continue
            for part in {word, word[:_STEM_LETTERS]}:
                code = crc32(part.encode())
                vector[code % self.dimensions] += 1.0 if code & 0x80000000 else -1.0
        length = float(np.sqrt(vector @ vector))
        return vector / length if length > 0.0 else vector


_SHORTEST_WORD: Final = 3
_STEM_LETTERS: Final = 4


class ZeroShot:
    """Similarity of an item's text to a description of each class: labels without examples.

    Parameters
    ----------
    descriptions
        A sentence or some words for each class, in the order of the classes.
    embed
        Text to vector; the same one for items and descriptions.

    Examples
    --------
    >>> score = ZeroShot(["saucepan, knife, wok, kettle", "novel, atlas, biography"])
    >>> items = {"i": {"title": "Biography of a wandering novel writer"}}
    >>> batch = ExampleBatch.of([{}], item_ids=["i"], items=items.__getitem__)
    >>> score(batch).argmax(axis=1).tolist()
    [1]
    """

    def __init__(self, descriptions: Sequence[str], embed: Embedder | None = None) -> None:
        embedder = embed or HashedWords()
        self._classes = np.stack([embedder(text) for text in descriptions])
        self._of_item = PerItem(lambda entry: self._classes @ embedder(_item_text(entry)))

    def __call__(self, batch: ExampleBatch) -> Floats:
        """Return cosines, shape (n, K); NaN for items of which nothing is written."""
        scores = np.full((len(batch), len(self._classes)), np.nan)
        for row, found in enumerate(self._of_item.many(batch)):
            if found.any():
                scores[row] = found
        return scores


class LinearText:
    """A linear classifier of an item's words, trained elsewhere: bias, and a weight for each word.

    Examples
    --------
    >>> old = LinearText({"refurbished": -3.0, "new": 1.0}, bias=0.5)
    >>> items = {"i": {"title": "New phone"}, "j": {}}
    >>> batch = ExampleBatch.of([{}, {}], item_ids=["i", "j"], items=items.__getitem__)
    >>> old(batch).round(2).tolist()
    [0.82, nan]
    """

    def __init__(self, weights: Mapping[str, float], bias: float = 0.0) -> None:
        self._weights = dict(weights)
        self._bias = bias
        self._of_item = PerItem(self._score)

    def __call__(self, batch: ExampleBatch) -> Floats:
        """Return probabilities of the positive class, shape (n,)."""
        return np.array(self._of_item.many(batch))

    def _score(self, entry: Mapping[str, object]) -> float:
        found = words(_item_text(entry))
        if not found:
            return float("nan")
        total = self._bias + sum(self._weights.get(word, 0.0) for word in sorted(set(found)))
        return 1.0 / (1.0 + exp(-max(min(total, 30.0), -30.0)))


def score_vote(
    name: str,
    scorer: Scorer,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    below: int = NEGATIVE,
    above: int = POSITIVE,
    task: str = "relevance",
    version: int = 1,
    source: str = "a model",
) -> LabelingFunction:
    """Return a function that votes where a score is high or low, and abstains between.

    Parameters
    ----------
    at_most, at_least
        Up to the one it votes ``below``, from the other on ``above`` (class indexes).

    Examples
    --------
    >>> lf = score_vote("fits", LoggedScore("fit"), at_most=0.2, at_least=0.7)
    >>> batch = ExampleBatch.of([{}] * 3, contexts=[{"fit": 0.9}, {"fit": 0.5}, {"fit": 0.1}])
    >>> lf.vote(batch, ("negative", "positive"))[0].tolist()
    [1, -1, 0]
    """
    if at_most is None and at_least is None:
        raise Refused(f"labeling function {name!r}: neither at_most nor at_least is given")
    if at_most is not None and at_least is not None and at_most >= at_least:
        raise Refused(
            f"labeling function {name!r}: at_most should lie below at_least; "
            f"found {at_most:g} and {at_least:g}"
        )

    def vote(batch: ExampleBatch) -> Votes:
        scores = scorer(batch)
        out = np.full(len(batch), ABSTAIN, dtype=np.int8)
        if at_most is not None:
            out[scores <= at_most] = below
        if at_least is not None:
            out[scores >= at_least] = above
        return out

    vote.__doc__ = f"""Vote by the score of {source}: from {at_least} on, and up to {at_most}.

    Rationale: a model that was trained for something near knows something about this.
    Sources: {source}.
    Known errors: the model's own; a score that is missing is no vote.
    """
    return labeling_function(task=task, version=version, name=name, family="model_based")(vote)


def best_class(
    name: str,
    scorer: Scorer,
    *,
    least: float = 0.1,
    margin: float = 0.05,
    task: str = "relevance",
    version: int = 1,
    source: str = "a model",
) -> LabelingFunction:
    """Return a function that votes for the class with the best of (n, K) scores.

    Parameters
    ----------
    least, margin
        It abstains unless the best score is so high, and so far above the second.

    Examples
    --------
    >>> score = ZeroShot(["saucepan, knife, wok, kettle", "novel, atlas, biography"])
    >>> lf = best_class("kind", score, margin=0.3, task="kind")
    >>> titles = {"i": "Wok and saucepan", "j": "Wok of a novel kettle atlas", "k": ""}
    >>> batch = ExampleBatch.of(
    ...     [{}] * 3, item_ids=list("ijk"), items=lambda i: {"title": titles[i]}
    ... )
    >>> lf.vote(batch, ("kitchen", "books"))[0].tolist()
    [0, -1, -1]
    """

    def vote(batch: ExampleBatch) -> Votes:
        scores = np.nan_to_num(scorer(batch), nan=-np.inf)
        order = np.sort(scores, axis=1)
        sure = order[:, -1] >= least
        # Where there is no score the difference is no number, and no vote.
        gap = np.where(sure, order[:, -1], 0.0) - np.where(sure, order[:, -2], 0.0)
        return np.where(sure & (gap >= margin), scores.argmax(axis=1), ABSTAIN).astype(np.int8)

    vote.__doc__ = f"""Vote for the class that {source} finds most likely, by a margin of {margin}.

    Rationale: a description of a class is knowledge too, and a text model can compare with it.
    Sources: {source}.
    Known errors: the model's own; texts that name another class in order to differ from it.
    """
    return labeling_function(task=task, version=version, name=name, family="model_based")(vote)


_served = LoggedScore("similarity")
_embed = HashedWords()
_query_vector = lru_cache(maxsize=4_096)(_embed)
_item_vector = PerItem(lambda entry: _embed(_item_text(entry)))


@labeling_function(task="relevance", version=1, needs=("context.similarity",))
def served_similarity(batch: ExampleBatch) -> Votes:
    """Vote by how well the live recommender thought that the item fits, when it showed it.

    Rationale: the recommender has seen what this person and others like them chose before.
    Sources: `similarity` in the context, 0 to 1, as logged with the impression: from .6 positive,
    up to .15 negative.
    Known errors: it confirms itself: what it never shows it never learns about.
    """
    scores = _served(batch)
    return _thresholds(scores, _DISSIMILAR, _SIMILAR)


@labeling_function(task="relevance", version=1, needs=("context.query",))
def query_similarity(batch: ExampleBatch) -> Votes:
    """Vote by the similarity of a question in several words to the item's text.

    Rationale: a long query describes the thing, as its text does; `query_mismatch` wants the
    very words, which long queries seldom are.
    Sources: `query` in the context, four words or more; the item's title, text, categories, tags.
    Known errors: questions that say what is not wanted.
    """
    scores = np.full(len(batch), np.nan)
    for row, query in context_values(batch, "query"):
        if isinstance(query, str) and query.count(" ") >= _LONG_QUERY - 1:
            vector = _item_vector(batch, batch.item_ids[row])
            if vector.any():
                scores[row] = float(_query_vector(query) @ vector)
    return _thresholds(scores, _UNLIKE, _ALIKE)


_LONG_QUERY: Final = 4


def _thresholds(scores: Floats, at_most: float, at_least: float) -> Votes:
    out = np.full(len(scores), ABSTAIN, dtype=np.int8)
    out[scores <= at_most] = NEGATIVE
    out[scores >= at_least] = POSITIVE
    return out


def _item_text(entry: Mapping[str, object]) -> str:
    parts = [entry.get("title", ""), entry.get("text", "")]
    for name in ("categories", "tags"):
        listed = entry.get(name, ())
        if isinstance(listed, list | tuple):
            parts += listed
    return " ".join(str(part) for part in parts)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    return float(value)
