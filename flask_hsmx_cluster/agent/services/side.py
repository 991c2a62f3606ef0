"""What follows the role as the agent tends it: its process runs and is set up, and people are shown how it goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ...decision.model import Cause, CauseKind
from ...errors import ClusterError
from ...network.clock import boot_time_s
from ..cluster import Cluster
from ..heartbeat.services_hand import BEFORE_ACTIVE, BEFORE_PASSIVE, ServicesHand, ServicesLink
from ..heartbeat.status import Showing, brought_up_to_date
from ..jobs import Periodic
from .guest_traffic import conntrack_is_absent
from .setup import BOUND_LEASES, PARTS, Part, checks_that_move

log = logging.getLogger(__name__)
SET_UP_EVERY_S = 2.0
LOOK_EVERY_S = 1.0
#: Both where nothing follows the role, s: waking up costs more than looking.
IDLE_EVERY_S = 5.0
LOOK_TIMEOUT_S = 3.0
#: A process that runs and does not answer for so long is started again, s: longer than any step takes.
SILENT_MOST_S = 90.0
SET_UP_TIMEOUT_S = 10.0
#: At the agent's start addresses may be leased still: they do not wait any longer than this, s.
BEGIN_TIMEOUT_S = 1.0


class ServicesSide:
    """Keeps the process set up as the settings in force demand; none runs while there is nothing to do.

    :param hand: the heartbeat loop's.
    :param restarted: called after the process was started, to let the loop listen to it.
    """

    def __init__(
        self, cluster: Cluster, link: ServicesLink, hand: ServicesHand, restarted: Callable[[], None] = lambda: None
    ) -> None:
        self._cluster, self._link, self._hand, self._restarted = cluster, link, hand, restarted
        self._lock = threading.Lock()
        self._in_force: dict[str, Any] | None = None
        self._shown: dict[str, Any] = {}
        self._conntrack_absent = False
        self._answered_at = boot_time_s()
        self._problem: ClusterError | None = None
        self._showing: dict[str, Showing] = {}

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of each job, by name."""
        return {
            "services: set-up": (lambda: self.every(SET_UP_EVERY_S), self.set_up),
            "services: look": (lambda: self.every(LOOK_EVERY_S), self.look),
        }

    def every(self, period_s: float) -> float:
        """Return how often something is done, s: seldom where nothing follows the role."""
        return period_s if self._hand.follow else IDLE_EVERY_S

    def begin(self) -> None:
        """At the agent's start, before the first claim: be ready for it."""
        try:
            self.set_up(tell_loop=False, within_s=BEGIN_TIMEOUT_S)
        except (ClusterError, OSError) as error:
            log.warning("Services and hooks are not ready yet: %s", error)

    def set_up(self, tell_loop: bool = True, within_s: float = SET_UP_TIMEOUT_S) -> str:
        """Start the process if it is needed and does not run, and tell it what has changed."""
        with self._lock:
            parts = self._parts()
            follow = bool(parts)
            self._conntrack_absent = self._cluster.heads() is not None and conntrack_is_absent(self._cluster)
            self._hand.checks = checks_that_move(self._cluster)
            self._hand.awaited = frozenset(
                stage
                for part in parts.values()
                for stage, wanted in ((BEFORE_ACTIVE, part.before_active), (BEFORE_PASSIVE, part.before_passive))
                if wanted
            )
            changed, self._hand.follow = follow != self._hand.follow, follow
            try:
                result = self._set_up(parts, within_s)
                self._problem = None
            except ClusterError as error:
                self._problem = error
                raise
            finally:
                if changed and tell_loop:
                    self._tell_loop()
        return result

    def _parts(self) -> dict[str, Part]:
        if self._cluster.heads() is None:
            return {}  # outside of a cluster nothing is led by a role
        found = {name: part(self._cluster) for name, part in PARTS.items()}
        return {name: part for name, part in found.items() if part is not None}

    def _set_up(self, parts: dict[str, Part], within_s: float) -> str:
        if not parts:
            if self._link.alive():
                self._link.stop()
            self._in_force, self._shown = None, {}
            return "nothing follows the role"
        lease_s = self._cluster.require_heads().applied.settings.advanced.lease_s
        wanted = {
            "bound_s": BOUND_LEASES * lease_s,
            "participants": {name: dict(part.setup) for name, part in parts.items()},
        }
        if not self._link.alive():
            self._in_force = None
            self._link.start()
            self._answered_at = boot_time_s()
            self._restarted()
        if wanted != self._in_force:
            self._link.ask("configure", within_s, setup=wanted)
            self._in_force = wanted
        return "set up"

    def _tell_loop(self) -> None:
        """Let the decision core know whether anything follows the role."""
        with self._cluster.state_lock:
            if (membership := self._cluster.membership()) is not None:
                self._cluster.hot.apply(membership)

    def look(self) -> str:
        """See how everything that follows the role is, and bring the alarms up to date."""
        if self._in_force is None:
            self._update_alarms()
            return "nothing follows the role"
        try:
            self._shown = self._link.ask("look", LOOK_TIMEOUT_S)
            self._answered_at = boot_time_s()
        except ClusterError as error:
            self._problem = error
            if boot_time_s() - self._answered_at > SILENT_MOST_S:
                with self._lock:
                    self._link.stop()  # the next set-up starts it
            raise
        finally:
            self._update_alarms()
        self._report_health()
        return str(self._shown["stage"])

    def _report_health(self) -> None:
        """Let the decision core weigh the checks that may move the role."""
        found = {one["name"]: one["state"] for one in self.shown("checks").get("checks", ())}
        for number, name in enumerate(self._hand.checks):
            self._cluster.hot.report_health(Cause(CauseKind.SERVICE, number), found.get(name) == "bad")

    def command(self, participant: str, **wish: Any) -> None:
        """Tell a participant what an operator wants of it.

        :raises ClusterError: it cannot be.
        """
        self._link.ask("command", LOOK_TIMEOUT_S, participant=participant, **wish)

    # -- what is told -----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any] | None:
        """Return what the verb ``status`` shows; None where nothing follows the role, nor could."""
        if not self._hand.follow and not self._conntrack_absent:
            return None
        problem = self._problem
        participants = self._shown.get("participants", {})
        firmware, hooks = participants.get("services", {}), participants.get("hooks", {})
        checks = participants.get("checks", {})
        return {
            "problem": problem.message if problem else "",
            "remedy": problem.remedy if problem else "",
            "stage": self._shown.get("stage", ""),
            "services": firmware.get("services", []),
            "hooks": hooks.get("hooks", []),
            "hooks_ready": hooks.get("ready", True),
            "checks": checks.get("checks", []),
            "conntrack": {"state": "absent"} if self._conntrack_absent else self.shown("conntrack"),
            "passive_internet": self.shown("passive_internet"),
        }

    def shown(self, participant: str) -> dict[str, Any]:
        """Return what a participant showed last; empty if nothing yet."""
        return dict(self._shown.get("participants", {}).get(participant, {}))

    def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms, as the verb ``status`` shows them."""
        now = boot_time_s()
        return [one.as_dict(now) for one in list(self._showing.values())]

    def _update_alarms(self) -> None:
        for one in brought_up_to_date(self._showing, self._present(), boot_time_s()):
            self._cluster.store.record(f"alarm_{one.key}", one.severity, one.text)

    def _present(self) -> Iterator[Showing]:
        problem = self._problem
        if problem and self._hand.follow:
            name = self._cluster.config.node_name
            yield Showing("services", "critical", f"Services of {name} do not follow its role: {problem.message}",
                          problem.remedy)  # fmt: skip
        for shown in self._shown.get("participants", {}).values():
            for one in shown.get("alarms", ()):
                yield Showing(one["key"], one["severity"], one["text"], one["remedy"])
