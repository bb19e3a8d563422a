"""Settings of labeling functions: what runs, when it is stopped, and what configured ones look for.

Functions that are nothing but words, tables and thresholds need no code: each section below makes
one, named after the section.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from stream.settings.durations import Duration
from stream.settings.setting import Name, Names, Section, key, refused

__all__ = [
    "ClassifierSettings",
    "LfsSettings",
    "LookupSettings",
    "PatternSettings",
    "ScoreSettings",
    "ZeroShotSettings",
]

_FIELDS = "title, text, categories, tags, attributes.NAME or context.KEY"


class PatternSettings(Section):
    """A function that votes where words or regular expressions are found."""

    task: Name = key("relevance", "task", "What it votes on.")
    version: int = key(1, "number", "Raise it when the meaning changes.", ge=1)
    vote: Name = key(..., "class", "What it votes where something is found.")
    keywords: Names = key((), "words", "Whole words or phrases; case and accents do not count.")
    patterns: tuple[str, ...] = key(
        (), "expressions", "Regular expressions, on text in lower case without accents."
    )
    fields: Names = key(("title", "text"), "fields", f"Where: {_FIELDS}.", min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.keywords and not self.patterns:
            raise refused("keywords", "is missing; keywords or patterns should be given")
        return self


class LookupSettings(Section):
    """A function that votes what a file says: distant supervision, taxonomies, block lists."""

    task: Name = key("relevance", "task", "What it votes on.")
    version: int = key(1, "number", "Raise it when the meaning changes.", ge=1)
    file: Path = key(..., "file", "CSV (key,vote), or NDJSON ({key, vote}); read anew if changed.")
    by: Name = key("item_id", "field", f"What is looked up: item_id, {_FIELDS}.")
    vote: Name | None = key(None, "class", "Vote of lines that name none; absent: each names one.")
    reload_s: Duration = key(
        30.0,
        "seconds",
        "How often it is looked whether it changed; it is read when it is found alike twice.",
        gt=0,
    )


class ScoreSettings(Section):
    """A function that votes by a score that the product logs in the context."""

    task: Name = key("relevance", "task", "What it votes on.")
    version: int = key(1, "number", "Raise it when the meaning changes.", ge=1)
    context_key: Name = key(..., "key", "Key of the context under which the score lies.")
    at_most: float | None = key(None, "score", "Up to this it votes for the task's first class.")
    at_least: float | None = key(None, "score", "From this on it votes for the last class.")


class ZeroShotSettings(Section):
    """A function that compares an item's text with a description of each class."""

    task: Name = key("relevance", "task", "What it votes on.")
    version: int = key(1, "number", "Raise it when the meaning changes.", ge=1)
    descriptions: tuple[str, ...] = key(
        ..., "texts", "Words that describe each class, in the order of the classes.", min_length=2
    )
    least: float = key(0.1, "cosine", "It abstains unless the best class is so similar.")
    margin: float = key(0.05, "cosine", "And so far above the second.", ge=0)


class ClassifierSettings(Section):
    """A function that votes by an old linear classifier of the item's words."""

    task: Name = key("relevance", "task", "What it votes on.")
    version: int = key(1, "number", "Raise it when the meaning changes.", ge=1)
    file: Path = key(..., "file", 'JSON: {"bias": number, "weights": {word: number}}.')
    at_most: float = key(0.2, "probability", "Up to this it votes for the task's first class.")
    at_least: float = key(0.8, "probability", "From this on it votes for the last class.")


class PriorSettings(Section):
    """What is known of a labeling function before it votes."""

    accuracy: float = key(
        0.7, "probability", "Share of its votes held to be right until they tell.", gt=0, lt=1
    )


class LfsSettings(Section):
    """Labeling functions."""

    families: Names = key(
        ("behaviour", "content", "intent", "knowledge", "model_based", "trust"),
        "names",
        "Built-in families that run.",
    )
    modules: Names = key(
        (), "dotted module names", "Modules with labeling functions, beside the built-in families."
    )
    context_votes: Names = key(
        (),
        "keys",
        "Keys of event contexts that hold a vote of the product's own: KEY, or TASK:KEY.",
    )
    item_votes: Names = key((), "keys", "Attributes of items that hold a vote: KEY, or TASK:KEY.")
    annotators: Names = key(
        (), "names", "Annotators whose answers are votes to be weighed, not the truth."
    )
    disabled: Names = key((), "names", "Labeling functions that abstain until switched on.")
    max_failure_ratio: float = key(
        0.05, "ratio", "A function that fails on more of a window is switched off.", gt=0, le=1
    )
    failure_window: int = key(1_000, "calls", "Examples over which failures are counted.", ge=1)
    patterns: dict[Name, PatternSettings] = Field(
        default_factory=dict, description="Words and expressions to look for; one section each."
    )
    lookups: dict[Name, LookupSettings] = Field(
        default_factory=dict, description="Tables to look things up in; one section each."
    )
    scores: dict[Name, ScoreSettings] = Field(
        default_factory=dict, description="Scores in the context; one section each."
    )
    zero_shot: dict[Name, ZeroShotSettings] = Field(
        default_factory=dict, description="Descriptions of classes; one section each."
    )
    classifiers: dict[Name, ClassifierSettings] = Field(
        default_factory=dict, description="Linear classifiers; one section each."
    )
    priors: dict[Name, PriorSettings] = Field(
        default_factory=dict,
        description="How good a function is held to be before it has voted, where that is not "
        "the usual 0.7; one section each, by its name. Read when a function is first seen; a new "
        "version starts from the one before.",
    )
