"""What must hold whatever happens: named checks with their bounds, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask_hsmx_cluster.decision import bounds, events
from flask_hsmx_cluster.decision.model import Role, Term, Timing
from flask_hsmx_cluster.decision.passive import FORGEABLE

from .faults import Fault, settle_s
from .machine import EXPIRES_LATE_S, Machine
from .services import SILENT_LEASES
from .world import World

#: A fault short of a parting of the two may cause two gateways on the address for this long, s.
TWO_MOST_S = 0.05
#: Guests look anew after 5 s without an answer, once a second.
GUEST_WAITS_S = 8.0


def two_after_parting_s(timing: Timing) -> float:
    """Return how long two may hold an address once they hear each other again, s: one heartbeat, one more if lost."""
    return 2 * timing.interval_s + TWO_MOST_S


@dataclass(frozen=True)
class Invariant:
    """One check.

    :param name: as violations name it.
    :param promise: what holds, for people.
    :param bound: of it, for people; ``bound_s``: in s for a timing, data shared or not, or None.
    """

    name: str
    promise: str
    bound: str
    bound_s: Callable[[Timing, bool], float] | None = None


INVARIANTS: tuple[Invariant, ...] = (
    Invariant("two_holders", "No address is answered by two gateways that can hear each other.", "50 ms",
              lambda _timing, _data: TWO_MOST_S),
    Invariant("two_after_parting",
              "Two that were parted (no datagram passed in one direction, or one machine stood still) and both served "
              "are one again once they hear each other.", "two heartbeats and 50 ms",
              lambda timing, _data: two_after_parting_s(timing)),
    Invariant("two_unattended",
              "Where an agent is dead, and the other one could not see its port, or it, or only answers that could be "
              "forged, when it claimed, the kernel ends its lease.", "a lease and 0.6 s",
              lambda timing, _data: timing.lease_s + EXPIRES_LATE_S[-1] + TWO_MOST_S),
    Invariant("single_fault", "A single fault costs no more, of nobody or of two on the address, than its kind may.",
              "as `docs/promise.md` states"),
    Invariant("moved_for_nothing", "A single fault at the passive gateway moves nothing.", "0 moves",
              lambda _timing, _data: 0.0),
    Invariant("one_holder", "Some healthy gateway, and one only, holds the address after the last fault has ended.",
              "boot hold + 14 s + 12 heartbeats, and the wait for older data", settle_s),
    Invariant("guests_served", "Every guest has been served since.", "8 s later",
              lambda timing, data: settle_s(timing, data) + GUEST_WAITS_S),
    Invariant("no_flapping", "A pair in equal health, whole again, never moves the role.", "0 moves",
              lambda _timing, _data: 0.0),
    Invariant("term_twice", "No term is used twice, whatever crashes between whichever effects.", "never"),
    Invariant("term_back", "A gateway's terms only grow, over every crash and restart.", "never"),
    Invariant("acknowledged_lost",
              "A write that was acknowledged is on the gateway that goes on, or in quarantine.", "0 writes"),
    Invariant("confirmed_missing",
              "A gateway that takes over has every write that both gateways had confirmed.", "0 writes"),
    Invariant("not_converged",
              "A healed pair is whole without a person: both agents run, one follows, writes are confirmed by both.",
              "as one_holder", settle_s),
    Invariant("services_twice", "What runs on one gateway only never runs on both that can hear each other.",
              "three quarters of a lease: their watchdog's time", lambda timing, _data: SILENT_LEASES * timing.lease_s),
    Invariant("wall_clock", "No effect depends on the wall clock.", "the same bytes with other steps of it"),
    Invariant("reproducible", "One seed reproduces a run to the byte.", "the same bytes"),
)  # fmt: skip
NAMES = tuple(one.name for one in INVARIANTS)

#: What a single fault is to the product, which states what it may cost with everything else whole.
STATED: dict[str, bounds.Fault] = {
    "power_off": bounds.Fault.POWER_OFF,
    "kill": bounds.Fault.AGENT_THAWED,
    "crash_between": bounds.Fault.AGENT_THAWED,
    "freeze": bounds.Fault.AGENT_THAWED,
    "agent_restart": bounds.Fault.AGENT_THAWED,
    "cut": bounds.Fault.CABLES,
    "jitter": bounds.Fault.CABLES,
    "late": bounds.Fault.CABLES,
    "duplicates": bounds.Fault.CABLES,
    "reordering": bounds.Fault.CABLES,
    "corruption": bounds.Fault.CABLES,
    "guest_has_address": bounds.Fault.PASSIVE,
    "wall_step": bounds.Fault.PASSIVE,
    "disk_slow": bounds.Fault.PASSIVE,
    "disk_full": bounds.Fault.PASSIVE,
    "fail_over": bounds.Fault.REQUEST,
    "maintenance": bounds.Fault.REQUEST,
    "agent_stop": bounds.Fault.REQUEST,
    "check_fails": bounds.Fault.REQUEST,
    "lan_cable": bounds.Fault.LAN_CABLE,
    "lan_dead": bounds.Fault.DEAD_LAN,
    "lan_deaf": bounds.Fault.DEAF_LAN,
    "pause": bounds.Fault.PAUSE,
    "database_crash": bounds.Fault.DATABASE,
    "database_silent": bounds.Fault.DATABASE,
    "boot_both": bounds.Fault.BOOT_TOGETHER,
    "isolation": bounds.Fault.ISOLATION,
}
#: What is meant for, or happens to, the pair, not one gateway.
MOVES_ALWAYS = {"fail_over", "boot_both", "isolation"}
#: An agent that dies between a renewal and the heartbeat that tells of it: "a death in the wrong moment" there.
WRONG_MOMENT_S = 0.5


@dataclass(frozen=True)
class Most:
    """The longest outage, and the longest time on two, that the product states for a single fault, s.

    :param two_after_s: the same, counted from the end of the fault, where two serve while it lasts.
    """

    none_s: float
    two_s: float
    two_after_s: float = bounds.NEVER


def parts(fault: Fault) -> bool:
    """Return whether a fault takes every heartbeat of a direction, and leaves guests' network as it is."""
    return fault.kind == "cut" and fault.which == "all"


