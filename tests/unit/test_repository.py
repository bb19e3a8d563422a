"""What a stranger meets first holds together: locks, image, Compose file, README, package."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.core import TyperGroup
from typer.main import get_command

from stream.cli import command_line
from stream.config import load_settings
from tests.services.kafka import broker_config

ROOT = Path(__file__).parents[2]
PACKAGES = ("stream", "models", "lfs", "monitoring")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if service["image"].startswith("headrace")
}
SECRET = "a-secret-of-the-tests"


@cache
def headrace_commands() -> set[str]:
    command = get_command(command_line())
    assert isinstance(command, TyperGroup)
    return set(command.commands)


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    return {
        name: re.sub(r"\$\{[^}]*\}", SECRET, str(value))
        for name, value in service.get("environment", {}).items()
    }


def test_the_compose_file_meets_its_schema() -> None:
    # The schema comes with check-jsonschema, as a file: importing the package itself needs a
    # newer click than Faust allows.
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None and spec.origin is not None
    vendored = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


@pytest.mark.parametrize("name", OURS)
def test_a_command_of_the_compose_file_exists(name: str) -> None:
    assert OURS[name]["command"][0] in headrace_commands()


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_the_compose_file_are_accepted(name: str) -> None:
    settings = load_settings(ROOT / "headrace.toml", env=environment_of(OURS[name]))
    assert not settings.log.embedded
    assert not settings.store.embedded


def test_the_services_of_the_compose_file_wait_for_what_they_need() -> None:
    for name, service in COMPOSE["services"].items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in COMPOSE["services"], f"{name} waits for {needed}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in COMPOSE["services"][needed], needed


def test_tests_and_compose_ask_the_same_of_a_broker() -> None:
    tested = broker_config(port=1, controller_port=2)
    deployed = COMPOSE["services"]["kafka"]["environment"]
    for setting in (
        "auto.create.topics.enable",
        "group.min.session.timeout.ms",
        "message.max.bytes",
        "replica.fetch.max.bytes",
    ):
        variable = f"KAFKA_{setting.upper().replace('.', '_')}"
        assert str(deployed[variable]) == tested[setting], setting


def test_no_secret_is_written_down() -> None:
    for service in OURS.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"TOKEN|PASSWORD|SECRET|HASH_KEY", name):
                assert "${" in str(value), name


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_with_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text[text.index("\naiohappy") + 1 :])
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def locked(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        match = re.match(r"([a-z0-9.-]+)==([^\s;\\]+)", line)
        if match:
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-dev.lock", PROJECT["project"]["dependencies"]),
        ("requirements-dev.lock", PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_a_lock_holds_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    versions = locked(lock)
    for text in wanted:
        requirement = Requirement(text)
        found = versions.get(canonicalize_name(requirement.name), set())
        assert found, f"{requirement.name}: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in found), text


def test_tests_run_on_the_versions_that_are_deployed() -> None:
    development = locked("requirements-dev.lock")
    for name, versions in locked("requirements.lock").items():
        assert development.get(name) == versions, name


@pytest.mark.parametrize("name", ["faust-streaming", "mode-streaming", "aiokafka"])
def test_what_the_worker_extends_is_pinned_exactly(name: str) -> None:
    pinned = [text for text in PROJECT["project"]["dependencies"] if text.startswith(name)]
    assert len(pinned) == 1
    assert re.fullmatch(rf"{name}==[\d.]+", pinned[0])


def data_files() -> Iterator[str]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            hidden = {"__pycache__"} & set(path.parts)
            if path.is_file() and path.suffix != ".py" and not hidden:
                yield str(path.relative_to(ROOT))


def test_a_built_package_holds_the_data_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = source.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        missing = set(data_files()) - set(archive.namelist())
    assert not missing


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


def readme_commands(program: str) -> set[str]:
    """Find `make x` and `headrace x` in code, inline or in a block."""
    code = re.findall(r"```.*?```|`[^`]+`", README, flags=re.DOTALL)
    return {
        name
        for snippet in code
        for name in re.findall(rf"(?:^|[\s`/]){program} ([a-z][a-z-]*)", snippet)
    }


def test_the_readme_names_the_two_commands() -> None:
    assert {"demo", "test"} <= readme_commands("make")


@pytest.mark.parametrize("target", sorted(readme_commands("make")))
def test_a_make_command_of_the_readme_exists(target: str) -> None:
    assert target in make_targets()


@pytest.mark.parametrize("command", sorted(readme_commands("headrace")))
def test_a_headrace_command_of_the_readme_exists(command: str) -> None:
    assert command in headrace_commands()


def test_a_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target


def test_what_the_image_copies_exists_and_reaches_the_build() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


@pytest.mark.parametrize("name", ["run", "install-services"])
def test_the_ci_scripts_are_executable_and_parse(name: str) -> None:
    script = ROOT / ".ci" / name
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
