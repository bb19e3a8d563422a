"""The status page in a real browser: live figures, equal to the service's own, no console error."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stream.simulate import World, WorldConfig
from tests.conftest import services_required

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVENTS = 3_000


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        told = f"no browser: none of {', '.join(BROWSERS)} is on PATH"
        if services_required():
            pytest.fail(told, pytrace=False)
        pytest.skip(told)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("status")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "up"],
        env=kept
        | {
            "HEADRACE_LOG__URL": f"sqlite:///{folder / 'headrace.db'}",
            "HEADRACE_API__PORT": "0",
            "HEADRACE_CHECKPOINT__INTERVAL_S": "0.2",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        for lines in World(WorldConfig(seed=2, events=EVENTS, users=150, items=80)).chunks(1_000):
            request = urllib.request.Request(
                f"{url}/v1/events", b"\n".join(lines), {"Content-Type": "application/x-ndjson"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 202
        deadline = time.monotonic() + 120
        while status(url)["events"].get("headrace.events") != EVENTS:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def status(url: str) -> dict[str, dict[str, int]]:
    with urllib.request.urlopen(f"{url}/v1/status", timeout=30) as answer:
        figures: dict[str, dict[str, int]] = json.load(answer)
        return figures


class Text(HTMLParser):
    """The words of a page, and the cells of its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())


def opened(browser: str, url: str, folder: Path, width: int) -> tuple[list[str], str]:
    """Return the words of the page once its script has run, and what the browser complained of."""
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={folder}", f"--window-size={width},900", "--enable-logging=stderr",
            "--virtual-time-budget=6000", "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    page = Text()
    page.feed(done.stdout)
    return page.words, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


@pytest.mark.parametrize("width", [1200, 360], ids=["desk", "phone"])
def test_the_page_shows_the_services_own_figures(
    browser: str, service: str, tmp_path: Path, width: int
) -> None:
    words, complaints = opened(browser, service, tmp_path, width)
    assert complaints == ""
    figures = dict(zip(words, words[1:], strict=False))
    assert figures["events learned"] == f"{EVENTS:,}"
    assert "live, 1 partition" in words
    with urllib.request.urlopen(f"{service}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    assert f'headrace_events_consumed_total{{topic="headrace.events"}} {EVENTS}.0' in metrics
    hit = re.search(r'^headrace_prequential_hit_ratio\{k="10"\} (\S+)', metrics, re.MULTILINE)
    assert hit is not None
    assert figures["hit@10"] == f"{float(hit[1]):.3f}"
    matched = re.search(r"^headrace_join_matched_total (\S+)", metrics, re.MULTILINE)
    assert matched is not None
    assert figures["feedback joined"] == f"{float(matched[1]):,.0f}"
    assert any(re.fullmatch(r"clicked v\d+", word) for word in words)


def test_the_page_needs_nothing_from_outside(service: str) -> None:
    with urllib.request.urlopen(service, timeout=30) as answer:
        page = answer.read().decode()
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert re.search(r'<html lang="en">', page)
    for name in ("status.css", "status.js"):
        with urllib.request.urlopen(f"{service}/{name}", timeout=30) as answer:
            assert answer.status == 200
