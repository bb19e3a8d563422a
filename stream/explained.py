"""What is asked of a deployment to explain itself: its labeling functions, and single examples."""

from __future__ import annotations

from typing import NamedTuple

from stream.lf_standing import LfStandings
from stream.merged_view import MergedView
from stream.pipeline_spec import PipelineSpec
from stream.state import StateStore
from stream.stored_examples import StoredExamples

__all__ = ["Explained", "explained"]


class Explained(NamedTuple):
    """Where the answers come from, in either deployment."""

    lfs: LfStandings
    examples: StoredExamples


def explained(store: StateStore, spec: PipelineSpec, view: MergedView) -> Explained:
    """Return what explains the deployment whose state lies in ``store``."""
    return Explained(LfStandings(store, spec, view), StoredExamples(store))
