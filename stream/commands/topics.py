"""`headrace topics`: create the topics, and check that they are as workers need them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from stream.commands.console import REFUSED, ConfigOption, Refused, note, out
from stream.config import load_settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.topics import check_topics, create_topics, topic_plan

__all__ = ["topics"]


def topics(
    check: Annotated[
        bool, typer.Option("--check", help="Create nothing; only say how the topics stand.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Create the topics that are missing, and check partitions, retention and time stamps.

    Exits 2 if a topic is missing or not as a worker needs it. Existing topics are never changed:
    the number of partitions is fixed, since users would move to other partitions than their state.
    """
    settings = load_settings(config, stateless=True)
    if settings.log.embedded:
        raise Refused(
            f"log.url: found {settings.log.url!r}, allowed for `topics`: kafka://HOST:PORT; "
            "an embedded log needs no topics"
        )
    connection = KafkaConnection.from_settings(settings)
    plan = topic_plan(settings)
    statuses = (check_topics if check else create_topics)(connection, plan)
    table = Table("topic", "partitions", "state")
    unfit = False
    for status in statuses:
        unfit |= bool(status.problems)
        said = [f"[red]{problem}[/]" for problem in status.problems] + status.notes
        table.add_row(
            status.spec.name,
            "–" if status.partitions is None else str(status.partitions),
            "; ".join(said) or ("created" if status.created else "fit"),
        )
    out.print(table)
    if unfit:
        note.print("some topics are not as a worker needs them", style="red")
        raise typer.Exit(REFUSED)
