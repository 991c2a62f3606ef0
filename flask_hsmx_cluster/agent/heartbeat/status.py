"""What people are shown: the status, the alarms, and whether a fail-over would work now. Recomputed each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...decision import judge
from ...decision.core import Core
from ...decision.events import Severity
from ...decision.evidence import PathEvidence, PortEvidence
from ...decision.model import NEVER, ArbiterUse, Cause, CauseKind, Phase, Role, Word

if TYPE_CHECKING:
    from .session import Session
    from .standing import DataStanding

#: Loss above this is an alarm, percent.
LOSS_ALARM_PERCENT = 5.0
#: A clone is shown this long after it was last heard, s.
CLONE_SHOWN_S = 600.0
#: Writes that this gateway alone confirms are an alarm after this time, s: the other one may just be starting again.
DEGRADED_ALARM_S = 5.0

PHASE_WORDS = {
    Phase.LISTENING: "has just started and listens before it may take over",
    Phase.FOLLOWING: "stands by and hears the active gateway",
    Phase.SUSPECTING: "hears nothing and asks on every path",
    Phase.HOLDING: "hears no heartbeats, but the other gateway's address still answers",
    Phase.WAITING: "hears nothing, but cannot tell whether the other gateway is gone",
    Phase.LEADING: "holds the virtual IPs and serves",
}


ARBITER_WORDS = {
    ArbiterUse.NONE: "not at all",
    ArbiterUse.ASKED: "not required",
    ArbiterUse.REQUIRED: "required",
}


@dataclass
class Showing:
    """An alarm as it is shown.

    :param since: boot time at which it was raised, s.
    """

    key: str
    severity: Severity
    text: str
    remedy: str = ""
    since: float = 0.0

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return the form of the verb ``status``.

        :param now: boot time, s.
        """
        told = {key: getattr(self, key) for key in ("key", "severity", "text", "remedy")}
        return {**told, "since_s": round(now - self.since, 1)}


def alarms(session: Session, showing: dict[str, Showing], now: float, known: DataStanding) -> list[Showing]:
    """Bring ``showing`` up to date; return what was raised or cleared, for the event log. Each is told once.

    :param known: how this gateway's data stands beside the other one's.
    """
    return brought_up_to_date(showing, _present(session, now, known), now)


def brought_up_to_date(showing: dict[str, Showing], alarms: Iterable[Showing], now: float) -> list[Showing]:
    """Let ``showing`` be these alarms; return what was raised or cleared."""
    present = {alarm.key: alarm for alarm in alarms}
    changed: list[Showing] = []
    for key, alarm in present.items():
        if key not in showing:
            alarm.since = now
            showing[key] = alarm
            changed.append(alarm)
        else:
            showing[key].text, showing[key].severity, showing[key].remedy = alarm.text, alarm.severity, alarm.remedy
    for key in [key for key in showing if key not in present]:
        gone = showing.pop(key)
        changed.append(Showing(key, "info", f"Over: {gone.text}"))
    return changed


