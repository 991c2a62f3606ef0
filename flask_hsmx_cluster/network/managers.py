"""What else configures this machine's network: systemd-networkd, NetworkManager, netplan, ifupdown.

Told from files that any user may read, without D-Bus. Whatever stands in them is hostile or outdated: what cannot be
read, or is not what it should be, is passed over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from pathlib import Path

#: Bytes read of a file, files looked at in a directory, processes looked at.
MOST_BYTES, MOST_FILES, MOST_PROCESSES = 64 * 1024, 256, 8192
#: Characters of one manager's files that are searched for addresses.
MOST_SEARCHED = 1024 * 1024
#: Daemons, by the name that the kernel has of them (15 characters).
_DAEMONS = {"systemd-network": "systemd-networkd", "NetworkManager": "NetworkManager"}
#: States in which networkd has nothing to do with a port, or not yet.
_NOT_MANAGED = {"", "unmanaged", "pending", "initialized", "linger"}
_NETWORKD_DIRECTORIES = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd", "lib/systemd")
#: Files that list addresses of ports, by who reads them.
_LISTS = {
    "netplan": ("etc/netplan/*.yaml", "run/netplan/*.yaml", "lib/netplan/*.yaml"),
    "ifupdown": ("etc/network/interfaces", "etc/network/interfaces.d/*"),
    "systemd-networkd": ("etc/systemd/network/*.network", "run/systemd/network/*.network"),
}
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{3,45}")
_TRUE = {"1", "yes", "y", "true", "t", "on"}
_FALSE = {"0", "no", "n", "false", "f", "off"}


@dataclass(frozen=True)
class Manager:
    """Something that configures ports of this machine.

    :param name: what people call it.
    :param managed: the ports in question that it manages.
    :param removes: of these, those from which it takes away addresses that it has not set.
    :param removes_routes: it takes away routes that it has not set.
    :param lists: the addresses in question that stand in its files.
    """

    name: str
    managed: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    removes_routes: bool = False
    lists: tuple[str, ...] = ()


def find_managers(ports: Mapping[str, int], addresses: Collection[str], root: Path = Path("/")) -> list[Manager]:
    """Return what else configures the network.

    :param ports: the ports in question, by name, with their indices.
    :param addresses: the addresses in question, without prefix length.
    :param root: where the machine's files begin.
    """
    lists = {name: _listed(root, patterns, addresses) for name, patterns in _LISTS.items()}
    running = _running(root)
    seen = _first_processs_ports(root)
    ports = {name: index for name, index in ports.items() if name in seen}
    found = []
    if "systemd-networkd" in running:
        managed = {name: file for name, index in ports.items() if (file := _networkd_file(root, index)) is not None}
        removes = tuple(name for name, file in managed.items() if not _keeps(root, file))
        routes = _word(_parts(root, "networkd.conf"), "Network", "ManageForeignRoutes") not in _FALSE
        found.append(Manager(
            "systemd-networkd", tuple(managed), removes, bool(removes) and routes, lists.pop("systemd-networkd")
        ))  # fmt: skip
    if "NetworkManager" in running:
        managed_here = tuple(name for name, index in ports.items() if _network_manager_has(root, index))
        found.append(Manager("NetworkManager", managed_here, managed_here, bool(managed_here)))
    there = {name for name, patterns in _LISTS.items() if any(True for _ in _files(root, patterns))}
    found += [Manager(name, lists=one) for name, one in lists.items() if name in there and (one or name == "netplan")]
    return found


def _running(root: Path) -> set[str]:
    """Return which daemons run. Their processes are seen where /proc hides none; else their control groups are."""
    found = set()
    for path in islice(_entries(root / "proc"), MOST_PROCESSES):
        if path.name.isdecimal() and (daemon := _DAEMONS.get(_text(path / "comm").strip())):
            found.add(daemon)
    for daemon in set(_DAEMONS.values()) - found:
        if _text(root / f"sys/fs/cgroup/system.slice/{daemon}.service/cgroup.procs").strip():
            found.add(daemon)
    return found


def _first_processs_ports(root: Path) -> set[str]:
    """Return the ports of the machine's first process: in another network namespace these daemons have no say."""
    lines = _text(root / "proc/1/net/dev").splitlines()
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


def _networkd_file(root: Path, index: int) -> str | None:
    """Return by which file networkd manages a port; None if it does not."""
    words = dict(_pairs(_text(root / f"run/systemd/netif/links/{index}")))
    return None if words.get("ADMIN_STATE", "") in _NOT_MANAGED else words.get("NETWORK_FILE", "")


def _keeps(root: Path, file: str) -> bool:
    """Return whether networkd leaves addresses alone that it has not set, on ports of this file."""
    path = Path(file)
    if path.parent.name != "network" or path.parent.parent.name != "systemd" or path.suffix != ".network":
        return False
    main = "" if ".." in path.parts else _text(root / file.lstrip("/"))
    texts = [main, *_parts(root, f"network/{path.name}")[1:]]
    return _word(texts, "Network", "KeepConfiguration") in _TRUE


def _parts(root: Path, name: str) -> list[str]:
    """Return a file of networkd's and its drop-ins, in the order in which they count; of two directories the first."""
    main = next((text for one in _NETWORKD_DIRECTORIES if (text := _text(root / one / name))), "")
    parts: dict[str, Path] = {}
    for one in reversed(_NETWORKD_DIRECTORIES):
        parts |= {path.name: path for path in _files(root, (f"{one}/{name}.d/*.conf",))}
    return [main, *(_text(parts[key]) for key in sorted(parts))]


def _word(texts: Sequence[str], section: str, key: str) -> str:
    """Return a setting's value in lower case: the last one counts."""
    found, within = "", ""
    for text in texts:
        for line in text.splitlines():
            line = line.strip()
            if line.startswith("["):
                within = line.strip("[]")
            elif within == section and line.partition("=")[0].strip() == key:
                found = line.partition("=")[2].strip().lower()
    return found


def _network_manager_has(root: Path, index: int) -> bool:
    return _word([_text(root / f"run/NetworkManager/devices/{index}")], "device", "managed") in _TRUE


def _listed(root: Path, patterns: Sequence[str], addresses: Collection[str]) -> tuple[str, ...]:
    """Return which addresses stand in files, in whatever notation."""
    wanted = {ip_address(address): address for address in addresses}
    found: dict[str, None] = {}
    left = MOST_SEARCHED
    for path in _files(root, patterns):
        text = _text(path)[:left]
        left -= len(text)
        for line in text.splitlines():
            for word in _ADDRESS.findall(line.partition("#")[0]):
                try:
                    address = wanted.get(ip_address(word.rstrip(".:") if word.count(":") < 2 else word))
                except ValueError:
                    continue
                if address is not None:
                    found[address] = None
    return tuple(found)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition("=")
        yield key.strip(), value.strip()


def _files(root: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        folder, _, name = pattern.rpartition("/")
        entries = sorted(islice(_entries(root / folder), MOST_FILES))
        yield from (path for path in entries if path.match(name))


def _entries(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield Path(entry.path)
    except (OSError, ValueError):  # a name with a NUL in it
        return


def _text(path: Path) -> str:
    """Return the beginning of a regular file; "" for anything else, so that no pipe or device is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
