"""What a gateway is told of its arbiter."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import urlsplit

from ..errors import ConfigError

#: Members of etcd that may be named.
MOST_ENDPOINTS = 9


@dataclass(frozen=True)
class Arbiter:
    """An etcd, and how it is reached from this gateway.

    :param endpoints: ``https://ADDRESS:PORT`` of its members.
    :param ca: file with the authority that vouches for it, PEM.
    :param certificate: file with this gateway's certificate, PEM; ``key``: with the key to it.
    :param required: rather no gateway serves than two.
    """

    endpoints: tuple[str, ...]
    ca: str
    certificate: str
    key: str
    required: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what :meth:`to_json` gave.

        :raises ConfigError: it is malformed.
        """
        try:
            told: dict[str, Any] = json.loads(text)
            found = cls(**{**told, "endpoints": tuple(told["endpoints"])})
            for endpoint in found.endpoints:
                address_of(endpoint)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"What is stated of the arbiter cannot be read: {error!r:.100}") from None
        return found


def address_of(endpoint: str) -> tuple[str, int]:
    """Return address and port of ``https://ADDRESS:PORT``.

    :raises ValueError: it is something else.
    """
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port or 0
    ip_address(host)
    if parts.scheme != "https" or not port or endpoint != f"https://{parts.netloc}" or {"@", "%"} & set(endpoint):
        raise ValueError(endpoint)
    return host, port
