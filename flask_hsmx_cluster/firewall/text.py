"""Rules as text: for nftables, for iptables, and the table that the agent keeps itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .rules import Address, Rule, Service, Use

#: What the rules' comments say. No name is in them that somebody could choose.
_COMMENTS = {
    Use.SETTINGS: "cluster: settings and pairing",
    Use.SSH: "cluster: files",
    Use.RSYNC: "cluster: files",
    Use.DATABASE: "cluster: database",
    Use.HEARTBEATS: "cluster: heartbeats",
    Use.CONNECTIONS: "cluster: connections of guests",
}
#: Name of the table of our own.
TABLE = "hsmx_cluster_firewall"


def nftables(rules: Sequence[Rule]) -> str:
    """Return commands for ``nft -f``: the rules come first in the chain ``input`` of Debian's ``inet filter``."""
    lines = [
        "# Rules for the other gateway, for `nft -f`. Change the names if your table or chain has others.",
        "add table inet filter",
        "add chain inet filter input",
    ]
    for rule in reversed(rules):  # each goes before the one above it
        lines.append(
            f"insert rule inet filter input {_family(rule.source)} saddr {rule.source} "
            f'{rule.service.protocol} dport {rule.service.port} accept comment "{_COMMENTS[rule.service.use]}"'
        )
    return "\n".join(lines) + "\n"


def iptables(rules: Sequence[Rule]) -> str:
    """Return shell commands: each rule comes first in the chain INPUT."""
    lines = ["# Rules for the other gateway, for a shell."]
    for rule in reversed(rules):
        program, length = ("iptables", 32) if rule.source.version == 4 else ("ip6tables", 128)
        lines.append(
            f"{program} -I INPUT -s {rule.source}/{length} -p {rule.service.protocol} --dport {rule.service.port} "
            f'-m comment --comment "{_COMMENTS[rule.service.use]}" -j ACCEPT'
        )
    return "\n".join(lines) + "\n"


def own_table(services: Iterable[Service], sources: Iterable[Address]) -> str:
    """Return the chain of our own table: what only the other gateway uses is closed for everybody else.

    What one table accepts another one may still drop, so this one can close ports and never open any.
    """
    closed: dict[str, list[int]] = {}
    for service in services:
        if closes(service):
            closed.setdefault(service.protocol, []).append(service.port)
    found = sorted(set(sources), key=lambda one: (one.version, one))
    let_in = [
        f"        {family} saddr {{ {', '.join(map(str, some))} }} accept"
        for family in ("ip", "ip6")
        if (some := [one for one in found if _family(one) == family])
    ]
    dropped = [f"        {protocol} dport {{ {', '.join(map(str, some))} }} drop" for protocol, some in closed.items()]
    return "\n".join([
        "    chain only_the_other_gateway {",
        "        type filter hook input priority filter; policy accept;",
        '        iifname "lo" accept',
        *let_in, *dropped,
        "    }",
    ])  # fmt: skip


def closes(service: Service) -> bool:
    """Return whether our own table closes a port: conntrackd's has a table of its own."""
    return service.only_peer and service.use is not Use.CONNECTIONS


def _family(address: Address) -> str:
    return "ip" if address.version == 4 else "ip6"
