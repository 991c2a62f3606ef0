"""The ``HSMX_CLUSTER_*`` configuration keys: their names, their defaults, and the rules between them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from .arbiter.declare import MOST_ENDPOINTS, Arbiter, address_of
from .errors import ConfigError
from .files.declare import Files, Tree, check_together, tree_from
from .services.declare import Hook, Service, hook_from, service_from

T = TypeVar("T")
#: The firmware's version, or how to ask for it.
FirmwareVersion = str | Callable[[], str]

#: Longest path that the kernel takes for a Unix socket, bytes.
_SOCKET_PATH_MAX = 107

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class ConfigVars:
    """Names of all configuration keys."""

    #: Directory of this gateway's own state. Default ``/var/lib/hsmx-cluster``.
    STATE_DIR = "HSMX_CLUSTER_STATE_DIR"
    #: The agent's control socket. Default ``agent.sock`` in the state directory.
    CONTROL_SOCKET = "HSMX_CLUSTER_CONTROL_SOCKET"
    #: Version of the firmware: a text, or a callable that returns one. Required.
    FIRMWARE_VERSION = "HSMX_CLUSTER_FIRMWARE_VERSION"
    #: What people call this gateway. Default: the host name.
    NODE_NAME = "HSMX_CLUSTER_NODE_NAME"
    #: TCP port on which both gateways' web apps listen for each other. Default 80.
    HTTP_PORT = "HSMX_CLUSTER_HTTP_PORT"
    #: UDP port of the heartbeats on both gateways. Default 5555.
    HEARTBEAT_PORT = "HSMX_CLUSTER_HEARTBEAT_PORT"
    #: User ids that may use the control socket, besides root and the agent's own. Default: none.
    ALLOWED_UIDS = "HSMX_CLUSTER_ALLOWED_UIDS"
    #: Database for the agent, as an SQLAlchemy URL. Default: the one of the ``db`` given to ``init_app``.
    DATABASE_URL = "HSMX_CLUSTER_DATABASE_URL"
    #: Commits wait until both gateways have them, while both follow. Default True; the same on both gateways.
    SYNCHRONOUS = "HSMX_CLUSTER_SYNCHRONOUS"
    #: Guests' connections move along: ``on``, ``off``, or the path of conntrackd. Default ``on``.
    CONNTRACK = "HSMX_CLUSTER_CONNTRACK"
    #: What a passive gateway reaches through the active one, as ``HOST:PORT`` to look at. Default: nothing.
    PASSIVE_INTERNET = "HSMX_CLUSTER_PASSIVE_INTERNET"
    #: What runs on the active gateway only, or on both: see docs/services.md. A list, or its JSON. Default: nothing.
    SERVICES = "HSMX_CLUSTER_SERVICES"
    #: Commands that are called at a change of role: see docs/services.md. A list, or its JSON. Default: none.
    HOOKS = "HSMX_CLUSTER_HOOKS"
    #: Where the pages are. Default ``/network/cluster``. The same on both gateways.
    URL_PREFIX = "HSMX_CLUSTER_URL_PREFIX"
    #: The host's template that the pages extend. Default: the extension's own.
    BASE_TEMPLATE = "HSMX_CLUSTER_BASE_TEMPLATE"
    #: Where an operator gives a port its address. Default: no link.
    NETWORK_SETTINGS_URL = "HSMX_CLUSTER_NETWORK_SETTINGS_URL"
    #: Where an operator edits the host's firewall. Default: no link.
    FIREWALL_URL = "HSMX_CLUSTER_FIREWALL_URL"
    #: The program that dials PPPoE connections. Default ``/usr/sbin/pppd``.
    PPPD = "HSMX_CLUSTER_PPPD"
    #: Who sets own addresses of the section *Network interface*: ``agent``, or ``host``. Default ``agent``.
    OWN_ADDRESSES = "HSMX_CLUSTER_OWN_ADDRESSES"
    #: Interfaces whose own addresses, in the host's tables, belong to one machine: ``wan`` or ``lan``. Default ``wan``.
    LOCAL_INTERFACES = "HSMX_CLUSTER_LOCAL_INTERFACES"
    #: A token with which a monitor may read ``/metrics``, as ``Authorization: Bearer ...``. Default: none.
    METRICS_TOKEN = "HSMX_CLUSTER_METRICS_TOKEN"
    #: Whether ``/health`` and ``/role`` answer anybody. Default False: whoever may view the pages.
    PUBLIC_HEALTH = "HSMX_CLUSTER_PUBLIC_HEALTH"
    #: Packet rules of the agent's own: ``off``, or ``table``: see docs/firewall.md. Default ``off``.
    FIREWALL = "HSMX_CLUSTER_FIREWALL"
    #: Directories that both gateways have: see docs/files.md. A list, or its JSON. Default: none.
    FILES = "HSMX_CLUSTER_FILES"
    #: Seconds between two full passes over them. Default 60.
    FILES_EVERY = "HSMX_CLUSTER_FILES_EVERY"
    #: TCP port of both gateways' sshd, over which they are pulled. Default 22.
    SSH_PORT = "HSMX_CLUSTER_SSH_PORT"
    #: Public host key of this gateway's sshd. Default ``/etc/ssh/ssh_host_ed25519_key.pub``.
    SSH_HOST_KEY = "HSMX_CLUSTER_SSH_HOST_KEY"
    #: TCP port of both gateways' rsync daemons, where one has a firmware before 5.2.03. Default 873.
    RSYNC_PORT = "HSMX_CLUSTER_RSYNC_PORT"
    #: This gateway's own HTTPS server, as ``ADDRESS:PORT``, whose certificate is watched. Default: none is.
    HTTPS = "HSMX_CLUSTER_HTTPS"
    #: A third party that is asked where the two gateways do not hear each other: see docs/arbiter.md. One or more of
    #: ``https://ADDRESS:PORT``, a list or a text with spaces between. Default: none.
    ARBITER = "HSMX_CLUSTER_ARBITER"
    #: File with the certificate authority that vouches for it, PEM.
    ARBITER_CA = "HSMX_CLUSTER_ARBITER_CA"
    #: File with the certificate by which it knows this gateway, PEM.
    ARBITER_CERTIFICATE = "HSMX_CLUSTER_ARBITER_CERTIFICATE"
    #: File with the key to it, PEM.
    ARBITER_KEY = "HSMX_CLUSTER_ARBITER_KEY"
    #: Rather no gateway serves than two. Default False; the same on both gateways.
    ARBITER_REQUIRED = "HSMX_CLUSTER_ARBITER_REQUIRED"
    #: Log level of the agent: DEBUG, INFO, WARNING or ERROR. Default INFO.
    LOG_LEVEL = "HSMX_CLUSTER_LOG_LEVEL"


@dataclass(frozen=True)
class Config:
    """The configuration of one app, checked."""

    state_dir: Path
    control_socket: Path
    firmware_version: FirmwareVersion
    node_name: str
    http_port: int
    heartbeat_port: int
    allowed_uids: tuple[int, ...]
    database_url: str | None
    synchronous: bool
    conntrack: str
    passive_internet: str
    services: tuple[Service, ...]
    hooks: tuple[Hook, ...]
    url_prefix: str
    base_template: str
    network_settings_url: str
    firewall_url: str
    pppd: Path
    own_addresses: str
    local_interfaces: str
    metrics_token: str
    public_health: bool
    firewall: str
    files: Files
    https: str
    arbiter: Arbiter | None
    log_level: str

    @classmethod
    def load(
        cls,
        values: Mapping[str, Any],
        *,
        firmware_version: FirmwareVersion | None = None,
        register_blueprint: bool = True,
    ) -> Config:
        """Return the checked configuration.

        :param values: the app's ``config``.
        :param firmware_version: beats the key if given.
        :param register_blueprint: whether the extension registers its blueprint itself.
        :raises ConfigError: names the key at fault.
        """
        state_dir = _directory(values)
        http_port = _network_port(values, ConfigVars.HTTP_PORT, 80)
        return cls(
            state_dir=state_dir,
            control_socket=_socket(values, state_dir),
            firmware_version=_firmware(values, firmware_version),
            node_name=_label(values, ConfigVars.NODE_NAME, socket.gethostname()),
            http_port=http_port,
            heartbeat_port=_network_port(values, ConfigVars.HEARTBEAT_PORT, 5555),
            allowed_uids=_uids(values),
            database_url=_database(values),
            synchronous=_yes_or_no(values, ConfigVars.SYNCHRONOUS, True),
            conntrack=_conntrack(values),
            passive_internet=_outside(values),
            services=tuple(_stated(values, ConfigVars.SERVICES, service_from)),
            hooks=tuple(_stated(values, ConfigVars.HOOKS, hook_from)),
            url_prefix=_prefix(values, register_blueprint),
            base_template=_text(values, ConfigVars.BASE_TEMPLATE, "hsmx_cluster/base.html"),
            network_settings_url=_link(values, ConfigVars.NETWORK_SETTINGS_URL),
            firewall_url=_link(values, ConfigVars.FIREWALL_URL),
            pppd=_path(values, ConfigVars.PPPD, "/usr/sbin/pppd"),
            own_addresses=_one_of(values, ConfigVars.OWN_ADDRESSES, "agent", "host"),
            local_interfaces=_one_of(values, ConfigVars.LOCAL_INTERFACES, "wan", "lan"),
            metrics_token=_token(values),
            public_health=_yes_or_no(values, ConfigVars.PUBLIC_HEALTH, False),
            firewall=_one_of(values, ConfigVars.FIREWALL, "off", "table"),
            files=_files(values, state_dir, http_port),
            https=_https(values),
            arbiter=_arbiter(values),
            log_level=_level(values),
        )

    def firmware(self) -> str:
        """Return the firmware's version, asking the host if it gave a callable."""
        version = self.firmware_version
        return _checked_firmware(version() if callable(version) else version)


