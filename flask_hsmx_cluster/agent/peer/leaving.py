"""Leaving a cluster, going on alone when the other gateway has left, and replacing one that is dead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...errors import ClusterError, PeerUnavailable, RequestRefused
from ..cluster import Cluster, new_key
from ..node_store import wall_time
from ..revisions import model as revisions
from ..revisions.model import Heads
from .exchange import Exchange
from .forming import Creator, without

log = logging.getLogger(__name__)

#: Whether somebody still answers at a virtual IP is waited for this long, s.
PROBE_S = 0.3


class Leaving:
    """Takes a gateway out of the cluster.

    :param creator: shows pairing codes.
    :param hand_over: hands the role over to the other gateway, or raises.
    """

    def __init__(
        self, cluster: Cluster, exchange: Exchange, creator: Creator, hand_over: Callable[[], object]
    ) -> None:
        self._cluster = cluster
        self._exchange = exchange
        self._creator = creator
        self._hand_over = hand_over
        exchange.handle("left", self._on_left)

    def leave(self, force: bool = False) -> dict[str, Any]:
        """Leave the cluster. The other gateway goes on alone; it is told, or, with ``force``, may be absent."""
        cluster = self._cluster
        with cluster.change():
            heads = cluster.require_heads()
            informed = False
            if cluster.has_peer(heads):
                informed = self._take_leave(force)
            with cluster.state_lock:
                cluster.dissolve()
            cluster.store.record(
                "left", "info", "This gateway has left the cluster.", [] if informed else ["the other one was not told"]
            )
            return {"left": True, "peer_informed": informed}

    def _take_leave(self, force: bool) -> bool:
        """Hand over and tell the other gateway; return whether it knows."""
        try:
            self._exchange.ask("hello", timeout_s=3.0)
        except ClusterError as error:
            if force:
                return False
            raise PeerUnavailable(
                f"The other gateway would not know that this one has left: {error.message}",
                "Repeat when it can be reached, or leave by force.",
            ) from None
        if self._cluster.role() == "active":
            try:
                self._hand_over()
            except RequestRefused as error:
                if not force:
                    raise RequestRefused(
                        f"The other gateway cannot take over: {error.message}", "Mend that, or leave by force."
                    ) from None
        self._cluster.hot.apply(None)
        try:
            self._exchange.ask("left")
        except ClusterError as error:
            log.warning("The other gateway was not told that this one has left: %s", error.message)
            return False
        return True

    def _on_left(self, sender: str, _arguments: dict[str, Any]) -> dict[str, Any]:
        name = self._go_on_alone(sender)
        self._cluster.store.record("left", "info", f"{name} has left the cluster.")
        return {}

    def replace(self) -> dict[str, Any]:
        """Forget the other gateway, which is dead, and return a pairing code for the one that takes its place.

        :raises RequestRefused: there is no other gateway, or it shows a sign of life.
        """
        cluster = self._cluster
        with cluster.change():
            peer = cluster.require_heads().applied.settings.peer_of(cluster.node_id)
            if peer is None:
                raise RequestRefused("There is no other gateway in the cluster.", "Show a pairing code instead.")
            if sign := self._sign_of_life():
                raise RequestRefused(
                    f"{peer.name} is not dead: {sign}.", "Switch it off first, or let it leave the cluster in order."
                )
            self._go_on_alone(peer.node_id)
            cluster.store.record(
                "replaced",
                "warning",
                f"{peer.name} was taken out of the cluster: another gateway is to take its place.",
                ["the cluster has a new key, so that it cannot come back by itself"],
            )
            return {**self._creator.new_code(), "replaced": peer.name}

    def _sign_of_life(self) -> str:
        """Return what speaks for the other gateway being alive; empty if nothing does."""
        cluster = self._cluster
        snapshot = cluster.hot.snapshot()
        heard = [path["name"] for path in snapshot["paths"] if path["state"] == "up"]
        if heard or (snapshot["peer"] and snapshot["peer"]["role"] != "unknown"):
            return f"it is heard on {heard[0]}" if heard else "it is heard"
        for vip in cluster.require_heads().applied.settings.virtual_ips:
            address = str(vip.address.ip)
            if cluster.hot.probe_address(vip.port, address, PROBE_S):
                return f"something else answers at {address}"
        try:
            self._exchange.ask("hello", timeout_s=2.0)
        except ClusterError:
            return ""
        return "its agent answers"

    def _go_on_alone(self, other: str) -> str:
        """Go on without the other gateway, with a new key: it knows the old one. Return its name."""
        cluster = self._cluster
        with cluster.state_lock:
            heads = cluster.require_heads()
            gone = heads.applied.settings.peer_of(cluster.node_id)
            key = new_key(cluster.store.keys())
            settings = without(heads.applied.settings, other)
            author = cluster.config.node_name
            revision = revisions.draft(heads, settings, cluster.node_id, author, wall_time(), key)
            lineage = (heads.applied.digest, *heads.lineage)[: revisions.MAX_LINEAGE]
            cluster.store.set_peer(None)  # before what must not have been half done
            cluster.store.set_pairing(None)
            cluster.put_in_force(Heads(revision, lineage), keys=[key])
        return gone.name if gone else "The other gateway"
