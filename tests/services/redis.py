"""A Redis that keeps its data through a kill (append-only file, `everysec`)."""

import contextlib
import os
import shutil
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import RedisError

from tests.services.container import OwnedContainer, docker_answers
from tests.services.ports import PortLease
from tests.services.process import OwnedProcess
from tests.services.service import Service, ServiceError, ServiceUnavailable

DOCKER_IMAGE = "redis:7"
AOF = [
    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    *("--auto-aof-rewrite-min-size", "512mb"),
]


class RedisServer(Service):
    """Run a Redis that a test may stop, kill and restart.

    Parameters
    ----------
    arguments
        More of the command line; only for a local `redis-server`, which sees this machine's files.

    Raises
    ------
    ServiceUnavailable
        Neither Docker nor a `redis-server` is here.
    """

    name = "redis"

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        super().__init__()
        self._lease = PortLease()
        port = self._lease.port
        self.url = f"redis://127.0.0.1:{port}/0"
        try:
            if not arguments and docker_answers():
                self.runner = OwnedContainer(
                    DOCKER_IMAGE, ports={6379: port}, command=["redis-server", *AOF]
                )
            else:
                binary = shutil.which("redis-server")
                if binary is None:
                    raise ServiceUnavailable("Redis needs Docker or redis-server: neither is here")
                self.runner = OwnedProcess(
                    [binary, "--bind", "127.0.0.1", "--port", str(port)]
                    + ["--dir", str(self.folder), *AOF, *arguments],
                    output=self.folder / "output.log",
                    cwd=self.folder,
                )
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        return redis_answers(self.url)

    def close(self) -> None:
        super().close()
        self._lease.release()


class ExternalRedis(Service):
    """A Redis that `REDIS_URL` names: used, never stopped."""

    name = "redis"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def start(self) -> None:
        """Check that it is there.

        Raises
        ------
        ServiceError
            It does not answer.
        """
        if not redis_answers(self.url):
            # Not the address: it may hold a password.
            raise ServiceError("no Redis answers at REDIS_URL")


def shared_redis() -> RedisServer | ExternalRedis:
    """Give the Redis of a whole test run: the environment's, else one of our own."""
    url = os.environ.get("REDIS_URL")
    return ExternalRedis(url) if url else RedisServer()


def redis_answers(url: str) -> bool:
    """Tell whether a Redis is there and has loaded its data."""
    with contextlib.closing(Redis.from_url(url, socket_timeout=2)) as client:
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False