def _refuse(key: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{key} {problem}", remedy)


def _text(values: Mapping[str, Any], key: str, default: str) -> str:
    value = values.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str | Path):
        raise _refuse(key, f"must be a text, not {value!r:.60}.", "Quote it.")
    return str(value)


def _label(values: Mapping[str, Any], key: str, default: str) -> str:
    text = _text(values, key, default)
    if len(text) > 64 or not text.isprintable():
        raise _refuse(key, "must be printable and at most 64 characters long.", "Choose a shorter name.")
    return text


def _path(values: Mapping[str, Any], key: str, default: str) -> Path:
    path = Path(_text(values, key, default))
    if not path.is_absolute() or not str(path).isprintable():
        raise _refuse(key, f"must be an absolute path of printable characters, not {str(path)!r:.60}.",
                      "The web app and the agent may be started in different directories.")
    return path


def _directory(values: Mapping[str, Any]) -> Path:
    return _path(values, ConfigVars.STATE_DIR, "/var/lib/hsmx-cluster")


def _socket(values: Mapping[str, Any], state_dir: Path) -> Path:
    key = ConfigVars.CONTROL_SOCKET
    path = _path(values, key, str(state_dir / "agent.sock"))
    if len(bytes(path)) > _SOCKET_PATH_MAX:
        raise _refuse(key, f"is longer than the {_SOCKET_PATH_MAX} bytes that a Unix socket's path may have.",
                      f"Set it, or {ConfigVars.STATE_DIR} which it comes from, to a shorter path.")
    return path


