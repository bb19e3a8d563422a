"""Log and state of the embedded deployment, opened as the settings say."""

from __future__ import annotations

from stream.assembly import open_state
from stream.config import Settings, SettingsError
from stream.embedded_log import EmbeddedLog
from stream.events import CONTROL
from stream.state import StateStore

__all__ = ["open_embedded", "open_log"]


def open_log(settings: Settings, *, folds: bool = True) -> EmbeddedLog:
    """Open the log that the settings name.

    ``folds`` is the log's: False in a process beside the one that learns.

    Raises
    ------
    SettingsError
        If the log is not embedded.
    LogError
        If it cannot be opened.
    """
    if not settings.log.embedded:
        raise SettingsError(
            f"a setting is refused:\n  log.url: found {settings.log.url!r}, allowed for the "
            "embedded service: sqlite:///FILE; on Kafka run `headrace worker` and "
            "`headrace serve`"
        )
    return EmbeddedLog(settings.log.path, settings.log.partitions, topics={CONTROL: 1}, folds=folds)


def open_embedded(settings: Settings, *, folds: bool = True) -> tuple[EmbeddedLog, StateStore]:
    """Open the log, as `open_log` does, and the store that the settings name.

    Raises
    ------
    StoreError
        If the store cannot be opened.
    """
    log = open_log(settings, folds=folds)
    try:
        store = open_state(settings)
    except BaseException:
        log.close()
        raise
    return log, store
