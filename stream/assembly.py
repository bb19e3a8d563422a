"""From settings to parts: the one place where a deployment is put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from lfs.core import LabelingFunctionError
from lfs.registry import BUILT_IN_MODULES, collect, for_tasks, unique
from models.recommender import Config
from monitoring.drift_budget import DriftBudget
from monitoring.signals import DriftRules
from stream.config import Settings, SettingsError
from stream.decoding.decode import Decoder
from stream.failing import FailureRule
from stream.join import JoinRules, TypeRule
from stream.learning import RecommenderSpec
from stream.lf_sources import configured_lfs
from stream.outcomes import Outcome
from stream.pipeline import PipelineSpec
from stream.pseudonyms import GROWTH_BYTES
from stream.state import StateStore
from stream.stores import RedisAccess, open_store
from stream.tasks import TaskSpec

__all__ = [
    "decoder",
    "drift_rules",
    "join_rules",
    "open_state",
    "pipeline_spec",
    "recommender_config",
]

_NO_FEEDBACK: Final = frozenset({"impression", "search"})


def decoder(settings: Settings, *, accept_ticks: bool = True) -> Decoder:
    """Return the decoder of events; ticks are for the log's own readers only.

    These take what the door took as long enough, however it was written to the log.
    """
    events = settings.events
    growth = GROWTH_BYTES if accept_ticks and settings.privacy.pseudonymise else 0
    return Decoder(
        settings.event_types,
        max_line_bytes=events.max_line_bytes + growth,
        max_future_skew_s=events.max_future_skew_s,
        keep_unknown=events.keep_unknown,
        accept_ticks=accept_ticks,
    )


def join_rules(settings: Settings) -> JoinRules:
    """Return what each type of event does to an example, and for how long things are kept."""
    join = settings.join
    types = {
        name: TypeRule(
            window_s=join.window_s(name),
            starts=name in join.engagements,
            positive=name in join.positive,
            negative=name in join.negative,
        )
        for name in sorted(settings.event_types - _NO_FEEDBACK)
    }
    return JoinRules(
        types=types,
        exposure_window_s=join.exposure_window_s,
        early_after_s=join.early_after_s or None,
        disorder_s=join.disorder_s,
        lateness_horizon_s=join.lateness_horizon_s,
        dedup_horizon_s=settings.events.dedup_horizon_s,
        user_horizon_s=join.user_horizon_s,
        max_examples=join.max_open_examples_per_user,
        awaited=awaited(settings),
    )


def awaited(settings: Settings) -> frozenset[str] | None:
    """Return the types of feedback that are outcomes; None if rewards are not awaited."""
    if not settings.rewards.enabled:
        return None
    rewards = settings.rewards.outcomes.values()
    return frozenset(name for reward in rewards for name in (*reward.events, *reward.undone_by))


def outcomes(settings: Settings) -> tuple[Outcome, ...]:
    """Return what exposures may bring, in the order of the settings."""
    if not settings.rewards.enabled:
        return ()
    return tuple(
        Outcome(
            name,
            reward.events,
            reward.window_s,
            undone_by=reward.undone_by,
            value=reward.value,
            amount=reward.amount,
            back_after_s=reward.back_after_s,
        )
        for name, reward in settings.rewards.outcomes.items()
    )


def recommender_config(settings: Settings) -> Config:
    """Return the recommender's sizes and rates: the same wherever contributions are added up."""
    recommender = settings.recommender
    return Config(max_items=recommender.max_items, experts=tuple(recommender.experts))


