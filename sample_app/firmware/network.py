"""Network settings: the file that the web app writes and the network daemon carries out, and the ports as they are.

The web app has no right to touch the network. It writes ``network.json`` in one step; the daemon, which has
that right and nothing else, applies it and answers with ``network-result.json``. Both are small and whole::

    {"revision": 3, "ports": {"lan0": ["10.0.0.2/24"], "sync0": ["192.0.2.1/30"]}}
    {"revision": 3, "errors": [], "managed": [["lan0", "10.0.0.2/24"]]}

Ports that the section *Network interface* of the cluster settings names are set as that says: the cluster's agent
writes it down in ``own-addresses.json`` (``HSMX_CLUSTER_OWN_ADDRESSES = "host"``). Once the gateway has left its
cluster, the later of the two statements counts.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any

SETTINGS_FILE = "network.json"
RESULT_FILE = "network-result.json"
STATED_FILE = "own-addresses.json"
MAX_FILE = 64 * 1024
MAX_PORTS = 32
MAX_ADDRESSES = 8
#: Kinds of Ethernet devices that no cable goes into, the agent's own macvlan ports among them.
_NO_PORTS = {"macvlan", "ifb", "dummy", "tun"}
#: What the kernel calls a lifetime without an end.
FOREVER = 2**32 - 1

Interface = IPv4Interface | IPv6Interface


class NetworkSettingsError(Exception):
    """Network settings that cannot be right.

    :param port: the port that is concerned, or empty.
    :param message: what is wrong and what to do about it.
    """

    def __init__(self, port: str, message: str) -> None:
        super().__init__(f"{port}: {message}" if port else message)
        self.port = port
        self.message = message


@dataclass(frozen=True)
class Port:
    """A network port as it is now.

    :param own: addresses that stay: this gateway's own.
    :param leased: addresses with an end, which the cluster's agent renews while this gateway is active.
    """

    name: str
    mac: str
    carrier: bool
    mtu: int
    own: tuple[str, ...] = ()
    leased: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Own addresses of every port."""

    revision: int
    ports: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Stated:
    """What the cluster settings say of this gateway's own addresses.

    :param in_cluster: False once this gateway has left.
    """

    in_cluster: bool = False
    ports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What the daemon made of the settings of a revision.

    :param managed: every (port, address) that the daemon has ever set; it removes no other.
    """

    revision: int
    errors: tuple[str, ...] = ()
    managed: tuple[tuple[str, str], ...] = field(default=())


# The ports as they are


def read_ports() -> list[Port]:
    """Return this machine's Ethernet ports, without loopback and without the agent's own macvlan ports."""
    try:
        shown = subprocess.run(
            ["ip", "-json", "-details", "address", "show"], capture_output=True, check=True, timeout=5
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return ports_from_ip(json.loads(shown or b"[]"))


def ports_from_ip(links: list[dict[str, Any]]) -> list[Port]:
    """Return ports from what ``ip -json -details address show`` prints."""
    ports = []
    for link in links:
        kind = link.get("linkinfo", {}).get("info_kind", "")
        if link.get("link_type") != "ether" or kind in _NO_PORTS:
            continue
        own: list[str] = []
        leased: list[str] = []
        for entry in link.get("addr_info", []):
            if entry.get("scope") != "global":
                continue
            text = f"{entry['local']}/{entry['prefixlen']}"
            (own if entry.get("valid_life_time") == FOREVER else leased).append(text)
        carrier = "LOWER_UP" in link.get("flags", [])
        ports.append(
            Port(link["ifname"], link.get("address", ""), carrier, link.get("mtu", 0), tuple(own), tuple(leased))
        )
    return sorted(ports, key=lambda port: port.name)


# Checks


def parse_address(text: str) -> Interface:
    """Return an own address with its prefix length.

    :raises ValueError: with a sentence for the operator.
    """
    if "/" not in text:
        raise ValueError(f"{text}: add the prefix length, for example {text}/24.")
    try:
        address = ip_interface(text)
    except ValueError:
        raise ValueError(f"{text} is not an address with a prefix length, such as 10.0.0.2/24.") from None
    if address.ip.is_unspecified or address.ip.is_loopback or address.ip.is_multicast:
        kind = "unspecified" if address.ip.is_unspecified else "loopback" if address.ip.is_loopback else "multicast"
        raise ValueError(f"{text} is the {kind} address and cannot be a port's own.")
    if address.ip.is_link_local and address.version == 6:
        raise ValueError(f"{text} is link-local; the kernel sets those by itself.")
    network = address.network
    if address.version == 4 and network.prefixlen < 31:
        if address.ip == network.network_address:
            raise ValueError(f"{text} is the network's own address; use one of its hosts.")
        if address.ip == network.broadcast_address:
            raise ValueError(f"{text} is the network's broadcast address; use one of its hosts.")
    if address.version == 4 and int(address.ip) >> 28 == 0xF:
        raise ValueError(f"{text} is reserved and cannot be used.")
    return address


def check(ports: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the addresses of all ports in canonical form.

    :raises NetworkSettingsError: the first thing that is wrong.
    """
    if len(ports) > MAX_PORTS:
        raise NetworkSettingsError("", f"More than {MAX_PORTS} ports.")
    seen: list[tuple[str, Interface]] = []
    checked: dict[str, tuple[str, ...]] = {}
    for port, texts in ports.items():
        if len(texts) > MAX_ADDRESSES:
            raise NetworkSettingsError(port, f"At most {MAX_ADDRESSES} addresses on one port.")
        addresses = []
        for text in texts:
            try:
                address = parse_address(text)
            except ValueError as error:
                raise NetworkSettingsError(port, str(error)) from None
            for other_port, other in seen:
                _refuse_clash(port, address, other_port, other)
            seen.append((port, address))
            addresses.append(str(address))
        checked[port] = tuple(addresses)
    return checked


