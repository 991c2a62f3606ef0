"""Settings revisions between the two agents: two phases while both are there, delivery when the other is back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import ChecksFailed, ClusterError, Finding, PeerUnavailable, RequestRefused
from ...network.clock import boot_time_s
from ...settings import passwords, rules
from ...settings.addressing import own_addresses
from ...settings.model import Settings
from ...settings.network_rules import entries
from ...settings.networks import Alias, Network
from .. import interfaces
from ..cluster import Cluster
from ..heartbeat import plan
from ..node_store import PeerFacts, wall_time
from ..peer.client import Route
from ..peer.exchange import Exchange
from ..preflight import checks as preflight
from ..preflight import probing
from . import model as revisions
from .model import Heads, Offer, Revision, RevisionRefused, Verdict

log = logging.getLogger(__name__)

#: A change waits for the other gateway at most this long, s; building frames there takes most of it.
CHANGE_TIMEOUT_S = 12.0
#: What the other gateway prepared and never applied may be overridden after this time, s.
PREPARED_LIFETIME_S = 30.0
#: The two talk to each other at least this often, s, also if there is nothing to deliver.
SYNC_EVERY_S = 30.0


class RevisionExchange:
    """Changes settings on both gateways, and brings them together after an absence.

    :param check_data: finds out whether both databases can be reached over links that are to change, by kind of link;
        it is told the other gateway's name, too.
    """

    def __init__(
        self,
        cluster: Cluster,
        exchange: Exchange,
        check_data: Callable[[Mapping[str, Route], str], Iterator[Finding]] = lambda _routes, _peer: iter(()),
    ) -> None:
        self._cluster = cluster
        self._exchange = exchange
        self._check_data = check_data
        self._prepared_at = float("-inf")
        self._synced_at = float("-inf")
        self._peer_differs = False
        self._refused_before = ""
        exchange.handle("prepare", self._on_prepare)
        exchange.handle("apply", self._on_apply)
        exchange.handle("abort", self._on_abort)
        exchange.handle("sync", self._on_sync)

    # -- changing ---------------------------------------------------------------------------------------------

    def propose(self, settings: Settings, base_revision: int) -> dict[str, Any]:
        """Put new settings in force on both gateways, or here alone while the other is absent.

        :param base_revision: number of the revision that they were edited from.
        """
        with self._cluster.change():
            heads = self._cluster.require_heads()
            present = heads.applied.settings
            if heads.applied.number != base_revision:
                raise RequestRefused(
                    f"The settings were changed meanwhile: revision {heads.applied.number} is in force.",
                    "Look at them again and repeat the change.",
                )
            if heads.conflict is not None:
                raise RequestRefused(
                    "Both gateways were edited while they could not reach each other.", "Choose one of the two first."
                )
            if settings == present:
                return {"revision": heads.applied.number, "delivered": not self.pending(heads), "unprobed": 0}
            if settings.cluster_id != present.cluster_id or _ids(settings) != _ids(present):
                raise ChecksFailed(
                    [Finding("membership", "Gateways join and leave by pairing, not by editing the settings.",
                             "Leave both as they are in the settings; join or leave on the page of the cluster.")]
                )
            self._check(settings, present)
            left = probing.unprobed(_new_entries(settings, present))
            return {**self._change_to(self._draft(heads, settings)), "unprobed": left}

    def resolve(self, keep: str) -> dict[str, Any]:
        """End a conflict.

        :param keep: ``mine`` for what was entered on this gateway, ``theirs`` for the other's.
        """
        with self._cluster.change():
            heads = self._cluster.require_heads()
            settings = revisions.chosen(heads, keep, self._cluster.node_id)
            self._check(settings, heads.applied.settings)
            return self._change_to(self._draft(heads, settings, overrules=heads.conflict))

    def pending(self, heads: Heads) -> bool:
        """Whether the other gateway has yet to take over the settings in force here."""
        return self._cluster.has_peer(heads) and heads.pending

    def _draft(self, heads: Heads, settings: Settings, overrules: Revision | None = None) -> Revision:
        cluster = self._cluster
        name = cluster.config.node_name
        return revisions.draft(heads, settings, cluster.node_id, name, wall_time(), cluster.signing_key(), overrules)

    def _check(self, settings: Settings, present: Settings) -> None:
        """Raise :class:`ChecksFailed` if anything speaks against new settings, on either gateway."""
        cluster = self._cluster
        other = cluster.store.peer()
        if settings.peer_of(cluster.node_id) and other is not None and other.protocol < settings.protocol:
            # It would not take them over: what it does not know it drops, and the signature fits no more.
            text = f"{other.name} has an older version that does not know all of these settings."
            raise ChecksFailed([Finding("protocol_incompatible", text, f"Update {other.name} first.")])
        ports = {cluster.node_id: cluster.hot.ports()}
        peer = settings.peer_of(cluster.node_id)
        there = False
        if peer is not None:
            self._let_in(_addresses(settings, peer.node_id))
            try:
                told = self._exchange.ask("ports", timeout_s=3.0, expect=_addresses(settings, cluster.node_id))
                ports[peer.node_id] = [dict(port) for port in preflight.ports_from(told["ports"])]
                there = True
            except (PeerUnavailable, ValueError, KeyError):
                pass  # it checks for itself when the settings reach it
        findings = rules.check(settings, ports) + passwords.missing(settings)
        if not any(finding.blocking for finding in findings):
            findings += self._try_out(settings, present, ports, other if there else None)
        if any(finding.blocking for finding in findings):
            raise ChecksFailed(findings)

    def _let_in(self, addresses: list[str]) -> None:
        """Let our own packet rules know of addresses from which the other gateway is about to come."""
        if self._cluster.table.wanted:
            self._cluster.table.expect(addresses)
            self._cluster.keep_table()

    def _try_out(
        self,
        settings: Settings,
        present: Settings,
        ports: Mapping[str, Sequence[Mapping[str, Any]]],
        peer: PeerFacts | None,
    ) -> Iterator[Finding]:
        """Try what is new on the wire.

        :param ports: the gateways' ports as far as they are known, by node id.
        :param peer: the other gateway, if it answers now.
        """
        own = self._cluster.node_id
        yield from probing.check_new_ports(settings, present, ports)
        if peer is not None:
            former = preflight.routes_between(present, own, peer.node_id)
            routes = preflight.routes_between(settings, own, peer.node_id)
            there = {str(one.ip) for each in ports.values() for port in each for one in own_addresses(port)}
            # An own address that these very settings bring is not there yet, and cannot be tried.
            changed = {kind: route for kind, route in routes.items()
                       if former.get(kind) != route and {route.local, route.remote} <= there}
            yield from preflight.check_http(changed, peer)
            yield from self._check_data(changed, peer.name)
        known = {(vip.address.ip, vip.port) for vip in present.virtual_ips}
        new = [(at, vip) for at, vip in enumerate(settings.virtual_ips) if (vip.address.ip, vip.port) not in known]
        macs = {str(port["mac"]) for found in ports.values() for port in found}
        macs |= {plan.virtual_mac_of(present, port) for port in plan.ports_of(present)}

        def probe(port: str, address: str, timeout_s: float) -> list[str]:
            """An address that moves from one port to another is answered by the gateway that has it still."""
            return [mac for mac in self._cluster.hot.probe_address(port, address, timeout_s) if mac not in macs]

        def probe_many(wanted: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
            found = self._cluster.hot.probe_addresses(wanted)
            return {place: [mac for mac in answered if mac not in macs] for place, answered in found.items()}

        yield from probing.check_virtual_ips(new, probe)
        other = self._cluster.require_heads().there
        yield from interfaces.check_new(settings, present, other.settings if other else present, ports, probe)
        yield from probing.check_shared(_new_entries(settings, present), probe_many)

    def _change_to(self, revision: Revision) -> dict[str, Any]:
        cluster, digest = self._cluster, revision.digest
        with cluster.state_lock:
            heads = self._without_stale(cluster.require_heads())
            cluster.store.save_heads(revisions.prepare(heads, revision))
        try:
            reached = cluster.has_peer(heads) and self._prepare_there(revision)
            with cluster.state_lock:
                cluster.put_in_force(revisions.apply(cluster.require_heads(), digest))
        except BaseException:
            self._abort(digest)
            raise
        cluster.store.record(
            "settings", "info", f"Settings revision {revision.number} is in force, entered on {revision.author_name}."
        )
        delivered = (reached and self._apply_there(digest)) or not cluster.has_peer(heads)
        return {"revision": revision.number, "delivered": delivered}

    def _prepare_there(self, revision: Revision) -> bool:
        """Prepare on the other gateway; False if it is absent."""
        try:
            self._exchange.ask("prepare", CHANGE_TIMEOUT_S, revision=revision.to_dict())
        except PeerUnavailable as error:
            log.info("The other gateway is absent, it gets the settings later: %s", error.message)
            return False
        return True

    def _apply_there(self, digest: str) -> bool:
        try:
            self._exchange.ask("apply", CHANGE_TIMEOUT_S, digest=digest)
        except ClusterError as error:
            self._cluster.store.record(
                "settings_pending", "warning", "The other gateway has not taken over the settings yet.", [error.message]
            )
            return False
        with self._cluster.state_lock:
            heads = self._cluster.require_heads()
            self._cluster.store.save_heads(revisions.confirmed(heads, digest))
        return True

    def _abort(self, digest: str) -> None:
        with self._cluster.state_lock:
            heads = self._cluster.heads()
            if heads is None:
                return
            self._cluster.store.save_heads(revisions.abort(heads, digest))
            if not self._cluster.has_peer(heads):
                return
        try:
            self._exchange.ask("abort", timeout_s=2.0, digest=digest)
        except ClusterError as error:
            log.info("The other gateway was not told that a change was dropped: %s", error.message)

    def _without_stale(self, heads: Heads) -> Heads:
        """Drop what the other gateway prepared long ago, or before this agent started."""
        stale = boot_time_s() - self._prepared_at > PREPARED_LIFETIME_S
        return revisions.drop_prepared(heads) if stale else heads

    # -- answering --------------------------------------------------------------------------------------------

    def _on_prepare(self, sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster
        revision = Revision.from_dict(arguments.get("revision"))
        revision.verify(cluster.store.keys())
        if revision.author != sender:
            raise RevisionRefused("malformed", "Only its author brings a new settings revision.")
        with cluster.state_lock:
            prepared = revisions.prepare(self._without_stale(cluster.require_heads()), revision)
            self._check_here(revision.settings)
            cluster.store.save_heads(prepared)
            self._let_in([])
            self._prepared_at = boot_time_s()
        cluster.hot.expect_settings()
        return {"prepared": True}

    def _on_apply(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster
        digest = str(arguments.get("digest"))
        with cluster.state_lock:
            heads = cluster.require_heads()
            applied = revisions.confirmed(revisions.apply(heads, digest), digest)
            if applied.applied is heads.applied:
                cluster.store.save_heads(applied)
                return {"applied": True}
            cluster.put_in_force(applied)
        self._note_arrival(applied.applied)
        return {"applied": True}

    def _on_abort(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self._cluster.state_lock:
            heads = self._cluster.require_heads()
            self._cluster.store.save_heads(revisions.abort(heads, str(arguments.get("digest"))))
        return {"aborted": True}

    def _on_sync(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._merge(arguments.get("offer"), str(arguments.get("role")))
        return self._offer()

    # -- delivering -------------------------------------------------------------------------------------------

    def on_peer_revision(self, revision: int, digest: str = "") -> None:
        """Take note of what a heartbeat says about the other gateway's settings.

        :param digest: hex, may be cut short.
        """
        heads = self._cluster.heads()
        if heads is None:
            return
        mine = heads.applied
        self._peer_differs = revision != mine.number or not mine.digest.startswith(digest)

    def deliver(self) -> str:
        """Bring the other gateway's settings and ours together; a periodic job. Returns its result in words."""
        heads = self._cluster.heads()
        if heads is None or not self._cluster.has_peer(heads):
            return "no other gateway"
        now = boot_time_s()
        peer = self._cluster.hot.snapshot()["peer"]
        if peer and peer.get("role") != "unknown" and peer.get("revision") not in (None, heads.applied.number):
            self._peer_differs = True
        if not (heads.pending or self._peer_differs or now - self._synced_at > SYNC_EVERY_S):
            return "nothing to deliver"
        try:
            answer = self._exchange.ask("sync", CHANGE_TIMEOUT_S, **self._offer())
            verdict = self._merge(answer.get("offer"), str(answer.get("role")))
        except PeerUnavailable as error:
            return f"the other gateway is absent: {error.message}"
        except ClusterError as error:
            return f"refused: {error.message}"
        self._synced_at, self._peer_differs = now, False
        return verdict.value

    def _offer(self) -> dict[str, Any]:
        return {"offer": revisions.offer(self._cluster.require_heads()).to_dict(), "role": self._cluster.role()}

    def _merge(self, data: Any, peer_role: str) -> Verdict:
        cluster = self._cluster
        theirs = Offer.from_dict(data, cluster.store.keys(), known=cluster.require_heads().applied)
        if cluster.node_id not in _ids(theirs.applied.settings):
            raise RevisionRefused("malformed", "The other gateway's settings do not know this gateway.")
        own_role = cluster.role()
        leading = None
        if (own_role == "active") != (peer_role == "active"):
            leading = own_role == "active"
        with cluster.state_lock:
            heads = cluster.require_heads()
            merged, verdict = revisions.merge(heads, theirs, leading)
            if merged.applied != heads.applied:
                self._check_here(merged.applied.settings)
                cluster.put_in_force(merged)
            elif merged != heads:
                cluster.store.save_heads(merged)
        if merged.applied != heads.applied:
            self._note_arrival(merged.applied)
        if merged.conflict is not None and heads.conflict is None:
            self._note_conflict(merged)
        return verdict

    def _check_here(self, settings: Settings) -> None:
        """Raise :class:`ChecksFailed` if settings cannot work on this gateway. Noted once for each reason."""
        cluster = self._cluster
        findings = [one for one in rules.check(settings, {cluster.node_id: cluster.hot.ports()}) if one.blocking]
        text = findings[0].text if findings else ""
        if findings and text != self._refused_before:
            cluster.store.record(
                "settings_refused", "warning", "New settings do not fit this gateway.", [one.text for one in findings]
            )
        self._refused_before = text
        if findings:
            raise ChecksFailed(findings, f"On {cluster.config.node_name}: {text}")

    def _note_arrival(self, revision: Revision) -> None:
        self._cluster.store.record(
            "settings", "info", f"Settings revision {revision.number} of {revision.author_name} is in force here too."
        )

    def _note_conflict(self, heads: Heads) -> None:
        other = heads.conflict or heads.applied
        self._cluster.store.record(
            "settings_conflict",
            "warning",
            "Both gateways were edited while they could not reach each other; choose one of the two settings.",
            [
                f"in force: revision {heads.applied.number} of {heads.applied.author_name}",
                f"kept beside it: revision {other.number} of {other.author_name}",
            ],
        )


def _new_entries(settings: Settings, present: Settings) -> list[tuple[str, Network | Alias]]:
    """Return networks and aliases whose address is not shared yet on their port, each with its place."""
    known = {(one.address.ip, one.port) for one in plan.shared_of(present)}
    return [(where, one) for where, one in entries(settings) if (one.address.ip, one.port) not in known]


def _addresses(settings: Settings, node_id: str) -> list[str]:
    """Return a gateway's own addresses on the links."""
    return [str(link.ends[node_id].address.ip) for link in settings.links if node_id in link.ends]


def _ids(settings: Settings) -> set[str]:
    return {node.node_id for node in settings.nodes}
