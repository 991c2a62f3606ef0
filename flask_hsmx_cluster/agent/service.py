"""The verbs: what the control socket can ask of this gateway's agent, with validated arguments."""

from __future__ import annotations

import base64
import copy
import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from ..control import MAX_MAINTENANCE_S
from ..decision.restart import RESTART_S
from ..errors import ChecksFailed, ClusterError, Finding, PeerUnavailable, RequestRefused
from ..network.clock import boot_time_s
from ..settings import passwords, rules
from ..settings.model import Settings, from_dict, to_dict
from ..version import PROTOCOL, __version__
from . import alarms
from .arbiter.side import ArbiterSide
from .cluster import Cluster, new_key
from .config import AgentConfig
from .data.desk import DataDesk
from .data.replicator import ReplicatorLink
from .data.side import DataSide
from .data.verbs import DataVerbs
from .files.link import FilesLink
from .files.side import FilesSide
from .files.verbs import FilesVerbs
from .filling import filled
from .firewall import Firewall
from .heartbeat.services_hand import ServicesHand, ServicesLink
from .hot import HotSide
from .interfaces import Hand
from .jobs import Periodic
from .membership import Membership
from .node_store import NodeStore, wall_time
from .notify.side import Notifier
from .peer import client as peer_client
from .peer.exchange import Exchange
from .peer.forming import Creator, ends_from
from .peer.joining import Joining
from .peer.leaving import Leaving
from .preflight import checks as preflight
from .preflight import probing
from .preflight.checks import Report
from .preflight.files import check_files
from .preflight.network_managers import WATCH_EVERY_S, ManagersWatch, check_managers, managers_of
from .renewal.side import RenewalSide
from .renewal.verbs import RenewalVerbs
from .revisions import model as revisions
from .revisions.exchange import RevisionExchange
from .revisions.model import Heads
from .services.pppoe import PPPoESide
from .services.side import ServicesSide

log = logging.getLogger(__name__)

#: Characters of one answer to the verb ``events``; JSON may need twice as much.
MAX_EVENTS_SIZE = 200_000
#: Periods of the jobs, s.
DELIVER_EVERY_S = 5.0
FINISH_EVERY_S = 10.0
IN_FORCE_EVERY_S = 5.0
OWN_ADDRESSES_EVERY_S = 5.0
PREFERRED_EVERY_S = 5.0
HOUSEKEEPING_EVERY_S = 60.0


