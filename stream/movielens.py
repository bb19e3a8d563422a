"""MovieLens 100k as a stream of items and rating events, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import orjson
from river import datasets

from stream.simulate import Sent

__all__ = ["as_events", "movielens"]


def movielens() -> Iterator[Sent]:
    """Return 100,000 ratings of films as events, each film before its first rating.

    Fetched by `river.datasets` where it is not cached yet; OSError if there is no network.

    References
    ----------
    Harper and Konstan 2015, "The MovieLens datasets: history and context".
    """
    dataset: Any = cast(Any, datasets).MovieLens100K()
    if not dataset.is_downloaded:
        dataset.download(verbose=False)
    return as_events(dataset)


def as_events(rows: Iterable[tuple[Mapping[str, Any], float]]) -> Iterator[Sent]:
    """Yield (film, rating) rows, as river has them, as items and events."""
    known: set[str] = set()
    for number, (x, rating) in enumerate(rows):
        ts = float(x["timestamp"]) / 1e9
        item = f"film-{x['item']}"
        if item not in known:
            known.add(item)
            genres = [genre.strip() for genre in str(x["genres"]).split(",") if genre.strip()]
            entry = {"item_id": item, "title": str(x["title"]), "categories": genres, "ts": ts}
            yield Sent(ts, "items", orjson.dumps(entry))
        event = {
            "event_id": f"ml-{number}",
            "type": "rating",
            "ts": ts,
            "user_id": f"user-{x['user']}",
            "item_id": item,
            "segment": str(x["occupation"]),
            "value": float(rating),
        }
        yield Sent(ts, "events", orjson.dumps(event))