def _firmware(values: Mapping[str, Any], given: FirmwareVersion | None) -> FirmwareVersion:
    key = ConfigVars.FIRMWARE_VERSION
    version = values.get(key) if given is None else given
    if version is None or version == "":
        raise _refuse(key, "is not set.", "State the firmware's version: gateways compare it before they pair.")
    if callable(version):
        asked: Callable[[], str] = version
        return asked
    return _checked_firmware(version)


def _checked_firmware(version: object) -> str:
    if not isinstance(version, str) or not 0 < len(version) <= 64 or not version.isprintable():
        raise _refuse(ConfigVars.FIRMWARE_VERSION, f"must be a text of 1 to 64 characters, not {version!r:.60}.",
                      "For example '5.2.03'.")
    return version


def _whole(key: str, value: object, lowest: int, highest: int) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value.strip(), re.ASCII) else value
    if not isinstance(number, int) or isinstance(number, bool) or not lowest <= number <= highest:
        raise _refuse(key, f"must be a whole number from {lowest} to {highest}, not {value!r:.60}.", "Correct it.")
    return number


def _network_port(values: Mapping[str, Any], key: str, default: int) -> int:
    return _whole(key, values.get(key, default), 1, 65535)


def _yes_or_no(values: Mapping[str, Any], key: str, default: bool) -> bool:
    value = values.get(key)
    if value is None or value == "":
        return default
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("true", "false"):
        return bool(word == "true")
    if not isinstance(word, bool):
        raise _refuse(key, f"must be True or False, not {value!r:.60}.", "Correct it.")
    return word


