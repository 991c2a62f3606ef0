"""What becomes of the data's checks: alarms, each told once, and the job that has the checks carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RequestRefused
from ...network.clock import boot_time_s
from ...replication.scope import Scope
from ..cluster import Cluster
from ..heartbeat.status import Showing, brought_up_to_date
from ..preflight import data as preflight_data
from .replicator import ReplicatorLink

#: The replicator's checks may take this long; the other gateway's database is asked meanwhile, s.
CHECK_TIMEOUT_S = 20.0
POLL_S = 0.1
#: A gateway that cannot begin to follow is an alarm after this, s: one attempt may meet a restart.
FOLLOW_ALARM_S = 5.0
#: A replicator or a server that is started again answers before that, s.
PROBLEM_ALARM_S = 5.0
#: An apply worker that is gone is started again by PostgreSQL long before this, s.
GONE_S = 3.0
#: ... and one that has had no error for this long is well again, s.
CALM_S = 3.0
#: While a worker stands, it is looked into this often, s.
WHY_EVERY_S = 3.0


class ApplyWatch:
    """Tells from what is seen each second whether changes are applied: errors that rise again and again, or no worker.

    One error alone is a lost connection.
    """

    def __init__(self) -> None:
        self._errors: dict[str, int] = {}
        self._rises = 0
        self._rose_at = self._well_at = float("-inf")
        self.stopped = False

    @property
    def failing(self) -> bool:
        """Whether there are errors; else the worker is gone."""
        return self._rises > 0

    def look(self, streams: Iterable[Mapping[str, Any]], now: float, expected: bool) -> bool:
        """Take note of the streams, and return whether they have stopped.

        :param now: s, monotonic.
        :param expected: the other gateway is active and heard, and no copy or rejoin is under way.
        """
        on = [stream for stream in streams if stream["enabled"]]
        errors = {stream["name"]: stream["error_count"] for stream in on}
        rose = any(count > self._errors.get(name, count) for name, count in errors.items())
        self._errors = errors
        if not expected or not on:
            self._rises, self._well_at, self.stopped = 0, now, False
            return False
        if rose:
            self._rises, self._rose_at = self._rises + 1, now
        elif now - self._rose_at >= CALM_S:
            self._rises = 0
        if all(stream["worker_pid"] for stream in on):
            self._well_at = now
        gone = now - self._well_at >= GONE_S
        self.stopped = gone or self._rises >= 2 or (self.stopped and self._rises > 0)
        return self.stopped


@dataclass(frozen=True)
class _Trouble:
    """Why this gateway could not begin to follow, since when (boot time, s)."""

    error: str
    remedy: str
    since: float


class DataChecks:
    """The alarms of the data on this gateway.

    :param scope: what the host declares here.
    """

    def __init__(self, cluster: Cluster, link: ReplicatorLink, scope: Callable[[], Scope]) -> None:
        self._cluster = cluster
        self._link = link
        self._scope = scope
        self._watch = ApplyWatch()
        self._shown: dict[str, Any] = {}
        self._trouble: _Trouble | None = None
        self._differ: Showing | None = None
        self._told: list[Showing] = []
        self._showing: dict[str, Showing] = {}
        self._problem_since: float | None = None
        self._asked_why = float("-inf")
        self.last_told: list[dict[str, Any]] = []  #: which of our alarms the other gateway was told last

    # -- what is seen -----------------------------------------------------------------------------------------

    def run(self, role: str) -> dict[str, Any]:
        """Have the database looked at, and return what was found.

        :raises ClusterError: the replicator does not answer.
        """
        number = self._link.ask("check", passive=role == "passive")["number"]
        deadline = time.monotonic() + CHECK_TIMEOUT_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = self._link.ask("look")["checks"]
            if found["number"] >= number:
                return found
            time.sleep(POLL_S)
        raise RequestRefused("The checks of the database take too long.", "They are tried again by themselves.")

    def seen(self, shown: dict[str, Any], role: str, peer_active: bool) -> None:
        """Take note of what was seen just now, every second; a worker that has stopped is looked into at once, and
        again as long as it stands: the reason may be another one by then.
        """
        now = boot_time_s()
        self._shown = shown
        following = shown["following"]
        under_way = bool(following["under_way"])
        if role != "passive":
            self._trouble = None  # what kept it from following is a passive gateway's matter
        elif following.get("error") and not under_way:
            since = self._trouble.since if self._trouble else now
            self._trouble = _Trouble(following["error"], following.get("remedy", ""), since)
        elif not under_way:
            self._trouble = None
        self._watch.look(shown["streams"], now, role == "passive" and peer_active and not under_way)
        if self._watch.stopped and now - self._asked_why >= WHY_EVERY_S:
            self._asked_why = now
            self._link.ask("check", passive=True)

    def peer_told(self, facts: Mapping[str, Any]) -> None:
        """Take note of what the other gateway tells of its declarations and of its troubles."""
        own, peer = self._names()
        found = next(preflight_data.check_scopes(own, self._scope().digests(), peer, facts["scope"]), None)
        self._differ = None if found is None else Showing(
            "scopes_differ", "critical", found.text, f"{self._older()} Restart its agent then. "
            "`flask cluster coverage` shows what is declared. Tables that both share go on.")
        self.peer_troubled(facts["alarms"])

    def peer_troubled(self, alarms: Iterable[Mapping[str, Any]]) -> None:
        """Take note of the other gateway's alarms."""
        _own, peer = self._names()
        self._told = [
            Showing(f"peer_{one['key']}", one["severity"], f"{peer} tells: {one['text']}", one["remedy"])
            for one in alarms
        ]

    def peer_silent(self, gone: bool = False) -> None:
        """The other gateway cannot be asked: what troubled it may be over. What it declares stays what it is.

        :param gone: it has left the cluster.
        """
        self._told = []
        if gone:
            self._differ = None

    # -- what is shown ----------------------------------------------------------------------------------------

    def update(self, problem: tuple[str, str] | None) -> None:
        """Bring the alarms up to date, and record what has changed.

        :param problem: why the database cannot be used at all, and the remedy.
        """
        now = boot_time_s()
        since = self._problem_since if self._problem_since is not None else now
        self._problem_since = since if problem else None
        lasting = problem if now - since >= PROBLEM_ALARM_S else None
        for one in brought_up_to_date(self._showing, self._present(lasting), now):
            self._cluster.store.record(f"alarm_{one.key}", one.severity, one.text)

    def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms as the verb ``status`` shows them."""
        now = boot_time_s()
        return [one.as_dict(now) for one in list(self._showing.values())]

    def own_alarms(self) -> list[dict[str, Any]]:
        """Return what the other gateway's page shows, too: what it does not know by itself."""
        keys = ("key", "severity", "text", "remedy")
        own = [one for one in self.alarms() if not one["key"].startswith("peer_") and one["key"] != "scopes_differ"]
        return [{key: one[key] for key in keys} for one in own][:8]

    def forget(self) -> None:
        """This gateway has left its cluster."""
        self._shown, self._trouble = {}, None
        self.peer_silent(gone=True)
        self._showing.clear()

    def _present(self, problem: tuple[str, str] | None) -> Iterator[Showing]:
        own, peer = self._names()
        if problem:
            yield Showing("data_problem", "critical", f"The data of {own} is not kept: {problem[0]}", problem[1])
            return
        role = self._cluster.role()
        findings = self._shown.get("checks", {}).get("findings", [])
        findings = [one for one in findings if role == "passive" or not one["key"].startswith("schema_")]
        if self._trouble is not None and boot_time_s() - self._trouble.since >= FOLLOW_ALARM_S:
            yield Showing(
                "not_following", "critical", f"{own} does not follow {peer}: {self._trouble.error}",
                self._trouble.remedy or "It is tried again by itself; see whether PostgreSQL runs on both gateways.")
        if self._watch.stopped:
            yield self._stopped(own, peer, findings)
        yield from _by_key(findings, own)
        if self._differ is not None:
            yield self._differ
        yield from self._told

    def _stopped(self, own: str, peer: str, findings: list[dict[str, Any]]) -> Showing:
        """Say why nothing is applied: PostgreSQL's own words, and the difference that explains them."""
        if not self._watch.failing:
            return Showing(
                "apply_stopped", "critical", f"{own} gets no changes from {peer}: no worker of PostgreSQL follows it.",
                f"See whether PostgreSQL runs on {peer}, then the cables of the links; {peer} keeps the changes.")
        words = str(self._shown.get("checks", {}).get("failure", ""))
        because = [one for one in findings if one["key"].startswith("schema_")]
        because.sort(key=lambda one: not one["blocking"])
        reason = f" {because[0]['text']}" if because else ""
        logged = f" PostgreSQL says: {words}." if words else ""
        return Showing(
            "apply_stopped", "critical",
            f"{own} cannot store what comes from {peer}, and falls behind. {peer} keeps it for {own}.{logged}{reason}",
            because[0]["remedy"] if because else f"Read the log of PostgreSQL on {own}: its newest ERROR tells why.")

    def _names(self) -> tuple[str, str]:
        cluster = self._cluster
        heads = cluster.heads()
        peer = heads.applied.settings.peer_of(cluster.node_id) if heads else None
        return cluster.config.node_name, peer.name if peer else "the other gateway"

    def _older(self) -> str:
        """Say which gateway is to be upgraded, as far as the firmware's versions tell."""
        own_name, peer_name = self._names()
        facts, own = self._cluster.store.peer(), self._cluster.config.firmware_version
        peer = facts.firmware if facts else ""
        if not peer or peer == own:
            return f"Both run firmware {own}: one was configured otherwise, or its agent still runs the former one."
        older = own_name if _version(own) < _version(peer) else peer_name
        return f"Upgrade {older}: {own_name} runs firmware {own}, {peer_name} runs {peer}."


def _by_key(findings: list[dict[str, Any]], own: str) -> Iterator[Showing]:
    """Yield one alarm for each kind of finding."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for one in findings:
        kinds.setdefault(one["key"], []).append(one)
    for key, same in kinds.items():
        more = f" And {len(same) - 1} more of this kind." if len(same) > 1 else ""
        severity: Any = "critical" if any(one["blocking"] for one in same) else "warning"
        text = same[0]["text"] if own in same[0]["text"] else f"{own}: {same[0]['text']}"
        yield Showing(key, severity, text + more, same[0]["remedy"])


def _version(text: str) -> tuple[tuple[int, str], ...]:
    """Return what orders versions: ``5.10`` comes after ``5.9``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in text.split("."))
