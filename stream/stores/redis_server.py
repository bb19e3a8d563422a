"""One connection pool to Redis: commands, pipelines and scripts, with errors that name a remedy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions as errors
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from stream.state import StoreError
from stream.stores.redis_access import RedisAccess

__all__ = ["Argument", "RedisServer", "Script"]

_REMEDIES = {
    "OOM": "its memory is full (maxmemory): give it more, or shorten histories and windows",
    "MISCONF": "it cannot write to its disk and therefore refuses writes: free space, see its log",
    "READONLY": "it is a replica: point the URL at the primary",
    "LOADING": "it is still loading its data: wait",
    "BUSY": "a script of somebody else blocks it: SCRIPT KILL ends it",
    "NOAUTH": "it asks for a password: set the user and password of the store",
    "WRONGPASS": "it does not accept the user and password of the store",
    "NOPERM": "the user lacks a permission: it needs +@hash +@set +@scripting +@connection +scan"
    " +unlink on keys of this instance",
    "WRONGTYPE": "another program uses the same keys: choose another database number or instance",
    "MOVED": "it is a node of a cluster: use a single primary",
    "CLUSTERDOWN": "its cluster is down: see its log",
    "MASTERDOWN": "it is a replica without its primary: point the URL at the primary",
    "NOREPLICAS": "it wants replicas that are not there: see min-replicas-to-write",
}
# Redis 7 puts the code first; older ones wrap the error of a command in that of the script.
_CODE = re.compile("|".join(rf"\b{code}\b" for code in _REMEDIES))
# Of these errors the client drops the code.
_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (errors.OutOfMemoryError, "OOM"),
    (errors.ReadOnlyError, "READONLY"),
    (errors.BusyLoadingError, "LOADING"),
    (errors.NoPermissionError, "NOPERM"),
    (errors.MovedError, "MOVED"),
    (errors.ClusterDownError, "CLUSTERDOWN"),
    (errors.MasterDownError, "MASTERDOWN"),
)

Argument = bytes | str | int


class Script:
    """One of the Lua files beside this module; called by its digest."""

    def __init__(self, name: str) -> None:
        self.source = (resources.files(__package__) / f"{name}.lua").read_bytes()
        # The digest is Redis's name for a script, not a protection.
        self._sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def call(
        self, keys: Sequence[str], arguments: Sequence[Argument], *, whole: bool = False
    ) -> list[Argument]:
        """Return the command: by digest, or with the whole source."""
        what: list[Argument] = ["EVAL", self.source] if whole else ["EVALSHA", self._sha]
        return [*what, len(keys), *keys, *arguments]


class _OneBuffer:
    """Packs a command into one buffer.

    The client's own packer makes one of each large value and one of each gap between them. Each is
    sent by a call of its own, after which the sending thread must wait for whoever computes: a
    checkpoint took 26 such turns.
    """

    def pack(self, *arguments: Argument) -> list[bytes]:
        """Return the command as Redis reads it."""
        name, *rest = (_encoded(argument) for argument in arguments)
        # The name may have several words, which Redis expects one by one.
        words = [*name.split(), *rest]
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            parts += (b"$%d\r\n" % len(word), word, b"\r\n")
        return [b"".join(parts)]


def _encoded(argument: Argument) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


class RedisServer:
    """A Redis (5 or later, or Valkey), usable from any thread.

    Every command repeats itself after a lost connection, for about a second: callers send only
    commands that may be repeated.

    Parameters
    ----------
    url
        ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS.
    access
        Credentials and certificates that do not stand in the URL.
    timeout_s
        How long to wait for a connection, and for each answer.
    """

    def __init__(self, url: str, access: RedisAccess, timeout_s: float) -> None:
        self._closed = False
        try:
            parts = urlsplit(url)
            self.where = f"Redis at {parts.hostname or 'localhost'}:{parts.port or 6379}"
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # An idle connection that a firewall or a restart has cut is noticed by a PING.
                health_check_interval=15,
                retry=Retry(ExponentialBackoff(cap=0.4, base=0.05), 2),
                protocol=2,
                command_packer=_OneBuffer(),
                **_client_settings(parts.scheme, access),
            )
        except (ValueError, TypeError):
            # Without its cause: that may quote the URL, password included.
            raise StoreError(
                "store.url is not a Redis URL: redis://[user:password@]host[:port][/database]"
            ) from None
        # The client's own signature says Any or awaitable.
        self._execute: Callable[..., Any] = self._client.execute_command

    def run(self, *command: Argument) -> Any:
        """Return the answer to one command."""
        self.check_open()
        try:
            return self._execute(*command)
        except NoScriptError:
            raise
        except RedisError as failure:
            raise self._explained(failure) from failure

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Return the answers to several commands, sent in one round trip."""
        self.check_open()
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                queue: Callable[..., Any] = pipeline.execute_command
                for command in commands:
                    queue(*command)
                # Errors are raised here: the client's own would quote keys in their message.
                replies = list(pipeline.execute(raise_on_error=False))
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        except NoScriptError:
            raise
        except RedisError as failure:
            raise self._explained(failure) from failure
        return replies

    def script(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[Any]:
        """Return the answers of one script to several (keys, arguments), in one round trip."""
        commands = [script.call(keys, arguments) for keys, arguments in calls]
        try:
            return self.each(commands)
        except NoScriptError:
            # Redis forgets scripts when it restarts.
            self.run("SCRIPT LOAD", script.source)
            return self.each(commands)

    def each(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Return the answer to each command, in one round trip."""
        if not commands:
            return []
        if len(commands) == 1:
            return [self.run(*commands[0])]
        return self.pipeline(commands)

    def info(self) -> dict[str, Any]:
        """Return what the server says about itself; nothing if the user may not ask."""
        self.run("PING")
        try:
            return dict(self._execute("INFO"))
        except RedisError:
            return {}

    def close(self) -> None:
        """Close the connections; afterwards every call raises `StoreError`."""
        self._closed = True
        self._client.close()

    def check_open(self) -> None:
        """Raise `StoreError` once closed."""
        if self._closed:
            raise StoreError(f"{self.where}: closed")

    def _explained(self, failure: RedisError) -> StoreError:
        return StoreError(f"{self.where}: {_remedy(failure)} ({failure})")


def _remedy(failure: RedisError) -> str:
    for kind, code in _CLASSES:
        if isinstance(failure, kind):
            return _REMEDIES[code]
    if isinstance(failure, errors.AuthenticationError):
        return _REMEDIES["NOAUTH" if "required" in str(failure) else "WRONGPASS"]
    if "user executing the script" in str(failure) or "ACL failure" in str(failure):
        return _REMEDIES["NOPERM"]
    found = _CODE.search(str(failure))
    if found:
        return _REMEDIES[found.group()]
    if isinstance(failure, errors.ConnectionError | errors.TimeoutError):
        return "it does not answer: see that it runs and that store.url names it"
    return "it refused"


def _client_settings(scheme: str, access: RedisAccess) -> dict[str, Any]:
    settings: dict[str, Any] = {"username": access.username, "password": access.password}
    if scheme == "rediss":
        settings |= {
            "ssl_ca_certs": access.ca_file,
            "ssl_certfile": access.cert_file,
            "ssl_keyfile": access.key_file,
            "ssl_check_hostname": access.check_hostname,
        }
    elif scheme != "redis":
        raise ValueError(scheme)
    return {name: value for name, value in settings.items() if value is not None}
