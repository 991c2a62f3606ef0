"""Two whole agents in one process with all that talks to the other gateway, and what an attacker holds of them."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Hashable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from flask_hsmx_cluster.agent.data.side import CREDENTIALS
from flask_hsmx_cluster.agent.files.side import FilesSide
from flask_hsmx_cluster.agent.notify.collect import MOST_TOLD
from flask_hsmx_cluster.agent.notify.side import TAKEN_MOST
from flask_hsmx_cluster.agent.peer.sealed import MAX_REMEMBERED, open_answer, seal_request
from flask_hsmx_cluster.agent.preflight import data as preflight_data
from flask_hsmx_cluster.agent.revisions.model import MAX_LINEAGE, Revision
from flask_hsmx_cluster.agent.services.pppoe import PPPoESide
from flask_hsmx_cluster.errors import ClusterError, NetworkError, RequestRefused
from flask_hsmx_cluster.files.declare import Files, Tree
from flask_hsmx_cluster.notify.news import News
from flask_hsmx_cluster.settings.pppoe import MAX_CONNECTIONS
from tests.unit.gateways import World, in_memory, without_real_links
from tests.unit.test_data_desk import Link
from tests.unit.test_forming_data import Database

from .target import Broken

NEWS = News("event", "1", "took_over", "B", "info", "B is active.", at="2030-05-06T07:08:09+00:00").named()
ADDRESS_OF = {"A": "10.9.0.1", "B": "10.9.0.2"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmkCb1ULZ1jVLcOB0eS9IU0gDqzvYIQbYyGxQb0pZcM"
_SHOWN = {"digest": "1" * 64, "files": 1, "size": 9, "left_out": 0, "unreadable": [], "unreadable_count": 0}


class Replicator(Database):
    """Answers what the desk asks, too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._desk = Link(2)

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        if verb in ("survey", "layouts", "configure", "forget"):
            return super().ask(verb, timeout_s, **arguments)
        self._desk.asked.clear()
        return self._desk.ask(verb, timeout_s, **arguments)


class FilesProcess:
    """Takes every order of the agent's side of the files."""

    def alive(self) -> bool:
        return True

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        if verb == "configure":
            return {"key": KEY, "secret": "5" * 64}
        return {"trees": {"portal": _SHOWN}, "last": {}} if verb == "look" else {}


