"""Rows into lines: JSON events, gold records and truth, byte for byte the same every time."""

from __future__ import annotations

import json

import numpy as np

from stream.ids import example_id, user_key
from stream.simulate.catalogue import Catalogue
from stream.simulate.config import INTENTS, RELEVANCE, WorldConfig
from stream.simulate.people import People
from stream.simulate.rows import EVENT_TYPES, NO_REQUEST, Rows, code_of
from stream.simulate.votes import VoteCodec

__all__ = ["Writer"]

_DEVICES = ("mobile", "desktop", "tablet")
_POLICIES = ("softmax", "uniform")
_IMPRESSION, _VIEW, _SEARCH = (code_of(name) for name in ("impression", "view", "search"))
_VALUED = frozenset(code_of(name) for name in ("dwell", "add_to_cart", "purchase", "return"))
_RATING = code_of("rating")


class Writer:
    """Writes rows as lines, without their ends.

    JSON is put together from ready-made pieces, which takes a third of the time that a general
    encoder takes; every text that enters is either ours (numbers, ids) or encoded beforehand.
    """

    def __init__(
        self, config: WorldConfig, catalogue: Catalogue, people: People, codec: VoteCodec
    ) -> None:
        self._gold_tasks = config.gold_tasks
        self._inclusion = config.gold / len(config.gold_tasks)
        self._votes = codec.fragments
        self._segments = [f'"{segment.name}"' for segment in config.segments]
        self._segment_of = people.segment
        self._queries = [
            json.dumps(catalogue.shelf_name(shelf)) for shelf in range(len(catalogue.centres))
        ]
        self._shelf_of = catalogue.shelf

    def events(self, rows: Rows) -> list[bytes]:
        """Return the event lines of rows, in their order."""
        lines = np.empty(len(rows), dtype=object)
        for code in np.unique(rows["type"]).tolist():
            where = np.flatnonzero(rows["type"] == code)
            part = rows[where]
            if code == _IMPRESSION:
                lines[where] = self._impressions(part)
            elif code == _VIEW:
                lines[where] = self._plain(part, [f",{c}" for c in self._contexts(part)])
            elif code == _SEARCH:
                lines[where] = self._plain(part, self._query_contexts(part))
            elif code in _VALUED or code == _RATING:
                values = np.round(part["value"], 2).tolist()
                lines[where] = self._plain(part, [f',"value":{value}' for value in values])
            else:
                lines[where] = self._plain(part, [""] * len(part))
        if not len(rows):
            return []
        return "\n".join(lines.tolist()).encode().split(b"\n")

    def gold(self, rows: Rows) -> list[bytes]:
        """Return the gold records of rows that are annotators' answers."""
        lines = []
        for user, item, request, number, label, task, annotator, ts_ms in zip(
            rows["user"].tolist(),
            rows["item"].tolist(),
            rows["request"].tolist(),
            rows["origin"].tolist(),
            rows["position"].tolist(),
            rows["policy"].tolist(),
            rows["device"].tolist(),
            rows["ts_ms"].tolist(),
            strict=True,
        ):
            name = self._gold_tasks[task]
            classes = RELEVANCE if name == "relevance" else INTENTS
            of_request = None if request == NO_REQUEST else f"r{request}"
            example = example_id(user_key(f"u{user}"), of_request, f"i{item}", f"e{number}")
            lines.append(
                f'{{"user_id":"u{user}","example_id":"{example}","task":"{name}",'
                f'"label":"{classes[label]}","annotator":"annotator-{annotator}",'
                f'"ts":{ts_ms / 1000},"reason":"audit","inclusion":{self._inclusion:.6g}}}'.encode()
            )
        return lines

    def truth(self, rows: Rows) -> list[bytes]:
        """Return the planted classes of rows that are exposures (their first arrivals)."""
        exposure = (rows["type"] == _IMPRESSION) | (rows["type"] == _VIEW)
        part = rows[exposure & (rows["copy"] == 0)]
        return [
            f'{{"user_id":"u{user}","request_id":{request},"item_id":"i{item}",'
            f'"event_id":"e{number}","ts":{ts},"relevance":{relevance},'
            f'"intent":"{INTENTS[intent]}","bot":{"true" if bot else "false"}}}'.encode()
            for user, request, item, number, ts, relevance, intent, bot in zip(
                part["user"].tolist(),
                _request_values(part),
                part["item"].tolist(),
                part["number"].tolist(),
                (part["ts_ms"] / 1000.0).tolist(),
                part["relevance"].tolist(),
                part["intent"].tolist(),
                part["bot"].tolist(),
                strict=True,
            )
        ]

    def _impressions(self, rows: Rows) -> list[str]:
        tails = [
            f',"position":{position},"propensity":{propensity:.6g},"policy":"{_POLICIES[policy]}",'
            f"{context}"
            for position, propensity, policy, context in zip(
                rows["position"].tolist(),
                rows["propensity"].tolist(),
                rows["policy"].tolist(),
                self._contexts(rows),
                strict=True,
            )
        ]
        return self._plain(rows, tails)

    def _plain(self, rows: Rows, tails: list[str]) -> list[str]:
        """Return the lines of rows of one type: what every event has, then the given rest."""
        kind = EVENT_TYPES[int(rows["type"][0])]
        segments = self._segments
        return [
            f'{{"event_id":"e{number}","type":"{kind}","ts":{ts},"user_id":"u{user}",'
            f'"item_id":"i{item}",{request}"session_id":"s{session}",'
            f'"segment":{segments[segment]}{tail}}}'
            for number, ts, user, item, request, session, segment, tail in zip(
                rows["number"].tolist(),
                (rows["ts_ms"] / 1000.0).tolist(),
                rows["user"].tolist(),
                rows["item"].tolist(),
                [
                    "" if request == NO_REQUEST else f'"request_id":"r{request}",'
                    for request in rows["request"].tolist()
                ],
                rows["session"].tolist(),
                self._segment_of[rows["user"]].tolist(),
                tails,
                strict=True,
            )
        ]

    def _contexts(self, rows: Rows) -> list[str]:
        texts = [f'"context":{{"device":"{_DEVICES[code]}"' for code in rows["device"].tolist()]
        for group, fragments in enumerate(self._votes):
            codes = rows["votes"][:, group].tolist()
            texts = [text + fragments[code] for text, code in zip(texts, codes, strict=True)]
        return [text + "}" for text in texts]

    def _query_contexts(self, rows: Rows) -> list[str]:
        queries = [self._queries[shelf] for shelf in self._shelf_of[rows["item"]].tolist()]
        return [
            f',"context":{{"device":"{_DEVICES[code]}","query":{query}}}'
            for code, query in zip(rows["device"].tolist(), queries, strict=True)
        ]


def _request_values(rows: Rows) -> list[str]:
    return [
        "null" if request == NO_REQUEST else f'"r{request}"' for request in rows["request"].tolist()
    ]
