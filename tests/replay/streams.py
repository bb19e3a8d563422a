"""Small random streams that visit every branch of the join, for tests of exactness."""

from __future__ import annotations

import random

import orjson

from stream.ids import example_id, user_key

START_TS = 1_700_000_000.0
HOUR_S = 3_600.0
DAY_S = 86_400.0


def random_lines(seed: int, n: int, *, users: int = 12, items: int = 20) -> list[bytes]:
    """Return ``n`` event lines: impressions and feedback, some late, repeated or out of order."""
    rng = random.Random(seed)
    lines: list[bytes] = []
    shown: list[tuple[str, str, str]] = []
    ts = START_TS
    for number in range(n):
        ts += rng.expovariate(1 / 600.0) if rng.random() < 0.98 else 2 * DAY_S
        event: dict[str, object] = {
            "event_id": f"e{number}",
            "ts": round(ts - (rng.random() * 90.0 if rng.random() < 0.1 else 0.0), 3),
            "user_id": f"u{int(rng.paretovariate(1.0)) % users}",
            "item_id": f"i{int(rng.paretovariate(0.8)) % items}",
        }
        kind = rng.random()
        if kind < 0.4:
            event["type"] = "impression"
            event["request_id"] = f"r{number // 4}"
            event["position"] = rng.randrange(10)
            event["propensity"] = round(rng.uniform(0.01, 1.0), 3)
            shown.append((str(event["user_id"]), str(event["item_id"]), f"r{number // 4}"))
        elif kind < 0.75 and shown:
            back = min(len(shown), int(rng.paretovariate(0.5)))
            event["user_id"], event["item_id"], event["request_id"] = shown[-back]
            event["type"] = rng.choice(["click", "dwell", "purchase", "return", "rating", "hide"])
        else:
            event["type"] = rng.choice(["view", "click", "add_to_cart", "search", "like", "play"])
        if event["type"] in ("dwell", "play"):
            event["value"] = round(rng.expovariate(1 / 30.0), 2)
        if event["type"] == "rating":
            event["value"] = float(rng.randint(1, 5))
        if rng.random() < 0.3:
            event["segment"] = f"s{rng.randrange(3)}"
        if rng.random() < 0.1:
            event["context"] = {"page": rng.choice(["home", "list"]), "n": rng.randrange(4)}
        lines.append(orjson.dumps(event))
        if rng.random() < 0.03:
            lines.append(rng.choice(lines))
    return lines


def decision_lines(seed: int, events: list[bytes], share: float) -> list[bytes]:
    """Return decisions that a share of the impressions followed, made shortly before."""
    rng = random.Random(seed)
    decisions = []
    for event in map(orjson.loads, events):
        if event["type"] == "impression" and rng.random() < share:
            place = {"item_id": event["item_id"], "position": 1, "propensity": 0.125}
            decisions.append(
                orjson.dumps(
                    {
                        "request_id": event["request_id"],
                        "user_id": event["user_id"],
                        "ts": event["ts"] - rng.random(),
                        "policy": f"p{rng.randrange(3)}",
                        "items": [place],
                    }
                )
            )
    return decisions


def gold_lines(seed: int, events: list[bytes], n: int) -> list[bytes]:
    """Return answers about exposures of these events, given up to a day later."""
    rng = random.Random(seed)
    answers = []
    for number in range(n):
        event = orjson.loads(rng.choice(events))
        name = example_id(
            user_key(event["user_id"]), event.get("request_id"), event["item_id"], event["event_id"]
        )
        answers.append(
            orjson.dumps(
                {
                    "example_id": name,
                    "task": "relevance",
                    "label": rng.choice(["negative", "positive"]),
                    "annotator": f"a{number % 3}",
                    "ts": event["ts"] + rng.random() * DAY_S,
                    "user_id": event["user_id"],
                }
            )
        )
    return answers
