"""A small world for two decision cores: paths, wires, kernel leases, carriers, and a clock that it turns itself.

Time goes in steps of one millisecond; everything random comes from one seeded generator, so that a seed
reproduces a failure exactly.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from flask_hsmx_cluster.agent.heartbeat.standing import DataStanding, standing
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Beat, Path, Plan, Role, Start, Term, Timing

STEP_S = 0.001
ADDRESS = "10.0.0.100"
PATHS = (
    Path("sync", "sync", "sync0", True),
    Path("backup", "backup", "backup0", True),
    Path("service", "service", "lan0"),
    Path("lan0 (Ethernet)", "ethernet", "lan0"),
)
ALL_PATHS = frozenset(path.name for path in PATHS)
MACS = {"a": b"\2\0\0\0\0\1", "b": b"\2\0\0\0\0\2"}
TIMING = Timing()
WALL = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Database:
    """One gateway's PostgreSQL, as slow or broken as a test wants it."""

    delay_s: float = 0.015
    broken: bool = False  #: it answers with an error
    silent: bool = False  #: it does not answer
    deaf: bool = False  #: nothing reaches it
    confirms: bool = True  #: the other one has everything in time
    term: Term | None = None  #: the reign for which it takes writes
    synchronous: bool = False
    log: list[str] = field(default_factory=list)


@dataclass
class Followers:
    """What follows the role on one gateway: services and hooks, as slow as a test wants them."""

    delay_s: float = 0.03
    hang: bool = False  #: they never answer
    on: bool = False  #: what runs on the active gateway only runs, or is about to
    heard_at: float = float("-inf")
    log: list[str] = field(default_factory=list)


@dataclass
class Machine:
    """One gateway: a core, and the kernel that holds its address."""

    name: str
    core: Core | None = None
    powered: bool = True
    frozen: bool = False
    paused: bool = False  #: the hypervisor holds the whole machine, kernel and all
    refuses: bool = False  #: its kernel takes no address
    carrier: dict[str, bool] = field(default_factory=lambda: {"lan0": True, "sync0": True, "backup0": True})
    lease_until: float = float("-inf")
    database: Database = field(default_factory=Database)
    followers: Followers = field(default_factory=Followers)
    reserved: int = 0
    reign: tuple[int, int] | None = None
    boots: int = 1
    standing: DataStanding = field(default_factory=DataStanding)  #: what its disk says of its data
    inbox: deque[tuple[float, events.Event, int]] = field(default_factory=deque)
    sent: int = 0
    newest: int = 0
    notes: list[events.Note] = field(default_factory=list)
    handovers: list[events.HandoverEnded] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)  #: when it asked for the addresses
    terms: list[Term] = field(default_factory=list)


