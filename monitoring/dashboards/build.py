"""Write the dashboards' JSON: `python -m monitoring.dashboards.build`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.drift import drift
from monitoring.dashboards.labeling import labeling
from monitoring.dashboards.overview import overview
from monitoring.dashboards.people import people
from monitoring.dashboards.pipeline import pipeline
from monitoring.dashboards.recommender import recommender

__all__ = ["FOLDER", "rendered"]

FOLDER: Final = Path(__file__).parent / "json"


def rendered() -> dict[str, str]:
    """Return the text of every dashboard, by file name."""
    boards = (overview(), labeling(), drift(), recommender(), pipeline(), people())
    return {f"{board.uid}.json": _text(board) for board in boards}


def _text(board: Dashboard) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"


def main() -> None:
    """Write every dashboard, and remove what is none any more."""
    FOLDER.mkdir(exist_ok=True)
    texts = rendered()
    for stale in set(FOLDER.glob("*.json")) - {FOLDER / name for name in texts}:
        stale.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
