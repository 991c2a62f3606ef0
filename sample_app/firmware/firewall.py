"""The firewall: the file that the web app writes, the packet rules that the network daemon makes of it.

    {"rules": [{"action": "allow", "protocol": "tcp", "port": 22, "source": "10.99.0.2/32"}]}
    {"error": ""}

What no rule allows is dropped. The daemon answers in ``firewall-result.json``, beside its report on addresses.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from flask_hsmx_cluster.firewall.check import Allowed, check, stated
from flask_hsmx_cluster.firewall.rules import Peer, Rule, Service, rules, services

from .models import FirewallRule
from .network import write_whole

FILE, RESULT_FILE = "firewall.json", "firewall-result.json"
TABLE = "firmware_firewall"
MAX_FILE, MAX_RULES = 64 * 1024, 100
#: A firmware of each kind: files go over an rsync daemon before 5.2.03, over ssh since.
BEFORE, SINCE = "5.2.02", "5.2.03"
VERSIONS = {"before": BEFORE, "since": SINCE}
#: What guests use on this gateway, too.
_GUESTS_PORTS = {80}
_VERDICTS = {"allow": "accept", "refuse": "drop"}
_NOTES = {"settings": "settings and pairing"}


# Rules of the cluster


def peers_from(text: str) -> list[Peer]:
    """Return addresses of the other gateway from ``sync=10.99.0.2,backup=10.98.0.2``, or addresses alone.

    :raises ValueError: one cannot be read.
    """
    found = []
    for one in text.replace(",", " ").split():
        kind, _, address = one.rpartition("=")
        if kind not in ("", "sync", "backup", "service"):
            raise ValueError(f"{kind!r:.20} is no kind of link.")
        found.append(Peer(ip_address(address), kind or None))  # type: ignore[arg-type]
    return found


def cluster_rows(firmwares: Iterable[str], peers: Iterable[Peer], connections: bool) -> list[FirewallRule]:
    """Return the rules for the other gateway as rows."""
    return [_row(one) for one in rules(services(firmwares, connections=connections), peers)]


def _row(rule: Rule) -> FirewallRule:
    service = rule.service
    return FirewallRule(
        action="allow", protocol=service.protocol, port=service.port, source=str(ip_network(rule.source)),
        note=f"Cluster: {_NOTES.get(service.use, str(service.use))}",
    )  # fmt: skip


def missing(wanted: Iterable[FirewallRule], present: Iterable[FirewallRule]) -> list[FirewallRule]:
    """Return what is not among the present rules yet."""
    there = {(one.action, one.protocol, one.port, one.source) for one in present}
    return [one for one in wanted if (one.action, one.protocol, one.port, one.source) not in there]


def as_stated(rows: Iterable[FirewallRule]) -> list[dict[str, Any]]:
    """Return the rules that let somebody in as the cluster extension takes them."""
    return [
        {"protocol": row.protocol, "port": row.port, "source": row.source, "note": row.note,
         "for_others": row.port in _GUESTS_PORTS}
        for row in rows if row.action == "allow" and row.port is not None
    ]  # fmt: skip


def too_open(row: FirewallRule) -> bool:
    """Tell whether a rule lets more than one machine use a port of the cluster."""
    allowed: list[Allowed] = stated(as_stated([row]))
    known: tuple[Service, ...] = services(VERSIONS.values(), connections=True)
    return any(check(allowed, known, []))


# The file


def save(state: Path, rows: Iterable[FirewallRule]) -> None:
    """Write the rules for the daemon."""
    found = [{"action": row.action, "protocol": row.protocol, "port": row.port, "source": row.source} for row in rows]
    write_whole(state / FILE, {"rules": found})


def packet_rules(data: Any) -> str:
    """Return the file's rules for ``nft -f``; the daemon has more rights than whoever writes the file.

    :raises ValueError: it is not what :func:`save` writes.
    """
    try:
        found = list(data["rules"])
        if len(found) > MAX_RULES:
            raise ValueError("too many rules")
        lines = [_line(rule) for rule in found]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{FILE} is damaged: {error!r:.80}") from None
    body = "\n".join(lines)
    return f"""table inet {TABLE} {{ }}
delete table inet {TABLE}
table inet {TABLE} {{
chain input {{
type filter hook input priority filter; policy drop;
iifname "lo" accept
ct state established,related accept
icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
{body}
}}
}}
"""


def _line(rule: Mapping[str, Any]) -> str:
    words = []
    if rule["source"]:
        source = ip_network(str(rule["source"]))
        words.append(f"{'ip' if source.version == 4 else 'ip6'} saddr {source}")
    if rule["protocol"] == "icmp":
        words.append("meta l4proto { icmp, icmpv6 }")
    elif rule["protocol"] in ("tcp", "udp") and 1 <= int(rule["port"]) <= 65535:
        words.append(f"{rule['protocol']} dport {int(rule['port'])}")
    else:
        raise ValueError("a rule of an unknown kind")
    return " ".join((*words, _VERDICTS[rule["action"]]))


def load_problem(result: Path) -> str | None:
    """Return why the rules are not in force; empty if they are, None if no daemon has taken them."""
    try:
        return str(json.loads(result.read_text())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Enforcer:
    """The daemon's part: loads each new version of the file into the kernel.

    :param state: the directory with the file.
    :param result: the file to report in.
    """

    def __init__(self, state: Path, result: Path) -> None:
        self._file, self._result = state / FILE, result
        self._seen: tuple[int, int] | None = None

    def turn(self) -> bool:
        """Load the rules if the file has changed since the last turn; tell whether it had."""
        try:
            handle = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            seen = (about.st_mtime_ns, about.st_ino)
            if seen == self._seen:
                return False
            self._seen = seen
            text = file.read(MAX_FILE + 1)
        write_whole(self._result, {"error": self._load(text)})
        return True

    @staticmethod
    def _load(text: bytes) -> str:
        try:
            commands = packet_rules(json.loads(text[:MAX_FILE]))
            done = subprocess.run(["nft", "-f", "-"], input=commands, capture_output=True, text=True, timeout=5)
        except (OSError, ValueError, RecursionError, subprocess.SubprocessError) as error:
            return f"The rules could not be loaded: {error!s:.200}"
        return done.stderr.strip()[:200] if done.returncode else ""


def result_file(config: Mapping[str, Any]) -> Path:
    """Return where the daemon reports."""
    other = config["FIRMWARE_NETWORK_RESULT"]
    return (Path(other).parent if other else Path(config["FIRMWARE_STATE_DIR"])) / RESULT_FILE


def seeds(config: Mapping[str, Any]) -> Iterator[FirewallRule]:
    """Yield the rules for the other gateway that a new gateway begins with, if it is told of one."""
    peers = peers_from(str(config["FIRMWARE_OTHER_GATEWAY"]))
    connections = str(config.get("HSMX_CLUSTER_CONNTRACK", "on")) != "off"
    yield from cluster_rows([str(config["FIRMWARE_VERSION"])], peers, connections)
