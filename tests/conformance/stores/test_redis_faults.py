"""What only Redis can do to a store: forget scripts, refuse writes, ask who we are, be away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from stream.state import Checkpoint, Epoch, StateStore, StoreError, UserWrite
from stream.stores import RedisAccess, open_store
from tests.services import RedisServer
from tests.services.ports import PortLease

ANN = b"ann-------"
A = Epoch(1, "a")
FIRST = Checkpoint(0, {}, {"events": 1}, {ANN: UserWrite(b"1", 1.0)}, {"share/c": b"1"})
SECOND = Checkpoint(
    0, {"events": 1}, {"events": 2}, {ANN: None, b"bob-------": UserWrite(b"2", 2.0)}, {"c": b"2"}
)


@pytest.fixture
def server(redis_factory: Callable[..., RedisServer]) -> RedisServer:
    # `everysec` may put a write off while the one before it is synced: a kill would lose it.
    return redis_factory("--appendfsync", "always")


@pytest.fixture
def store(server: RedisServer) -> Iterator[StateStore]:
    opened = open_store(server.url, timeout_s=30.0)
    opened.claim(0, A)
    opened.save(FIRST, A)
    yield opened
    opened.close()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as client:
        yield client


def acl(admin: Redis, user: str, rules: str) -> None:
    command: Callable[..., object] = admin.execute_command
    command("ACL", "SETUSER", user, "on", *rules.split())


def assert_first(store: StateStore) -> None:
    head = store.claim(0, A)
    assert dict(head.next_offsets) == {"events": 1}
    assert list(head.timers) == [(ANN, 1.0)]
    assert dict(head.chunks) == {"share/c": b"1"}
    assert store.load_users(0, [ANN, b"bob-------"]) == {ANN: b"1"}


def test_forgotten_scripts_are_taught_again(store: StateStore, admin: Redis) -> None:
    for n in (1, 2):
        store.claim(n, A)
    admin.script_flush()
    assert [c.data for c in store.shared("share/", {})] == [b"1"]
    admin.script_flush()
    store.save(SECOND, A)
    admin.script_flush()
    assert dict(store.claim(0, A).next_offsets) == {"events": 2}


def test_restart_between_calls_is_not_noticed(server: RedisServer, store: StateStore) -> None:
    server.kill()
    server.restart()
    store.save(SECOND, A)
    assert store.partitions() == {0: {"events": 2}}


def test_redis_that_is_away_is_named_and_found_again(
    server: RedisServer, store: StateStore
) -> None:
    server.kill()
    where = f"Redis at 127.0.0.1:{server.url.rsplit(':')[-1].split('/')[0]}: it does not answer"
    with pytest.raises(StoreError, match=where):
        store.ping()
    with pytest.raises(StoreError, match=where):
        store.save(SECOND, A)
    server.restart()
    assert "AOF on" in store.ping()
    store.save(SECOND, A)


REFUSALS = {
    "maxmemory": ("1", "its memory is full"),
    "min-replicas-to-write": ("1", "it wants replicas that are not there"),
}


@pytest.mark.parametrize("setting", REFUSALS)
def test_refused_write_is_explained_and_writes_nothing(
    store: StateStore, admin: Redis, setting: str
) -> None:
    value, remedy = REFUSALS[setting]
    admin.config_set(setting, value)
    with pytest.raises(StoreError, match=remedy):
        store.save(SECOND, A)
    admin.config_set(setting, 0)
    assert_first(store)
    store.save(SECOND, A)


def test_replica_is_named(store: StateStore, admin: Redis) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        admin.replicaof("127.0.0.1", nobody.getsockname()[1])
        with pytest.raises(StoreError, match="it is a replica"):
            store.save(SECOND, A)
        admin.replicaof("NO", "ONE")
    assert_first(store)


def test_failing_disk_is_named(server: RedisServer, store: StateStore, admin: Redis) -> None:
    if not (server.folder / "appendonlydir").exists():
        pytest.skip("the server's folder lies in a container")
    # After a snapshot that could not be put in its place, Redis refuses writes.
    (server.folder / "dump.rdb").mkdir()
    admin.config_set("save", "3600 1000000")
    admin.bgsave()
    while admin.info("persistence")["rdb_bgsave_in_progress"]:
        pass
    with pytest.raises(StoreError, match="it cannot write to its disk"):
        store.save(SECOND, A)
    admin.config_set("save", "")
    assert_first(store)


def test_eviction_is_warned_of(store: StateStore, admin: Redis) -> None:
    admin.config_set("maxmemory", "1gb")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru may evict state" in store.ping()


def test_acl_user_needs_only_its_instance(server: RedisServer, admin: Redis) -> None:
    acl(
        admin,
        "worker",
        ">se-cret ~{headrace:*}* ~headrace:* +@hash +@set +@scripting +@connection +unlink +scan",
    )
    store = open_store(server.url, access=RedisAccess("worker", "se-cret"))
    store.claim(0, A)
    store.save(FIRST, A)
    store.save(SECOND, A)
    assert store.find_user(b"bob-------") == (0, b"2")
    assert [c.name for c in store.shared("share/", {})] == ["share/c"]
    assert "Redis at" in store.ping()
    store.release(0, A)
    store.reset()
    assert store.partitions() == {}
    store.close()


@pytest.mark.parametrize(
    ("access", "remedy"),
    [
        (RedisAccess("worker", "wr-ong"), "it does not accept the user and password"),
        (RedisAccess("narrow", "se-cret"), "the user lacks a permission"),
        (RedisAccess(), "it asks for a password"),
    ],
)
def test_refused_access_is_explained_without_secrets(
    server: RedisServer, admin: Redis, access: RedisAccess, remedy: str
) -> None:
    acl(admin, "worker", ">se-cret ~* +@all")
    acl(admin, "narrow", ">se-cret ~* +@all -hdel")
    acl(admin, "default", "resetpass >ad-min")
    store = open_store(server.url, access=access)
    with pytest.raises(StoreError, match=remedy) as refusal:
        store.claim(0, A)
    assert "se-cret" not in str(refusal.value)
    assert "wr-ong" not in str(refusal.value)
    assert "se-cret" not in repr(access)
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:se-cret@host:port",
        "rediss://user:se-cret@host:70000",
        "redis://[::1",
    ],
)
def test_bad_url_is_refused_without_secrets(url: str) -> None:
    with pytest.raises(StoreError, match="is not a Redis URL") as refusal:
        open_store(url)
    assert "se-cret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["", "sqlite:/x", "sqlite:///", "postgres://u:se-cret@h/db", "/x"])
def test_url_of_no_store_is_refused_without_secrets(url: str) -> None:
    with pytest.raises(StoreError, match=r"store\.url") as refusal:
        open_store(url)
    assert "se-cret" not in str(refusal.value)


@pytest.mark.parametrize("instance", ["", "a b", "a{b}", "a:b", "x" * 65])
def test_bad_instance_is_refused(instance: str) -> None:
    with pytest.raises(StoreError, match="instance"):
        open_store("memory:", instance=instance)


@pytest.fixture
def tls_server(tmp_path: Path, server: RedisServer) -> Iterator[tuple[str, Path]]:
    """Start a Redis that speaks TLS only, and asks for a client's certificate."""
    binary, openssl = shutil.which("redis-server"), shutil.which("openssl")
    if binary is None or openssl is None:
        pytest.skip("TLS needs redis-server and openssl")
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with (
        PortLease() as lease,
        subprocess.Popen(
            [binary, "--port", "0", "--tls-port", str(lease.port), "--bind", "127.0.0.1"]
            + ["--save", "", "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]
            + ["--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "yes"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            yield f"rediss://localhost:{lease.port}/0", tmp_path
        finally:
            process.terminate()


def test_tls_with_certificates_of_both_sides(tls_server: tuple[str, Path]) -> None:
    url, folder = tls_server
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    store = open_store(url, access=RedisAccess(ca_file=cert, cert_file=cert, key_file=key))
    deadline = time.monotonic() + 120
    while True:
        try:
            store.ping()
            break
        except StoreError as failure:
            assert "it does not answer" in str(failure)
            assert time.monotonic() < deadline
            time.sleep(0.05)
    store.claim(0, A)
    store.save(FIRST, A)
    assert_first(store)
    store.close()
    stranger = open_store(url)
    with pytest.raises(StoreError, match="certificate"):
        stranger.ping()
    stranger.close()
