"""Certificates of both gateways, and the guide through a renewal: what each agent sees, tells and remembers.

Each looks at its own HTTPS port and tells the other one what it saw, with the renewal that is under way: the newer of
two is kept on both. So neither has to be there all the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ...errors import ClusterError, Finding, RequestRefused
from ...network.clock import boot_time_s, machine_boot_id
from ...renewal import guide as guides
from ...renewal.certificate import Certificate
from ...renewal.guide import Before, Facts, Guide, Kind, Progress, progress
from ...version import PROTOCOL, __version__
from ..cluster import Cluster
from ..jobs import Periodic
from ..peer.exchange import Exchange
from ..preflight.checks import PROTOCOL_LEAST
from . import showing
from .look import look

JOB = "certificates"
#: The job's period: while a renewal is under way, while something is not seen, and else, s.
UNDER_WAY_EVERY_S, UNSEEN_EVERY_S, EVERY_S = 5.0, 15.0, 3600.0
#: While a renewal is under way, the own port is looked at this often, s.
LOOK_EVERY_S = 15.0
#: The other gateway may look at its port before it answers, s.
ASK_TIMEOUT_S, ASK_LOOK_TIMEOUT_S = 3.0, 10.0
#: A web server that is started again shows its certificate before that, s.
UNSEEN_ALARM_S = 120.0

Json = dict[str, Any]


class RenewalSide:
    """Looks, tells, remembers.

    :param data_alarms: the alarms of the shared database, as the verb ``status`` shows them.
    :param soon: has the job run now.
    :param see: reads a certificate from the wire; replaced in tests.
    """

    def __init__(
        self, cluster: Cluster, exchange: Exchange, data_alarms: Callable[[], list[Json]],
        soon: Callable[[str], None], see: Callable[[str], Certificate] = look,
    ) -> None:  # fmt: skip
        self._cluster, self._exchange, self._data_alarms, self._soon, self._see = (
            cluster, exchange, data_alarms, soon, see
        )  # fmt: skip
        self._looking, self._guiding = threading.Lock(), threading.RLock()
        self._boot = machine_boot_id()
        self._certificate: Certificate | None = None
        self._problem = ""
        self._looked_at = self._unseen_since = float("-inf")
        self._told: tuple[Facts, float] | None = None
        exchange.handle("renewal", self._on_renewal)

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of the job."""
        return {JOB: (self._period_s, self.run)}

    def _period_s(self) -> float:
        if self.under_way() is not None:
            return UNDER_WAY_EVERY_S
        unseen = bool(self._cluster.config.https) and self._certificate is None
        return UNSEEN_EVERY_S if unseen or (self._peer() is not None and self._told is None) else EVERY_S

    def run(self) -> str:
        """Look if it is time, and tell the other gateway."""
        if boot_time_s() - self._looked_at >= LOOK_EVERY_S or self._certificate is None:
            self._look()
        if self._peer() is None:
            self._told = None
        else:
            try:
                self._ask()
            except ClusterError as error:
                return f"{self._words()}; the other gateway was not asked: {error.message}"
        return self._words()

    def _words(self) -> str:
        if not self._cluster.config.https:
            return "no HTTPS port is stated"
        return f"sees {self._certificate.fingerprint[:16]}" if self._certificate else self._problem

    # -- what is seen -----------------------------------------------------------------------------------------

    def _look(self) -> None:
        where = self._cluster.config.https
        if not where:
            return
        with self._looking:
            try:
                seen, problem = self._see(where), ""
            except ClusterError as error:
                seen, problem = None, error.message[: guides.MOST_TEXT]
            before = self._certificate
            if problem and not self._problem:
                self._unseen_since = boot_time_s()
            self._certificate, self._problem, self._looked_at = seen, problem, boot_time_s()
        if seen is not None and before is not None and seen.fingerprint != before.fingerprint:
            self._cluster.store.record(
                "certificate", "info", "This gateway shows another certificate.", [before.fingerprint, seen.fingerprint]
            )

    def own(self) -> Facts:
        """Return what this gateway is now."""
        config, heads = self._cluster.config, self._cluster.heads()
        return Facts(
            self._cluster.node_id, config.node_name, self._boot, bool(config.https), self._certificate, self._problem,
            config.firmware_version, __version__, PROTOCOL,
            max(PROTOCOL_LEAST, heads.applied.settings.protocol if heads else 0),
        )  # fmt: skip

    # -- between the two --------------------------------------------------------------------------------------

    def _peer(self) -> str | None:
        heads = self._cluster.heads()
        peer = heads.applied.settings.peer_of(self._cluster.node_id) if heads else None
        return peer.node_id if peer else None

    def _ask(self, looks: bool = False) -> Facts:
        """Tell the other gateway what this one is, and return what that one is.

        :param looks: it looks at its port first.
        """
        guide = self._guide()
        told = self._exchange.ask(
            "renewal", ASK_LOOK_TIMEOUT_S if looks else ASK_TIMEOUT_S, look=looks, facts=self.own().as_dict(),
            guide=guide and guide.as_dict(),
        )  # fmt: skip
        return self._take(told)

    def _on_renewal(self, _sender: str, arguments: Json) -> Json:
        self._take(arguments)
        if arguments.get("look") is True:
            self._look()
        guide = self._guide()
        return {"facts": self.own().as_dict(), "guide": guide and guide.as_dict()}

    def _take(self, told: Json) -> Facts:
        """Take what the other gateway tells."""
        try:
            facts = Facts.from_dict(told["facts"])
            guide = None if told["guide"] is None else Guide.from_dict(told["guide"])
        except (KeyError, ValueError):
            raise RequestRefused("What the other gateway tells of its certificate and version cannot be read.",
                                 "Are both gateways up to date?") from None  # fmt: skip
        if facts.node_id != self._peer():
            raise RequestRefused("Another gateway than the one of the settings tells its certificate.")
        self._told = facts, boot_time_s()
        if guide is not None:
            with self._guiding:
                if self._is_ours(guide) and guide.is_newer_than(self._guide()):
                    self._keep(guide)
        return facts

    def _is_ours(self, guide: Guide) -> bool:
        return {one.node_id for one in guide.before} == {self._cluster.node_id, self._peer()}

    def _guide(self) -> Guide | None:
        """Return the renewal begun last by these two gateways."""
        found = self._cluster.store.guide() if self._cluster.heads() is not None else None
        return found if found is not None and self._is_ours(found) else None

    def under_way(self) -> Guide | None:
        """Return the renewal that is under way."""
        found = self._guide()
        return found if found is not None and not found.ended_at else None

    def _keep(self, guide: Guide) -> None:
        self._cluster.store.set_guide(guide)
        kind, text = ("renewal_ended", "ended") if guide.ended_at else ("renewal_begun", "begun")
        self._cluster.store.record(kind, "info", f"{showing.TITLES[guide.kind]}: {text} on {guide.by}.")
        self._soon(JOB)

    # -- verbs ------------------------------------------------------------------------------------------------

    def look_now(self) -> Json:
        """Have both gateways look at their ports, and return what is seen."""
        self._look()
        if self._peer() is not None:
            self._ask(looks=True)
        return self.status()

    def begin(self, kind: Kind) -> Json:
        """Begin a renewal on both gateways.

        :raises RequestRefused: one is under way, or it could not be followed.
        """
        self._cluster.require_heads()
        with self._guiding:
            if self.under_way() is not None:
                raise RequestRefused("A renewal is under way already.", "Go on with it, or end it first.")
        self._look()
        told, own = self._ask(looks=True), self.own()
        if kind == "certificate" and (unstated := [one.name for one in (own, told) if not one.https]):
            raise RequestRefused(
                f"Which certificate {' and '.join(unstated)} shows is not known: the HTTPS port is not stated there.",
                "Set HSMX_CLUSTER_HTTPS on both gateways, and restart their agents.",
            )
        active = self._active()
        if active is None:
            raise RequestRefused("No gateway is active at present.", "See the page Network / Cluster settings.")
        first, second = (told, own) if active == own.node_id else (own, told)
        with self._guiding:
            if self.under_way() is not None:
                raise RequestRefused("A renewal was begun on the other gateway at this moment.", "Go on with that one.")
            former = self._guide()
            number = former.number + 1 if former else 1
            began_at = datetime.now(UTC).isoformat(timespec="seconds")
            self._keep(Guide(number, kind, began_at, own.name, (Before.of(first), Before.of(second))))
        return self._agreed()

    def end(self) -> Json:
        """End the renewal that is under way, finished or not."""
        with self._guiding:
            guide = self.under_way()
            if guide is None:
                raise RequestRefused("No renewal is under way.")
            self._keep(guide.ended(datetime.now(UTC).isoformat(timespec="seconds")))
        return self._agreed()

    def _agreed(self) -> Json:
        """Tell the other gateway at once; if it cannot be told, the job does as soon as it can."""
        try:
            self._ask()
        except ClusterError:
            self._soon(JOB)
        return self.status()

    # -- fail-over --------------------------------------------------------------------------------------------

    def demand_safe(self) -> None:
        """Raise unless the other gateway may become active on request: while a renewal is under way it must be fit.

        It looks at its port now; what cannot be found out counts as unfit. A fail-over that nobody asked for is none
        of this: guests without a gateway are worse off than guests with an old certificate.

        :raises RequestRefused: it is not fit.
        """
        guide = self.under_way()
        if guide is None:
            return
        try:
            target: Facts | None = self._ask(looks=True)
        except ClusterError:
            target = None
        refused = next((one for one in self._checks(guide, target, self.own()) if one.blocking), None)
        if refused is not None:
            raise RequestRefused(
                f"{showing.TITLES[guide.kind]} is under way: {refused.text} Nothing was changed.",
                f"{refused.remedy} Or end the renewal on its page.",
            )

    def _checks(self, guide: Guide, target: Facts | None, other: Facts) -> list[Finding]:
        found = list(guides.checks(guide.kind, target, other, guide.before, time.time()))
        return found if guide.kind == "certificate" else [*found, *showing.of_data(self._data_alarms())]

    # -- what is shown ----------------------------------------------------------------------------------------

    def _active(self) -> str | None:
        seen = self._cluster.hot.snapshot()
        if seen["node"]["role"] == "active":
            return self._cluster.node_id
        return str(seen["peer"]["id"]) if seen["peer"] and seen["peer"]["role"] == "active" else None

    def _facts(self) -> dict[str, Facts]:
        own = self.own()
        return {own.node_id: own, **({self._told[0].node_id: self._told[0]} if self._told else {})}

    def status(self) -> Json:
        """Return both gateways side by side, and how far a renewal is."""
        guide, facts, active, now = self._guide(), self._facts(), self._active(), time.time()
        found: Progress | None = None
        checks: list[Finding] = []
        if guide is not None and not guide.ended_at:
            found = progress(guide, facts, active, now)
            passive = next((one.node_id for one in guide.before if one.node_id != active), "")
            if active in facts and found.fails_over_now:
                checks = self._checks(guide, facts.get(passive), facts[active])
        ages = {self._cluster.node_id: self._looked_at}
        if self._told is not None:
            ages[self._told[0].node_id] = self._told[1]
        return showing.status(guide, found, checks, facts, ages, active, self._cluster.node_id, now)

    def alarms(self) -> list[tuple[str, str, str, str]]:
        """Return what is wrong with either certificate: key, severity, text, remedy."""
        since_s = boot_time_s() - self._unseen_since
        unseen = self._problem if self._problem and since_s >= UNSEEN_ALARM_S else ""
        return list(showing.alarms(self.own(), self._told[0] if self._told else None, unseen, time.time()))
