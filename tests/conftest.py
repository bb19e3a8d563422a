"""Fixtures that give tests real services, and a closing word on what could not be started.

A service that this machine cannot start skips the tests that need it; with `CI=true` or
`HEADRACE_REQUIRE_SERVICES=1` it fails them.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn, TypeVar

import hypothesis
import pytest

from tests.compiled import compile_apart
from tests.services import (
    AlertmanagerServer,
    ExternalKafka,
    ExternalRedis,
    KafkaBroker,
    PrometheusServer,
    RedisServer,
    Service,
    ServiceUnavailable,
)
from tests.services.kafka import shared_broker
from tests.services.redis import shared_redis

S = TypeVar("S", bound=Service)

TRUE = {"1", "true", "yes"}
UNAVAILABLE = pytest.StashKey[dict[str, str]]()


def services_required() -> bool:
    """Tell whether a service that cannot be started is a failure."""
    names = ("CI", "HEADRACE_REQUIRE_SERVICES")
    return any(os.environ.get(name, "").lower() in TRUE for name in names)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-services", action="store_true", help="leave out the tests that start a service"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[UNAVAILABLE] = {}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that runs tests in the background lets them ignore Ctrl-C, and so would every
        # process that they start, and that is to end by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A busy machine is slow to draw examples and to try them: no test is about that.
    hypothesis.settings.register_profile(
        "unhurried",
        hypothesis.settings.default,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--no-services`, leave out what asks for a service's fixture."""
    if not config.getoption("--no-services"):
        return
    starters = {"start_shared", "start_own"}
    asking = [item for item in items if starters & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=asking)
    items[:] = [item for item in items if item not in asking]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile before the first test, whose time it would count in."""
    asked = any("compiled" in getattr(item, "fixturenames", ()) for item in session.items)
    if asked and not session.config.option.collectonly:
        compile_apart()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say plainly which services could not be started, and what would change that."""
    unavailable = config.stash[UNAVAILABLE]
    if unavailable:
        terminalreporter.section("services that could not be started")
        for name, reason in sorted(unavailable.items()):
            terminalreporter.write_line(f"{name}: {reason}")
        terminalreporter.write_line("`make test-deps` tells what is missing and how to get it")


class Starter:
    """Start services for one scope; all of them end with it."""

    def __init__(self, config: pytest.Config, stack: contextlib.ExitStack) -> None:
        self._config = config
        self._stack = stack

    def __call__(self, name: str, make: Callable[[], S]) -> S:
        """Start what `make` gives, or skip (in CI: fail) the test that asks for it."""
        if self._config.getoption("--no-services"):
            # Reached by a fixture that is asked for by name, while the test runs.
            pytest.skip("left out by --no-services")
        try:
            service = make()
            self._stack.enter_context(service)
        except ServiceUnavailable as error:
            self._absent(name, str(error))
        return service

    def _absent(self, name: str, reason: str) -> NoReturn:
        self._config.stash[UNAVAILABLE][name] = reason
        if services_required():
            pytest.fail(f"{name} is required here: {reason}", pytrace=False)
        pytest.skip(f"{name}: {reason}")


@pytest.fixture(scope="session")
def compiled() -> None:
    """Mark a test whose service would compile for minutes: `pytest_collection_finish` has."""


@pytest.fixture(scope="session")
def start_shared(request: pytest.FixtureRequest) -> Iterator[Starter]:
    with contextlib.ExitStack() as stack:
        yield Starter(request.config, stack)


@pytest.fixture
def start_own(request: pytest.FixtureRequest) -> Iterator[Starter]:
    with contextlib.ExitStack() as stack:
        yield Starter(request.config, stack)


@pytest.fixture(scope="session")
def kafka(start_shared: Starter) -> KafkaBroker | ExternalKafka:
    """Start one broker for the run; tests name their own topics and groups."""
    return start_shared("kafka", shared_broker)


@pytest.fixture(scope="session")
def redis_server(start_shared: Starter) -> RedisServer | ExternalRedis:
    """Start one Redis for the run; tests use key prefixes of their own."""
    return start_shared("redis", shared_redis)


@pytest.fixture(scope="session")
def prometheus(start_shared: Starter) -> PrometheusServer:
    """Start a Prometheus that scrapes nothing: it evaluates PromQL."""
    return start_shared("prometheus", PrometheusServer)


@pytest.fixture
def kafka_factory(start_own: Starter) -> Callable[..., KafkaBroker]:
    """Start a broker of the test's own, which it may kill: `kafka_factory(config={...})`."""

    def start(config: Mapping[str, str] | None = None, heap_mb: int = 512) -> KafkaBroker:
        return start_own("kafka", lambda: KafkaBroker(config, heap_mb))

    return start


@pytest.fixture
def redis_factory(start_own: Starter) -> Callable[..., RedisServer]:
    """Start a Redis of the test's own, which it may kill: `redis_factory(*arguments)`."""
    return lambda *arguments: start_own("redis", lambda: RedisServer(arguments))


@pytest.fixture
def prometheus_factory(start_own: Starter) -> Callable[..., PrometheusServer]:
    """Start a Prometheus with a configuration: `prometheus_factory(text, files={...})`."""

    def start(config: str, files: Mapping[str, str] | None = None) -> PrometheusServer:
        return start_own("prometheus", lambda: PrometheusServer(config, files))

    return start


@pytest.fixture
def alertmanager_factory(start_own: Starter) -> Callable[..., AlertmanagerServer]:
    """Start an Alertmanager with a configuration: `alertmanager_factory(text)`."""

    def start(config: str, files: Mapping[str, str] | None = None) -> AlertmanagerServer:
        return start_own("alertmanager", lambda: AlertmanagerServer(config, files))

    return start
