"""Put serving together from the settings."""

from __future__ import annotations

from stream.assembly import recommender_config
from stream.config import Settings
from stream.embedded import EmbeddedEngine
from stream.serving.engine_source import EngineSource
from stream.serving.sources import StoreSource
from stream.state import StateStore

__all__ = ["engine_source", "store_source"]


def store_source(settings: Settings, store: StateStore) -> StoreSource:
    """Return what follows the checkpoints of a deployment."""
    return StoreSource(
        store,
        recommender_config(settings),
        settings.privacy.hash_key.get_secret_value().encode(),
        settings.recommendations.refresh_s,
    )


def engine_source(settings: Settings, engine: EmbeddedEngine, store: StateStore) -> EngineSource:
    """Return what follows the learning thread; the engine is to call its `stepped`."""
    return EngineSource(
        {pipeline.partition: pipeline for pipeline in engine.pipelines},
        recommender_config(settings),
        store_source(settings, store),
        settings.recommendations.refresh_s,
    )