def pipeline_spec(
    settings: Settings,
    *,
    partitions: int | None = None,
    timer: Callable[[], float] | None = None,
    on_reload: Callable[[str], None] | None = None,
) -> PipelineSpec:
    """Return what every partition has in common.

    Parameters
    ----------
    settings
        Of the deployment.
    partitions
        Number of partitions, if not the one in the settings.
    timer
        A clock to measure labeling functions by.
    on_reload
        Told ``read`` or ``refused`` whenever a look-up file changed and was read anew, which only
        a live process does; None: files are read once.

    Raises
    ------
    SettingsError
        If a module of labeling functions cannot be used, or a disabled function is unknown.
    """
    classes = {name: task.classes for name, task in settings.tasks.items()}
    for family in settings.lfs.families:
        if family not in BUILT_IN_MODULES:
            raise SettingsError(
                f"a setting is refused:\n  lfs.families: names no built-in family; found "
                f"{family!r}, allowed: {', '.join(BUILT_IN_MODULES)}"
            )
    built_in = [BUILT_IN_MODULES[family] for family in settings.lfs.families]
    try:
        found = collect([*built_in, *settings.lfs.modules])
    except LabelingFunctionError as error:
        raise SettingsError(f"a setting is refused:\n  {error}") from error
    described, files = configured_lfs(settings)
    try:
        by_task = for_tasks(unique([*found, *described]), classes)
    except LabelingFunctionError as error:
        raise SettingsError(f"a setting is refused:\n  {error}") from error
    if on_reload is not None:
        files.follow(on_reload)
    names = sorted({lf.name for lfs in by_task.values() for lf in lfs})
    for name in settings.lfs.disabled:
        if name not in names:
            raise SettingsError(
                f"a setting is refused:\n  lfs.disabled: names no labeling function; found "
                f"{name!r}, allowed: {', '.join(names)}"
            )
    for name in settings.lfs.priors:
        if name not in names:
            raise SettingsError(
                f"a setting is refused:\n  lfs.priors: names no labeling function; found "
                f"{name!r}, allowed: {', '.join(names)}"
            )
    accuracies = {name: known.accuracy for name, known in settings.lfs.priors.items()}
    tasks = [
        TaskSpec(name, task.classes, tuple(by_task[name]), task.prior, accuracies)
        for name, task in settings.tasks.items()
    ]
    recommender = settings.recommender
    config = recommender_config(settings)
    return PipelineSpec(
        decoder=decoder(settings),
        rules=join_rules(settings),
        tasks=tasks,
        recommender=RecommenderSpec(recommender.task, config),
        outcomes=outcomes(settings),
        n_partitions=partitions if partitions is not None else settings.log.partitions,
        secret=settings.privacy.hash_key.get_secret_value().encode(),
        pseudonymise=settings.privacy.pseudonymise,
        learn=settings.learn,
        cached_users=settings.worker.cached_users,
        provisional=settings.labels.provisional,
        foresee=settings.labels.foresee,
        disabled=settings.lfs.disabled,
        segments=settings.monitoring.segments,
        drift=drift_rules(settings),
        failures=FailureRule(settings.lfs.max_failure_ratio, settings.lfs.failure_window),
        timer=timer,
    )


def drift_rules(settings: Settings) -> DriftRules:
    """Return how changes are told from noise."""
    monitoring = settings.monitoring
    return DriftRules(
        first_reference=monitoring.first_reference,
        reference_values=monitoring.reference_values,
        budget=DriftBudget(
            false_pages=monitoring.false_pages, values_per_day=monitoring.values_per_day
        ),
    )


def open_state(settings: Settings) -> StateStore:
    """Open the state store."""
    return open_store(
        settings.store.url,
        instance=settings.store.instance,
        access=_redis_access(settings),
        timeout_s=settings.redis.timeout_s,
    )


def _redis_access(settings: Settings) -> RedisAccess:
    """Return who we are to Redis."""
    redis = settings.redis
    return RedisAccess(
        username=redis.username,
        password=redis.password.get_secret_value() if redis.password is not None else None,
        ca_file=_path(redis.ca_file),
        cert_file=_path(redis.cert_file),
        key_file=_path(redis.key_file),
        check_hostname=redis.check_hostname,
    )


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