class FuzzPair:
    """Gateways A and B; the fuzzer plays B, with all of B's keys, or a stranger.

    :param formed: whether they are a cluster already, of which A is the active one.
    """

    def __init__(self, formed: bool = True) -> None:
        self._stack = ExitStack()
        patch = pytest.MonkeyPatch()
        self._stack.callback(patch.undo)
        without_real_links(patch)
        patch.setattr(preflight_data, "_silent", lambda route, port: "")
        patch.setattr("flask_hsmx_cluster.network.nftables.ruleset", _no_ruleset)
        self._root = self._stack.enter_context(in_memory())
        self._formed, self._number = formed, 0
        self._begin()
        if formed:
            self.world.form()
            self._share()
        self._kept = self._root / "kept"
        self._save()

    def _begin(self) -> None:
        self._number += 1
        self.replicators = {name: Replicator(number) for number, name in enumerate("AB")}
        self.place = self._root / str(self._number)
        self.place.mkdir(exist_ok=True)
        self.world = World(self.place, self.replicators)
        for name, gateway in self.world.gateways.items():
            (self.place / name / CREDENTIALS).write_text(json.dumps({"dsn": "dbname=hsmx", "certificate": ""}))
            service, config = gateway.service, gateway.config
            files = Files((Tree("portal", "/srv/portal"),))
            object.__setattr__(config, "files", files.to_json())
            side = FilesSide(service._cluster, service._exchange, FilesProcess(), lambda job: None)  # type: ignore[arg-type]
            side._own = {"key": KEY, "secret": "5" * 64}
            service._files = side
            shown: Any = SimpleNamespace(shown=lambda key: {}, command=lambda *one, **wish: None)
            PPPoESide(service._cluster, service._exchange, shown)
            service._notifier._send = _not_sent  # type: ignore[assignment]

    def _share(self) -> None:
        for replicator in self.replicators.values():
            replicator.shared = True

    def _save(self) -> None:
        for gateway in self.world.gateways.values():
            gateway.store.close()
        shutil.copytree(self.place, self._kept)
        self.renew()

    def renew(self) -> None:
        """Start both agents anew on what they had in the beginning."""
        for gateway in self.world.gateways.values():
            if gateway.service._desk is not None:
                gateway.service._desk._sweep.stop()
            gateway.store.close()
        if self._number > 1:
            shutil.rmtree(self.place)
        shutil.copytree(self._kept, self._root / str(self._number + 1))
        self._begin()
        if self._formed:
            self._share()
            self.world.a.hot.role, self.world.b.hot.role = "active", "passive"
        self._changes, self._dump = ("", -1), {}

    def close(self) -> None:
        """Let go of everything."""
        self.world.close()
        self._stack.close()

    # -- what must not change -----------------------------------------------------------------------------------

    def stored(self, *but: str, gateway: str = "A") -> Hashable:
        """Return what a gateway has stored, without some tables."""
        connection: Any = self.world.gateways[gateway].store._engine.raw_connection().driver_connection
        if (gateway, connection.total_changes) != self._changes:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            self._dump = {name: tuple(connection.execute(f"SELECT * FROM {name}")) for name in names}
            self._changes = gateway, connection.total_changes
        return tuple((name, rows) for name, rows in self._dump.items() if name not in but)

    # -- what the attacker does -----------------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[str, str]:
        """Return both node ids."""
        return self.world.a.service._cluster.node_id, self.world.b.service._cluster.node_id

    def sealed(self, payload: bytes) -> bytes:
        """Return a request of B to A, sealed with the cluster's key for A's present incarnation."""
        own, other = self.ids
        receiver = self.world.a.service._exchange._receiver_of(own)
        return seal_request(self.world.b.store.keys()[0], other, own, receiver.incarnation, payload)[0]

    def ask_a(self, payload: bytes) -> Any:
        """Let B ask A for anything; return what A answers."""
        own, other = self.ids
        exchange = self.world.a.service._exchange
        incarnation = exchange._receiver_of(own).incarnation
        data, request = seal_request(self.world.b.store.keys()[0], other, own, incarnation, payload)
        answer = self.world.a.service.peer(base64.b64encode(data).decode(), ADDRESS_OF["B"])["message"]
        return json.loads(open_answer(base64.b64decode(answer), request))

    def sealed_answer(self, request: bytes, answer: bytes) -> bytes:
        """Return an answer of B to a request of A."""
        exchange = self.world.b.service._exchange
        receiver = exchange._receiver_of(self.ids[1])
        opened = receiver.open_request(request, self.world.b.store.keys())
        return receiver.seal_challenge(opened) if opened.stale else receiver.seal_answer(opened, answer)

    def signed(self, payload: bytes) -> bytes:
        """Return a message with every settings revision in it signed again: who has the keys can sign anything."""
        if b'"signature"' not in payload:
            return payload
        try:
            return json.dumps(self._signed(json.loads(payload))).encode()
        except (ValueError, RecursionError):
            return payload

    def _signed(self, data: Any) -> Any:
        if isinstance(data, dict):
            found = {key: self._signed(value) for key, value in data.items()}
            if "signature" in found and "settings" in found:
                try:
                    return Revision.from_dict(found).signed(self.world.b.store.keys()[0]).to_dict()
                except ClusterError:
                    return found
            return found
        return [self._signed(one) for one in data] if isinstance(data, list) else data

    # -- what differs from run to run -------------------------------------------------------------------------------

    def generic(self, payload: bytes) -> bytes:
        """Return a message as it is kept: with names in place of ids and digests."""
        for name, value in self._names().items():
            payload = payload.replace(value, name)
        return payload

    def specific(self, payload: bytes) -> bytes:
        """Return a message as it is sent."""
        for name, value in self._names().items() if b"@" in payload else ():
            payload = payload.replace(name, value)
        return payload

    def _names(self) -> dict[bytes, bytes]:
        heads, (own, other) = self.world.a.store.heads(), self.ids
        found = {b"@A": own, b"@B": other}
        if heads is not None:
            found |= {b"@HEAD": heads.applied.digest, b"@CLUSTER": heads.applied.settings.cluster_id}
            if heads.prepared is not None:
                found[b"@PREPARED"] = heads.prepared.digest
        return {name: value.encode() for name, value in found.items()}

    def check_bounds(self) -> None:
        """Raise :class:`Broken` if gateway A remembers more of what it was told than it should."""
        service = self.world.a.service
        exchange, notifier, heads = service._exchange, service._notifier, service._cluster.heads()
        for what, size, most in (
            ("incarnations", len(exchange._incarnations), 1),
            ("requests", len(exchange._receiver._seen) if exchange._receiver else 0, MAX_REMEMBERED),
            ("news", len(notifier._taken), TAKEN_MOST),
            ("alarms", len(notifier._told[2]) if notifier._told else 0, MOST_TOLD),
            ("sessions", len(service._cluster.peer_sessions), MAX_CONNECTIONS),
            ("forebears", len(heads.lineage) if heads else 0, MAX_LINEAGE),
        ):
            if size > most:
                raise Broken(f"{size} {what} of the other gateway are remembered, {most} should be")


