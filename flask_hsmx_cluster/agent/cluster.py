"""This gateway's membership: node store and hot side kept in step, for all that change it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..errors import ClusterError, RequestRefused
from ..firewall.rules import Service, services
from ..settings import interfaces
from ..version import PROTOCOL, __version__
from .config import AgentConfig
from .heartbeat import plan
from .hot import HotSide
from .interfaces import Addresses, Hand, OwnAddresses
from .membership import Key, Membership
from .node_store import NodeStore, PeerFacts, machine_id
from .packet_table import PacketTable, sources_of
from .preflight.checks import PROTOCOL_LEAST, Facts
from .revisions.model import Heads, drop_prepared

log = logging.getLogger(__name__)

#: How long a change waits for another one to end, s.
CHANGE_TIMEOUT_S = 2.0

#: Kinds of ports whose MAC says nothing about the machine: virtual MACs are alike on both gateways.
_BORROWED_MACS = ("macvlan", "macvtap", "ipvlan", "ppp", "tun", "vrf")


class Cluster:
    """Who this gateway is and what it is a member of.

    :param state_lock: held while heads are read, changed and stored; never while the other gateway is asked.
    :param hand: sets own addresses; replaced in tests.
    """

    def __init__(self, config: AgentConfig, store: NodeStore, hot: HotSide, hand: Hand | None = None) -> None:
        self.config = config
        self.store = store
        self.hot = hot
        self.state_lock = threading.RLock()
        self._change_lock = threading.Lock()
        self._own = OwnAddresses(config.state_dir, store.record, config.own_addresses == "host", hand)
        self.table = PacketTable(config.firewall == "table", store.record)
        #: True on a machine that is not the one on which the store was written: it stays out of the cluster.
        self.foreign = False
        #: The other gateway's last known PPPoE sessions, as it told them.
        self.peer_sessions: list[dict[str, Any]] = []

    # -- identity ---------------------------------------------------------------------------------------------

    def identify(self) -> None:
        """Find out whether this machine is the one that the node store belongs to."""
        self.foreign = not self.store.identify(self._machine_id(), self._macs())
        if self.foreign:
            self.store.record(
                "foreign_machine",
                "critical",
                "This gateway's node store was written on another machine: it stays out of the cluster.",
                ["neither the machine id nor the network cards are those that the store knows"],
            )

    def become_own_machine(self) -> None:
        """Give a cloned gateway an identity of its own, before it creates or joins a cluster."""
        if self.foreign:
            self.store.start_anew(self._machine_id(), self._macs())
            self.foreign = False

    def _machine_id(self) -> str:
        return machine_id(Path(self.config.state_dir))

    def _macs(self) -> dict[str, str]:
        return {
            str(port["name"]): str(port["mac"])
            for port in self.hot.ports()
            if port["mac"] and port["kind"] not in _BORROWED_MACS
        }

    @property
    def node_id(self) -> str:
        return self.store.node_id

    # -- state ------------------------------------------------------------------------------------------------

    def heads(self) -> Heads | None:
        """Return the settings revisions, or None outside of a cluster."""
        return None if self.foreign else self.store.heads()

    def require_heads(self) -> Heads:
        """Return the settings revisions.

        :raises RequestRefused: this gateway is not in a cluster.
        """
        heads = self.heads()
        if heads is None:
            raise RequestRefused("This gateway is not in a cluster.", "Create one, or join the other gateway's.")
        return heads

    def require_unformed(self) -> None:
        """Raise :class:`RequestRefused` if this gateway is in a cluster."""
        if self.heads() is not None:
            raise RequestRefused("This gateway is in a cluster already.", "Leave that cluster first.")

    def has_peer(self, heads: Heads) -> bool:
        """Whether there is another gateway in the cluster."""
        return heads.applied.settings.peer_of(self.node_id) is not None

    def is_peer_address(self, address: str) -> bool:
        """Return whether requests of the other gateway may come from here: its link addresses in the settings in
        force, here or there, or in those that are being agreed. A web server on this machine that hands requests on
        counts too.
        """
        try:
            asker = ip_address(address)
        except ValueError:
            return False
        asker = getattr(asker, "ipv4_mapped", None) or asker
        if asker.is_loopback:
            return True
        heads, joining = self.heads(), self.store.joining()
        revisions = [heads.applied, heads.prepared, heads.there] if heads else []
        revisions += [joining[0]] if joining else []
        return any(
            end.address.ip == asker
            for revision in revisions
            if revision is not None
            for link in revision.settings.links
            for node_id, end in link.ends.items()
            if node_id != self.node_id
        )

    def role(self) -> str:
        """Return ``standalone``, ``passive`` or ``active``."""
        return str(self.hot.snapshot()["node"]["role"])

    def signing_key(self) -> Key:
        """Return the key that signs."""
        keys = self.store.keys()
        if not keys:
            raise RequestRefused("This gateway has no cluster key.", "Leave the cluster and join it anew.")
        return keys[0]

    def membership(
        self, heads: Heads | None = None, keys: Sequence[Key] = (), claim: bool = False
    ) -> Membership | None:
        """Return what the hot side is to take over; None outside of a cluster."""
        heads = heads or self.heads()
        if heads is None:
            return None
        return Membership(
            node_id=self.node_id,
            settings=heads.applied.settings,
            revision=heads.applied.number,
            keys=tuple(keys) or self.store.keys(),
            claim=claim,
            digest=heads.applied.digest,
            there=heads.there.settings if heads.there else None,
        )

    # -- changes ----------------------------------------------------------------------------------------------

    @contextmanager
    def change(self) -> Iterator[None]:
        """Let one change of settings or membership at a time begin on this gateway.

        :raises RequestRefused: another one is under way.
        """
        if not self._change_lock.acquire(timeout=CHANGE_TIMEOUT_S):
            raise RequestRefused("The cluster is being changed at this moment.", "Wait a few seconds and repeat.")
        try:
            yield
        finally:
            self._change_lock.release()

    def put_in_force(self, heads: Heads, keys: Sequence[Key] | None = None, claim: bool = False) -> None:
        """Bring settings into force: the kernel first, then the disk. If either refuses, all is as before.

        New own addresses come before what binds to them, old ones go when nothing does any more.

        :raises ClusterError: why it was refused.
        """
        former = self.membership()
        if self.table.wanted:
            self.keep_table(heads)  # before anything comes from addresses that are new
        wanted = interfaces.stated(heads.applied.settings.interfaces, self.node_id)
        with self._own.change(wanted):
            try:
                self.hot.apply(self.membership(heads, keys or (), claim))
                self.store.save_heads(heads, keys)
            except BaseException:
                self._restore(former)
                raise
        self._place_anew(interfaces.stated(former.settings.interfaces, self.node_id) if former else {}, wanted)

    def _place_anew(self, former: Addresses, present: Addresses) -> None:
        """A shared address is a single host's while an own one of its network is beside it: that one may have gone."""
        membership = self.membership()
        changed = {port for port, addresses in present.items() if addresses != former.get(port)}
        if membership is None or not changed & plan.shared_by_port(membership.settings).keys():
            return
        try:
            self.hot.apply(membership)
        except ClusterError as error:  # the settings are in force: nothing goes back
            self.store.record("apply_failed", "warning", "Shared addresses are not placed anew.", [error.message])

    def _restore(self, former: Membership | None) -> None:
        try:
            self.hot.apply(former)
        except ClusterError as error:
            log.error("The former settings cannot be brought back: %s", error.message)
            self.store.record(
                "restore_failed", "critical", "The former settings cannot be brought back.", [error.message]
            )

    def dissolve(self) -> None:
        """Release everything and forget the cluster."""
        self.hot.apply(None)
        self.store.forget_cluster()
        self._own.leave()
        if self.table.wanted:
            self.keep_table()

    def restore_own_addresses(self) -> str:
        """Bring this gateway's own addresses in line with the settings in force; return what was done, in words."""
        with self.state_lock:
            heads = self.heads()
            settings = heads.applied.settings if heads else None
            return self._own.restore(interfaces.stated(settings.interfaces, self.node_id) if settings else None)

    # -- the firewall -----------------------------------------------------------------------------------------

    def firmwares(self) -> list[str]:
        """Return the firmware versions of both gateways, as far as they are known; this one's first."""
        heads, facts = self.heads(), self.store.peer()
        known = heads is not None and facts is not None and heads.applied.settings.peer_of(self.node_id) is not None
        return [self.config.firmware_version, *([facts.firmware] if known and facts else [])]

    def services(self, connections: bool = False) -> tuple[Service, ...]:
        """Return the ports of this gateway that the other one uses."""
        config = self.config
        return services(self.firmwares(), config.http_port, config.database_port, config.heartbeat_port, connections,
                        ssh=config.stated_files.ssh_port, rsync=config.stated_files.rsync_port)  # fmt: skip

    def keep_table(self, coming: Heads | None = None) -> str:
        """Bring our own packet rules in line with the settings in force, and those that are about to be."""
        if not self.table.wanted:
            return self.table.keep((), ())
        revisions = [one for heads in (self.heads(), coming) if heads is not None
                     for one in (heads.applied, heads.prepared, heads.there)]
        return self.table.keep(self.services(), sources_of(self.node_id, revisions))

    def resume(self) -> None:
        """Drop what an interrupted change left prepared: its author applies first, so it is in force nowhere, or
        the next exchange brings it.
        """
        with self.state_lock:
            heads = self.heads()
            if heads is not None and heads.prepared is not None:
                self.store.save_heads(drop_prepared(heads))

    # -- what is told to the other gateway --------------------------------------------------------------------

    def peer_facts_of_self(self) -> PeerFacts:
        """Return what the other gateway should know about this one."""
        return PeerFacts(
            self.node_id,
            self.config.node_name,
            self.config.firmware_version,
            __version__,
            PROTOCOL,
            self.config.http_port,
        )

    def facts(self, ports: Sequence[dict[str, Any]]) -> Facts:
        """Return what this gateway tells while pairing."""
        heads = self.heads()
        return Facts(
            node_id=self.node_id,
            name=self.config.node_name,
            firmware=self.config.firmware_version,
            version=__version__,
            protocol=PROTOCOL,
            protocol_least=max(PROTOCOL_LEAST, heads.applied.settings.protocol if heads else 0),
            http_port=self.config.http_port,
            heartbeat_port=self.config.heartbeat_port,
            wall_s=time.time(),
            in_cluster=heads is not None and self.has_peer(heads),
            ports=tuple(ports),
        )


def new_key(former: Sequence[Key] = ()) -> Key:
    """Return a fresh cluster key with an id that no former one has."""
    used = {key.key_id for key in former}
    return Key(next(number for number in range(1, 256) if number not in used), secrets.token_bytes(32))