def _conntrack(values: Mapping[str, Any]) -> str:
    """Return the program, without a path if it is to be looked for; empty: none."""
    key = ConfigVars.CONNTRACK
    value = values.get(key)
    if value in (None, "", True, "on"):
        return "conntrackd"
    return "" if value in (False, "off") else str(_path(values, key, ""))


def _outside(values: Mapping[str, Any]) -> str:
    key = ConfigVars.PASSIVE_INTERNET
    text = _text(values, key, "")
    host, _, port = text.rpartition(":")
    if text and not (re.fullmatch(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]", host) and re.fullmatch("[0-9]{1,5}", port)
                     and 0 < int(port) < 65536):  # fmt: skip
        raise _refuse(key, f"must be HOST:PORT, not {text!r:.60}.", "For example updates.example.com:443.")
    return text


def _https(values: Mapping[str, Any]) -> str:
    key = ConfigVars.HTTPS
    text = _text(values, key, "")
    if text:
        host, _, port = text.rpartition(":")
        try:
            ip_address(host.strip("[]"))
            fits = re.fullmatch("[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65536
        except ValueError:
            fits = None
        if not fits:
            raise _refuse(key, f"must be ADDRESS:PORT of this gateway, not {text!r:.60}.", "For example 127.0.0.1:443.")
    return text


def _arbiter(values: Mapping[str, Any]) -> Arbiter | None:
    key = ConfigVars.ARBITER
    given = values.get(key) or ()
    endpoints = given.replace(",", " ").split() if isinstance(given, str) else given
    files = (ConfigVars.ARBITER_CA, ConfigVars.ARBITER_CERTIFICATE, ConfigVars.ARBITER_KEY)
    required = _yes_or_no(values, ConfigVars.ARBITER_REQUIRED, False)
    if not endpoints:
        stated = [name for name in files if values.get(name)] + [ConfigVars.ARBITER_REQUIRED] * required
        if stated:
            raise _refuse(stated[0], f"has no effect without {key}.", f"Set {key}, or remove {stated[0]}.")
        return None
    if not isinstance(endpoints, list | tuple) or len(endpoints) > MOST_ENDPOINTS:
        raise _refuse(key, f"must be a list of at most {MOST_ENDPOINTS}, not {given!r:.60}.", "See docs/arbiter.md.")
    for endpoint in endpoints:
        try:
            address_of(endpoint)
        except (ValueError, TypeError, AttributeError):
            raise _refuse(key, f"must be https://ADDRESS:PORT with a numeric address, not {endpoint!r:.60}.",
                          "For example https://192.0.2.7:2379.") from None
    for name in files:
        if not values.get(name):
            raise _refuse(name, f"is not set, but {key} is.", "See docs/arbiter.md.")
    ca, certificate, secret = (str(_path(values, name, "")) for name in files)
    return Arbiter(tuple(endpoints), ca, certificate, secret, required)


def _uids(values: Mapping[str, Any]) -> tuple[int, ...]:
    key = ConfigVars.ALLOWED_UIDS
    given = values.get(key) or ()
    if isinstance(given, str):
        given = [item for item in given.replace(",", " ").split() if item]
    if isinstance(given, int):
        given = [given]
    if not isinstance(given, Iterable):
        raise _refuse(key, f"must be a list of user ids, not {given!r:.60}.", "For example [33].")
    return tuple(_whole(key, uid, 0, 2**32 - 2) for uid in given)


def _database(values: Mapping[str, Any]) -> str | None:
    url = values.get(ConfigVars.DATABASE_URL) or None
    if url is None:
        return None
    try:
        if not isinstance(url, str):
            raise ValueError
        make_url(url)
    except (ArgumentError, ValueError):
        # The value is not repeated: it holds a password.
        raise _refuse(ConfigVars.DATABASE_URL, "is not an SQLAlchemy URL.",
                      "For example postgresql+psycopg://user:password@/name.") from None
    return url


def _files(values: Mapping[str, Any], state_dir: Path, http_port: int) -> Files:
    trees: tuple[Tree, ...] = tuple(_stated(values, ConfigVars.FILES, tree_from, "docs/files.md"))
    try:
        check_together(trees)
    except ConfigError as error:
        raise _refuse(ConfigVars.FILES, f"cannot be used: {error.message}", error.remedy) from None
    for tree in trees:
        path, state = Path(tree.path).resolve(), state_dir.resolve()  # a link may lead there
        if path == state or path in state.parents or state in path.parents:
            why = f"cannot be used: {tree.path} and {ConfigVars.STATE_DIR} ({state_dir}) lie in one another."
            raise _refuse(ConfigVars.FILES, why, "The state directory holds keys, and is each gateway's own.")
    ports = {
        ConfigVars.SSH_PORT: _network_port(values, ConfigVars.SSH_PORT, 22),
        ConfigVars.RSYNC_PORT: _network_port(values, ConfigVars.RSYNC_PORT, 873),
    }
    for key, port in ports.items() if trees else ():
        if port == http_port:
            raise _refuse(key, f"is {port}, which is {ConfigVars.HTTP_PORT} too.", "Give each its own port.")
    if trees and len(set(ports.values())) < len(ports):
        raise _refuse(ConfigVars.RSYNC_PORT, f"is the same as {ConfigVars.SSH_PORT}.", "Give each its own port.")
    host_key = _path(values, ConfigVars.SSH_HOST_KEY, "/etc/ssh/ssh_host_ed25519_key.pub")
    every_s = _whole(ConfigVars.FILES_EVERY, values.get(ConfigVars.FILES_EVERY, 60), 5, 86400)
    return Files(trees, ports[ConfigVars.SSH_PORT], str(host_key), ports[ConfigVars.RSYNC_PORT], every_s)


def _stated(
    values: Mapping[str, Any], key: str, read: Callable[[object], T], see: str = "docs/services.md"
) -> Iterable[T]:
    given = values.get(key) or ()
    try:
        stated = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        stated = None
    if not isinstance(stated, list | tuple):
        raise _refuse(key, f"must be a list, not {given!r:.60}.", f"See {see}.")
    for one in stated:
        try:
            yield read(one)
        except ConfigError as error:
            raise _refuse(key, f"cannot be used: {error.message}", error.remedy) from None


def _prefix(values: Mapping[str, Any], register_blueprint: bool) -> str:
    key = ConfigVars.URL_PREFIX
    prefix = _text(values, key, "/network/cluster")
    if values.get(key) and not register_blueprint:
        raise _refuse(key, "has no effect with register_blueprint=False.",
                      "Remove it and give url_prefix to app.register_blueprint(cluster.blueprint, ...).")
    if re.fullmatch("(/[A-Za-z0-9._~-]+)+", prefix) is None:
        raise _refuse(key, f"must be words with a slash before each, not {prefix!r:.60}.",
                      "For example /network/cluster.")
    return prefix


def _link(values: Mapping[str, Any], key: str) -> str:
    url = _text(values, key, "")
    if url and not (url.startswith(("/", "http://", "https://")) and url.isprintable()):
        raise _refuse(key, f"must be a path or a web address, not {url!r:.60}.", "For example /network/settings.")
    return url


def _one_of(values: Mapping[str, Any], key: str, default: str, other: str) -> str:
    word = _text(values, key, default)
    if word not in (default, other):
        raise _refuse(key, f"must not be {word!r:.60}.", f"Use {default} or {other}.")
    return word


def _token(values: Mapping[str, Any]) -> str:
    key = ConfigVars.METRICS_TOKEN
    token = values.get(key) or ""
    if not isinstance(token, str) or (token and re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,200}", token) is None):
        raise _refuse(key, "must be a text of 16 to 200 letters, digits and signs of base64.",
                      "For example what `openssl rand -hex 16` prints.")
    return token


def _level(values: Mapping[str, Any]) -> str:
    level = _text(values, ConfigVars.LOG_LEVEL, "INFO").upper()
    if level not in _LOG_LEVELS:
        raise _refuse(ConfigVars.LOG_LEVEL, f"must not be {level!r:.60}.", f"Use one of {', '.join(_LOG_LEVELS)}.")
    return level
