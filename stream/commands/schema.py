"""`headrace schema`: the JSON Schemas of every topic."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer

from stream.commands.console import ConfigOption, Refused
from stream.config import load_settings
from stream.events import json_schemas

__all__ = ["schema"]


def schema(
    topic: Annotated[
        str | None, typer.Argument(help="Only this topic, as headrace.events or events.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the JSON Schema of the records of every topic, or of one."""
    schemas = json_schemas(load_settings(config, stateless=True).events.types)
    chosen: object = schemas
    if topic is not None:
        name = topic if topic in schemas else f"headrace.{topic}"
        if name not in schemas:
            raise Refused(f"topic: found {topic!r}, allowed: {', '.join(schemas)}")
        chosen = schemas[name]
    sys.stdout.buffer.write(orjson.dumps(chosen, option=orjson.OPT_INDENT_2) + b"\n")
