"""Settings from environment variables: ``HEADRACE_LOG__URL`` is ``log.url``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings import SettingsError as SourceError

__all__ = ["CONFIG_VARIABLE", "PREFIX", "read_environment", "setting_names", "variable"]

PREFIX: Final = "HEADRACE_"
CONFIG_VARIABLE: Final = "HEADRACE_CONFIG"

_LEVELS: Final = "__"
_NOT_SETTINGS: Final = frozenset(
    {
        CONFIG_VARIABLE,
        # Read by the tests, the benchmarks and the Makefile.
        "HEADRACE_REQUIRE_SERVICES",
        "HEADRACE_CACHE_DIR",
        "HEADRACE_SHARED_DATA",
        "HEADRACE_PEERS_PYTHON",
    }
)
# Kubernetes writes these into every container for a Service whose name begins with "headrace".
_SERVICE_LINK: Final = re.compile(
    r"HEADRACE(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)"
)


def variable(name: str) -> str:
    """Return the environment variable of a setting.

    Examples
    --------
    >>> variable("api.port")
    'HEADRACE_API__PORT'
    """
    return PREFIX + name.replace(".", _LEVELS).upper()


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting; ``*`` stands for a name that is free."""
    for name, field in model.model_fields.items():
        section, free = _section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from setting_names(section, f"{prefix}{name}.{'*.' if free else ''}")


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the section that an annotation holds, and whether it holds many, by free names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    arguments = get_args(annotation)
    if getattr(annotation, "__origin__", None) is dict:
        return _section(arguments[1])[0], True
    return None, False


def read_environment(
    settings: type[BaseSettings], environment: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that the environment gives, and what is wrong with its names.

    An empty variable counts as absent, so that ``${NAME:-}`` in a compose file is no value.
    """
    patterns = [
        re.compile(re.escape(variable(name)).replace(r"\*", r"[A-Z0-9_]+?"))
        for name in setting_names(settings)
    ]
    ours = {
        name: value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value and name not in _NOT_SETTINGS
    }
    faults = []
    for name, value in sorted(ours.items()):
        if any(pattern.fullmatch(name) for pattern in patterns):
            continue
        del ours[name]
        if not (_SERVICE_LINK.fullmatch(name) or value.startswith(("tcp://", "udp://"))):
            faults.append(f"{name}: names no setting{_meant(settings, name)}")
    source = EnvSettingsSource(
        settings, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter=_LEVELS
    )
    source.env_vars = {name.lower(): value for name, value in ours.items()}
    try:
        return source(), faults
    except SourceError as error:
        return {}, [*faults, str(error)]


def _meant(settings: type[BaseSettings], name: str) -> str:
    known = [variable(setting) for setting in setting_names(settings)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else " (see headrace.toml)"