def _present(session: Session, now: float, known: DataStanding) -> Iterator[Showing]:
    core = session.core
    if now - session.clone_at < CLONE_SHOWN_S:
        alive = core.clone_near()
        yield Showing(
            "clone",
            "critical",
            "Another machine with this gateway's identity is alive: this gateway takes nothing over while it is heard."
            if alive
            else "Another machine uses this gateway's identity.",
            "Was this disk copied? Leave the cluster on the copy and join it anew.",
        )
    if core.terms.used_up():
        yield Showing(
            "terms",
            "critical",
            "The numbers of reigns are used up: no fail-over is possible any more.",
            "Take both gateways out of the cluster and form it anew: the numbers begin anew then.",
        )
    away = core.restart.peer_away() and core.phase in (Phase.HOLDING, Phase.LEADING) and not core.peer_fresh()
    if away:
        yield Showing(
            "restart",
            "warning",
            f"{core.plan.peer_name}'s agent is being restarted: it is waited for.",
            "Nothing needs to be done: if it is not back in time, this gateway takes over."
            if core.role is Role.PASSIVE
            else "Nothing needs to be done. Until it is back, a fail-over is not possible.",
        )
    elif core.plan.peer:
        yield from _path_alarms(session, now)
        yield from _arbiter_alarms(core, now)
    for index, (name, port) in enumerate(core.ports.items()):
        if port.conflict(now):
            yield Showing(
                f"conflict_{name}",
                "critical",
                f"Another device ({port.conflict_mac.hex(':')}) uses a virtual IP on {name}.",
                "Find the device with this MAC and give it another address.",
            )
        if not port.carrier and name not in session.missing:
            yield Showing(f"carrier_{name}", "critical", f"Port {name} has no cable or carrier.", "Check its cable.")
        elif Cause(CauseKind.UNSEEN, index) in core.health.causes:
            yield Showing(
                f"unseen_{name}",
                "critical",
                f"The virtual IP is not seen on {name} by the other gateway.",
                "Check the switch and the VLAN of this gateway's port.",
            )
    for name in session.missing:
        yield Showing(
            f"missing_{name}",
            "critical",
            f"This gateway has no port {name}: its networks and IP aliases are not there while this one is active.",
            "Make the port on this gateway, under the same name as on the other one.",
        )
    yield from session.advertiser.alarms(now)
    if session.lease.route_problem and core.role is Role.ACTIVE:
        yield Showing(
            "routes", "warning", f"Shared routes: {session.lease.route_problem}.", "Look at their routers' addresses."
        )
    if Cause(CauseKind.NO_REFERENCE) in core.health.causes:
        yield Showing(
            "reference",
            "warning",
            "No reference address answers.",
            "Check the upstream router and the reference addresses in the advanced settings.",
        )
    if Cause(CauseKind.DISK) in core.health.causes:
        yield Showing("disk", "warning", "The disk is nearly full.", "Free some space on this gateway.")
    if Cause(CauseKind.DATABASE) in core.health.causes:
        yield Showing("database", "critical", "The database does not answer.", "Check PostgreSQL on this gateway.")
    yield from _data_alarms(session, now)
    yield from _stale_alarms(core, known)
    if core.phase in (Phase.HOLDING, Phase.WAITING) and not away:
        yield Showing(
            "hold",
            "critical",
            f"This gateway {_phase_text(core)}.",
            "Check the cables between the two gateways; nothing needs to be switched by hand.",
        )


def _arbiter_alarms(core: Core, now: float) -> Iterator[Showing]:
    peer, fresh = core.peer, core.peer_at is not None and now - core.peer_at < core.plan.timing.path_down_s
    if peer is not None and fresh and peer.arbiter is not core.arbiter.use:
        yield Showing(
            "arbiter_differs",
            "warning",
            f"The two gateways use the arbiter differently: {ARBITER_WORDS[core.arbiter.use]} here, "
            f"{ARBITER_WORDS[peer.arbiter]} on {core.plan.peer_name}.",
            "Set HSMX_CLUSTER_ARBITER on both gateways or on neither, and HSMX_CLUSTER_ARBITER_REQUIRED alike.",
        )


def _path_alarms(session: Session, now: float) -> Iterator[Showing]:
    core = session.core
    down = [name for name, path in core.paths.items() if _state(core, path, now) == "down"]
    if down and len(down) == len(core.paths):
        yield Showing(
            "peer",
            "critical",
            f"{core.plan.peer_name} is not heard on any path: a fail-over is not possible.",
            f"Check whether {core.plan.peer_name} is powered on, then its cables.",
        )
        return
    most_s = core.plan.timing.path_down_s
    if core.peer_at is None or now - core.peer_at > most_s / 2 or now - core.contact_since <= most_s:
        return  # it goes or comes as a whole: what each path has to say is not known yet
    for name in down:
        yield Showing(
            f"path_{name}",
            "warning",
            f"No heartbeats over {name}; the other paths work.",
            f"Check the cable of {name} ({core.paths[name].path.port}) on both gateways.",
        )
    for name, path in core.paths.items():
        loss = path.loss_percent(core.plan.timing.interval_s)
        if name not in down and loss > LOSS_ALARM_PERCENT:
            yield Showing(
                f"loss_{name}",
                "warning",
                f"{loss:.0f} % of the heartbeats over {name} are lost.",
                "Check cable and switch port.",
            )


