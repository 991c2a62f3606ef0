"""This gateway's data as the agent tends it: who the other database is, who follows whom, and what people are shown."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ClusterError, RequestRefused
from ..network.clock import boot_time_s
from ..replication.credentials import Credentials
from ..replication.scope import Scope
from .cluster import Cluster
from .data_links import DataLinks
from .exchange import Exchange
from .replicator import ReplicatorLink

log = logging.getLogger(__name__)

#: The agent's credentials for the database, in the state directory; ``flask cluster database prepare`` writes it.
CREDENTIALS = "database.json"
SET_UP_EVERY_S = 2.0
TEND_EVERY_S = 1.0
FOLLOW_EVERY_S = 1.0
LINK_EVERY_S = 0.5


def database_is_prepared(state_dir: str) -> bool:
    """Return whether the database has been made ready, and so is to be shared."""
    return (Path(state_dir) / CREDENTIALS).exists()


class DataSide:
    """Keeps the replicator set up as the settings in force demand, and lets a passive gateway follow.

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
        self._links = DataLinks()
        exchange.handle("data_facts", lambda _sender, _arguments: self._facts())
        exchange.handle("data_verify", lambda _sender, _arguments: self._link.ask("verify"))
        exchange.handle("data_look", lambda _sender, _arguments: self._link.ask("look"))
        exchange.handle("data_make", self._make)
        exchange.handle("data_fork", lambda _sender, _arguments: self._fork())

    # -- jobs -------------------------------------------------------------------------------------------------

    def periodic_jobs(self) -> dict[str, tuple[float, Callable[[], str | None]]]:
        """Return period (s) and work of each job, by name."""
        return {
            "replication: set-up": (SET_UP_EVERY_S, self.set_up),
            "replication: positions": (TEND_EVERY_S, self.tend),
            "replication: follow": (FOLLOW_EVERY_S, self.follow),
            "replication: link": (LINK_EVERY_S, self.choose_link),
        }

    def begin(self) -> None:
        """At the agent's start: be ready before the first claim, if the database is."""
        try:
            self.set_up()
        except (ClusterError, OSError) as error:
            log.warning("The database is not ready yet: %s", error)

    def set_up(self) -> str:
        """Start the replicator if it does not run, and tell it what has changed."""
        with self._lock:
            try:
                return self._set_up()
            except ClusterError as error:
                self._problem = error
                raise

    def _set_up(self) -> str:
        found = self._credentials()
        if not self._link.alive():
            self._in_force = None
            self._link.start()
            self._restarted()
        heads = self._cluster.heads()
        if heads is None:
            if self._in_force is not None:
                self._link.ask("forget")
                self._in_force = self._peer_facts = None
            return "not in a cluster"
        wanted = self._wanted(found.dsn, self._peer())
        if wanted != self._in_force:
            keep = self._cluster.role() == "active" or self._in_force is None
            self._link.ask("configure", 60.0, setup=wanted, keep_lease=keep)
            self._in_force = wanted
        self._problem = None
        return "in force"

    def set_up_alone(self) -> None:
        """Be ready before this gateway becomes active as the first one of a new cluster.

        :raises ClusterError: the database is not as it has to be.
        """
        with self._lock:
            wanted = self._wanted(self._credentials().dsn, None)
            self._link.ask("configure", 60.0, setup=wanted, keep_lease=False)
            self._in_force = wanted

    def _wanted(self, dsn: str, peer: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "dsn": dsn,
            "node_id": self._cluster.node_id,
            "peer": peer,
            "scope": self._cluster.config.scope or Scope(()).to_json(),
        }

    def _peer(self) -> dict[str, Any] | None:
        """Return what is known of the other gateway's database."""
        cluster = self._cluster
        settings = cluster.require_heads().applied.settings
        peer = settings.peer_of(cluster.node_id)
        if peer is None:
            self._peer_facts = None
            return None
        facts = self._ask_facts(peer.node_id)
        order = {"sync": 0, "backup": 1}
        links = sorted((one for one in settings.links if one.kind in order), key=lambda one: order[one.kind])
        ends = [one.ends[peer.node_id] for one in links if peer.node_id in one.ends]
        return {
            "node_id": peer.node_id,
            "addresses": [str(end.address.ip) for end in ends],
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
                told = self._exchange.ask("data_facts", 3.0)
                self._peer_facts = {**checked_facts(told), "node_id": peer_id}
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
            return self._problem.message if self._problem else "not set up yet"
        role = self._cluster.role()
        try:
            if role == "active":
                self._link.ask("tend_active")
            elif role == "passive":
                self._link.ask("tend_passive")
            self._shown = self._link.ask("look")
            self._unseen = None
        except ClusterError as error:  # what was seen last is no longer true
            self._unseen = error
            raise
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
        if any(stream["enabled"] for stream in shown.get("streams", ())) and not shown["following"]["error"]:
            return "follows"
        fork = checked_fork(self._exchange.ask("data_fork", 5.0))
        if fork["role"] != "active":
            return "the other gateway is not active"
        self._link.ask("follow", fork={key: fork[key] for key in ("term", "lsn", "bulk_lsn", "own_lsn", "system")})
        self._shown = self._link.ask("look")
        return "begins to follow"

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

    # -- what people ask for ------------------------------------------------------------------------------

    def verify(self) -> dict[str, Any]:
        """Begin to compare the shared tables of both gateways, on the passive one; return how far it is."""
        if self._cluster.role() == "active":
            return self._exchange.ask("data_verify")
        return self._link.ask("verify")

    def verified(self) -> dict[str, Any]:
        """Return how far the comparison is, or what came of it."""
        shown = self._exchange.ask("data_look") if self._cluster.role() == "active" else self._link.ask("look")
        found: dict[str, Any] = shown["verify"]
        return found

    def quarantine(self, after: int, limit: int) -> dict[str, Any]:
        """Return a page of what this gateway wrote and the other one never had."""
        nodes = self._cluster.require_heads().applied.settings.nodes
        return self._link.ask("quarantine", after=after, limit=limit, names={one.node_id: one.name for one in nodes})

    def discard(self, ids: list[int]) -> dict[str, Any]:
        """Drop rows of the quarantine from the list of what waits."""
        return self._link.ask("discard", ids=ids)

    def reapply(self, row_id: int, overwrite: bool) -> dict[str, Any]:
        """Make one quarantined change on the active gateway, whichever that is.

        :raises ClusterError: it does not fit any more; the message shows both values.
        """
        request = self._link.ask("reapply_request", row_id=row_id)
        if self._cluster.role() == "active":
            self._link.ask("make", request=request, overwrite=overwrite)
        else:
            self._exchange.ask("data_make", repeatable=False, request=request, overwrite=overwrite)
        return self._link.ask("mark", row_id=row_id)

    def _make(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._cluster.role() != "active":
            raise RequestRefused("This gateway is not the active one.", "Try again when the roles are settled.")
        request = arguments.get("request")
        if not isinstance(request, dict):
            raise RequestRefused("The change cannot be read.", "Are both gateways up to date?")
        return self._link.ask("make", request=request, overwrite=arguments.get("overwrite") is True)

    # -- what is told -----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what the verb ``status`` shows of the data."""
        problem = self._problem or self._unseen
        return {
            **self._shown,
            "set_up": self._in_force is not None,
            "problem": problem.message if problem else "",
            "remedy": problem.remedy if problem else "",
        }

    def directory(self) -> str:
        """Return the directory of the database's files, as it was told last; "" if it never was."""
        return str(self._shown.get("directory", ""))

    def _facts(self) -> dict[str, Any]:
        found = self._credentials()
        return self._link.ask("facts", dsn=found.dsn, certificate=found.certificate)

    def _credentials(self) -> Credentials:
        found = Credentials.load(Path(self._cluster.config.state_dir) / CREDENTIALS)
        if found is None:
            raise RequestRefused(
                "This gateway's database has not been prepared.", "Run `flask cluster database prepare` on it."
            )
        return found

    def _fork(self) -> dict[str, Any]:
        role = self._cluster.role()
        if role != "active":
            return {"role": role, "term": 0, "lsn": "0/0", "bulk_lsn": "0/0", "own_lsn": "0/0", "system": "0"}
        return {**self._link.ask("fork"), "role": role}


def checked_facts(told: dict[str, Any]) -> dict[str, Any]:
    """Return what the other gateway tells of its database.

    :raises RequestRefused: it is malformed.
    """
    try:
        found = {key: told[key] for key in ("port", "database", "version", "system", "certificate")}
        fits = (
            type(found["port"]) is int
            and 0 < found["port"] < 65536
            and type(found["version"]) is int
            and isinstance(found["database"], str)
            and 0 < len(found["database"]) < 64
            and str(found["system"]).isdigit()
            and isinstance(found["certificate"], str)
            and len(found["certificate"]) < 16384
        )
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise RequestRefused("What the other gateway tells of its database cannot be read.", "Are both up to date?")
    return found


def checked_fork(told: dict[str, Any]) -> dict[str, Any]:
    """Return where the other gateway says that its data parted from ours.

    :raises RequestRefused: it is malformed.
    """
    try:
        fits = type(told["term"]) is int and isinstance(told["role"], str) and str(told["system"]).isdigit()
        for key in ("lsn", "bulk_lsn", "own_lsn"):
            high, low = told[key].split("/")
            fits = fits and len(high) <= 8 and len(low) <= 8 and int(high, 16) >= 0 and int(low, 16) >= 0
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise RequestRefused("What the other gateway tells of its data cannot be read.", "Are both up to date?")
    return told
