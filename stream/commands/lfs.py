"""`headrace lfs`: the labeling functions that run, with their documentation."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.assembly import pipeline_spec
from stream.commands.console import ConfigOption, Refused, out
from stream.config import load_settings

__all__ = ["lfs_app"]

lfs_app = typer.Typer(help="List labeling functions.", invoke_without_command=True)


@lfs_app.callback()
def lfs(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Show only this one, in full.")] = None,
    config: ConfigOption = None,
) -> None:
    """List the labeling functions of every task: name, version, family, what it votes on."""
    if context.invoked_subcommand is not None:
        return
    spec = pipeline_spec(load_settings(config))
    known = {lf.name for task in spec.tasks for lf in task.lfs}
    if name is not None and name not in known:
        raise Refused(f"--name: found {name!r}, allowed: {', '.join(sorted(known))}")
    for task in spec.tasks:
        if name is None:
            out.print(f"[bold]{task.name}[/] ({', '.join(task.classes)})")
        for lf in task.lfs:
            if name is None:
                first = lf.doc.partition("\n")[0]
                state = " [yellow]off[/]" if lf.name in spec.disabled else ""
                out.print(f"  {lf.name} v{lf.version} ({lf.family}){state}: {first}")
            elif lf.name == name:
                out.print(f"{lf.name} v{lf.version}, task {lf.task}, family {lf.family}\n")
                out.print(lf.doc, markup=False, highlight=False)