class AgentService(DataVerbs, FilesVerbs, RenewalVerbs):
    """Carries out the verbs. Thread-safe: each caller has its own thread.

    :param job_report: returns the agent's periodic jobs as the verb ``status`` shows them.
    :param post: sends bytes to the other gateway; replaced in tests.
    :param link: the replicator, which also knows whether the database is shared; None: it never is.
    :param services: the process of services and hooks and the loop's hand on it; None: nothing follows the role.
    :param files: the process of files; None: none are kept as one.
    :param soon: has one of the jobs run now.
    :param hand: sets own addresses; replaced in tests.
    :param arbiter: a third party that is asked in doubt; None: there is none.
    :param leave: ends this process, and nothing else.
    """

    def __init__(
        self,
        config: AgentConfig,
        store: NodeStore,
        hot: HotSide,
        job_report: Callable[[], list[dict[str, Any]]] = list,
        post: peer_client.Post = peer_client.post,
        link: ReplicatorLink | None = None,
        services: tuple[ServicesLink, ServicesHand] | None = None,
        hand: Hand | None = None,
        files: FilesLink | None = None,
        soon: Callable[[str], None] = lambda _name: None,
        arbiter: ArbiterSide | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._store = store
        self._hot = hot
        self._leave = leave
        self._job_report = job_report
        self._arbiter = arbiter
        self._cluster = Cluster(config, store, hot, hand)
        self._exchange = Exchange(self._cluster, post)
        self._data = DataSide(self._cluster, self._exchange, link, hot.listen_to_children) if link else None
        check_data = self._data.check_links if self._data else lambda _routes, _peer: iter(())
        self._revisions = RevisionExchange(self._cluster, self._exchange, check_data)
        self._desk = DataDesk(self._cluster, self._exchange, link, self._data.seen) if link and self._data else None
        self._services = ServicesSide(self._cluster, *services, hot.listen_to_children) if services else None
        self._pppoe = PPPoESide(self._cluster, self._exchange, self._services) if self._services else None
        self._notifier = Notifier(self._cluster, self._exchange, self.situation)
        self._firewall = Firewall(self._cluster, self._exchange, lambda: bool(self._data and self._data.shared))
        self._files = FilesSide(self._cluster, self._exchange, files, soon) if files and config.files else None
        data_alarms = self._data.alarms if self._data else list
        self._renewal = RenewalSide(self._cluster, self._exchange, data_alarms, soon)
        self._creator = Creator(self._cluster, self._exchange, self._data)
        self._joining = Joining(self._cluster, self._exchange, post, self._data)
        self._leaving = Leaving(self._cluster, self._exchange, self._creator, self._hand_over)
        self._rehearse: Callable[[], None] = self._data.rehearse_handover if self._data else lambda: None
        self._managers = ManagersWatch()
        self._started_at = boot_time_s()
        self._out_of_force: ClusterError | None = None  # why the settings are not in force, if they are not
        self._exchange.handle("hello", lambda _sender, _arguments: {})
        self._exchange.handle("failover", lambda _sender, _arguments: self._hand_over())

    # -- start and jobs ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Come up as what this gateway was: find out who it is, go on with its maintenance and its membership."""
        self._cluster.identify()
        self._cluster.resume()
        self._cluster.restore_own_addresses()  # before what binds to them
        self._restore_maintenance()
        if self._arbiter is not None:
            self._arbiter.begin()
        if self._data is not None:
            self._data.begin()
        if self._services is not None:
            self._services.begin()
        membership = self.membership()
        if membership is None:
            return
        try:
            self._hot.apply(membership)
        except ClusterError as error:
            self._out_of_force = error
            self._store.record(
                "apply_failed", "critical", "The cluster settings cannot be put in force.", [error.message]
            )
            log.error("The cluster settings cannot be put in force: %s", error.message)

    def _come_into_force(self) -> str:
        """Try again what was impossible at the start: a port may come up later than the agent."""
        if not self._out_of_force:
            return "in force"
        with self._cluster.state_lock:
            if (membership := self.membership()) is not None:
                try:
                    self._hot.apply(membership)
                except ClusterError as error:
                    self._out_of_force = error
                    return f"waits: {error.message}"
                self._store.record("applied", "info", "The cluster settings are in force now.", [])
            self._out_of_force = None
        return "in force"

    def membership(self) -> Membership | None:
        """Return this gateway's place in its cluster, None outside of one."""
        return self._cluster.membership()

    def on_peer_revision(self, revision: int, digest: str = "") -> None:
        """Take note of the settings revision that the other gateway's heartbeats name."""
        self._revisions.on_peer_revision(revision, digest)

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of each periodic job, by name; the work returns its result in words."""
        return {
            "deliver settings": (DELIVER_EVERY_S, self._revisions.deliver),
            "finish joining": (FINISH_EVERY_S, self._joining.finish),
            "put settings in force": (IN_FORCE_EVERY_S, self._come_into_force),
            "own addresses": (OWN_ADDRESSES_EVERY_S, self._cluster.restore_own_addresses),
            "network managers": (WATCH_EVERY_S, self._look_at_managers),
            "preferred gateway": (PREFERRED_EVERY_S, self._look_at_preference),
            **self._firewall.periodic_jobs(),
            "housekeeping": (HOUSEKEEPING_EVERY_S, self._housekeep),
            **(self._data.first_job() if self._data else {}),
            **(self._services.periodic_jobs() if self._services else {}),
            **(self._pppoe.periodic_jobs() if self._pppoe else {}),
            **self._notifier.periodic_jobs(),
            **(self._files.periodic_jobs() if self._files else {}),
            **self._renewal.periodic_jobs(),
            **(self._arbiter.periodic_jobs() if self._arbiter else {}),
        }

    def data_jobs(self) -> Periodic:
        """Return the same of the jobs that there are once the database is shared."""
        return {
            **(self._data.periodic_jobs() if self._data else {}),
            **(self._desk.periodic_jobs() if self._desk else {}),
        }

    def when_shared(self, call: Callable[[], None]) -> None:
        """Call back once it is known that the database is shared; at once if it is."""
        if self._data is not None:
            self._data.when_shared(call)

    def _housekeep(self) -> str:
        self._creator.expire()
        until = self._store.maintenance_until()
        if until is not None and _seconds_until(until) <= 0:
            self._store.set_maintenance_until(None)
        return f"{self._store.event_count()} events kept"

    def _look_at_managers(self) -> str:
        heads = self._cluster.heads()
        return self._managers.look(heads.applied.settings if heads else None)

    def _look_at_preference(self) -> str:
        """While a renewal is under way the order of its steps says who is active."""
        heads = self._cluster.heads()
        if heads is None or not heads.applied.settings.advanced.preferred:
            return "no gateway is preferred"
        why = "a renewal or an upgrade is under way" if self._renewal.under_way() else ""
        self._hot.block_return(why)
        return why or "nothing speaks against a return"

    def _restore_maintenance(self) -> None:
        until = self._store.maintenance_until()
        left_s = min(_seconds_until(until), MAX_MAINTENANCE_S) if until else 0.0
        if left_s > 0:
            self._hot.restore_maintenance(left_s)

    # -- verbs that only look ---------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        snapshot = copy.deepcopy(self._hot.snapshot())
        heads = self._cluster.heads()
        snapshot["node"] = {
            "id": self._cluster.node_id,
            "name": self._config.node_name,
            "firmware": self._config.firmware_version,
            "version": __version__,
            "protocol": PROTOCOL,
            "agent_up_s": round(boot_time_s() - self._started_at, 1),
            **snapshot["node"],
        }
        if snapshot["peer"] is not None:
            facts = self._store.peer()
            snapshot["peer"]["firmware"] = facts.firmware if facts else ""
            snapshot["peer"]["version"] = facts.version if facts else ""
        not_in_force = self._not_in_force(snapshot, heads)
        if not_in_force is not None:
            self._say_not_in_force(snapshot, not_in_force)
        counters = snapshot["counters"]
        for refusal, count in self._exchange.refused.items():
            counters[f"peer_refused_{refusal.value}"] = count
        return {
            **snapshot,
            "cluster": None if heads is None else self._cluster_status(heads),
            "alarms": self._alarms(snapshot, heads, not_in_force),
            "data": self._data_status(snapshot["data"]) if self._data and self._data.shared else None,
            "services": self._services.status() if self._services else None,
            "files": self._files.status() if self._files else None,
            "pppoe": self._pppoe.status() if self._pppoe else [],
            "notify": self._notifier.status(),
            "renewal": self._renewal.status(),
            "arbiter": self._arbiter.status(snapshot["arbiter"]) if self._arbiter else None,
            "jobs": self._job_report(),
            "pairing": self._creator.status(),
        }

    def situation(self) -> dict[str, Any]:
        """Return of a status what notifications go by, every few seconds: node, peer, readiness and alarms.

        It asks no database and copies little.
        """
        seen, heads = self._hot.snapshot(), self._cluster.heads()
        found = {key: seen[key] for key in ("node", "peer", "readiness")}
        not_in_force = self._not_in_force(seen, heads)
        if not_in_force is not None:
            found["node"] = {**seen["node"]}
            self._say_not_in_force(found, not_in_force)
        return {**found, "alarms": self._alarms(seen, heads, not_in_force)}

    def _data_status(self, fast: dict[str, Any]) -> dict[str, Any]:
        slow = self._data.status() if self._data else {}
        return {**slow, **fast, "quarantine": self._desk.quarantine_status() if self._desk else []}

    def _cluster_status(self, heads: Heads) -> dict[str, Any]:
        return {
            "id": heads.applied.settings.cluster_id,
            "revision": heads.applied.number,
            "pending": self._revisions.pending(heads),
            "conflict": heads.conflict is not None,
        }

    def _not_in_force(self, snapshot: dict[str, Any], heads: Heads | None) -> ClusterError | None:
        """Return why this gateway takes no part in the cluster that it is in; None if it does, or is in none."""
        return self._out_of_force if heads is not None and snapshot["node"]["role"] == "standalone" else None

    def _say_not_in_force(self, snapshot: dict[str, Any], why: ClusterError) -> None:
        """Say of the hot side, which knows of no cluster, what is behind that. Its role stays what it is."""
        snapshot["node"] |= {
            "since_s": round(boot_time_s() - self._started_at, 1),
            "why": f"its cluster settings are not in force: {why.message}",
            "phase": "out_of_force",
            "phase_text": "is in a cluster, but neither serves nor stands by",
        }
        snapshot["readiness"] = {"ready": False, "reasons": ["The cluster settings are not in force on this gateway."]}

    def _alarms(
        self, snapshot: dict[str, Any], heads: Heads | None, not_in_force: ClusterError | None
    ) -> list[dict[str, Any]]:
        joining = heads is None and not self._cluster.foreign and self._store.joining() is not None
        found = [
            *alarms.of_membership(heads, not_in_force, self._cluster.foreign, joining),
            *self._cluster.table.alarms(),
            *(self._desk.alarms() if self._desk else ()),
            *self._notifier.alarms(),
            *self._renewal.alarms(),
        ]
        now = boot_time_s()
        return [
            *snapshot["alarms"],
            *(alarms.as_dict(alarm, now - self._started_at) for alarm in found),
            *(alarms.as_dict((one.key, "warning", one.text, one.remedy), now - since)
              for one, since in self._managers.alarms()),
            *(self._data.alarms() if self._data else ()),
            *(self._services.alarms() if self._services else ()),
            *(self._files.alarms() if self._files else ()),
            *(self._arbiter.alarms() if self._arbiter and heads is not None else ()),
        ]  # fmt: skip

    def settings(self) -> dict[str, Any]:
        heads = self._cluster.heads()
        applied = heads.applied if heads else None
        return {
            "formed": heads is not None,
            "node_id": self._cluster.node_id,
            "settings": passwords.masked(to_dict(applied.settings)) if applied else None,
            "revision": applied.number if applied else 0,
            "author": applied.author_name if applied else "",
            "changed_at": applied.changed_at if applied else "",
            "pending": heads is not None and self._revisions.pending(heads),
            "conflict": None
            if heads is None or heads.conflict is None
            else {
                "revision": heads.conflict.number,
                "author": heads.conflict.author_name,
                "changed_at": heads.conflict.changed_at,
                "settings": passwords.masked(to_dict(heads.conflict.settings)),
            },
        }

    def ports(self) -> dict[str, Any]:
        return {"ports": self._hot.ports()}

    def peer_ports(self) -> dict[str, Any]:
        target = self._exchange.peer()
        told = self._exchange.ask("ports", target=target)
        try:
            ports = [dict(port) for port in preflight.ports_from(told.get("ports"))]
        except ValueError:
            raise PeerUnavailable("The other gateway's ports cannot be read.", "Are both up to date?") from None
        peer = self._cluster.require_heads().applied.settings.peer_of(self._cluster.node_id)
        return {"ports": ports, "node_name": peer.name if peer else ""}

    def events(self, limit: int = 100, before: int | None = None) -> dict[str, Any]:
        found, size = self._store.events(limit, before), 0
        for count, event in enumerate(found):
            size += len(event["text"]) + sum(map(len, event["evidence"])) + 200
            if size > MAX_EVENTS_SIZE:  # the answer is one line of bounded length; the caller asks on with `before`
                return {"events": found[:count]}
        return {"events": found}

    def preflight(self, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        heads = self._cluster.heads()
        if settings is None:
            wanted = heads.applied.settings if heads else None
        else:
            wanted = from_dict(filled(settings, heads.applied.settings if heads else None, *self._who()))
        return self._preflight(wanted, heads).as_dict()

    def _preflight(self, settings: Settings | None, heads: Heads | None) -> Report:
        """Check this gateway's side of settings, or only what does not depend on any."""
        report, node_id, ports = Report(), self._cluster.node_id, self._hot.ports()
        report.add("disk", list(preflight.check_disk(self._config.state_dir)))
        report.add("files", list(check_files(self._config)))
        if self._arbiter is not None:
            report.add("arbiter", list(self._arbiter.preflight()))
        if settings is None:
            return report
        report.add("settings", rules.check(settings, {node_id: ports}) + passwords.missing(settings))
        if report.blocking:
            return report  # the wire cannot tell anything about settings that make no sense
        report.add("carrier", list(preflight.check_carrier(settings, node_id, ports, joining=False)))
        report.add("managers", list(check_managers(managers_of(settings), bool(settings.routes))))
        if heads is None:
            own = [str(link.ends[node_id].address.ip) for link in settings.links if node_id in link.ends]
            report.add("heartbeat_port", list(preflight.check_heartbeat_port(own, self._config.heartbeat_port)))
            if self._data is not None:
                report.add("database", self._data.preflight(settings))
        report.add(
            "virtual_ip", list(probing.check_virtual_ips([*enumerate(settings.virtual_ips)], self._probe_strangers)))
        self._firewall.preflight(report)
        return report

    def _who(self) -> tuple[str, str]:
        return self._cluster.node_id, self._config.node_name

    def firewall(self, peers: list[str] | None = None) -> dict[str, Any]:
        return self._firewall.describe(peers or ())

    def _probe_strangers(self, port: str, address: str, timeout_s: float) -> list[str]:
        """Return who answers for an address, the other gateway of the cluster excepted."""
        ours = self._hot.peer_macs().get(port)
        return [mac for mac in self._hot.probe_address(port, address, timeout_s) if mac != ours]

    def directories(self) -> list[str]:
        """Return the directories on whose disks this gateway depends."""
        data = filter(None, [self._data.directory() if self._data else ""])
        return [self._config.state_dir, *data, *(self._files.directories() if self._files else ())]

    # -- verbs that change ------------------------------------------------------------------------------------

    def propose(self, settings: dict[str, Any], base_revision: int) -> dict[str, Any]:
        present = self._cluster.require_heads().applied.settings
        return self._revisions.propose(from_dict(filled(settings, present, *self._who())), base_revision)

    def create(self, settings: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster
        with cluster.change():
            cluster.require_unformed()
            cluster.become_own_machine()
            wanted = from_dict(filled(settings, None, *self._who()))
            if [node.node_id for node in wanted.nodes] != [cluster.node_id]:
                raise ChecksFailed(
                    [Finding("node_count", "A cluster is created with this gateway alone; the other one joins it.",
                             "Leave the other gateway out, and let it join with a pairing code.")]
                )
            report = self._preflight(wanted, None)
            if report.blocking:
                raise ChecksFailed(report.findings)
            with self._data.ready_alone() if self._data else nullcontext():
                key = new_key()
                self._store.forget_cluster()
                first = revisions.draft(None, wanted, cluster.node_id, self._config.node_name, wall_time(), key)
                with cluster.state_lock:
                    cluster.put_in_force(Heads(first), keys=[key], claim=True)
            self._store.record("created", "info", "A cluster was created on this gateway.")
            return {**self._creator.new_code(), "revision": first.number}

    def pairing_code(self) -> dict[str, Any]:
        return self._creator.new_code()

    def join(self, address: str, code: str, ends: dict[str, Any]) -> dict[str, Any]:
        return self._joining.join(address, code, ends_from(ends))

    def leave(self, force: bool = False) -> dict[str, Any]:
        return self._leaving.leave(force)

    def replace(self) -> dict[str, Any]:
        return self._leaving.replace()

    def failover(self) -> dict[str, Any]:
        heads = self._cluster.require_heads()
        if self._cluster.role() == "active":
            return self._hand_over()
        if not self._cluster.has_peer(heads):
            raise RequestRefused("There is no other gateway in the cluster.", "Let it join with a pairing code.")
        return self._exchange.ask("failover", timeout_s=18.0, repeatable=False)

    def _hand_over(self) -> dict[str, Any]:
        self._renewal.demand_safe()
        self._rehearse()
        return self._hot.request("failover")

    def repair(self) -> dict[str, Any]:
        """An agent that has come up as a member has nothing to repair."""
        raise RequestRefused("The node store of this gateway is sound: there is nothing to repair.")

    def take_over(self, by: str) -> dict[str, Any]:
        """End the wait for a gateway that is not heard but may still serve."""
        by = by.strip()
        if not by:
            raise RequestRefused("Nobody is named who decides this.", "Say who you are: it is recorded.")
        self._hot.request("take_over", by=by)
        return {"by": by}

    def restart(self, within_s: int = RESTART_S) -> dict[str, Any]:
        """End this agent so that the service manager starts a new one; the addresses stay, and so does the role."""
        result = self._hot.request("restart", within_s=within_s)
        self._leave()
        return result

    def maintenance(self, on: bool, duration_s: int = 3600) -> dict[str, Any]:
        self._cluster.require_heads()
        if on:
            if self._cluster.role() == "active":
                self._renewal.demand_safe()
            self._rehearse()
        result = self._hot.request("maintenance", on=on, duration_s=duration_s)
        until = datetime.now(UTC) + timedelta(seconds=duration_s)
        self._store.set_maintenance_until(until.isoformat(timespec="seconds") if on else None)
        return result

    def pppoe(self, name: str, connect: bool) -> dict[str, Any]:
        self._cluster.require_heads()
        if self._pppoe is None:
            raise RequestRefused("Nothing follows the role on this gateway.")
        return self._pppoe.command(name, connect)

    def notify_test(self, name: str) -> dict[str, Any]:
        return self._notifier.test(name)

    def stop(self) -> None:
        """End what this service has started."""
        self._notifier.stop()

    def resolve_conflict(self, keep: str) -> dict[str, Any]:
        return {"revision": self._revisions.resolve(keep)["revision"]}

    # -- relays -----------------------------------------------------------------------------------------------

    def pair(self, message: str) -> dict[str, Any]:
        return {"message": _encoded(self._creator.receive(_decoded(message)))}

    def peer(self, message: str, address: str) -> dict[str, Any]:
        return {"message": _encoded(self._exchange.answer(_decoded(message), address))}


def _seconds_until(wall: str) -> float:
    try:
        return (datetime.fromisoformat(wall) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _decoded(message: str) -> bytes:
    try:
        return base64.b64decode(message, validate=True)
    except ValueError:
        raise RequestRefused("The message is not accepted.") from None


def _encoded(message: bytes) -> str:
    return base64.b64encode(message).decode()