def _data_alarms(session: Session, now: float) -> Iterator[Showing]:
    core = session.core
    since = degraded_since(core)
    heard = core.peer_at is not None and now - core.peer_at < DEGRADED_ALARM_S
    being_filled = heard and not session.database.follower.get("filled", True)
    if since is not None and now - since > DEGRADED_ALARM_S and not being_filled:
        yield Showing(
            "degraded",
            "critical",
            f"Writes are confirmed by this gateway only: {core.plan.peer_name} does not have them yet.",
            f"Nothing, if {core.plan.peer_name} is just coming back: this ends by itself. Else open the "
            f"cluster settings of {core.plan.peer_name} and look at its data.",
        )


def _stale_alarms(core: Core, known: DataStanding) -> Iterator[Showing]:
    peer = core.plan.peer_name
    since = known.in_step_at[:16].replace("T", " ")
    older = f"older than {since} UTC" if since else f"older than that of {peer}"
    if core.passive.waits_for_data():
        wait_s = core.plan.timing.stale_wait_s
        yield Showing(
            "stale_wait",
            "critical",
            f"This gateway has started alone and does not serve yet: its data may be {older}.",
            f"Switch {peer} on. "
            + ("Else allow this gateway to serve, in the advanced settings." if wait_s == NEVER else
               "If it stays away, this gateway serves by itself."),
        )  # fmt: skip
    elif core.role is Role.ACTIVE and core.behind:
        yield Showing(
            "stale",
            "critical",
            f"This gateway serves, but its data may be {older}: {peer} may have written on.",
            f"Switch {peer} on: what it alone has is then kept in quarantine, and can be made again here.",
        )


def degraded_since(core: Core) -> float | None:
    """Return since when (boot time, s) an active gateway of two writes alone; None if it does not."""
    data = core.data
    two = core.plan.data and core.plan.synchronous and core.plan.peer
    if not (two and core.role is Role.ACTIVE and data.writable and not data.synchronous):
        return None
    return core.since if data.degraded_since is None else data.degraded_since


def _state(core: Core, path: PathEvidence, now: float) -> str:
    if path.heard_at is None:
        return "down" if now - core.began > 3 * core.plan.timing.path_down_s else "unknown"
    return "down" if path.silent_s(now) > core.plan.timing.path_down_s else "up"


def snapshot(
    session: Session | None,
    showing: dict[str, Showing],
    maintenance_left_s: int | None,
    dropped: int,
    known: DataStanding,
) -> dict[str, Any]:
    """Return the fast half of a status, as the control verb ``status`` gives it."""
    if session is None:
        return {
            "node": {
                "role": "standalone",
                "since_s": 0.0,
                "why": "not in a cluster",
                "term": 0,
                "phase": "standalone",
                "phase_text": "is not in a cluster",
                "maintenance_left_s": None,
                "health": [],
            },
            "peer": None,
            "paths": [],
            "virtual_ips": [],
            "router_advertisements": [],
            "alarms": [],
            "readiness": {"ready": False, "reasons": ["This gateway is not in a cluster."]},
            "preference": None,
            "data": {"synchronous": False, "wants_synchronous": True, "degraded_since_s": None, "follower": None,
                     "stale": None},
            "arbiter": None,
            "counters": {},
        }
    from ...network.clock import boot_time_s

    core, now = session.core, boot_time_s()
    return {
        "node": {
            "role": core.role.name.lower(),
            "since_s": round(now - core.since, 1),
            "why": core.why,
            "term": core.term.counter,
            "phase": core.phase.name.lower(),
            "phase_text": _phase_text(core),
            "maintenance_left_s": maintenance_left_s,
            "health": _health(frozenset(core.health.causes), core),
        },
        "peer": _peer(core, now),
        "paths": [_path(session, path, now) for path in core.paths.values()],
        "virtual_ips": [_virtual_ip(session, vip, now) for vip in session.membership.settings.virtual_ips],
        "router_advertisements": session.advertiser.as_dicts(now),
        "alarms": [one.as_dict(now) for one in showing.values()],
        "readiness": _readiness(core, now),
        "preference": _preference(core),
        "data": _data(session, now, known),
        "arbiter": core.arbiter.word.name.lower() if core.arbiter.word is not None else None,
        "counters": {
            **{refusal.value: 0 for refusal in _refusals()},
            **session.codec.counters,
            "mended": session.mended,
            "events_dropped": dropped,
            "renewal_slowest_us": int(session.renewal_slowest_s * 1e6),
        },
    }


