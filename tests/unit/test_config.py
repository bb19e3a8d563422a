"""Settings: defaults, sources, and errors that say what was found and what is allowed."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from stream.config import Settings, SettingsError, load_settings
from stream.settings.durations import UNITS_S, parse_duration, written_duration
from stream.settings.environment import setting_names, variable
from stream.settings.file import render_settings

ROOT = Path(__file__).parents[2]
BEARER = '{name = "shop", token = "0123456789abcdef", roles = ["ingest", "admin"]}'


def load(tmp_path: Path, toml: str = "", **env: str) -> Settings:
    path = tmp_path / "settings.toml"
    path.write_text(toml, encoding="utf-8")
    return load_settings(path, env)


def refusal(tmp_path: Path, toml: str = "", **env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, toml, **env)
    return str(caught.value)


# --- defaults and the file ------------------------------------------------------------------------


def test_defaults_are_those_that_deployments_rely_on() -> None:
    settings = Settings()
    assert settings.log.url == "sqlite:///.headrace/headrace.db"
    assert settings.store.url == settings.log.url
    assert settings.log.partitions == 1
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 8080)
    assert settings.worker.metrics_port == 9108
    assert settings.learn is True
    assert settings.checkpoint.interval_s == 2
    assert settings.tasks["relevance"].classes == ("negative", "positive")
    assert settings.join.window_s("click") == 7 * 86_400
    assert settings.join.window_s("purchase") == 30 * 86_400
    assert settings.join.window_s("rating") == 0


def test_the_file_names_every_setting_with_its_unit_and_default() -> None:
    written = (ROOT / "headrace.toml").read_text("utf-8")
    assert written == render_settings(), "python -m stream.settings.file > headrace.toml"
    for name in setting_names(Settings):
        key = name.rpartition(".")[2]
        assert re.search(rf"^# .*\[[^\]]+\]\n# +{key} = ", written, re.MULTILINE), name


def test_the_file_with_every_setting_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    written = (ROOT / "headrace.toml").read_text("utf-8")
    assert load(tmp_path, written) == Settings()
    assert load(tmp_path, re.sub(r"^# (\w+ = )", r"\1", written, flags=re.MULTILINE)) == Settings()


def test_every_setting_can_be_given_by_its_variable(tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", render_settings(), flags=re.MULTILINE)
    environment = {}
    for name in setting_names(Settings):
        if name.startswith("lfs.") and "*" in name:
            continue  # There are none by default, and one needs several keys at once.
        value: Any = tomllib.loads(text)
        known = {"join": "dwell", "rewards": "click"}.get(name.partition(".")[0], "relevance")
        for part in name.replace("*", known).split("."):
            value = value[part]
        literal = value if isinstance(value, str) else json.dumps(value)
        environment[variable(name.replace("*", "x" if "outcomes" in name else "relevance"))] = (
            literal
        )
    environment["HEADRACE_JOIN__OUTCOMES__X__WINDOW_S"] = "90m"
    settings = load(tmp_path, **environment)
    assert settings.join.outcomes["x"].window_s == 5_400
    outcomes = {name: one for name, one in settings.join.outcomes.items() if name != "x"}
    join = settings.join.model_copy(update={"outcomes": outcomes})
    late = {name: one for name, one in settings.rewards.outcomes.items() if name != "x"}
    rewards = settings.rewards.model_copy(update={"outcomes": late})
    assert settings.model_copy(update={"join": join, "rewards": rewards}) == Settings()


def test_settings_cannot_be_changed() -> None:
    for section, name in ((Settings().log, "partitions"), (Settings(), "learn")):
        with pytest.raises(ValidationError):
            setattr(section, name, 0)


def test_every_setting_is_described() -> None:
    def undescribed(model: type[BaseModel]) -> list[str]:
        names = [n for n, f in model.model_fields.items() if not f.description]
        return [n for n in names if n not in Settings.model_fields]

    sections = [Settings] + [type(s) for s in dict(Settings()).values() if isinstance(s, BaseModel)]
    assert [undescribed(section) for section in sections] == [[] for _ in sections]


# --- sources --------------------------------------------------------------------------------------


def test_the_environment_overrides_the_file_and_overrides_both(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[api]\nport = 1\nhost = "::1"\n[checkpoint]\ninterval_s = 9', encoding="utf-8")
    env = {"HEADRACE_API__PORT": "2", "HEADRACE_CHECKPOINT__INTERVAL_S": "250ms"}
    settings = load_settings(path, env, {"api": {"port": 3}})
    assert (settings.api.port, settings.api.host) == (3, "::1")
    assert settings.checkpoint.interval_s == 0.25
    assert load_settings(None, {**env, "HEADRACE_CONFIG": str(path)}).api.port == 2


def test_the_default_file_is_read_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(env={}) == Settings()
    (tmp_path / "headrace.toml").write_text("learn = false", encoding="utf-8")
    assert load_settings(env={}).learn is False


def test_lists_and_tables_come_from_the_environment(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        HEADRACE_EVENTS__TYPES="bookmark, wishlist",
        HEADRACE_LFS__MODULES='["shop.lfs"]',
        HEADRACE_TASKS__INTENT__CLASSES="browse,buy,gift",
        HEADRACE_TASKS__INTENT__PRIOR="0.5,0.25,0.25",
        HEADRACE_JOIN__OUTCOMES__BOOKMARK__WINDOW_S="2h",
        HEADRACE_JOIN__OUTCOMES__BOOKMARK__OPENED_BY="wishlist",
        HEADRACE_API__TOKENS='[{"name":"a","token":"0123456789abcdef","roles":["admin"]}]',
    )
    assert settings.events.types == ("bookmark", "wishlist")
    assert settings.event_types > {"bookmark", "click"}
    assert settings.lfs.modules == ("shop.lfs",)
    assert settings.tasks["intent"].prior == (0.5, 0.25, 0.25)
    assert settings.join.window_s("wishlist") == 7_200
    assert settings.api.tokens[0].token.get_secret_value() == "0123456789abcdef"


def test_an_empty_variable_and_those_of_others_are_no_settings(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        HEADRACE_STORE__URL="",
        HEADRACE_REQUIRE_SERVICES="1",
        HEADRACE_CACHE_DIR="cache",
        HEADRACE_SHARED_DATA="data",
        HEADRACE_PEERS_PYTHON="/opt/peers/bin/python",
        # Written by Kubernetes for a Service named "headrace" or "headrace-api".
        HEADRACE_SERVICE_HOST="10.0.0.1",
        HEADRACE_API_SERVICE_PORT_HTTP="80",
        HEADRACE_API_PORT="tcp://10.0.0.1:80",
        HEADRACE_API_PORT_80_TCP_ADDR="10.0.0.1",
        OTHER_LOG__URL="x",
    )
    assert settings == Settings()


# --- what depends on the log ----------------------------------------------------------------------


def test_kafka_has_eight_partitions_and_needs_a_store(tmp_path: Path) -> None:
    kafka = '[log]\nurl = "kafka://a:9092,b:9092"\n'
    message = refusal(tmp_path, kafka)
    assert "store.url: is missing" in message
    assert "redis://HOST:PORT/0" in message
    settings = load(tmp_path, kafka, HEADRACE_STORE__URL="redis://localhost/0")
    assert (settings.log.partitions, settings.log.embedded) == (8, False)
    settings = load(tmp_path, f"{kafka}partitions = 3\n[store]\nurl = 'sqlite:///s.db'")
    assert (settings.log.partitions, settings.store.path) == (3, Path("s.db"))


def test_who_looks_at_no_state_needs_no_store(tmp_path: Path) -> None:
    env = {"HEADRACE_LOG__URL": "kafka://a:9092"}
    settings = load_settings(env=env, stateless=True)
    assert (settings.log.embedded, settings.log.partitions) == (False, 8)
    with pytest.raises(SettingsError, match="should be a table; found 3"):
        load_settings(env=env, overrides={"store": 3}, stateless=True)


def test_the_store_follows_the_embedded_log(tmp_path: Path) -> None:
    settings = load(tmp_path, HEADRACE_LOG__URL="sqlite:////data/log.db")
    assert settings.log.path == settings.store.path == Path("/data/log.db")
    settings = load(tmp_path, '[store]\nurl = "redis://localhost:6379/0"')
    assert (settings.store.embedded, settings.log.embedded) == (False, True)


def test_outcomes_and_tasks_add_to_the_defaults(tmp_path: Path) -> None:
    toml = '[join.outcomes.purchase]\nwindow_s = "14d"\n[tasks.intent]\nclasses = ["a", "b"]'
    settings = load(tmp_path, toml)
    assert settings.join.outcomes["purchase"].opened_by == ("click", "play", "view", "add_to_cart")
    assert settings.join.window_s("view") == 14 * 86_400
    assert set(settings.join.outcomes) == {"dwell", "purchase", "return"}
    assert set(settings.tasks) == {"relevance", "intent"}


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ("[log]\nurll = 'x'", ["log.urll", "no such setting; did you mean log.url?"]),
        ("[logg]\nurl = 'x'", ["logg", "did you mean log?"]),
        ("_env_file = 'x'", ["_env_file", "no such setting"]),
        ("lern = true", ["lern", "did you mean learn?"]),
        ("[log]\nzzz = 1", ["log.zzz", "allowed here: url, partitions"]),
        (
            "[join.outcomes.purchase]\nzzz = 1",
            ["join.outcomes.purchase.zzz", "window_s, opened_by"],
        ),
        ("[log]\nurl = 'mysql://h/d'", ["log.url", "'mysql://h/d'", "sqlite:///FILE or kafka://"]),
        ("[log]\nurl = 'kafka://'", ["log.url", "found 'kafka://'"]),
        ("[store]\nurl = 'kafka://a'", ["store.url", "rediss://HOST:PORT/DB"]),
        ("[log]\npartitions = 0", ["log.partitions", "greater than or equal to 1; found 0"]),
        ("[log]\npartitions = 1.5", ["log.partitions", "integer", "found 1.5"]),
        ("log = 3", ["log", "should be a table; found 3"]),
        ("learn = 'maybe'", ["learn", "boolean", "found 'maybe'"]),
        ("[api]\nport = 70000", ["api.port", "65535; found 70000"]),
        ("[api]\nhost = '0.0.0.0'", ["api.host", "loopback only", "api.tokens", "'0.0.0.0'"]),
        ("[join]\nexposure_window_s = '30 x'", ["join.exposure_window_s", "ms, s, m, h, d, w"]),
        ("[join]\nexposure_window_s = 'soon'", ["join.exposure_window_s", "found 'soon'"]),
        ("[join]\ndisorder_s = -1", ["join.disorder_s", "found -1"]),
        ("[join]\ndisorder_s = true", ["join.disorder_s", "should be a duration", "found True"]),
        ("[join]\ndisorder_s = inf", ["join.disorder_s", "should be a duration", "found inf"]),
        ("[checkpoint]\ninterval_s = 0", ["checkpoint.interval_s", "greater than 0; found 0"]),
        (
            "[join]\nearly_after_s = '1h'",
            ["join.early_after_s", "less than join.exposure_window_s"],
        ),
        (
            "[api]\ntokens = [{name = 'a', token = '0123456789abcdef', roles = ['ingest']}, "
            "{name = 'b', token = '0123456789abcdef', roles = ['admin']}]",
            ["api.tokens", "a different token", "two alike"],
        ),
        ("[join]\npositive = ['lik']", ["join.positive", "unknown event type; found 'lik'"]),
        (
            "[join.outcomes.x]\nwindow_s = 1\nopened_by = ['y']",
            ["join.outcomes.x.opened_by", "found 'y'", "events.types adds more"],
        ),
        ("[join.outcomes.x]\nwindow_s = 1", ["join.outcomes.x.opened_by", "is missing"]),
        ("[kafka]\nsession_timeout_s = 2", ["kafka.heartbeat_s", "a third", "(2 s); found 1 s"]),
        ("[kafka]\nrequest_timeout_s = 9", ["kafka.request_timeout_s", "(10 s); found 9 s"]),
        ("[kafka]\nsecurity_protocol = 'SASL_SSL'", ["kafka.sasl_username", "with SASL_SSL"]),
        ("[kafka]\nsecurity_protocol = 'TLS'", ["kafka.security_protocol", "'SSL'", "found 'TLS'"]),
        ("[kafka]\nkey_file = 'k.pem'", ["kafka.cert_file", "needed with kafka.key_file"]),
        ("[tasks.relevance]\nprior = [0.2, 0.2]", ["tasks.relevance.prior", "add up to 1", "0.2"]),
        ("[tasks.x]\nclasses = ['a']", ["tasks.x.classes", "2 to 127 different names"]),
        ("[recommender]\ntask = 'x'", ["recommender.task", "found 'x', allowed: relevance"]),
        ("[privacy]\npseudonymise = true", ["privacy.hash_key", "is missing"]),
        (
            f"[privacy]\nhash_key = '{'k' * 65}'",
            ["privacy.hash_key", "at most 64 bytes; found 65"],
        ),
        (
            "[monitoring]\nfirst_reference = 8192\nreference_values = 4096",
            ["monitoring.reference_values", "at least monitoring.first_reference (8192)"],
        ),
        ("a =", ["settings.toml", "is not TOML"]),
        ("[log]\nurl = 'x'\n[log]\nurl = 'y'", ["settings.toml", "is not TOML"]),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, toml: str, parts: list[str]) -> None:
    message = refusal(tmp_path, toml)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("HEADRACE_LOG__URLL", "x", ["HEADRACE_LOG__URLL", "did you mean HEADRACE_LOG__URL?"]),
        ("HEADRACE_LOG_URL", "x", ["HEADRACE_LOG_URL", "did you mean HEADRACE_LOG__URL?"]),
        ("HEADRACE_XYZ", "x", ["HEADRACE_XYZ", "names no setting"]),
        ("HEADRACE_KAFKA", "{}", ["HEADRACE_KAFKA", "names no setting"]),
        ("HEADRACE_JOIN__OUTCOMES__X", "{}", ["HEADRACE_JOIN__OUTCOMES__X", "names no setting"]),
        ("HEADRACE_API__PORT", "http", ["api.port (HEADRACE_API__PORT)", "found 'http'"]),
        ("HEADRACE_LFS__MODULES", "[x", ["lfs.modules (HEADRACE_LFS__MODULES)", "JSON"]),
        ("HEADRACE_API__TOKENS", "[{}]", ["api.tokens.0.name (HEADRACE_API__TOKENS)", "missing"]),
    ],
)
def test_a_wrong_variable_is_refused_by_name(
    tmp_path: Path, name: str, value: str, parts: list[str]
) -> None:
    message = refusal(tmp_path, **{name: value})
    for part in parts:
        assert part in message


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        "[api]\nport = -1\n[zzz]\n[log]\nurl = 'kafka://a'",
        HEADRACE_WORKER__METRICS_PORT="x",
    )
    assert message.startswith("4 settings are refused:")
    assert f"api.port ({tmp_path / 'settings.toml'})" in message
    assert "worker.metrics_port (HEADRACE_WORKER__METRICS_PORT)" in message
    assert "store.url: is missing" in message
    assert len(message.splitlines()) == 5


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_settings(env={"HEADRACE_CONFIG": str(tmp_path / "missing.toml")})
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    "toml",
    [
        "[privacy]\nhash_key = 'hunter2'",
        "[api]\ntokens = [{name = 'a', token = 'hunter2', roles = ['admin']}]",
        "[api]\ntokens = ['hunter2']",
        "[api]\ntokens = 'hunter2'",
        "[kafka]\nsasl_password = ['hunter2']",
        "[redis]\npassword = {a = 'hunter2'}",
        "[log]\nurl = 'postgres://me:hunter2@host'",
        "[store]\nurl = 'http://me:hunter2@host'",
        "privacy = ['hunter2', {hash_key = 'hunter2'}]",
    ],
)
def test_a_secret_is_never_shown(tmp_path: Path, toml: str) -> None:
    assert "hunter2" not in refusal(tmp_path, toml)


def test_secrets_are_hidden_when_settings_are_printed(tmp_path: Path) -> None:
    toml = "[privacy]\nhash_key = '0123456789abcdef'\n[api]\ntokens = [" + BEARER + "]"
    assert "0123456789abcdef" not in repr(load(tmp_path, toml))


# --- durations ------------------------------------------------------------------------------------


@given(st.integers(0, 10**5), st.sampled_from(sorted(UNITS_S)))
def test_a_duration_reads_as_its_number_times_its_unit(count: int, unit: str) -> None:
    assert parse_duration(f"{count}{unit}") == count * UNITS_S[unit]


@given(st.integers(0, 10**13))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1_000
    assert parse_duration(written_duration(seconds)) == pytest.approx(seconds, rel=1e-12)
