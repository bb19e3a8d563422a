"""Settings of a deployment: `headrace.toml`, overridden by the environment, checked at start.

    settings = load_settings()
    settings.log.url, settings.join.exposure_window_s

What is wrong is said at once, setting by setting, with what was found and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from stream.events import EVENT_TYPES
from stream.refusal import Refusal
from stream.settings.deployment import (
    ApiSettings,
    CheckpointSettings,
    KafkaSettings,
    LogSettings,
    RedisSettings,
    StoreSettings,
    WorkerSettings,
)
from stream.settings.environment import CONFIG_VARIABLE, read_environment, setting_names, variable
from stream.settings.learning import (
    EventsSettings,
    JoinSettings,
    LabelsSettings,
    MonitoringSettings,
    PrivacySettings,
    RecommenderSettings,
    TaskSettings,
    TicksSettings,
)
from stream.settings.lfs import LfsSettings
from stream.settings.recommendations import RecommendationsSettings
from stream.settings.rewards import RewardsSettings
from stream.settings.setting import Name, key, refused, without_password

__all__ = ["DEFAULT_FILE", "Settings", "SettingsError", "load_settings", "require_known"]

DEFAULT_FILE: Final = "headrace.toml"

_DEFAULT_URL: Final = LogSettings().url
_KAFKA_PARTITIONS: Final = 8
_SHOWN_CHARACTERS: Final = 80
_SECRETS: Final = ("token", "password", "hash_key")


class SettingsError(Refusal, ValueError):
    """Settings that are refused; its text is for the person who wrote them."""


class Settings(BaseSettings):
    """Every setting of a deployment, checked and frozen.

    Made from keyword arguments only; `load_settings` reads the file and the environment.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learn: bool = key(True, "true or false", "False freezes every learner.")
    log: LogSettings = Field(default_factory=LogSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    join: JoinSettings = Field(default_factory=JoinSettings)
    ticks: TicksSettings = Field(default_factory=TicksSettings)
    tasks: dict[Name, TaskSettings] = Field(default_factory=lambda: {"relevance": TaskSettings()})
    labels: LabelsSettings = Field(default_factory=LabelsSettings)
    lfs: LfsSettings = Field(default_factory=LfsSettings)
    rewards: RewardsSettings = Field(default_factory=RewardsSettings)
    recommender: RecommenderSettings = Field(default_factory=RecommenderSettings)
    recommendations: RecommendationsSettings = Field(default_factory=RecommendationsSettings)
    privacy: PrivacySettings = Field(default_factory=PrivacySettings)
    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take keyword arguments only: what a test makes does not depend on the environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def event_types(self) -> frozenset[str]:
        """Every event type that is accepted."""
        return EVENT_TYPES | frozenset(self.events.types)

    @model_validator(mode="before")
    @classmethod
    def _derive_defaults(cls, data: Any) -> Any:
        """Fill in what depends on the log: partitions, and the store."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        log = _table(data, "log")
        url = log.get("url", _DEFAULT_URL)
        kafka = str(url).startswith("kafka:")
        if kafka:
            log.setdefault("partitions", _KAFKA_PARTITIONS)
        store = _table(data, "store")
        if not store.get("url"):
            store["url"] = "" if kafka else url if str(url).startswith("sqlite:") else _DEFAULT_URL
        if isinstance(data.get("tasks"), dict):
            data["tasks"] = {"relevance": {}} | data["tasks"]
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.recommender.task not in self.tasks:
            raise refused(
                "recommender.task",
                f"names no task; found {self.recommender.task!r}, allowed: {', '.join(self.tasks)}",
            )
        named = {
            "join.engagements": self.join.engagements,
            "join.positive": self.join.positive,
            "join.negative": self.join.negative,
        }
        for name, outcome in self.join.outcomes.items():
            named[f"join.outcomes.{name}.opened_by"] = outcome.opened_by
        for name, reward in self.rewards.outcomes.items():
            named[f"rewards.outcomes.{name}.events"] = reward.events
            named[f"rewards.outcomes.{name}.undone_by"] = reward.undone_by
        for setting, types in named.items():
            for unknown in sorted(set(types) - self.event_types):
                raise refused(
                    setting,
                    f"names an unknown event type; found {unknown!r}, allowed: "
                    f"{', '.join(sorted(self.event_types))} (events.types adds more)",
                )
        if self.join.early_after_s >= self.join.exposure_window_s:
            raise refused(
                "join.early_after_s",
                f"should be less than join.exposure_window_s ({self.join.exposure_window_s:g} s); "
                f"found {self.join.early_after_s:g} s",
            )
        return self


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a copy of a section that may be changed; a wrong one is left for its own error."""
    section = data.get(name, {})
    if isinstance(section, Mapping):
        copy = dict(section)
        data[name] = copy
        return copy
    return {} if not hasattr(section, "model_dump") else {"url": section.url}


def load_settings(
    path: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    stateless: bool = False,
) -> Settings:
    """Return the settings: the file, overridden by the environment, overridden by ``overrides``.

    Parameters
    ----------
    path
        The file; by default the one that HEADRACE_CONFIG names, else `headrace.toml` in the
        working directory, if there is one.
    env
        Environment variables; by default the process's own.
    overrides
        Nested values of a command line, as ``{"log": {"url": …}}``.
    stateless
        Whether the state store is not looked at: then it need not be named.

    Raises
    ------
    SettingsError
        For anything unknown or wrong: one line per setting.
    """
    environment = os.environ if env is None else env
    named = path or environment.get(CONFIG_VARIABLE) or None
    file, from_file = _read_file(Path(named or DEFAULT_FILE), required=named is not None)
    from_environment, faults = read_environment(Settings, environment)
    data = _merged(_merged(from_file, from_environment), overrides or {})
    store = data.get("store", {})
    if stateless and isinstance(store, Mapping) and not store.get("url"):
        data = _merged(data, {"store": {"url": _DEFAULT_URL}})
    for name in [name for name in data if name.startswith("_")]:
        # The library would take these for options of its own.
        faults.append(f"{name}: {_unknown(name)}")
        del data[name]
    try:
        settings = Settings(**data)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            faults.append(_explained(fault, file, from_file, from_environment))
    if faults:
        raise _refused(faults)
    return settings


def require_known(env: Mapping[str, str] | None = None) -> None:
    """Refuse variables that look like settings and are none, for a command that takes none.

    Raises
    ------
    SettingsError
        For anything unknown: one line per variable.
    """
    _, faults = read_environment(Settings, os.environ if env is None else env)
    if faults:
        raise _refused(faults)


def _refused(faults: Sequence[str]) -> SettingsError:
    count = "a setting is" if len(faults) == 1 else f"{len(faults)} settings are"
    return SettingsError("\n  ".join([f"{count} refused:", *dict.fromkeys(faults)]))


def _read_file(path: Path, *, required: bool) -> tuple[Path, dict[str, Any]]:
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not required:
            return path, {}
        raise SettingsError(
            f"{path}: no such file; --config or {CONFIG_VARIABLE} should name a settings file"
        ) from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value) if both and old is not None else value
    return merged


