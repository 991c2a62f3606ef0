"""Joining: what the gateway on which the code is typed does (the conversation is described in :mod:`.forming`)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from ...control import read_json, result_from_dict
from ...errors import ChecksFailed, ClusterError, Finding, PairingFailed, PeerUnavailable, RequestRefused
from ...settings import passwords, rules
from ...settings.model import Node, Settings, from_dict, to_dict
from ..cluster import Cluster
from ..data.side import DataSide
from ..membership import Key
from ..preflight import checks as preflight
from ..preflight import data as preflight_data
from ..preflight import ports as preflight_ports
from ..preflight.checks import EchoWindow, Facts, Report, routes_between
from ..preflight.data import DatabaseFacts, Side
from ..preflight.files import check_files
from ..preflight.network_managers import check_managers, managers_of
from ..revisions import model as revisions
from ..revisions.model import Heads, Revision, RevisionRefused
from . import pairing
from .client import Post, Route, parse_address
from .exchange import Exchange, Target, peer_facts
from .forming import Ends, with_joiner

log = logging.getLogger(__name__)

#: One request inside the pairing channel is answered within this time, s.
ANSWER_TIMEOUT_S = 15.0
COMMIT_TRIES = 3


class _Conversation:
    """Requests inside the pairing channel, each repeated byte by byte when its answer is lost."""

    def __init__(self, joiner: pairing.Joiner, post: Post, route: Route, port: int, path: str) -> None:
        self._joiner, self._post, self._route, self._port, self._path = joiner, post, route, port, path

    def begin(self) -> None:
        """Exchange keys."""
        self._joiner.on_offer(self._send(self._joiner.hello(), 1))

    def ask(self, verb: str, tries: int = 2, **arguments: Any) -> dict[str, Any]:
        """Return the creator's result.

        :raises ClusterError: it refused, or cannot be reached.
        """
        sealed = self._joiner.request(json.dumps({"verb": verb, "arguments": arguments}).encode())
        answer = self._joiner.on_answer(self._send(sealed, tries))
        try:
            return result_from_dict(read_json(answer))
        except ValueError:
            raise PairingFailed("The other gateway's answer cannot be read.", "Are both up to date?") from None

    def _send(self, data: bytes, tries: int) -> bytes:
        for left in reversed(range(tries)):
            try:
                return self._post((self._route,), self._port, self._path, data, ANSWER_TIMEOUT_S, True)
            except PeerUnavailable:
                if not left:
                    raise
        raise AssertionError("unreachable: tries is positive")


class Joining:
    """Joins another gateway's cluster.

    :param post: sends bytes to the other gateway.
    :param data: None where the database is never shared.
    """

    def __init__(self, cluster: Cluster, exchange: Exchange, post: Post, data: DataSide | None = None) -> None:
        self._cluster = cluster
        self._data = data
        self._exchange = exchange
        self._post = post

    def join(self, address: str, code: str, ends: Ends) -> dict[str, Any]:
        """Join the cluster of the gateway at an address; refused, nothing is changed on either."""
        cluster = self._cluster
        with cluster.change():
            cluster.require_unformed()
            host, port = parse_address(address, cluster.config.http_port)
            secret = pairing.code_hash(code)
            cluster.become_own_machine()
            own = cluster.facts(cluster.hot.ports())
            self._check_ends(own, ends)
            joiner = pairing.Joiner(own.node_id, secret)
            route = Route(_source_for(host, ends), host)
            talk = _Conversation(joiner, self._post, route, port, cluster.config.pair_path)
            talk.begin()
            told = talk.ask("introduce", facts=own.to_dict(), ends=_ends_dict(ends))
            try:
                creator = Facts.from_dict(told["facts"])
                settings = with_joiner(from_dict(told["settings"]), Node(own.node_id, own.name), ends)
                member = told["member"] is True
            except (KeyError, ValueError):
                raise PairingFailed("The other gateway's answer cannot be read.", "Are both up to date?") from None
            report = self._preflight(talk, own, creator, settings, member)
            if report.blocking:
                with suppress(ClusterError):
                    talk.ask("abort", tries=1)
                raise ChecksFailed(report.findings)
            self._agree(talk, settings, host, port)
            for finding in report.findings:  # warnings: what stops nothing is said all the same
                cluster.store.record("preflight", "warning", finding.text, [finding.remedy])
            warnings = [finding.as_dict() for finding in report.findings]
            return {"settings": passwords.masked(to_dict(settings)), "peer": creator.name, "findings": warnings}

    def finish(self) -> str:
        """Find out whether an agreed join is in force on the other gateway, and follow; a periodic job."""
        if self._cluster.foreign or self._cluster.store.joining() is None:
            return "nothing to finish"
        try:
            with self._cluster.change():
                joining = self._cluster.store.joining()
                return self._settle(*joining) if joining else "nothing to finish"
        except (PeerUnavailable, RequestRefused) as error:
            return f"not yet: {error.message}"

    def _check_ends(self, own: Facts, ends: Ends) -> None:
        """Check what can be checked without the other gateway."""
        state_dir, addresses = self._cluster.config.state_dir, [str(end.address.ip) for end in ends.values()]
        findings = [
            *preflight.check_disk(state_dir),
            *(finding for kind, end in ends.items() for finding in rules.check_end(own.ports, own.name, kind, end)),
            *preflight.check_heartbeat_port(addresses, own.heartbeat_port),
        ]
        if "sync" not in ends:
            findings.append(
                Finding(
                    "sync_missing", "There is no synchronisation link.", "Choose this gateway's port.", "ends.sync.port"
                )
            )
        if any(finding.blocking for finding in findings):
            raise ChecksFailed(findings)

    def _preflight(self, talk: _Conversation, own: Facts, creator: Facts, settings: Settings, member: bool) -> Report:
        report, probe = Report(), self._cluster.hot.probe_address
        report.add("membership", list(preflight.check_membership(False, creator)))
        report.add("versions", list(preflight.check_versions(own, creator)))
        report.add("clock", list(preflight.check_clock(own.wall_s, creator)))
        report.add("port_names", list(preflight.check_port_names(settings, own, creator)))
        report.add("settings", preflight.check_settings(settings, own, creator))
        report.add("carrier", list(preflight.check_carrier(settings, own.node_id, own.ports, joining=True)))
        report.add("managers", list(check_managers(managers_of(settings), bool(settings.routes))))
        if report.blocking:
            return report  # what follows would only repeat it in other words
        report.add("same_network", list(preflight.check_same_network(settings, creator, probe)))
        routes = routes_between(settings, own.node_id, creator.node_id)
        report.add("http", list(preflight.check_http(routes, creator)))
        config = self._cluster.config
        report.add("files", list(check_files(config)))
        if not report.blocking:
            report.add("ports", list(preflight_ports.check_files(routes, own, creator, config)))
        report.add("database", list(self._check_database(talk, own, creator, settings)))
        if not member:  # a member's heartbeat port is in use, and was tried before
            heard, peer_heard = self._echo(talk, routes, own.heartbeat_port)
            found = preflight.check_heartbeats(routes, own.heartbeat_port, own.name, creator, heard, peer_heard)
            report.add("heartbeats", list(found))
        return report

    def _check_database(
        self, talk: _Conversation, own: Facts, creator: Facts, settings: Settings
    ) -> Iterator[Finding]:
        """Tell each other of the databases, and yield what keeps them from being kept as one."""
        here = self._data.survey(settings) if self._data else None
        answer = talk.ask("survey", database=None if here is None else here.to_dict())
        try:
            told = answer["database"]
            there = None if told is None else DatabaseFacts.from_dict(told)
            joiner, other = Side(own.name, here), Side(creator.name, there)
            yield from preflight_data.check_own(joiner)
            yield from preflight_data.check_own(other)
            yield from preflight_data.check_both(joiner, other)
            if self._data is None or here is None or there is None:
                return
            if names := preflight_data.tables_that_differ(here, there):
                theirs = preflight_data.layouts_from(talk.ask("layouts", names=names)["layouts"])
                yield from preflight_data.check_layouts(own.name, self._data.layouts(names), creator.name, theirs)
        except (KeyError, ValueError):
            raise PairingFailed("The other gateway's answer cannot be read.", "Are both up to date?") from None
        yield from preflight_data.check_port(
            routes_between(settings, own.node_id, creator.node_id), there.port, creator.name
        )

    @staticmethod
    def _echo(talk: _Conversation, routes: Mapping[str, Route], port: int) -> tuple[list[str], list[str]]:
        token = os.urandom(32)
        window = EchoWindow(routes, port, token)
        window.open()
        try:
            talk.ask("echo", token=token.hex())
            window.start()
        finally:
            heard = window.result()
        told = talk.ask("echo_result").get("heard", [])
        if not isinstance(told, list):
            raise PairingFailed("The other gateway's answer cannot be read.", "Are both up to date?")
        return heard, [str(kind) for kind in told]

    def _agree(self, talk: _Conversation, settings: Settings, host: str, port: int) -> None:
        granted = talk.ask("propose")
        try:
            revision = Revision.from_dict(granted["revision"])
            keys = tuple(_key(key) for key in granted["keys"][:8])
            facts = peer_facts(granted["facts"])
            lineage = tuple(str(digest)[:64] for digest in granted["lineage"][: revisions.MAX_LINEAGE])
            revision.verify(keys)
        except (KeyError, TypeError, ValueError, AttributeError, RevisionRefused):
            facts = None
        if facts is None or revision.settings != settings:
            with suppress(ClusterError):
                talk.ask("abort", tries=1)
            raise PairingFailed("The other gateway's settings have changed meanwhile.", "Repeat the join.")
        digest = revision.digest
        self._cluster.store.begin_joining(revision, keys, facts, host, port)
        try:
            talk.ask("commit", COMMIT_TRIES, digest=digest)
        except ClusterError as error:
            # Perhaps it was carried out and only the answer is lost: only the other gateway knows.
            log.warning("The answer to the commit is missing: %s", error.message)
            if self._settle(revision, host, port) != "joined":
                raise
            return
        self._come_into_force(Heads(revision, lineage, peer_digest=digest))

    def _settle(self, revision: Revision, host: str, port: int) -> str:
        cluster = self._cluster
        facts = cluster.store.peer()
        if facts is None:
            cluster.store.forget_cluster()
            return "given up: it is not known whom to ask"
        between = routes_between(revision.settings, cluster.node_id, facts.node_id)
        routes = (Route("", host), *between.values())
        target = Target(facts.node_id, port, routes, cluster.store.keys())
        try:
            answer = self._exchange.ask("joined", timeout_s=4.0, target=target, digest=revision.digest)
        except PeerUnavailable as error:
            raise PeerUnavailable(
                f"Both agreed, but the other gateway's last answer is missing: {error.message}",
                "This gateway goes on asking and joins by itself; or repeat the join.",
            ) from None
        if answer.get("member") is not True:
            cluster.store.forget_cluster()
            return "given up: the other gateway has not put it in force"
        self._come_into_force(Heads(revision, peer_digest=revision.digest))
        return "joined"

    def _come_into_force(self, heads: Heads) -> None:
        cluster = self._cluster
        with cluster.state_lock:
            try:
                cluster.hot.apply(cluster.membership(heads))
            except ClusterError:
                # In force there, impossible here: leave again, so that the other one does not wait for us.
                cluster.hot.apply(None)
                cluster.store.finish_joining(heads)
                with suppress(ClusterError):
                    self._exchange.ask("left", timeout_s=4.0)
                cluster.store.forget_cluster()
                raise
            cluster.store.finish_joining(heads)
        peer = cluster.store.peer()
        cluster.store.record("joined", "info", f"This gateway has joined {peer.name if peer else 'a cluster'}.")


def _key(data: Any) -> Key:
    key = Key(int(data["key_id"]), bytes.fromhex(data["secret"]))
    if not 1 <= key.key_id <= 255 or len(key.secret) != 32:
        raise ValueError("key")
    return key


def _ends_dict(ends: Ends) -> dict[str, Any]:
    return {kind: {"port": end.port, "address": str(end.address)} for kind, end in ends.items()}


def _source_for(host: str, ends: Ends) -> str:
    """Return the own address whose network an address is in, or '' for whichever the kernel takes."""
    address = ip_address(host)
    return next((str(end.address.ip) for end in ends.values() if address in end.address.network), "")