def _refusals() -> Any:
    from .datagram import Refusal

    return Refusal


def _health(causes: frozenset[Cause], core: Core) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{cause.kind.name.lower()}_{cause.port}",
            "text": judge.in_words([cause], core.plan),
            "moves": True,
        }
        for cause in sorted(causes)
    ]


def _peer(core: Core, now: float) -> dict[str, Any] | None:
    if not core.plan.peer:
        return None
    beat, fresh = core.peer, core.peer_at is not None and now - core.peer_at < core.plan.timing.path_down_s
    return {
        "id": core.plan.peer,
        "name": core.plan.peer_name,
        "role": beat.role.name.lower() if beat and fresh else "unknown",
        "heard_ms": None if core.peer_at is None else round((now - core.peer_at) * 1000, 1),
        "patience_ms": round(core.stalls.dead_time_s() * 1000),
        "health": _health(beat.causes, core) if beat and fresh else [],
        "maintenance": bool(beat and fresh and beat.maintenance),
        "revision": beat.revision if beat else 0,
    }


def _path(session: Session, path: PathEvidence, now: float) -> dict[str, Any]:
    core, udp = session.core, session.udp.get(path.path.name)
    state = _state(core, path, now)
    why = ""
    if state == "down":
        why = (udp.problem if udp else "") or "nothing is heard"
    return {
        "name": path.path.name,
        "kind": path.path.kind,
        "port": path.path.port,
        "local": udp.ends.local if udp else path.path.port,
        "remote": udp.ends.remote if udp else "",
        "state": state,
        "heard_ms": None if path.heard_at is None else round(path.silent_s(now) * 1000, 1),
        "rtt_ms": None if path.rtt_s is None else round(path.rtt_s * 1000, 3),
        "loss_percent": round(path.loss_percent(core.plan.timing.interval_s), 1),
        "why": why,
    }


def _virtual_ip(session: Session, vip: Any, now: float) -> dict[str, Any]:
    core = session.core
    port = core.ports[vip.port]
    held = core.role is Role.ACTIVE and core.renewed_at is not None
    reading, text = _reading(core, port, held, now)
    return {"address": str(vip.address), "port": vip.port, "held": held, "reading": reading, "text": text}


def _reading(core: Core, port: PortEvidence, held: bool, now: float) -> tuple[str, str]:
    if port.conflict(now):
        return "conflict", f"another device ({port.conflict_mac.hex(':')}) uses it too"
    if held:
        return ("held", "held by this gateway") if port.carrier else ("no_carrier", f"{port.port} has no carrier")
    reading = port.reading(now - 1.5, not core.peer_was_active, core.peer_at)
    words = {
        "no_carrier": f"{port.port} has no carrier",
        "answered": f"answers from {core.plan.peer_name}",
        "silent": "does not answer",
        "blind": "cannot be told: nothing has been seen on this port yet that would make silence a proof",
    }
    return reading.value, words[reading.value]