def _explained(
    fault: ErrorDetails,
    file: Path,
    from_file: Mapping[str, Any],
    from_environment: Mapping[str, Any],
) -> str:
    """Return one line: the setting, where it stands, what was found, what is allowed."""
    location = [str(part) for part in fault["loc"]]
    context = fault.get("ctx", {})
    if "key" in context:
        location += str(context["key"]).split(".")
    name = ".".join(location)
    if _holds(from_environment, location):
        # Of a list, the variable holds all elements.
        whole = [str(part) for part in takewhile(lambda p: isinstance(p, str), fault["loc"])]
        source = f" ({variable('.'.join(whole + location[len(fault['loc']) :]))})"
    elif _holds(from_file, location):
        source = f" ({file})"
    else:
        source = ""
    message, kind = fault["msg"], fault["type"]
    if kind == "extra_forbidden":
        message = _unknown(name)
    elif kind == "missing":
        message = "is missing; it is required"
    elif kind != "setting":
        message = f"{_allowed(fault)}; found {_shown(location, fault['input'])}"
    return f"{name}{source}: {message}"


def _allowed(fault: ErrorDetails) -> str:
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "should be a table"
    message = fault["msg"]
    for subject in ("Input ", "String ", "Value ", "Tuple ", "Dictionary "):
        message = message.removeprefix(subject)
    message = re.sub(r" after validation, not .*", "", message)
    if isinstance(fault["input"], str):
        message = re.sub(r" items?$", " characters", message)
    return message


def _holds(data: Mapping[str, Any], location: list[str]) -> bool:
    value: Any = data
    for part in location:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            # An element of a list, or a key that its section lacks.
            return not isinstance(value, Mapping) and value is not data
    return True


def _unknown(name: str) -> str:
    *section, last = name.split(".")
    siblings = [
        parts[-1]
        for parts in (known.split(".") for known in setting_names(Settings))
        if len(parts) == len(section) + 1
        and all(known in ("*", part) for known, part in zip(parts, section, strict=False))
    ]
    if not section:
        siblings = sorted({known.partition(".")[0] for known in setting_names(Settings)})
    close = difflib.get_close_matches(last, siblings, n=1, cutoff=0.6)
    if close:
        return f"no such setting; did you mean {'.'.join([*section, close[0]])}?"
    return f"no such setting; allowed here: {', '.join(siblings)}"


def _shown(location: list[str], value: object) -> str:
    """Write what was found, unless it may hold a secret."""
    secret = any(word in part for part in location for word in _SECRETS)
    if isinstance(value, SecretStr) or (secret and "roles" not in location):
        return "a secret that is not shown"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        return "a list of tables"
    if location[-1] == "url":
        value = without_password(str(value))
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
