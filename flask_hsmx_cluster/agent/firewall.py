"""The firewall between the two gateways, as the agent sees it: rules for people, and ports that are tried for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from ..errors import ClusterError, Finding, RequestRefused
from ..firewall import text
from ..firewall.check import check
from ..firewall.kernel import allowed, closes
from ..firewall.rules import MOST_PEERS, Peer, Service, Use, peers_of, rules
from ..network import nftables
from .cluster import Cluster
from .jobs import Periodic
from .peer.exchange import Exchange
from .preflight import ports
from .preflight.checks import Report, routes_between
from .services.guest_traffic import tracks_connections

#: How often our own table is looked at where there is one; once an hour one that was left behind is looked for.
TABLE_EVERY_S, TABLE_OFF_EVERY_S = 5.0, 3600.0
#: The other gateway tries ports for a second; it has this long to answer, s.
TRY_TIMEOUT_S = 6.0


class Firewall:
    """Says what must be open, and tries it.

    :param shared: whether the database is shared, so that its port is used.
    """

    def __init__(self, cluster: Cluster, exchange: Exchange, shared: Callable[[], bool]) -> None:
        self._cluster, self._exchange, self._shared = cluster, exchange, shared
        exchange.handle("ports", self._tell_ports)
        exchange.handle("try_ports", self._try_ports)

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of the job that keeps our own table."""
        period_s = TABLE_EVERY_S if self._cluster.table.wanted else TABLE_OFF_EVERY_S
        return {"own packet rules": (period_s, self._cluster.keep_table)}

    # -- the verb ---------------------------------------------------------------------------------------------

    def describe(self, named: Sequence[str]) -> dict[str, Any]:
        """Return the rules that this gateway needs, and what its kernel lets in beyond them.

        :param named: addresses of the other gateway; none: those of the settings in force.
        """
        services, peers = self._services(), _named(named) or self._peers()
        found = rules(services, peers)
        findings, closing = self._look(services, peers)
        firmwares = self._cluster.firmwares()
        return {
            "rules": [one.as_dict() for one in found],
            "services": [one.as_dict() for one in services],
            "nftables": text.nftables(found),
            "iptables": text.iptables(found),
            "firmware": firmwares[0],
            "peer_firmware": firmwares[1] if len(firmwares) > 1 else "",
            "findings": [one.as_dict() for one in findings],
            "closes": closing,
            "table": "off" if not self._cluster.table.wanted else "kept" if self._cluster.table.kept else "waits",
        }

    def preflight(self, report: Report) -> None:
        """Add what the kernel lets in, and in a cluster of two what came of trying the ports in both directions."""
        services, peers = self._services(), self._peers()
        report.add("firewall", self._look(services, peers)[0])
        if peers:
            closed = list(self._check_ports())
            report.add("ports", closed)
            report.checked["ports"] = not closed

    def _services(self) -> tuple[Service, ...]:
        return self._cluster.services(tracks_connections(self._cluster))

    def _peers(self) -> list[Peer]:
        heads = self._cluster.heads()
        return list(peers_of(heads.applied.settings, self._cluster.node_id)) if heads else []

    def _look(self, services: Sequence[Service], peers: Sequence[Peer]) -> tuple[list[Finding], bool | None]:
        """Return what the kernel's rules let in, and whether they close anything; None: they cannot be read.

        Guests use the web app's port, too: nothing is wrong with that one being open.
        """
        try:
            listing = nftables.ruleset()
        except ClusterError:
            return [], None
        table = self._cluster.table.kept
        judged = [one for one in services if one.use is not Use.SETTINGS and not (table and text.closes(one))]
        return list(check(allowed(listing, but=[text.TABLE]), judged, peers)), closes(listing)

    # -- trying the ports -------------------------------------------------------------------------------------

    def _tried(self) -> list[Service]:
        """Return the ports of this gateway that should answer."""
        return [one for one in self._cluster.services()
                if one.protocol == "tcp" and (one.use is not Use.DATABASE or self._shared())]

    def _heard(self) -> list[str]:
        return [str(path["kind"]) for path in self._cluster.hot.snapshot()["paths"] if path["state"] == "up"]

    def _check_ports(self) -> Iterator[Finding]:
        """Try each other's ports over every link."""
        cluster = self._cluster
        settings, own_id = cluster.require_heads().applied.settings, cluster.node_id
        peer = settings.peer_of(own_id)
        assert peer is not None
        own, port = cluster.config.node_name, cluster.config.heartbeat_port
        there, here = routes_between(settings, own_id, peer.node_id), routes_between(settings, peer.node_id, own_id)
        theirs, heard = self._tried(), None
        try:
            told = self._exchange.ask("try_ports", TRY_TIMEOUT_S, services=[one.as_dict() for one in theirs])
            yield from ports.check_tried(ports.trials_from(told["tried"]), here, peer.name, own, cluster.config)
            theirs, heard = ports.services_from(told["services"]), [str(kind) for kind in told["heard"]]
        except (ClusterError, KeyError, TypeError, ValueError) as error:
            why = error.message if isinstance(error, ClusterError) else "its answer cannot be read."
            yield Finding(
                "ports_untried", f"{peer.name} could not be asked to try the ports of {own}: {why}",
                "See the ports that are closed in the other direction first; both gateways must be up to date.",
                blocking=False,
            )
        yield from ports.check_tried(ports.try_ports(there, theirs), there, own, peer.name, cluster.config)
        yield from ports.check_heard(self._heard(), here, port, peer.name, own)
        if heard is not None:
            yield from ports.check_heard(heard, there, port, own, peer.name)

    def _try_ports(self, sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Try the other gateway's ports at its link addresses, for it."""
        try:
            wanted = ports.services_from(arguments.get("services"))
        except ValueError:
            raise RequestRefused("The ports cannot be read.", "Are both gateways up to date?") from None
        settings = self._cluster.require_heads().applied.settings
        found = ports.try_ports(routes_between(settings, self._cluster.node_id, sender), wanted)
        return {"tried": [vars(one) for one in found], "services": [one.as_dict() for one in self._tried()],
                "heard": self._heard()}  # fmt: skip

    def _tell_ports(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Tell this gateway's network ports. The other one may be about to try from addresses that are new."""
        if arguments.get("expect"):
            self._cluster.table.expect(arguments["expect"])
            self._cluster.keep_table()
        return {"ports": self._cluster.hot.ports()}


def _named(texts: Sequence[str]) -> list[Peer]:
    """Return addresses that somebody has typed.

    :raises RequestRefused: one is none.
    """
    found = []
    for one in texts[:MOST_PEERS]:
        try:
            address = ip_address(one.strip())
            if "%" in one or address.is_multicast or address.is_unspecified or address.is_loopback:
                raise ValueError
        except ValueError:
            raise RequestRefused(
                f"{one[:60]!r} is not an address of a gateway.", "Enter single addresses, such as 192.168.254.2."
            ) from None
        found.append(Peer(address))
    return found