class World:
    """Two gateways, their cables, a LAN with clients."""

    def __init__(self, seed: int = 0, timing: Timing = TIMING, strangers: bool = True, data: bool = False,
                 synchronous: bool = True, services: bool = False) -> None:
        self.dice = random.Random(seed)
        self.timing = timing
        self.settings = {"a": (0, ADDRESS), "b": (0, ADDRESS)}  #: revision and virtual IP in force on each
        self.now = 1000.0
        self.machines = {"a": Machine("a"), "b": Machine("b")}
        self.cut: Set[str] = set()
        self.lan_up = {"a": True, "b": True}
        self.isolated = False
        self.loss = 0.0
        self.strangers = strangers
        self.data, self.synchronous, self.services = data, synchronous, services
        self.services_twice = 0.0  #: longest time for which what runs on one gateway only ran on both, s
        self._services_twice_now = 0.0
        self.released: list[bool] = []  #: of each claim whether it knew that the other gateway had released
        self.reigns: list[Term] = []
        self.both: float = 0.0
        self.both_now: float = 0.0
        self.none_longest: float = 0.0
        self._none_since: float | None = None
        self.log: list[str] = []

    # Set-up ---------------------------------------------------------------------------------------------

    def plan(self, name: str) -> Plan:
        return Plan(
            node=name * 32,
            peer=("b" if name == "a" else "a") * 32,
            peer_name="gw-b" if name == "a" else "gw-a",
            paths=PATHS,
            peer_macs=(MACS["b" if name == "a" else "a"],),
            ports=("lan0",),
            addresses=(self.settings[name][1],),
            timing=self.timing,
            revision=self.settings[name][0],
            data=self.data,
            synchronous=self.synchronous,
            services=self.services,
            checks=("card",),
        )

    def start(self, name: str, claim: bool = False, machine_boot: bool = True) -> None:
        """Start an agent (after a boot of its machine, or alone)."""
        machine = self.machines[name]
        if machine_boot:
            machine.boots += 1
            machine.lease_until = float("-inf")
        adopt = None
        if machine.reign and machine.reign[1] == machine.boots and machine.lease_until > self.now:
            adopt = Term(machine.reign[0], name * 32)
        reserved, machine.reserved = machine.reserved, machine.reserved + 10
        machine.core = Core(
            self.plan(name),
            Start(
                hold_s=self.timing.boot_hold_s if machine_boot else min(1.0, self.timing.boot_hold_s),
                next_term=reserved + 1,
                reserved_to=machine.reserved,
                adopt=adopt,
                adopt_until=machine.lease_until,
                claim=claim,
                followed=machine.standing.followed,
                behind=machine.standing.followed or machine.standing.behind,
            ),
            self.now,
        )
        machine.powered, machine.frozen = True, False
        machine.inbox.clear()
        machine.newest = 0
        machine.sent += 1_000_000  # a new incarnation: what the former one sent is older
        for port, up in machine.carrier.items():
            self._tell(machine, events.Carrier(port, up))

    def form(self) -> None:
        """Bring both up, A active."""
        self.start("a", claim=True)
        self.run(0.2)
        self.start("b")
        self.run(self.timing.boot_hold_s + 2.0)

    # Faults ---------------------------------------------------------------------------------------------

    def power_off(self, name: str, switched: bool = False) -> None:
        """Cut the power.

        :param switched: the cables between the two go through a switch: the other one's carriers stay.
        """
        machine = self.machines[name]
        machine.powered, machine.core = False, None
        machine.lease_until = float("-inf")
        machine.inbox.clear()
        other = self.other(name)
        for port in () if switched else ("sync0", "backup0"):
            self.set_carrier(other.name, port, False)

    def power_on(self, name: str) -> None:
        for port in ("sync0", "backup0"):
            self.set_carrier(self.other(name).name, port, True)
        self.start(name)

    def change(self, name: str, revision: int, address: str) -> None:
        """Put a settings revision with another virtual IP in force on one gateway."""
        self.settings[name] = (revision, address)
        machine = self.machines[name]
        assert machine.core is not None
        machine.core.replan(self.plan(name), self.now)
        if machine.core.role is Role.ACTIVE:
            self._do(machine, [events.Renew(), events.Announce()])

    def kill(self, name: str) -> None:
        self.machines[name].core = None

    def freeze(self, name: str) -> None:
        self.machines[name].frozen = True

    def pause(self, name: str, seconds: float) -> None:
        """Let the whole machine stand still; its kernel answers nothing, its clock goes on."""
        self.machines[name].paused = True
        self.run(seconds)
        self.machines[name].paused = False

    def thaw(self, name: str) -> None:
        machine = self.machines[name]
        machine.frozen = False

    def set_carrier(self, name: str, port: str, up: bool) -> None:
        machine = self.machines[name]
        machine.carrier[port] = up
        machine.inbox.append((self.now + 0.004, events.Carrier(port, up), 0))

    def other(self, name: str) -> Machine:
        return self.machines["b" if name == "a" else "a"]

    # The clock ------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP_S)):
            self.now += STEP_S
            for machine in self.machines.values():
                self._step(machine)
                if self.data and machine.core is not None and round(self.now / STEP_S) % 100 == 0:
                    machine.standing = standing(machine.standing, machine.core, None, self.now, WALL)
            self._clients()
            self._watch()
            self._watch_followers()

    def holders(self) -> list[str]:
        """Return who holds the address in its kernel and can be reached."""
        return [m.name for m in self.machines.values() if m.powered and m.lease_until > self.now]

    def serving(self) -> list[str]:
        """Return who holds the address and answers the clients."""
        return [
            name
            for name in self.holders()
            if self.lan_up[name] and self.machines[name].carrier["lan0"] and not self.machines[name].paused
        ]

    def roles(self) -> dict[str, str]:
        return {m.name: m.core.role.name if m.core else "-" for m in self.machines.values()}

    def _step(self, machine: Machine) -> None:
        core = machine.core
        if core is None or machine.frozen or machine.paused or not machine.powered:
            return
        due = core.deadline()
        if self.now - due > self.timing.late_s:
            self._do(machine, core.ran_late(self.now - due, self.now))
        ready = [(event, number) for at, event, number in machine.inbox if at <= self.now]
        machine.inbox = deque(one for one in machine.inbox if one[0] > self.now)
        for event, number in ready[-200:]:
            if isinstance(event, events.Heard):
                event = replace(event, stale=number < machine.newest)
                machine.newest = max(machine.newest, number)
            if machine.core is core:
                self._tell(machine, event)
        if machine.core is core and self.now >= core.deadline():
            self._do(machine, core.wake(self.now))

    def _tell(self, machine: Machine, event: events.Event) -> None:
        if machine.core:
            self._do(machine, machine.core.handle(event, self.now))

    def _do(self, machine: Machine, effects: list[events.Effect]) -> None:
        core = machine.core
        assert core is not None
        for effect in effects:
            match effect:
                case events.Send():
                    self._deliver(machine, effect)
                case events.ProbeAddresses():
                    machine.asked.append(self.now)
                    self._probe(machine)
                case events.Claim() if machine.refuses:
                    self._tell(machine, events.ClaimFailed("Permission denied"))
                case events.Claim():
                    self.released.append(effect.released)
                    machine.lease_until = self.now + self.timing.lease_s + self.dice.choice([0.01, 0.1, 0.25, 0.52])
                    machine.reign = (effect.term.counter, machine.boots)
                    if effect.term not in machine.terms[-1:]:  # else an agent that goes on after a restart
                        machine.terms.append(effect.term)
                        self.reigns.append(effect.term)
                    self._announce(machine)
                    self._tell(machine, events.Renewed(self.now))
                case events.Renew():
                    machine.lease_until = self.now + self.timing.lease_s + self.dice.choice([0.01, 0.1, 0.25, 0.52])
                    self._tell(machine, events.Renewed(self.now))
                    if core.data.renews() and machine.database.term is None:  # what was lost is granted anew
                        self._database(machine, events.PromoteData(core.term))
                case events.Release():
                    machine.lease_until = float("-inf")
                    machine.reign = None
                    machine.followers.on = False
                case events.PrepareServices() | events.RetireServices() | events.KeepServices():
                    self._followers(machine, effect)
                case events.Announce():
                    self._announce(machine)
                case events.ReserveTerms():
                    machine.reserved = effect.upto
                    machine.inbox.append((self.now + 0.1, events.TermsReserved(effect.upto), 0))
                case events.PromoteData() | events.YieldData() | events.DemoteData() | events.SetSynchronous():
                    self._database(machine, effect)
                case events.Note():
                    machine.notes.append(effect)
                    self.log.append(f"{self.now:.3f} {machine.name}: {effect.text} {list(effect.evidence)}")
                case events.HandoverEnded():
                    machine.handovers.append(effect)

    def _database(self, machine: Machine, effect: events.Effect) -> None:
        one = machine.database
        if one.deaf:
            return
        one.log.append(type(effect).__name__)
        answer: events.Event | None = None
        match effect:
            case events.PromoteData():
                one.term = None if one.broken or one.silent else effect.term
                answer = events.DataPromoted(effect.term, not one.broken, "it is down" if one.broken else "")
            case events.YieldData():
                one.term = None
                answer = events.DataYielded(one.confirms, "" if one.confirms else "the last writes are not confirmed")
            case events.DemoteData():
                one.term, one.synchronous = None, False
            case events.SetSynchronous():
                if not one.broken:
                    one.synchronous = effect.on
                answer = events.SynchronousSet(None if one.broken else effect.on)
        if answer is not None and not one.silent:
            machine.inbox.append((self.now + one.delay_s, answer, 0))

    def _followers(
        self, machine: Machine, effect: events.PrepareServices | events.RetireServices | events.KeepServices
    ) -> None:
        one, core = machine.followers, machine.core
        assert core is not None
        one.log.append(type(effect).__name__)
        one.on, one.heard_at = not isinstance(effect, events.RetireServices), self.now
        if not one.hang and not isinstance(effect, events.KeepServices):
            machine.inbox.append((self.now + one.delay_s, events.ServicesReady(core.term, not one.on), 0))

    def follow(self, name: str, follows: bool) -> None:
        """Tell a gateway how the other one's database follows, as its agent does several times a second."""
        self._tell(self.machines[name], events.FollowerSeen(follows, follows))

    # The wires ------------------------------------------------------------------------------------------

    def _deliver(self, sender: Machine, effect: events.Send) -> None:
        assert sender.core is not None
        beat = sender.core.beat(effect.kind, effect.motive)
        beat = replace(beat, ports=tuple(replace(port, mac=MACS[sender.name]) for port in beat.ports))
        for path in effect.paths or sender.core.paths:
            sender.sent += 1
            if self._path_works(path, sender.name):
                self._arrive(self.other(sender.name), path, beat, sender.sent)

    def _path_works(self, path: str, sender: str) -> bool:
        if path in self.cut or f"{path}:{sender}" in self.cut or self.dice.random() < self.loss:
            return False
        if path in ("service", "lan0 (Ethernet)"):
            return self._lan_between()
        return True

    def _lan_between(self) -> bool:
        return (
            not self.isolated and all(self.lan_up.values()) and all(m.carrier["lan0"] for m in self.machines.values())
        )

    def _arrive(self, receiver: Machine, path: str, beat: Beat, number: int) -> None:
        if receiver.powered and receiver.core is not None:
            delay = 0.0003 + self.dice.random() * 0.004
            receiver.inbox.append((self.now + delay, events.Heard(path, beat, 2 * delay), number))

    def _probe(self, asker: Machine) -> None:
        holder = self.other(asker.name)
        if (
            holder.powered
            and not holder.paused
            and holder.lease_until > self.now
            and self._lan_between()
            and self.settings["a"][1] == self.settings["b"][1]
            and self.dice.random() >= self.loss
            and self.dice.random() >= self.loss
        ):
            asker.inbox.append((self.now + 0.0005, events.AddressSeen("lan0", MACS[holder.name], ADDRESS), 0))

    def _announce(self, sender: Machine) -> None:
        other = self.other(sender.name)
        if other.powered and self._lan_between():
            other.inbox.append((self.now + 0.0005, events.AddressSeen("lan0", MACS[sender.name], ADDRESS), 0))

    def _clients(self) -> None:
        if not self.strangers or round(self.now / STEP_S) % 500:
            return
        for machine in self.machines.values():
            if machine.powered and self.lan_up[machine.name] and machine.carrier["lan0"]:
                machine.inbox.append((self.now, events.StrangerSeen("lan0"), 0))

    def _watch(self) -> None:
        """Keep the two figures that count: time on two gateways, longest time on none."""
        serving = self.serving()
        self.both_now = self.both_now + STEP_S if len(serving) == 2 else 0.0
        self.both = max(self.both, self.both_now)
        if serving:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = self.now
        else:
            self.none_longest = max(self.none_longest, self.now - self._none_since)

    def _watch_followers(self) -> None:
        """What runs on one gateway only ends with its agent, and when that is silent for most of a lease."""
        for machine in self.machines.values():
            one, core = machine.followers, machine.core
            if core is not None and core.renewed_at is not None:
                one.heard_at = max(one.heard_at, core.renewed_at)
                if not core.active.handover and core.role is Role.ACTIVE and not machine.frozen and not machine.paused:
                    one.on = self.services
            if not machine.powered or core is None or self.now - one.heard_at > 0.75 * self.timing.lease_s:
                one.on = False
        twice = all(machine.followers.on for machine in self.machines.values())
        self._services_twice_now = self._services_twice_now + STEP_S if twice else 0.0
        self.services_twice = max(self.services_twice, self._services_twice_now)

    def forget_figures(self) -> None:
        self.both = self.none_longest = self.both_now = 0.0
        self._none_since = None


def active(world: World) -> list[str]:
    """Return the names of the gateways whose core is active."""
    return [m.name for m in world.machines.values() if m.core and m.core.role is Role.ACTIVE]
