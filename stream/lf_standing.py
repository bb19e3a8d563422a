"""Every labeling function as it stands: what it is, whether it is on, by whose order; figures."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from stream.control import SWITCHES_CHUNK, Switches
from stream.merged_view import MergedView
from stream.pipeline_spec import PipelineSpec
from stream.state import StateStore

__all__ = ["LfStandings", "documentation"]

_SECTION: Final = re.compile(r"\b(Rationale|Sources|Known errors):\s*", re.IGNORECASE)


class LfStandings:
    """Reads how the labeling functions of a deployment stand. Usable from any thread.

    Parameters
    ----------
    store
        Where the partitions' state lies.
    spec
        Of the deployment's pipelines.
    view
        Has the figures that the status page and `headrace lfs --live` show.
    """

    def __init__(self, store: StateStore, spec: PipelineSpec, view: MergedView) -> None:
        self._store = store
        self._spec = spec
        self._view = view
        self.tasks_of: dict[str, list[str]] = {}
        """Tasks of each function, by name."""
        for task in spec.tasks:
            for lf in task.lfs:
                self.tasks_of.setdefault(lf.name, []).append(task.name)

    def read(self) -> list[dict[str, Any]]:
        """Return the functions of every task, in their order, as of the partitions' checkpoints.

        Raises
        ------
        StoreError
            If the state store does not answer.
        """
        figures = self._view.read()
        switches = self._switches() or {-1: Switches(self._spec.disabled, self._spec.failures)}
        found = []
        for task in self._spec.tasks:
            rows = {row["name"]: row for row in figures["tasks"][task.name]["lfs"]}
            for lf in task.lfs:
                row = rows[lf.name]
                off = [
                    partition
                    for partition, one in switches.items()
                    if not one.enabled(task.name, [lf.name], [lf.version])[0]
                ]
                found.append(
                    {
                        "name": lf.name,
                        "task": task.name,
                        "version": lf.version,
                        "family": lf.family,
                        "form": lf.form,
                        "enabled": not off,
                        "off_in_partitions": [] if len(off) == len(switches) else off,
                        "switched": self._switched(
                            task.name, lf.name, lf.version, switches.values(), figures["governance"]
                        ),
                        "documentation": documentation(lf.doc),
                        "figures": {
                            key: value
                            for key, value in row.items()
                            if key not in ("name", "version", "family")
                        },
                    }
                )
        return found

    def _switches(self) -> dict[int, Switches]:
        found = {}
        for chunk in self._store.shared(SWITCHES_CHUNK, {}):
            one = found[chunk.partition] = Switches(self._spec.disabled, self._spec.failures)
            one.load(chunk.data)
        return found

    def _switched(
        self,
        task: str,
        name: str,
        version: int,
        switches: Collection[Switches],
        governance: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any] | None:
        """Return who switched a function last, when and why; None if nobody did, or it is unknown.

        A function that failed too often was switched off after every order about it.
        """
        if any((task, name, version) in one.failing.stopped for one in switches):
            subject = f"{task}/{name}@{version}"
            for record in governance:
                if record["action"] == "lf_disabled" and record["subject"] == subject:
                    return {"ts": record["ts"], "who": "headrace", "why": record["why"]}
            return {"ts": None, "who": "headrace", "why": "it failed too often"}
        told = [found for one in switches if (found := one.told(task, name, version))]
        if told:
            return max(told)._asdict()
        if name in self._spec.disabled:
            return {"ts": None, "who": None, "why": "lfs.disabled in the settings"}
        return None


def documentation(doc: str) -> dict[str, str | None]:
    r"""Return a docstring's summary and sections; None for one that is not marked by a colon.

    Examples
    --------
    >>> found = documentation("Vote so.\n\nRationale: a. Sources: b\nc. Known errors: d.")
    >>> found["summary"], found["rationale"], found["sources"], found["known_errors"]
    ('Vote so.', 'a.', 'b c.', 'd.')
    """
    summary, *parts = _SECTION.split(doc)
    sections = {
        heading.lower().replace(" ", "_"): " ".join(text.split())
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {
        "summary": " ".join(summary.split()),
        "rationale": sections.get("rationale"),
        "sources": sections.get("sources"),
        "known_errors": sections.get("known_errors"),
    }