def _data(session: Session, now: float, known: DataStanding) -> dict[str, Any]:
    core, seen = session.core, session.database.follower
    since = degraded_since(core)
    keys = ("streaming", "caught_up", "filled", "lag_bytes", "kept_bytes", "wal_status", "brake_ms")
    return {
        "synchronous": core.data.synchronous,
        "wants_synchronous": core.plan.synchronous,
        "degraded_since_s": None if since is None else round(now - since, 1),
        "follower": {key: seen[key] for key in keys} if seen and core.role is Role.ACTIVE else None,
        "stale": _stale(core, known, now),
    }


def _stale(core: Core, known: DataStanding, now: float) -> dict[str, Any] | None:
    """Return of when the data is on a gateway that serves, or waits to serve, although newer data may exist."""
    waits = core.passive.waits_for_data()
    if not waits and not (core.role is Role.ACTIVE and core.behind):
        return None
    left_s = core.passive.hold_ends() - now if waits else 0.0
    return {"in_step_at": known.in_step_at, "waits": waits, "left_s": None if left_s == NEVER else round(left_s, 1)}


def _phase_text(core: Core) -> str:
    if core.passive.waits_for_data():
        return f"has started alone and waits for {core.plan.peer_name}, whose data may be newer"
    if core.phase is Phase.WAITING and core.arbiter.word is Word.DENIED:
        return f"hears nothing, and does not serve because the arbiter lets {core.plan.peer_name} serve"
    if core.phase is Phase.WAITING and core.arbiter.use is ArbiterUse.REQUIRED and core.arbiter.word is Word.SILENT:
        return "hears nothing, and does not serve because the arbiter, which is required, does not answer"
    if core.phase is Phase.HOLDING and core.restart.peer_away():
        left_s = core.restart.peer_until - core.now
        return f"waits up to {left_s:.0f} s for {core.plan.peer_name}, whose agent is being restarted"
    return PHASE_WORDS[core.phase]


def _preference(core: Core) -> dict[str, Any] | None:
    """Return which gateway is preferred, and when it takes over again; None: none is."""
    one, plan = core.preference, core.plan
    if not plan.preferred or not plan.peer:
        return None
    left_s = one.left_s()
    return {
        "node": plan.preferred,
        "name": plan.peer_name if plan.preferred == plan.peer else "",
        "delay_s": round(one.delay_s() if one.counts() else plan.preferred_delay_s),
        "failed": one.failed,
        "left_s": None if left_s is None else round(left_s),
        "why": one.why_not() if one.counts() else "",
    }


def _readiness(core: Core, now: float) -> dict[str, Any]:
    """Would a fail-over work now?"""
    reasons: list[str] = []
    if not core.plan.peer:
        reasons.append("There is no other gateway in the cluster yet.")
    elif core.peer is None or core.peer_at is None or now - core.peer_at > core.plan.timing.path_down_s:
        reasons.append(f"{core.plan.peer_name} is not heard.")
    else:
        mine, theirs = frozenset(core.health.causes), core.peer.causes
        passive_causes = theirs if core.role is Role.ACTIVE else mine
        if core.peer.maintenance or core.maintenance:
            reasons.append("One gateway is in maintenance.")
        if core.peer.listening or core.phase is Phase.LISTENING:
            reasons.append("One gateway has just started and still listens.")
        if passive_causes:
            reasons.append(f"The passive gateway is not healthy: {judge.in_words(passive_causes, core.plan)}.")
        if core.clone_near():
            reasons.append("Another machine uses this gateway's identity.")
        if core.role is core.peer.role:
            reasons.append("The roles are not settled.")
        waits = core.plan.data and core.plan.synchronous
        if waits and not (core.data.synchronous if core.role is Role.ACTIVE else core.peer_synchronous):
            reasons.append("Writes are not confirmed by both gateways at present.")
    return {"ready": not reasons, "reasons": reasons}
