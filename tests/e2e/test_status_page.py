"""The status page in a real browser: live figures, equal to the service's own, no console error."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stream.simulate import SimulatedLF, World, WorldConfig
from tests.conftest import services_required

pytestmark = pytest.mark.usefixtures("compiled")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVENTS = 6_000
WITHIN_S = 240.0
SIGNAL = "rewards/weight"
ROUNDED = 0.0005 + 0.000005
"""The page shows three digits of a share, and `/metrics` has five of the same one."""


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
    environment = kept | {
        "HEADRACE_LOG__URL": f"sqlite:///{folder / 'headrace.db'}",
        "HEADRACE_API__PORT": "0",
        "HEADRACE_CHECKPOINT__INTERVAL_S": "0.3",
        # One would close examples between the page and the metrics that it is compared with.
        "HEADRACE_TICKS__ENABLED": "false",
        "HEADRACE_MONITORING__SEGMENTS": '["newcomer", "regular"]',
        "HEADRACE_MONITORING__FIRST_REFERENCE": "2048",
        "HEADRACE_LFS__CONTEXT_VOTES": '["sim_lf_0", "sim_lf_1"]',
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        world = WorldConfig(
            seed=2, events=EVENTS, users=150, items=80,
            sim_lfs=(SimulatedLF(), SimulatedLF(accuracy=0.7)),
        )  # fmt: skip
        for lines in World(world).chunks(1_000):
            request = urllib.request.Request(
                f"{url}/v1/events", b"\n".join(lines), {"Content-Type": "application/x-ndjson"}
            )
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                assert answer.status == 202
        deadline = time.monotonic() + WITHIN_S
        while status(url)["events"].get("headrace.events") != EVENTS:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        order = ["drift", "reference", "reset", "--signal", SIGNAL, "--why", "a new season"]
        subprocess.run(
            [sys.executable, "-m", "stream.cli", *order],
            env=environment,
            check=True,
            timeout=WITHIN_S,
        )
        while not status(url)["governance"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/v1/status", timeout=WITHIN_S) as answer:
        figures: dict[str, Any] = json.load(answer)
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
    dom, complaints = rendered(browser, url, folder, width)
    page = Text()
    page.feed(dom)
    return page.words, complaints


def rendered(browser: str, url: str, folder: Path, width: int) -> tuple[str, str]:
    """Return the document once its script has run, and what the browser complained of."""
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={folder}", f"--window-size={width},900", "--enable-logging=stderr",
            "--virtual-time-budget=6000", "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=WITHIN_S, check=True,
    )  # fmt: skip
    return done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


@pytest.mark.parametrize("width", [1200, 360], ids=["desk", "phone"])
def test_the_page_shows_the_services_own_figures(
    browser: str, service: str, tmp_path: Path, width: int
) -> None:
    # What the learning process does not tell within a second is left out of either page.
    until = time.monotonic() + WITHIN_S
    figures: dict[str, str] = {}
    while figures.get("behind by") != "0 s" and time.monotonic() < until:
        profile = Path(tempfile.mkdtemp(dir=tmp_path))
        words, complaints = opened(browser, service, profile, width)
        assert complaints == ""
        figures = dict(zip(words, words[1:], strict=False))
    consumed = f'headrace_events_consumed_total{{topic="headrace.events"}} {EVENTS}\n'
    metrics = ""
    while consumed not in metrics and time.monotonic() < until:
        with urllib.request.urlopen(f"{service}/metrics", timeout=WITHIN_S) as answer:
            metrics = answer.read().decode()
    assert figures["events learned"] == f"{EVENTS:,}"
    assert "live, 1 partition" in words
    assert consumed in metrics
    hit = re.search(r'^headrace_prequential_hit_ratio\{k="10"\} (\S+)', metrics, re.MULTILINE)
    assert hit is not None
    assert float(figures["hit@10"]) == pytest.approx(float(hit[1]), abs=ROUNDED)
    matched = re.search(r"^headrace_join_matched_total (\S+)", metrics, re.MULTILINE)
    assert matched is not None
    assert figures["feedback joined"] == f"{float(matched[1]):,.0f}"
    assert any(re.fullmatch(r"clicked v\d+", word) for word in words)
    # First of all, whether anything needs a look.
    shown = status(service)
    told = [concern["what"] for concern in shown["concerns"]]
    many = f"{len(told)} thing{'s need' if len(told) > 1 else ' needs'} a look"
    assert words.index(many if told else "All is well") < words.index("Now")
    assert set(told) <= set(words)
    assert figures["behind by"] == "0 s"
    # Drift, conflicts, segments and changes, each with figures.
    assert shown["drift"]["with_reference"] > 20
    assert any("signals with a reference are away from it" in word for word in words)
    signal = shown["drift"]["signals"][0]
    z = re.search(
        rf'^headrace_drift_zscore{{signal="{re.escape(signal["signal"])}"}} (\S+)',
        metrics,
        re.MULTILINE,
    )
    assert z is not None
    assert float(z[1]) == pytest.approx(signal["z"], abs=1e-5)
    assert figures[signal["signal"]] == f"{signal['z']:+.1f}"
    heat = shown["tasks"]["relevance"]["heat"]
    assert len(heat["names"]) > 1
    assert any(word.startswith("Conflict heat map") for word in words)
    assert any(word == f"1 {heat['names'][0]}" for word in words)
    for row in shown["segments"][1:]:
        exported = re.search(
            rf'^headrace_segment_hit_ratio{{segment="{row["segment"]}"}} (\S+)',
            metrics,
            re.MULTILINE,
        )
        assert exported is not None
        assert float(figures[row["segment"]]) == pytest.approx(float(exported[1]), abs=ROUNDED)
    assert figures["reference_reset"] == SIGNAL
    assert "a new season" in words


def test_what_the_page_says_is_there_for_a_screen_reader(browser: str, service: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dom = rendered(browser, service, Path(folder), 360)[0]
    for part in ("<main", "<caption", 'scope="col"', 'scope="row"', 'role="status"'):
        assert part in dom
    # Whatever scrolls can be reached by keyboard, and has a name.
    scrolls = re.findall(r'<div class="scroll"[^>]*>', dom)
    assert len(scrolls) >= 5
    assert all('tabindex="0"' in box and "aria-label=" in box for box in scrolls)
    assert len(set(re.findall(r'role="region" aria-label="([^"]+)"', dom))) == len(scrolls)
    # What is folded can be opened by keyboard, and its summary says what it is about.
    summaries = re.findall(r'<summary aria-label="[^"]+: (\w+)">', dom)
    assert summaries == ["drift", "relevance"]
    # A link of what needs a look leads to its section.
    places = set(re.findall(r'<h2 id="(\w+)"', dom))
    assert {"now", "drifting", "labels", "segmented", "changed"} <= places


def test_the_page_needs_nothing_from_outside(service: str) -> None:
    with urllib.request.urlopen(service, timeout=WITHIN_S) as answer:
        page = answer.read().decode()
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert re.search(r'<html lang="en">', page)
    for name in ("status.css", "status.js"):
        with urllib.request.urlopen(f"{service}/{name}", timeout=WITHIN_S) as answer:
            assert answer.status == 200
