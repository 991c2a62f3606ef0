"""This gateway's data as the agent tends it: who the other database is, who follows whom, and what people are shown."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ClusterError, Finding, PeerUnavailable, RequestRefused
from ...network.clock import boot_time_s
from ...replication.credentials import Credentials
from ...replication.layout import Layout
from ...replication.scope import Scope
from ...settings.model import Settings
from ..cluster import Cluster
from ..jobs import Periodic
from ..peer.client import Route
from ..peer.exchange import Exchange
from ..preflight import data as preflight_data
from ..preflight.data import DatabaseFacts
from . import told
from .checks import DataChecks
from .links import DataLinks, link_addresses
from .replicator import ReplicatorLink

log = logging.getLogger(__name__)

#: The agent's credentials for the database, in the state directory; ``flask cluster database prepare`` writes it.
CREDENTIALS = "database.json"
SET_UP_EVERY_S = 2.0
#: A database that is prepared later is noticed after this time at the latest, s.
NOTICE_EVERY_S = 5.0
TEND_EVERY_S = 1.0
FOLLOW_EVERY_S = 1.0
CHECK_EVERY_S = 60.0
COMPARE_EVERY_S = 1.0
#: The other gateway is asked for its facts this often, s; alarms are told to it at once.
FACTS_EVERY_S = 10.0
#: A hand-over refuses writes only after the other gateway has confirmed one within this time, s.
REHEARSED_S = 0.1
#: It is given this long to do so, s; each single write is waited for this long.
REHEARSE_MOST_S, REHEARSAL_MOST_S = 5.0, 1.0
REHEARSE_EVERY_S = 0.1
LINK_EVERY_S = 0.5


def database_is_prepared(state_dir: str) -> bool:
    """Return whether the database has been made ready, and so is to be shared."""
    return (Path(state_dir) / CREDENTIALS).exists()


class DataSide:
    """Keeps the replicator set up as the settings in force demand, and lets a passive gateway follow.

    A database that is prepared after the agent's start is noticed.

    :param link: the replicator.
    :param restarted: called after the replicator was started, to let the loop listen to it.
    """

    def __init__(
        self, cluster: Cluster, exchange: Exchange, link: ReplicatorLink, restarted: Callable[[], None] = lambda: None
    ) -> None:
        self._cluster = cluster
        self._exchange = exchange
        self._link = link
        self._restarted = restarted
        self._lock = threading.Lock()
        self._in_force: dict[str, Any] | None = None
        self._peer_facts: dict[str, Any] | None = None
        self._shown: dict[str, Any] = {}
        self._problem: ClusterError | None = None
        self._unseen: ClusterError | None = None
        self._scope = Scope.from_json(cluster.config.scope) if cluster.config.scope else Scope(())
        self._checks = DataChecks(cluster, link, lambda: self._scope)
        self._facts_at = float("-inf")
        self._when_shared: Callable[[], None] = lambda: None
        self._creating = False
        self._forgotten = False  # nothing of a cluster is in the database
        self._untold = False  # the heartbeat loop does not know yet that the database is shared
        self._links = DataLinks()
        exchange.handle("data_facts", lambda _sender, _arguments: self._facts())
        exchange.handle("data_alarms", self._on_alarms)
        exchange.handle("data_fork", lambda _sender, _arguments: self._fork())

    # -- jobs -------------------------------------------------------------------------------------------------

    def first_job(self) -> Periodic:
        """Return period (s) and work, by name, of the job that notices whether the database is shared."""
        return {"replication: set-up": (lambda: SET_UP_EVERY_S if self.shared else NOTICE_EVERY_S, self.set_up)}

    def when_shared(self, call: Callable[[], None]) -> None:
        """Call back once it is noticed that the database is shared; at once if it is: till then no other job runs."""
        if self.shared:
            call()
        else:
            self._when_shared = call

    def periodic_jobs(self) -> Periodic:
        """Return the same of the jobs that a shared database needs."""
        return {
            "replication: positions": (TEND_EVERY_S, self.tend),
            "replication: follow": (FOLLOW_EVERY_S, self.follow),
            "replication: checks": (CHECK_EVERY_S, self.check),
            "replication: compare declarations": (COMPARE_EVERY_S, self.compare),
            "replication: link": (LINK_EVERY_S, self.choose_link),
        }

    @property
    def shared(self) -> bool:
        """Whether the database is shared, as far as was noticed."""
        return self._link.shared

    def notice(self) -> bool:
        """Look whether the database has been prepared meanwhile, and return whether it is shared."""
        if not self._link.shared and database_is_prepared(self._cluster.config.state_dir):
            log.info("The database has been prepared: from now on it is shared")
            self._link.shared = self._untold = True
            self._when_shared()
        return self._link.shared

    def begin(self) -> None:
        """At the agent's start: be ready before the first claim, if the database is."""
        if not self.shared:
            return
        try:
            self.set_up()
        except (ClusterError, OSError) as error:
            log.warning("The database is not ready yet: %s", error)

    def set_up(self) -> str:
        """Start the replicator if it does not run, and tell it what has changed."""
        if not self.notice():
            return "the database is not prepared, and so not shared"
        with self._lock:
            try:
                result = self._set_up()
            except ClusterError as error:
                self._problem = error
                raise
        if self._untold:
            self._tell_loop()
        return result

    def _tell_loop(self) -> None:
        """Let the heartbeat loop know that the database is shared: a reign grants the right to write from now on."""
        with self._cluster.state_lock:
            if (membership := self._cluster.membership()) is not None:
                self._cluster.hot.apply(membership)
            self._untold = False

    def _set_up(self) -> str:
        found = self._credentials()
        self._run_replicator()
        heads = self._cluster.heads()
        if heads is None:
            if self._creating:
                return "a cluster is being created"
            if not self._forgotten:  # perhaps an earlier process left the cluster, and ended before this was done
                self._link.ask("forget", dsn=found.dsn, node_id=self._cluster.node_id)
                self._in_force = self._peer_facts = None
                self._forgotten = True
            self._checks.forget()
            return "not in a cluster"
        wanted = self._wanted(found.dsn, self._peer())
        if wanted != self._in_force:
            keep = self._cluster.role() == "active" or self._in_force is None
            self._forgotten = False
            self._link.ask("configure", 60.0, setup=wanted, keep_lease=keep)
            self._in_force = wanted
            self._link.ask("check", passive=self._cluster.role() == "passive")
        self._problem = None
        return "in force"

    def _run_replicator(self) -> None:
        if not self._link.alive():
            self._in_force = None
            self._link.start()
            self._restarted()

    @contextmanager
    def ready_alone(self) -> Iterator[None]:
        """Be ready before this gateway becomes active as the first one of a new cluster, where the data is shared.

        :raises ClusterError: the database is not as it has to be.
        """
        if not self.notice():
            yield
            return
        with self._lock:
            wanted = self._wanted(self._credentials().dsn, None)
            self._run_replicator()
            self._forgotten = False
            self._link.ask("configure", 60.0, setup=wanted, keep_lease=False)
            self._in_force = wanted
            self._creating = True  # the job that looks meanwhile finds no cluster yet
        try:
            yield
        finally:
            self._creating = False

    def _wanted(self, dsn: str, peer: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "dsn": dsn,
            "node_id": self._cluster.node_id,
            "name": self._cluster.config.node_name,
            "peer": peer,
            "scope": self._scope.to_json(),
            "synchronous": self._cluster.config.synchronous,
        }

    def _peer(self) -> dict[str, Any] | None:
        """Return what is known of the other gateway's database."""
        cluster = self._cluster
        heads = cluster.require_heads()
        settings = heads.applied.settings
        peer = settings.peer_of(cluster.node_id)
        if peer is None:
            self._peer_facts = None
            return None
        facts = self._ask_facts(peer.node_id)
        addresses = link_addresses(settings, peer.node_id)
        former = link_addresses(heads.there.settings, peer.node_id) if heads.there else []
        return {
            "node_id": peer.node_id,
            "name": peer.name,
            "addresses": addresses,
            "former": self._links.former(peer.node_id, addresses, former, boot_time_s()),
            "port": facts["port"] if facts else 5432,
            "database": facts["database"] if facts else "",
            "certificate": facts["certificate"] if facts else "",
            "system": facts["system"] if facts else "",
            "password": self._password(peer.node_id),
            "own_password": self._password(cluster.node_id),
        }

    def _ask_facts(self, peer_id: str) -> dict[str, Any] | None:
        if self._peer_facts is None or self._peer_facts["node_id"] != peer_id:
            try:
                answer = self._exchange.ask("data_facts", 3.0)
                self._peer_facts = {**told.facts(answer), "node_id": peer_id}
            except ClusterError as error:
                log.info("The other gateway's database is not known yet: %s", error.message)
                self._peer_facts = None
        return self._peer_facts

    def _password(self, server: str) -> str:
        """Return the password for the other gateway at a server: both can derive it, so it never travels."""
        key = self._cluster.signing_key()
        return hmac.digest(key.secret, b"postgresql " + server.encode(), hashlib.sha256).hex()

    def tend(self) -> str:
        """Do what the role demands every second, and look."""
        if self._in_force is None:
            self._update_alarms()
            return self._problem.message if self._problem else "not set up yet"
        peer = self._cluster.hot.snapshot()["peer"]
        role = self._cluster.role()
        try:
            if role == "active":
                self._link.ask("tend_active")
            elif role == "passive":
                self._link.ask("tend_passive")
            self._shown = self._link.ask("look")
            self._checks.seen(self._shown, role, peer is not None and peer["role"] == "active")
            self._unseen = None
        except ClusterError as error:  # what was seen last is no longer true
            self._unseen = error
            raise
        finally:
            self._update_alarms()
        return "synchronous" if self._shown["synchronous_standby"] else "in order"

    def follow(self) -> str:
        """On the passive gateway: begin to follow the active one, if nothing is followed yet."""
        if self._in_force is None or self._in_force["peer"] is None:
            return "no other gateway"
        if self._cluster.role() != "passive":
            return "this gateway is not passive"
        shown = self._shown
        if shown.get("following", {}).get("under_way"):
            return str(shown["following"]["step"])
        if shown.get("follows") and not shown["following"]["error"]:
            return "follows"
        fork = told.fork(self._exchange.ask("data_fork", 5.0))
        if fork["role"] != "active":
            return "the other gateway is not active"
        self._link.ask("follow", fork={key: fork[key] for key in ("term", "lsn", "bulk_lsn", "own_lsn", "system")})
        self._shown = self._link.ask("look")
        return "begins to follow"

    def check(self) -> str:
        """Have the database looked at again: what a migration, an operator or a full disk may have done."""
        if self._in_force is None:
            return "not set up yet"
        found = self._checks.run(self._cluster.role())
        if found["renew"]:  # tables were made, or lost their guard
            with self._lock:
                if (wanted := self._in_force) is not None:
                    self._link.ask("configure", 60.0, setup=wanted, keep_lease=True)
        if found["error"]:
            raise RequestRefused(found["error"])
        words = [*found["done"], f"{len(found['findings'])} findings" if found["findings"] else ""]
        return "; ".join(filter(None, words)) or "in order"

    def choose_link(self) -> str:
        """On the passive gateway: let the data come over a link over which heartbeats come."""
        peer = self._in_force["peer"] if self._in_force else None
        if peer is None:
            return "no other gateway"
        states = {path["remote"]: path["state"] for path in self._cluster.hot.snapshot()["paths"]}
        order = self._links.order(peer["addresses"], {one: states.get(one, "") for one in peer["addresses"]},
                                  boot_time_s())  # fmt: skip
        if self._cluster.role() == "passive":
            self._link.ask("reach", addresses=order)
        return f"by {order[0]}"

    def compare(self) -> str:
        """Tell the other gateway what troubles this one, and ask what it shares: it may be upgraded, or a new one."""
        if self._in_force is None or self._in_force["peer"] is None:
            self._checks.peer_silent(gone=True)
            return "no other gateway"
        try:
            if (alarms := self._checks.own_alarms()) != self._checks.last_told:
                self._checks.last_told = alarms
                self._exchange.ask("data_alarms", 3.0, alarms=alarms)
            if (now := boot_time_s()) - self._facts_at < FACTS_EVERY_S:
                return "compared"
            self._facts_at = now
            facts = told.facts(self._exchange.ask("data_facts", 3.0))
        except PeerUnavailable as error:
            self._checks.peer_silent()
            return f"not yet: {error.message}"
        self._checks.peer_told(facts)
        with self._lock:
            if self._peer_facts is not None:
                self._peer_facts = {**facts, "node_id": self._peer_facts["node_id"]}
        return "compared"

    def _update_alarms(self) -> None:
        problem = self._problem or self._unseen
        formed = self._cluster.heads() is not None
        self._checks.update((problem.message, problem.remedy) if problem and formed else None)

    # -- before a cluster is formed ----------------------------------------------------------------------------

    def survey(self, settings: Settings) -> DatabaseFacts | None:
        """Return what this gateway's database is; None if it is not shared. A failure is one of its findings.

        :param settings: which tell over what addresses it shall be reached.
        """
        if not self.notice():
            return None
        node_id = self._cluster.node_id
        links = [link for link in settings.links if link.kind in ("sync", "backup") and node_id in link.ends]
        try:
            answer = self._ask_unformed("survey", listen=[str(link.ends[node_id].address.ip) for link in links])
            return DatabaseFacts.from_dict(answer)
        except ClusterError as error:
            return preflight_data.unknown(error)

    def preflight(self, settings: Settings) -> list[Finding]:
        """Return what keeps this gateway's database from being shared."""
        side = preflight_data.Side(self._cluster.config.node_name, self.survey(settings))
        return list(preflight_data.check_own(side))

    def layouts(self, names: Sequence[str]) -> dict[str, Layout]:
        """Return how some shared tables look here, by name.

        :raises ClusterError: the database does not answer.
        """
        return preflight_data.layouts_from(self._ask_unformed("layouts", names=list(names))["layouts"])

    def _ask_unformed(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Ask what needs no set-up."""
        with self._lock:
            self._run_replicator()
            return self._link.ask(verb, dsn=self._credentials().dsn, scope=self._scope.to_json(), **arguments)

    # -- before a hand-over ---------------------------------------------------------------------------------

    def rehearse_handover(self) -> None:
        """On the active gateway, before a hand-over that an operator wants: see whether the other one keeps up.

        Writes go on meanwhile. Where the database itself is in no order, a hand-over needs no confirmation.

        :raises RequestRefused: it does not.
        """
        if self._in_force is None or self._cluster.role() != "active":
            return
        deadline = time.monotonic() + REHEARSE_MOST_S
        while True:
            try:
                answer = self._link.ask("confirm", REHEARSE_MOST_S, patience_s=REHEARSAL_MOST_S)
            except ClusterError as error:
                log.warning("The hand-over is not rehearsed: %s", error.message)
                return
            if not answer["writable"] or (answer["confirmed"] and answer["took_s"] < REHEARSED_S):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(REHEARSE_EVERY_S)
        peer = self._cluster.require_heads().applied.settings.peer_of(self._cluster.node_id)
        took = "took" if answer["confirmed"] else "was waited for in vain for"
        raise RequestRefused(
            f"{peer.name if peer else 'The other gateway'} confirms writes too slowly for a hand-over: the last one "
            f"{took} {answer['took_s']:.2f} s, and for {REHEARSE_MOST_S:.0f} s none took less than {REHEARSED_S} s.",
            "No write was refused. See whether its database follows, and repeat when it is less busy.",
        )

    # -- what is told -----------------------------------------------------------------------------------------

    def seen(self) -> dict[str, Any]:
        """Return what was seen last of the database; empty as long as nothing was."""
        return self._shown

    def status(self) -> dict[str, Any]:
        """Return what the verb ``status`` shows of the data."""
        problem = self._problem or self._unseen
        return {
            **self._shown,
            "set_up": self._in_force is not None,
            "problem": problem.message if problem else "",
            "remedy": problem.remedy if problem else "",
        }

    def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms of the data, as the verb ``status`` shows them."""
        return self._checks.alarms()

    def directory(self) -> str:
        """Return the directory of the database's files, as it was told last; "" if it never was."""
        return str(self._shown.get("directory", ""))

    def check_links(self, routes: Mapping[str, Route], peer: str) -> Iterator[Finding]:
        """Can both databases be reached over links that are to change?

        :param routes: by kind of link, with the new addresses.
        :param peer: name of the other gateway.
        """
        if not routes or self._in_force is None or self._peer_facts is None:
            return
        yield from preflight_data.check_port(routes, self._peer_facts["port"], peer)
        own = {kind: Route(route.local, route.local) for kind, route in routes.items()}
        yield from preflight_data.check_port(own, self._facts()["port"], self._cluster.config.node_name)

    def _facts(self) -> dict[str, Any]:
        found = self._credentials()
        answer = self._link.ask("facts", dsn=found.dsn, certificate=found.certificate)
        return {**answer, "scope": self._scope.digests(), "alarms": self._checks.own_alarms()}

    def _credentials(self) -> Credentials:
        found = Credentials.load(Path(self._cluster.config.state_dir) / CREDENTIALS)
        if found is None:
            raise RequestRefused(
                "This gateway's database has not been prepared.", "Run `flask cluster database prepare` on it."
            )
        return found

    def _on_alarms(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            alarms = [told.alarm(one) for one in arguments["alarms"][:8]]
        except (KeyError, TypeError):
            raise RequestRefused("The alarms cannot be read.", "Are both gateways up to date?") from None
        self._checks.peer_troubled(alarms)
        return {}

    def _fork(self) -> dict[str, Any]:
        role = self._cluster.role()
        if role != "active":
            return {"role": role, "term": 0, "lsn": "0/0", "bulk_lsn": "0/0", "own_lsn": "0/0", "system": "0"}
        return {**self._link.ask("fork"), "role": role}