def single_fault(fault: Fault, site: bounds.Site, passive: bool = False, stalled: bool = False) -> Most | None:
    """Return what a single fault may cost; None where nothing is stated.

    :param passive: it happens to the passive gateway.
    :param stalled: a machine has stood still within the last hour.
    """
    kind = STATED.get(fault.kind)
    if parts(fault):
        kind = bounds.Fault.SILENCED if fault.how else None
    if kind is None:
        return None
    if passive and fault.kind not in MOVES_ALWAYS and not parts(fault):
        kind = bounds.Fault.PASSIVE
    stated = bounds.bound(kind, site)
    none_s, two_s = stated.none_s, stated.two_s
    match kind:
        case bounds.Fault.POWER_OFF:
            noticed_s = bounds.bound(bounds.Fault.POWER_OFF_AFTER_STALL, site).none_s if stalled else none_s
            if fault.lasts < noticed_s:  # it is back before that
                noticed_s += bounds.bound(bounds.Fault.POWER_BLINK, site).none_s - none_s
            none_s = noticed_s
        case bounds.Fault.AGENT_THAWED:
            none_s += WRONG_MOMENT_S
        case bounds.Fault.PAUSE if stalled:
            none_s = max(none_s, bounds.bound(bounds.Fault.POWER_OFF_AFTER_STALL, site).none_s)
        case bounds.Fault.BOOT_TOGETHER:  # which is counted from when the later one starts
            none_s += fault.lasts + fault.how
        case bounds.Fault.SILENCED | bounds.Fault.ISOLATION:
            return Most(none_s, two_s, bounds.bound(bounds.Fault.HEALED, site).two_s)
    return Most(none_s, two_s)


@dataclass(frozen=True)
class Violation:
    """What did not hold.

    :param at: s after the pair was formed.
    :param recent: the last effects and faults before it.
    """

    at: float
    name: str
    text: str
    recent: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"at": round(self.at, 3), "name": self.name, "text": self.text, "recent": list(self.recent)}


