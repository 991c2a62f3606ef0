"""Forming: how a second gateway joins; here the side that shows the code, in :mod:`.joining` the other.

::

    joiner                                   creator
    introduce  facts, ends         ->        facts, settings
    survey     own database        ->        its database; where both look different, `layouts` asks for more
    echo       token               ->        (both send and listen on every link)
    echo_result                    ->        which links were heard
    propose                        ->        checks its side, prepares; cluster keys and the signed settings
    (stores what was agreed)
    commit     digest              ->        puts the settings in force
    (puts the settings in force)

Until ``commit`` nothing has changed on either side but a note that is dropped by itself. If the answer to
``commit`` is lost, the joiner repeats it, then asks again with the cluster key, also after a restart, until it
knows: :meth:`.joining.Joining.finish`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any

from ...control import read_json
from ...errors import ChecksFailed, ClusterError, Finding, RequestRefused
from ...network.clock import boot_time_s
from ...settings import interfaces
from ...settings.model import PREFERRED_DELAY_MIN, Link, LinkEnd, LinkKind, Node, Settings, to_dict
from ..cluster import Cluster
from ..data.side import DataSide
from ..node_store import PairingState, PeerFacts, wall_time
from ..preflight import checks as preflight
from ..preflight import data as preflight_data
from ..preflight import ports as preflight_ports
from ..preflight.checks import EchoWindow, Facts, Report, routes_between
from ..preflight.data import DatabaseFacts, Side
from ..revisions import model as revisions
from ..revisions.model import Heads
from . import pairing
from .exchange import Exchange

log = logging.getLogger(__name__)

#: How long a pairing message waits for another one, s.
PAIRING_LOCK_S = 5.0

LINK_KINDS: tuple[LinkKind, ...] = ("sync", "backup", "service")

Ends = Mapping[LinkKind, LinkEnd]


def ends_from(data: Any) -> dict[LinkKind, LinkEnd]:
    """Return the ends of links from their dict form.

    :raises ChecksFailed: they are malformed; the finding names the field.
    """
    if not isinstance(data, dict) or not set(data) <= set(LINK_KINDS):
        raise ChecksFailed([Finding("malformed", "The ports and addresses of the links cannot be read.",
                                    "Give port and address of each link: sync, backup, service.")])  # fmt: skip
    ends: dict[LinkKind, LinkEnd] = {}
    for kind in LINK_KINDS:
        end = data.get(kind)
        if end is None:
            continue
        try:
            port, address = end["port"], ip_interface(end["address"])
            if not isinstance(port, str) or len(port) > 64 or not isinstance(end["address"], str):
                raise ValueError("port")
        except (KeyError, TypeError, ValueError):
            raise ChecksFailed(
                [
                    Finding(
                        "address",
                        f"The {kind} link's port or address cannot be read.",
                        "Enter a port and an address with prefix length, for example 192.0.2.10/24.",
                        f"ends.{kind}.address",
                    )
                ]
            ) from None
        ends[kind] = LinkEnd(port, address)
    return ends


def with_joiner(settings: Settings, node: Node, ends: Ends) -> Settings:
    """Return settings with a second gateway and its ends of the links in them."""
    others = tuple(one for one in settings.nodes if one.node_id != node.node_id)
    links = {link.kind: {key: end for key, end in link.ends.items() if key != node.node_id} for link in settings.links}
    for kind, end in ends.items():
        links.setdefault(kind, {})[node.node_id] = end
    return replace(
        settings,
        nodes=(*others, node),
        links=tuple(Link(kind, links[kind]) for kind in LINK_KINDS if kind in links),
    )


def without(settings: Settings, node_id: str) -> Settings:
    """Return settings with a gateway, its ends of the links and its own addresses taken out."""
    return replace(
        settings,
        nodes=tuple(node for node in settings.nodes if node.node_id != node_id),
        links=tuple(
            Link(link.kind, {key: end for key, end in link.ends.items() if key != node_id}) for link in settings.links
        ),
        interfaces=interfaces.without(settings.interfaces, node_id),
        advanced=replace(settings.advanced, preferred="", preferred_delay_min=PREFERRED_DELAY_MIN[1]),
    )


@dataclass
class _Guest:
    """The gateway that is joining.

    :param database: None as long as it has not told of one, or if it shares none.
    """

    facts: Facts
    ends: Ends
    window: EchoWindow | None = None
    database: DatabaseFacts | None = None


class Creator:
    """The gateway that shows pairing codes and lets another one join.

    :param data: None where the database is never shared.
    """

    def __init__(self, cluster: Cluster, exchange: Exchange, data: DataSide | None = None) -> None:
        self._cluster = cluster
        self._data = data
        self._lock = threading.Lock()
        self._offerer: pairing.Offerer | None = None
        self._guest: _Guest | None = None
        self._window: EchoWindow | None = None
        exchange.handle("joined", self._on_joined, strangers=True)

    def new_code(self) -> dict[str, Any]:
        """Return a new code; the former one is dead.

        :raises RequestRefused: not in a cluster, or it has two gateways.
        """
        heads = self._cluster.require_heads()
        if self._cluster.has_peer(heads):
            raise RequestRefused(
                "The cluster has two gateways already.",
                "A gateway that is to be replaced must leave the cluster first.",
            )
        code = pairing.new_code()
        state = PairingState(
            pairing.code_hash(code), boot_time_s() + pairing.LIFETIME_S, attempts_left=pairing.ATTEMPTS
        )
        with self._lock:
            self._cluster.store.set_pairing(state)
            self._offerer = None
        return {"code": code, "expires_in_s": pairing.LIFETIME_S}

    def status(self) -> dict[str, Any] | None:
        """Return the state of the living code as the verb ``status`` does."""
        state = self._cluster.store.pairing()
        left_s = state.expires_at_s - boot_time_s() if state else 0
        if state is None or left_s <= 0 or state.attempts_left <= 0 or state.joiner:
            return None
        return {"expires_in_s": int(left_s), "attempts_left": state.attempts_left}

    def expire(self) -> None:
        """Forget a dead code and its keys; a periodic job."""
        state = self._cluster.store.pairing()
        if state is not None and boot_time_s() >= state.expires_at_s:
            with self._lock:
                self._cluster.store.set_pairing(None)
                self._offerer = self._guest = None

    def receive(self, data: bytes) -> bytes:
        """Return the answer to a message of the public pairing endpoint."""
        if not self._lock.acquire(timeout=PAIRING_LOCK_S):
            return pairing.busy()
        try:
            offerer = self._living_offerer()
            return offerer.receive(data, boot_time_s(), self._handle) if offerer else pairing.refused()
        finally:
            self._lock.release()

    def _living_offerer(self) -> pairing.Offerer | None:
        state = self._cluster.store.pairing()
        if state is None or self._cluster.heads() is None:
            self._offerer = None
        elif self._offerer is None:
            self._offerer = pairing.Offerer(
                self._cluster.node_id,
                state.code_hash,
                state.expires_at_s,
                state.attempts_left,
                state.joiner,
                self._on_attempt,
            )
        return self._offerer

    def _on_attempt(self, left: int) -> None:
        store = self._cluster.store
        state = store.pairing()
        if state is not None:
            store.set_pairing(replace(state, attempts_left=left))
        store.record(
            "pairing_attempt",
            "warning",
            "A wrong pairing code was sent to this gateway.",
            [f"{left} attempts are left" if left else "the code is dead now"],
        )

    def _handle(self, joiner: str, payload: bytes) -> bytes:
        """Answer a request of a joiner that knows the code; never raises."""
        handlers = {
            "introduce": self._introduce,
            "survey": self._survey,
            "layouts": self._layouts,
            "echo": self._echo,
            "echo_result": self._echo_result,
            "propose": self._propose,
            "commit": self._commit,
            "abort": self._abort,
        }
        try:
            data = read_json(payload)
            result = handlers[data["verb"]](joiner, data["arguments"])
            answer: dict[str, Any] = {"ok": True, "result": result}
        except ClusterError as error:
            answer = {"ok": False, "error": error.as_dict()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("A joining gateway sent what cannot be understood: %r", error)
            refused = RequestRefused("The other gateway does not understand the request.", "Update its firmware.")
            answer = {"ok": False, "error": refused.as_dict()}
        except Exception:
            log.exception("A step of forming failed")
            refused = RequestRefused("The other gateway failed to carry out the request.", "See its agent's log.")
            answer = {"ok": False, "error": refused.as_dict()}
        return json.dumps(answer).encode()

    def _introduce(self, joiner: str, arguments: dict[str, Any]) -> dict[str, Any]:
        facts = Facts.from_dict(arguments["facts"])
        if facts.node_id != joiner:
            raise ValueError("node id")
        heads = self._cluster.require_heads()
        own = self._cluster.facts(self._cluster.hot.ports())
        if self._has_other(heads, joiner):
            raise ChecksFailed(list(preflight.check_membership(False, own)))
        self._guest = _Guest(facts, ends_from(arguments["ends"]))
        member = any(node.node_id == joiner for node in heads.applied.settings.nodes)
        # one that is a member already has lost an answer: its former self does not count as another gateway
        told = replace(own, in_cluster=False)
        return {"facts": told.to_dict(), "settings": to_dict(heads.applied.settings), "member": member}

    def _survey(self, joiner: str, arguments: dict[str, Any]) -> dict[str, Any]:
        guest, told = self._guest_of(joiner), arguments["database"]
        guest.database = None if told is None else DatabaseFacts.from_dict(told)
        own = self._own_database(self._settings_with(guest)).database
        return {"database": None if own is None else own.to_dict()}

    def _layouts(self, joiner: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._guest_of(joiner)
        names = [str(name) for name in arguments["names"]][: preflight_data.LAYOUTS_MOST]
        found = self._data.layouts(names) if self._data else {}
        return {"layouts": [layout.to_dict() for layout in found.values()]}

    def _own_database(self, settings: Settings) -> Side:
        return Side(self._cluster.config.node_name, self._data.survey(settings) if self._data else None)

    def _echo(self, joiner: str, arguments: dict[str, Any]) -> dict[str, Any]:
        guest = self._guest_of(joiner)
        token = bytes.fromhex(arguments["token"])
        if len(token) != 32:
            raise ValueError("token")
        own_id = self._cluster.node_id
        routes = routes_between(self._settings_with(guest), own_id, joiner)
        if self._window is not None:
            self._window.result()  # one at a time: each has threads and sockets
        guest.window = self._window = EchoWindow(routes, self._cluster.config.heartbeat_port, token)
        guest.window.open()
        guest.window.start(2 * preflight.ECHO_WINDOW_S)
        return {}

    def _echo_result(self, joiner: str, _arguments: dict[str, Any]) -> dict[str, Any]:
        guest = self._guest_of(joiner)
        heard = guest.window.result() if guest.window else []
        return {"heard": heard}

    def _propose(self, joiner: str, _arguments: dict[str, Any]) -> dict[str, Any]:
        guest, cluster = self._guest_of(joiner), self._cluster
        settings = self._settings_with(guest)
        ports = cluster.hot.ports()
        own = cluster.facts(ports)
        report = Report()
        report.add("settings", preflight.check_settings(settings, own, guest.facts))
        report.add("carrier", list(preflight.check_carrier(settings, own.node_id, ports, joining=True)))
        report.add("disk", list(preflight.check_disk(cluster.config.state_dir)))
        report.add("versions", list(preflight.check_versions(own, guest.facts)))
        report.add("port_names", list(preflight.check_port_names(settings, own, guest.facts)))
        routes = routes_between(settings, own.node_id, joiner)
        report.add("http", list(preflight.check_http(routes, guest.facts)))
        report.add("database", list(self._check_database(guest, settings)))
        if report.blocking:
            raise ChecksFailed(report.findings)
        for finding in preflight_ports.check_files(routes, own, guest.facts, cluster.config):
            cluster.store.record("preflight", "warning", finding.text, [finding.remedy])
        with cluster.change(), cluster.state_lock:
            heads = cluster.require_heads()
            if heads.applied.settings == settings:
                revision, lineage = heads.applied, heads.lineage
            else:
                name, key = cluster.config.node_name, cluster.signing_key()
                drafted = revisions.draft(heads, settings, own.node_id, name, wall_time(), key)
                prepared = revisions.prepare(heads, drafted)
                cluster.store.save_heads(prepared)
                revision, lineage = drafted, (heads.applied.digest, *heads.lineage)[: revisions.MAX_LINEAGE]
        keys = cluster.store.keys()
        return {
            "revision": revision.to_dict(),
            "lineage": list(lineage),
            "keys": [{"key_id": one.key_id, "secret": one.secret.hex()} for one in keys],
            "facts": cluster.peer_facts_of_self().__dict__,
        }

    def _check_database(self, guest: _Guest, settings: Settings) -> Iterator[Finding]:
        """Yield what the joiner has found too, unless something changed; and whether its database can be reached."""
        own, other = self._own_database(settings), Side(guest.facts.name, guest.database)
        yield from preflight_data.check_own(own)
        yield from preflight_data.check_both(joiner=other, creator=own)
        if own.database is not None and guest.database is not None:
            routes = routes_between(settings, self._cluster.node_id, guest.facts.node_id)
            yield from preflight_data.check_port(routes, guest.database.port, guest.facts.name)

    def _commit(self, joiner: str, arguments: dict[str, Any]) -> dict[str, Any]:
        guest, cluster, digest = self._guest_of(joiner), self._cluster, str(arguments["digest"])
        facts = guest.facts
        with cluster.change(), cluster.state_lock:
            heads = cluster.require_heads()
            if heads.applied.digest != digest:
                former_peer = cluster.store.peer()
                applied = revisions.confirmed(revisions.apply(heads, digest), digest)
                cluster.store.set_peer(
                    PeerFacts(joiner, facts.name, facts.firmware, facts.version, facts.protocol, facts.http_port)
                )
                try:
                    cluster.put_in_force(applied)
                except BaseException:
                    cluster.store.set_peer(former_peer)
                    cluster.store.save_heads(revisions.abort(heads, digest))
                    raise
                cluster.store.record("joined", "info", f"{facts.name} has joined the cluster.")
            self._use_up_code(joiner)
        return {"done": True}

    def _abort(self, joiner: str, _arguments: dict[str, Any]) -> dict[str, Any]:
        self._guest_of(joiner)
        with self._cluster.state_lock:
            heads = self._cluster.require_heads()
            self._cluster.store.save_heads(revisions.drop_prepared(heads, self._cluster.node_id))
        self._guest = None
        return {}

    def _on_joined(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Answer a joiner that lost the answer to its commit. A *no* is final: the note is dropped with it."""
        digest = str(arguments.get("digest"))
        with self._cluster.state_lock:
            heads = self._cluster.require_heads()
            if heads.knows(digest):
                return {"member": True}
            self._cluster.store.save_heads(revisions.abort(heads, digest))
        return {"member": False}

    def _use_up_code(self, joiner: str) -> None:
        """Only this joiner may use the code from now on, to recover a lost answer."""
        state = self._cluster.store.pairing()
        if state is not None and not state.joiner:
            self._cluster.store.set_pairing(replace(state, joiner=joiner))
        if self._offerer is not None:
            self._offerer.joiner = joiner

    def _guest_of(self, joiner: str) -> _Guest:
        if self._guest is None or self._guest.facts.node_id != joiner:
            raise RequestRefused("Another gateway has begun to join meanwhile.", "Repeat it there or here.")
        return self._guest

    def _settings_with(self, guest: _Guest) -> Settings:
        settings = self._cluster.require_heads().applied.settings
        return with_joiner(settings, Node(guest.facts.node_id, guest.facts.name), guest.ends)

    @staticmethod
    def _has_other(heads: Heads, joiner: str) -> bool:
        nodes = heads.applied.settings.nodes
        return len(nodes) == 2 and all(node.node_id != joiner for node in nodes)