def _refuse_clash(port: str, address: Interface, other_port: str, other: Interface) -> None:
    if address.ip == other.ip:
        raise NetworkSettingsError(port, f"{address.ip} is entered twice ({other_port} and {port}).")
    if port != other_port and address.version == other.version and address.network.overlaps(other.network):
        raise NetworkSettingsError(
            port, f"{address} and {other} on {other_port} are the same network; use two, or one port."
        )


# The two files


def load_settings(state: Path) -> Settings | None:
    """Return the settings that were saved last, or None.

    :raises NetworkSettingsError: the file is there and is not what this module writes.
    """
    data = _load(state / SETTINGS_FILE)
    if data is None:
        return None
    try:
        revision = int(data["revision"])
        ports = {str(name): tuple(str(item) for item in items) for name, items in data["ports"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NetworkSettingsError("", f"{SETTINGS_FILE} is damaged; save the network settings again.") from None
    return Settings(revision, check(ports))


def load_stated(path: Path) -> Stated:
    """Return what the cluster settings state; nothing where the agent has written nothing that can be read."""
    try:
        data = _load(path)
        if data is None:
            return Stated()
        ports = {str(name): tuple(each) for name, each in data["ports"].items()}
        return Stated(data["in_cluster"] is True, check(ports))
    except (NetworkSettingsError, KeyError, TypeError, ValueError, AttributeError):
        return Stated()


def save_settings(state: Path, ports: Mapping[str, tuple[str, ...]], result: Result | None = None) -> Settings:
    """Write the settings of all ports as the next revision, and return them.

    :param result: the daemon's last report, so that a revision which it has seen is not used again.
    """
    try:
        before = load_settings(state)
    except NetworkSettingsError:
        before = None
    revision = 1 + max(before.revision if before else 0, result.revision if result else 0)
    settings = Settings(revision, check(ports))
    write_whole(state / SETTINGS_FILE, {"revision": revision, "ports": {k: list(v) for k, v in settings.ports.items()}})
    return settings


def load_result(path: Path) -> Result | None:
    """Return the daemon's last report, or None."""
    try:
        data = _load(path)
        if data is None:
            return None
        return Result(
            int(data["revision"]),
            tuple(str(error) for error in data["errors"]),
            tuple((str(port), str(address)) for port, address in data["managed"]),
        )
    except (NetworkSettingsError, KeyError, TypeError, ValueError):
        return None


def write_whole(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file so that a reader sees the old one or the new one, whatever happens."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL: the directory may belong to somebody with fewer rights, who must not choose what is written to.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _load(path: Path) -> dict[str, Any] | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NetworkSettingsError("", f"{path.name} cannot be read ({error.strerror}).") from None
    with os.fdopen(handle, "rb") as file:
        text = file.read(MAX_FILE + 1)
    try:
        data = json.loads(text) if len(text) <= MAX_FILE else None
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise NetworkSettingsError("", f"{path.name} is damaged; save the network settings again.")
    return data
