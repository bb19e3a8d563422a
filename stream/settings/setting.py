"""What every section of the settings is made of: a base, and the description of one key."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

__all__ = [
    "DAY_S",
    "Listed",
    "Name",
    "Names",
    "Numbers",
    "Section",
    "key",
    "refused",
    "without_password",
]

DAY_S = 86_400.0


class Section(BaseModel):
    """Base of every section: an unknown key is an error, and nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        """Take an empty string for an absent value, where a value may be absent."""
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        return {
            name: value
            for name, value in data.items()
            if not (value == "" and name in fields and fields[name].default is None)
        }


def key(default: Any, unit: str, description: str, **limits: Any) -> Any:
    """Describe one setting; the unit is shown in `headrace.toml`."""
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


def refused(name: str, message: str) -> PydanticCustomError:
    """Return the error of a key that contradicts another one of its section."""
    return PydanticCustomError("setting", "{message}", {"message": message, "key": name})


def without_password(url: str) -> str:
    """Return the URL with user and password left out.

    Examples
    --------
    >>> without_password("redis://user:secret@host:6379/0")
    'redis://…@host:6379/0'
    """
    scheme, separator, rest = url.partition("://")
    if not separator or "@" not in rest:
        return url
    return f"{scheme}://…@{rest.rpartition('@')[2]}"


def _listed(value: object) -> object:
    """Read a list from an environment variable: JSON, or names separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise PydanticCustomError(
                "list", "should be a list: JSON, or names separated by commas"
            ) from error
    return [name.strip() for name in value.split(",") if name.strip()]


Listed = BeforeValidator(_listed)
Name = Annotated[str, Field(min_length=1, max_length=64)]
Names = Annotated[tuple[Name, ...], NoDecode, Listed]
Numbers = Annotated[tuple[float, ...], NoDecode, Listed]
