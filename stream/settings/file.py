"""The text of `headrace.toml`: every setting with its unit, its default and what it does.

    python -m stream.settings.file > headrace.toml

The file is written from the settings themselves; a test compares the two.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from stream.config import Settings
from stream.settings.durations import written_duration

__all__ = ["render_settings"]

_WIDTH = 98
_HEAD = """\
Settings of Headrace. Every one is here, with its unit and its default; remove the # to change it.
Environment variables override this file, with __ between levels: log.url is HEADRACE_LOG__URL.
HEADRACE_CONFIG names another file. An unknown name is an error, here and in the environment.
Brackets give the unit. An empty string where that is the default means absent.
Durations are numbers of seconds, or strings with a unit: "250ms", "30s", "30m", "2h", "7d", "1w".
"""


def render_settings() -> str:
    """Return the text of `headrace.toml`."""
    lines = [f"# {line}" for line in _HEAD.splitlines()]
    defaults = Settings()
    lines += ["", *_keys(Settings, defaults)]
    for name, field in Settings.model_fields.items():
        value = getattr(defaults, name)
        if isinstance(value, BaseModel):
            lines += _section(name, value, type(value))
        elif isinstance(value, dict):
            for entry, section in value.items():
                lines += _section(f"{name}.{entry}", section, type(section), field)
    return "\n".join(lines) + "\n"


def _section(
    name: str, values: BaseModel, model: type[BaseModel], many: FieldInfo | None = None
) -> Iterator[str]:
    yield ""
    yield from _comment((model.__doc__ or "").splitlines()[0])
    if many is not None and many.description:
        yield from _comment(many.description)
    yield f"[{name}]"
    yield from _keys(model, values)
    for key, field in model.model_fields.items():
        value = getattr(values, key)
        if isinstance(value, dict):
            for entry, section in value.items():
                yield from _section(f"{name}.{key}.{entry}", section, type(section), field)
            if not value:
                yield from _open_section(f"{name}.{key}.NAME", field)


def _open_section(name: str, field: FieldInfo) -> Iterator[str]:
    """Describe sections of which there are none by default; indented, since they are examples."""
    model = get_args(field.annotation)[1]
    yield ""
    yield from _comment((model.__doc__ or "").splitlines()[0])
    yield from _comment(field.description or "")
    yield f"#   [{name}]"
    for key, one in model.model_fields.items():
        extra = one.json_schema_extra
        unit = str(extra["unit"]) if isinstance(extra, dict) else ""
        yield from _comment(f"{one.description} [{unit}]")
        default = "…" if one.is_required() else one.default
        yield f"#   {key} = {_written(default, unit)}"


def _keys(model: type[BaseModel], values: BaseModel) -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel | dict):
            continue
        extra = field.json_schema_extra
        unit = extra["unit"] if isinstance(extra, dict) else ""
        yield from _comment(f"{field.description} [{unit}]")
        yield f"# {name} = {_written(value, str(unit))}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _written(value: Any, unit: str) -> str:
    """Write a default as TOML; an absent one as the empty string, which means the same."""
    if unit == "seconds" and isinstance(value, float):
        return f'"{written_duration(value)}"' if value else "0"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return '""'
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(render_settings())
