"""What the agent is told at start. It comes from the host's app, which the agent itself never loads."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..arbiter.declare import Arbiter
from ..errors import ConfigError
from ..files.declare import Files
from ..replication.scope import Scope
from ..services.declare import Statement

#: TCP port of PostgreSQL, where nothing else is said.
POSTGRESQL = 5432


@dataclass(frozen=True)
class AgentConfig:
    """Configuration of one agent.

    :param state_dir: directory of the node store, the control socket and the lock.
    :param control_socket: path of the Unix socket on which the agent is asked.
    :param firmware_version: the host's firmware version, as text.
    :param peer_path: URL path of the blueprint's peer endpoint, alike on both gateways.
    :param pair_path: URL path of the blueprint's pairing endpoint, alike on both gateways.
    :param http_port: TCP port on which this gateway's web app answers the other gateway.
    :param heartbeat_port: UDP port of heartbeats.
    :param allowed_uids: user ids that may use the control socket besides root and the agent's own.
    :param database_url: URL of the host's database, or None.
    :param node_name: what people call this gateway; the host name if empty.
    :param log_level: name of a :mod:`logging` level.
    :param scope: what of the database is shared, in its JSON form; empty: nothing is replicated.
    :param conntrack: the program conntrackd, which is looked for if it has no path; empty: connections are not tracked.
    :param passive_internet: what a passive gateway reaches through the active one, as ``HOST:PORT``; empty: nothing.
    :param synchronous: commits wait until both gateways have them, while both follow.
    :param services: services and hooks that follow the role, in their JSON form; empty: there are none.
    :param pppd: path of the program that dials PPPoE connections.
    :param own_addresses: who sets own addresses of the section *Network interface*: ``agent``, or ``host``: the
        firmware, which follows the file ``own-addresses.json``.
    :param firewall: ``table``: the agent keeps packet rules that close what only the other gateway uses; ``off``.
    :param files: directories that both gateways have, in their JSON form; empty: there are none.
    :param https: address and port of this gateway's own HTTPS server; empty: not stated.
    :param arbiter: a third party that gateways ask when they do not hear each other, in its JSON form; empty: none.
    """

    state_dir: str
    control_socket: str
    firmware_version: str
    peer_path: str = "/network/cluster/peer"
    pair_path: str = "/network/cluster/pair"
    http_port: int = 80
    heartbeat_port: int = 5555
    allowed_uids: tuple[int, ...] = ()
    database_url: str | None = None
    node_name: str = ""
    log_level: str = "INFO"
    scope: str = ""
    synchronous: bool = True
    conntrack: str = ""
    passive_internet: str = ""
    services: str = ""
    pppd: str = "/usr/sbin/pppd"
    own_addresses: str = "agent"
    firewall: str = "off"
    files: str = ""
    https: str = ""
    arbiter: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed_uids", tuple(self.allowed_uids))
        if not self.node_name:
            object.__setattr__(self, "node_name", socket.gethostname())
        for key in ("state_dir", "control_socket"):
            if not Path(getattr(self, key)).is_absolute():
                raise ConfigError(f"The agent's {key} is not an absolute path.", f"Set HSMX_CLUSTER_{key.upper()}.")
        for key in ("http_port", "heartbeat_port"):
            if not 1 <= getattr(self, key) <= 65535:
                raise ConfigError(f"The agent's {key} is not a port number.", f"Set HSMX_CLUSTER_{key.upper()}.")
        if not isinstance(logging.getLevelName(self.log_level), int):
            raise ConfigError(
                f"{self.log_level!r} is not a log level.",
                "Set HSMX_CLUSTER_LOG_LEVEL to INFO or another level.",
            )
        if self.own_addresses not in ("agent", "host"):
            raise ConfigError("Own addresses are set by the agent or by the host.", "See HSMX_CLUSTER_OWN_ADDRESSES.")
        if self.firewall not in ("off", "table"):
            raise ConfigError("The firewall is off, or a table.", "See HSMX_CLUSTER_FIREWALL.")
        if self.scope:
            Scope.from_json(self.scope)
        if self.services:
            Statement.from_json(self.services)
        if self.files:
            Files.from_json(self.files)
        if self.arbiter:
            Arbiter.from_json(self.arbiter)

    @property
    def stated_files(self) -> Files:
        """What the firmware states of its files; without directories where it declares none."""
        return Files.from_json(self.files) if self.files else Files()

    @property
    def database_port(self) -> int:
        """The TCP port of this gateway's PostgreSQL."""
        with suppress(ArgumentError, ValueError):
            url = make_url(self.database_url or "")
            return url.port or int(str(url.query.get("port", POSTGRESQL)))
        return POSTGRESQL

    def to_json(self) -> str:
        """Return the form in which the configuration is handed to the agent's process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> AgentConfig:
        """Return the configuration from its JSON form; anything malformed raises :class:`ConfigError`."""
        try:
            data = json.loads(text)
            for field in fields(cls):
                if field.name in data:
                    _check_kind(field.name, data[field.name])
            return cls(**data)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"The agent's configuration cannot be read: {error}",
                "Start the agent with `flask cluster agent`.",
            ) from None


def _check_kind(name: str, value: Any) -> None:
    if name == "allowed_uids":
        kind_fits = isinstance(value, list) and all(type(uid) is int for uid in value)
    elif name in ("http_port", "heartbeat_port"):
        kind_fits = type(value) is int
    elif name == "synchronous":
        kind_fits = type(value) is bool
    else:
        kind_fits = isinstance(value, str) or (name == "database_url" and value is None)
    if not kind_fits:
        raise ValueError(f"{name} has the wrong type")