def conversation(pair: FuzzPair) -> list[tuple[str, Any]]:
    """Return real requests and answers of B's agent to A's, in the clear: each as its verb and the whole message."""
    found: list[tuple[str, Any]] = []
    service = pair.world.b.service
    exchange = service._exchange
    ask_sealed = exchange._ask_sealed

    def listen(target: Any, payload: bytes, timeout_s: float, repeatable: bool) -> bytes:
        answer = ask_sealed(target, payload, timeout_s, repeatable)
        found.append((json.loads(payload)["verb"], json.loads(payload)))
        found.append(("", json.loads(answer)))
        return answer

    with mock.patch.object(exchange, "_ask_sealed", listen):
        for job in _jobs(service):
            try:
                job()
            except ClusterError:
                continue
    return found


def _jobs(service: Any) -> list[Any]:
    revisions = service._revisions
    own, other = service._cluster.node_id, service._exchange.peer().node_id
    ask = service._exchange.ask

    def edit() -> None:
        held = service.settings()
        held["settings"]["advanced"]["heartbeat_ms"] += 50
        service.propose(held["settings"], held["revision"])

    def sync() -> None:
        revisions._peer_differs = True
        revisions.deliver()

    return [
        service.peer_ports, edit, sync, lambda: service.firewall([]), lambda: service._firewall.preflight(_Report()),
        service.renewal_look, lambda: service.renewal_begin("certificate"), service.renewal_end,
        lambda: ask("news", alarms=[], events=[], waiting={}),
        lambda: ask("news", alarms=[{"key": "path", "severity": "warning", "text": "No heartbeats", "remedy": ""}],
                    events=[NEWS.as_dict()], waiting={"noc": [NEWS.as_dict()]}),
        lambda: ask("files_facts", facts={"key": KEY, "host_key": KEY, "secret": "5" * 64}),
        lambda: ask("files_state", trees={"portal": "1" * 64}),
        lambda: ask("files_changed", incarnation="x", revision=3, trees={"portal": ["a/b", "c"]}),
        lambda: ask("pppoe", name="isp", connect=True),
        lambda: ask("pppoe_sessions", sessions=[
            {"name": "isp", "session": 7, "concentrator_mac": "02:00:00:00:00:09", "mac": "02:00:00:00:00:08"}]),
        lambda: ask("data_alarms", alarms=[{"key": "k", "severity": "warning", "text": "t", "remedy": "r"}]),
        lambda: ask("data_facts"), lambda: ask("data_fork"), lambda: ask("data_look"),
        lambda: service.quarantine(node=other), lambda: service.quarantine_row(1, other),
        lambda: service.discard([1], other), lambda: service.reapply(1, node=other), lambda: service.swept(other),
        lambda: service.sweep("discard", upto=2, node=other), lambda: service.sweep_stop(other),
        lambda: service.aside(other), lambda: service.aside_delete("hsmx_cluster_aside", other),
        lambda: service.quarantine_value(1, "new_row", "code", 0, other), service.verify, service.verified,
        lambda: ask("joined", digest="0" * 64), lambda: ask("hello"), lambda: ask("left"),
        lambda: ask("abort", digest=own), lambda: ask("failover"),
    ]  # fmt: skip


class _Report:
    """Takes findings and forgets them."""

    checked: dict[str, bool] = {}

    def add(self, _key: str, found: Any) -> None:
        list(found)


def _no_ruleset() -> list[Any]:
    raise NetworkError("The packet rules cannot be read here.")


def _not_sent(_target: Any, _message: Any) -> Any:
    raise RequestRefused("Nothing is sent here.")
