"""Who we are to Redis; apart from the client, which takes a third of a second to import."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["RedisAccess"]


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """Who we are to Redis, and whom we trust; each given value overrides the URL's.

    Parameters
    ----------
    username, password
        An ACL user. Neither is ever part of a message.
    ca_file, cert_file, key_file
        PEM files for ``rediss://``: who signed the server's certificate (default: the system's
        authorities), and our own certificate and key where the server asks for them.
    check_hostname
        Whether the server's certificate must name the host of the URL.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True
