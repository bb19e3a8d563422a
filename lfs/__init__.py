"""Labeling functions: small documented signals that vote on examples while they stream by."""

from __future__ import annotations

from lfs.core import ABSTAIN, Example, ExampleBatch, LabelingFunction, labeling_function

__all__ = ["ABSTAIN", "Example", "ExampleBatch", "LabelingFunction", "labeling_function"]
