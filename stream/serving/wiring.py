"""Put serving together from the settings."""

from __future__ import annotations

from collections.abc import Sequence

from models.content import ContentIndex
from stream.assembly import recommender_config
from stream.config import Settings
from stream.pipeline import PartitionPipeline
from stream.serving.engine_source import EngineSource
from stream.serving.fresh_people import FreshPeople
from stream.serving.near_source import NearSource
from stream.serving.sources import StoreSource
from stream.state import StateStore

__all__ = ["engine_source", "near_source", "store_source"]


def store_source(
    settings: Settings, store: StateStore, content: ContentIndex | None = None
) -> StoreSource:
    """Return what follows the checkpoints of a deployment."""
    return StoreSource(
        store,
        recommender_config(settings),
        settings.privacy.hash_key.get_secret_value().encode(),
        settings.recommendations.refresh_s,
        content,
    )


def near_source(
    settings: Settings,
    store: StateStore,
    people: StateStore,
    content: ContentIndex,
    fresh: FreshPeople,
) -> NearSource:
    """Return what follows the checkpoints in a file of this machine.

    ``people`` is the same store, opened for itself.
    """
    return NearSource(
        store_source(settings, store, content),
        store_source(settings, people),
        settings.log.partitions,
        fresh,
    )


def engine_source(
    settings: Settings, pipelines: Sequence[PartitionPipeline], store: StateStore
) -> EngineSource:
    """Return what follows the learning thread, which is to call its `stepped`."""
    return EngineSource(
        {pipeline.partition: pipeline for pipeline in pipelines},
        store_source(settings, store),
        settings.recommendations.refresh_s,
    )