@dataclass
class Checks:
    """Watches a world.

    :param began: when the pair was formed, s.
    """

    world: World
    began: float
    violations: list[Violation] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.world
        self._terms: dict[Term, str] = {}
        self._last: dict[str, int] = {}
        self._known: dict[str, Term] = {}
        self._out_of_sight = False  #: the last claim was made while the other one's port, or agent, could not be seen
        for machine in world.machines.values():
            for term in machine.terms:
                self._took(machine, term)
        self._two_since: float | None = None
        self._two_until = float("-inf")  #: when two have ended to answer last
        self._free_at = 0.0  #: from when on two are two, not the end of a parting
        self._twice_since: float | None = None
        self.longest: dict[str, float] = {"two": 0.0, "two_parted": 0.0, "none": 0.0}
        self._missed = 0
        world.observers.append(self._effect)
        world.watchers.append(self._watch)

    def violate(self, name: str, text: str) -> None:
        assert name in NAMES
        self.violations.append(
            Violation(self.world.now - self.began, name, text, tuple(self.world.recent))
        )

    # While it runs ------------------------------------------------------------------------------------------

    def parted(self) -> bool:
        """Return whether the two cannot hear each other: in one direction nothing passes, or one stands still."""
        world = self.world
        if any(one.paused for one in world.machines.values()):
            return True
        return any(
            all(
                world.wires[path.name, name].cut or not world.passes(path.name, path.port, name)
                for path in machine.paths.values()
            )
            for name, machine in world.machines.items()
        )

    def faults_changed(self) -> None:
        """A fault has begun or ended: is this a parting, or the end of one?"""
        now, timing = self.world.now, self.world.timing
        if self.parted():
            self._free_at = float("inf")
        elif self._free_at == float("inf"):
            self._free_at = now + two_after_parting_s(timing)
        self._watch()

    def _watch(self) -> None:
        world, now = self.world, self.world.now
        two = len({one.held for one in world.machines.values() if one.answers()}) == 1 and all(
            one.answers() for one in world.machines.values()
        )
        if two and self._two_since is None:
            self._two_since = now
            world.at(TWO_MOST_S + 0.001, self._look_at_two, now)
        elif not two and self._two_since is not None:
            self._look_at_two(self._two_since)
            key = "two" if self._two_since >= self._free_at else "two_parted"
            self.longest[key] = max(self.longest[key], now - self._two_since)
            self._two_since, self._two_until = None, now
        twice = all(machine.followers.on for machine in world.machines.values())
        if twice and self._twice_since is None:
            self._twice_since = now
        elif not twice and self._twice_since is not None:
            if self._twice_since >= self._free_at and now - self._twice_since > SILENT_LEASES * world.timing.lease_s:
                self.violate("services_twice", f"for {now - self._twice_since:.3f} s")
            self._twice_since = None

    def _unattended_until(self) -> float | None:
        """Return until when the kernel alone may hold one of the two addresses, if the claim had to be made unseeing.

        Its agent is dead or stands still. The lease ends that.
        """
        ends = [
            one.leased_at + one.leased_for_s + EXPIRES_LATE_S[-1] + TWO_MOST_S
            for one in self.world.machines.values() if not self._attended(one)
        ]  # fmt: skip
        return max(ends) if ends and self._out_of_sight else None

    def _silenced(self, machine: Machine) -> bool:
        """Return whether nothing but answers for the address spoke for the other one, which could be forged.

        Its agent died while its heartbeats were lost, and its kernel has an ordinary lease still.
        """
        core, peer = machine.core, machine.peer
        alone = core is not None and core.why == FORGEABLE
        return alone and not self._attended(peer) and peer.leased_for_s <= self.world.timing.lease_s

    @staticmethod
    def _attended(machine: Machine) -> bool:
        return machine.session is not None and not machine.frozen and not machine.standing_still

    def _look_at_two(self, since: float) -> None:
        """Two answer: is that longer than it may be?"""
        if self._two_since != since:
            return
        now = self.world.now
        unattended_until = self._unattended_until()
        if unattended_until is not None and now < unattended_until:
            self.world.at(0.05, self._look_at_two, since)
            self._free_at = max(self._free_at, now + 0.05 + two_after_parting_s(self.world.timing))
        elif self._free_at == float("inf"):
            self.world.at(0.05, self._look_at_two, since)
        elif unattended_until is not None:
            self.violate("two_unattended", f"both have answered for {now - since:.3f} s")
        elif now < self._free_at:
            self.world.at(self._free_at - now + 1e-6, self._look_at_two, since)
        elif now - max(since, self._free_at) > TWO_MOST_S:
            self.violate("two_holders", f"both have answered for {now - since:.3f} s")
        elif since < self._free_at:
            self.violate("two_after_parting", f"both still answer {two_after_parting_s(self.world.timing):.3f} s after")
        else:
            self.world.at(TWO_MOST_S, self._look_at_two, since)

    def _effect(self, machine: Machine, effect: events.Effect) -> None:
        world = self.world
        if isinstance(effect, events.Claim) and effect.term != self._known.get(machine.name):
            parted = self.parted() and self._attended(machine.peer)
            unseen = not world.lan.between() or machine.peer.paused or world.loss > 0
            lately = world.now < self._free_at  # what it decided upon is older than the claim
            self._out_of_sight = unseen or parted or lately or self._silenced(machine)
            self._took(machine, effect.term)
        replication = world.replication
        if replication is not None and len(replication.missed) > self._missed:
            self._missed = len(replication.missed)
            _at, who, numbers = replication.missed[-1]
            self.violate("confirmed_missing", f"{who} took over without {len(numbers)} writes")

    def _took(self, machine: Machine, term: Term) -> None:
        """A gateway reigns in a term; a restarted agent may go on with its last one."""
        name = machine.name
        self._known[name] = term
        if term in self._terms:
            self.violate("term_twice", f"{name} took term {term} once more")
        if term.node != name * 32:
            self.violate("term_twice", f"{name} took a term of the other one, {term}")
        if term.counter <= self._last.get(name, 0):
            self.violate("term_back", f"{name} took term {term} after {self._last[name]}")
        self._terms[term] = name
        self._last[name] = max(self._last.get(name, 0), term.counter)

    # When all is quiet --------------------------------------------------------------------------------------

    def whole(self) -> None:
        """The last fault ended long enough ago: all must be well."""
        world = self.world
        reigning = [m.name for m in world.machines.values() if m.core is not None and m.core.role is Role.ACTIVE]
        if len(reigning) != 1 or world.serving() != reigning:
            self.violate("one_holder", f"active: {reigning}, serving: {world.serving()}")
            return
        for machine in world.machines.values():
            core = machine.core
            if core is None or (core.peer is None or not core.peer_fresh()) or core.maintenance:
                self.violate("not_converged", f"{machine.name}: no agent, or it does not hear the other one")
                return
            if core.health.causes and core.role is Role.ACTIVE:
                self.violate("not_converged", f"{machine.name} is active in ill health: {core.health.causes}")
        if world.replication is not None:
            self._data_is_whole(world.machines[reigning[0]])

    def _data_is_whole(self, machine: Machine) -> None:
        replication = self.world.replication
        assert replication is not None and machine.core is not None
        if lost := replication.forgotten(machine):
            self.violate("acknowledged_lost", f"{len(lost)} writes are neither there nor in quarantine: {lost[:5]}")
        if not machine.database.takes_writes():
            self.violate("not_converged", f"the database of {machine.name} takes no writes")
        elif self.world.synchronous and not machine.core.data.confirms():
            self.violate("not_converged", f"writes on {machine.name} are not confirmed by both")

    def guests_are_served(self, since: float) -> None:
        for guest in self.world.lan.guests:
            if guest.served_at < since:
                served = guest.served_at - self.began
                self.violate("guests_served", f"guest {guest.index} was last served at {served:.1f} s")

    def nothing_moved(self, reigns: int) -> None:
        if len(self.world.reigns) != reigns:
            self.violate("no_flapping", f"{len(self.world.reigns) - reigns} moves while nothing happened")

    def braked(self) -> bool:
        """Return whether a move for health has lately been made, so that the next one waits (rule 8)."""
        return any(one.core and not one.core.brake.allows(one.core.now) for one in self.world.machines.values())

    def stalled(self) -> bool:
        """Return whether a machine was seen to stand still within the hour, so that silence takes longer to prove."""
        return any(one.core and one.core.stalls.longest_s for one in self.world.machines.values())

    def at_passive(self, fault: Fault, was_active: str, moves: int) -> None:
        """An episode of one fault has ended."""
        counts = fault.kind in STATED and fault.kind not in MOVES_ALWAYS and not parts(fault)
        if moves and counts and fault.who != was_active:
            self.violate("moved_for_nothing", f"{fault.kind} at the passive gateway moved the role {moves} times")

    def single(self, fault: Fault, was_active: str, stalled: bool = False) -> None:
        """An episode of one fault has ended, which began while nothing was braked.

        :param stalled: :meth:`stalled`, when it began.
        """
        world = self.world
        site = bounds.Site(world.timing, data=world.data, services=world.services)
        most = single_fault(fault, site, fault.who != was_active, stalled)
        if most is None:
            return
        for what, found_s, most_s in (
            ("nobody answered", world.none_longest, most.none_s),
            ("both answered", world.both, most.two_s),
            ("both answered still", self._two_until - self.began - fault.at - fault.lasts, most.two_after_s),
        ):
            if found_s > most_s + 1e-6:
                text = f"{fault.kind}: {what} for {found_s:.3f} s; the bound is {most_s:.3f} s"
                self.violate("single_fault", text)
