"""What can happen to the pair: each kind of fault, how it begins and how it ends, and a seed's list of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Timing
from flask_hsmx_cluster.decision.restart import RESTART_LEAST_S

from . import operators
from .wires import Wire
from .world import ALL_PATHS, World


@dataclass(frozen=True)
class Fault:
    """One thing that happens.

    :param at: s after the pair was formed.
    :param kind: a key of :data:`KINDS`.
    :param who: the gateway concerned.
    :param lasts: until it is ended, s.
    :param how: a number whose meaning depends on the kind; ``which``: a path or the like.
    """

    at: float
    kind: str
    who: str = "a"
    lasts: float = 0.0
    how: float = 0.0
    which: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    :param begin: makes it happen; ``end`` mends it.
    :param draw: draws what is particular to one, from dice: ``lasts``, ``how``, ``which``.
    :param weight: how often, beside others.
    """

    begin: Callable[[World, Fault], None]
    end: Callable[[World, Fault], None]
    draw: Callable[[random.Random], dict[str, Any]]
    weight: int = 2


def _nothing(_world: World, _fault: Fault) -> None:
    """Nothing is to be mended."""


def _lasting(
    least: float, most: float, **more: Callable[[random.Random], Any]
) -> Callable[[random.Random], dict[str, Any]]:
    def draw(dice: random.Random) -> dict[str, Any]:
        found = {name: one(dice) for name, one in more.items()}
        found = {name: round(one, 4) if isinstance(one, float) else one for name, one in found.items()}
        return {"lasts": round(dice.uniform(least, most), 3), **found}

    return draw


# Machines and agents --------------------------------------------------------------------------------------


def _power_off(world: World, fault: Fault) -> None:
    if world.machines[fault.who].powered:
        world.power_off(fault.who, switched=fault.which == "switch")


def _power_on(world: World, fault: Fault) -> None:
    if not world.machines[fault.who].powered:
        world.power_on(fault.who)
        if not world.machines[fault.who].member:
            world.kill(fault.who)


def _kill(world: World, fault: Fault) -> None:
    world.kill(fault.who)


def start_again(world: World, fault: Fault) -> None:
    """The service manager starts an agent that has ended."""
    machine = world.machines[fault.who]
    leaves = machine.core is not None and machine.core.restart.within_s > 0
    if machine.stopping or leaves:
        world.at(0.1, start_again, world, fault)
        return
    machine.trap = None
    if machine.powered and machine.member and machine.session is None:
        world.start(fault.who, machine_boot=False)


def _crash_between(world: World, fault: Fault) -> None:
    machine = world.machines[fault.who]
    if machine.session is not None and not machine.standing_still:
        machine.crash_at_effect(int(fault.how))


def _freeze(world: World, fault: Fault) -> None:
    world.freeze(fault.who)


def _thaw(world: World, fault: Fault) -> None:
    world.thaw(fault.who)


def _freeze_between(world: World, fault: Fault) -> None:
    """The agent stands still in the midst of a turn, between two effects."""
    machine = world.machines[fault.who]
    if machine.session is not None and not machine.standing_still:
        machine.at_effect(int(fault.how), lambda: machine.stand_still(fault.lasts))


def _untrap(world: World, fault: Fault) -> None:
    world.machines[fault.who].trap = None


def _pause(world: World, fault: Fault) -> None:
    if world.machines[fault.who].powered:
        world.machines[fault.who].pause()


def _resume(world: World, fault: Fault) -> None:
    machine = world.machines[fault.who]
    if machine.paused:
        machine.resume(fault.lasts if fault.which == "clock" else 0.0)


def _boot_both(world: World, fault: Fault) -> None:
    for name in world.machines:
        _power_off(world, Fault(fault.at, "power_off", name))


def _both_on(world: World, fault: Fault) -> None:
    world.at(fault.how, _power_on, world, Fault(fault.at, "power_off", world.other(fault.who).name))
    _power_on(world, fault)


# Wires and the LAN ----------------------------------------------------------------------------------------

CUTS = {
    "sync": ("sync",), "backup": ("backup",), "service": ("service",), "ethernet": ("lan0 (Ethernet)",),
    "cables": ("sync", "backup"), "all": tuple(sorted(ALL_PATHS)),
}  # fmt: skip


def _cut(world: World, fault: Fault) -> None:
    for path in CUTS[fault.which]:
        for name in world.machines if fault.how else (fault.who,):
            world.wires[path, name].cut = True


def _uncut(world: World, fault: Fault) -> None:
    for path in CUTS[fault.which]:
        for name in world.machines:
            world.wires[path, name].cut = False


def _isolate(world: World, fault: Fault) -> None:
    world.isolated = True
    _cut(world, Fault(fault.at, "cut", how=1, which="cables"))


def _rejoin(world: World, fault: Fault) -> None:
    world.isolated = False
    _uncut(world, Fault(fault.at, "cut", which="cables"))


#: After the name of a cut: in one direction only, what the gateway concerned sends.
ONE_WAY = " one way"


def _some_wires(dice: random.Random) -> str:
    """Draw which wires something strikes, and in which direction; as often as not all of them, both ways."""
    return "" if dice.random() < 0.5 else dice.choice(list(CUTS)) + dice.choice(["", ONE_WAY])


def struck(world: World, fault: Fault) -> list[Wire]:
    """Return the wires that a fault of :func:`_some_wires` strikes; one that names none strikes all."""
    paths = CUTS[fault.which.removesuffix(ONE_WAY) or "all"]
    names = (fault.who,) if fault.which.endswith(ONE_WAY) else tuple(world.machines)
    return [world.wires[path, name] for path in paths for name in names]


def _wires(name: str, of_lan: bool = False) -> tuple[Callable[[World, Fault], None], Callable[[World, Fault], None]]:
    """Return how wires get and lose a property.

    :param of_lan: guests' frames have it, too, where all wires have.
    """

    def put(world: World, fault: Fault, value: float) -> None:
        for wire in struck(world, fault):
            setattr(wire, name, value)
        if of_lan and not fault.which:
            world.loss = value

    return (lambda world, fault: put(world, fault, fault.how), lambda world, fault: put(world, fault, 0.0))


def _unplug(world: World, fault: Fault) -> None:
    world.set_carrier(fault.who, "lan0", False)


def _plug(world: World, fault: Fault) -> None:
    world.set_carrier(fault.who, "lan0", True)


def _lan_dead(world: World, fault: Fault) -> None:
    world.lan_up[fault.who] = False
    world.watch()


def _lan_alive(world: World, fault: Fault) -> None:
    world.lan_up[fault.who] = True
    world.watch()


def _lan_deaf(world: World, fault: Fault) -> None:
    world.lan.deaf.add(fault.who)
    world.watch()


def _lan_hears(world: World, fault: Fault) -> None:
    world.lan.deaf.discard(fault.who)
    world.watch()


def _bounce(world: World, fault: Fault) -> None:
    """The port goes down and up, and the switch forwards nothing for a while (spanning tree)."""
    _unplug(world, fault)
    _lan_dead(world, fault)
    world.at(0.5, _plug, world, fault)


def _bounced(world: World, fault: Fault) -> None:
    _plug(world, fault)
    _lan_alive(world, fault)


def _claimed_by_guest(world: World, fault: Fault) -> None:
    """A guest uses the virtual IP: by accident with a MAC of its own, or in the gateway's name."""
    until = world.now + fault.lasts
    mac = world.machines[fault.who].mac if fault.which == "forged" else b"\xee" * 6
    if fault.which == "forged":
        world.lan.forged_until = until

    def again() -> None:
        for machine in world.machines.values():
            if machine.mac != mac and world.lan.reaches(machine):
                world.stranger_claims(machine.name, mac)
        if world.now < until:
            world.at(0.2, again)

    again()


# Kernels, disks, databases, services ----------------------------------------------------------------------


def _attribute(path: str, bad: Any, good: Any) -> tuple[Callable[[World, Fault], None], Callable[[World, Fault], None]]:
    """Return how something of one gateway is broken and mended.

    :param path: its name, from the machine on.
    """
    *way, name = path.split(".")

    def put(world: World, fault: Fault, value: Any) -> None:
        one: Any = world.machines[fault.who]
        for step in way:
            one = getattr(one, step)
        setattr(one, name, value)

    return (lambda world, fault: put(world, fault, fault.how if bad is None else bad),
            lambda world, fault: put(world, fault, good))  # fmt: skip


def _database_crash(world: World, fault: Fault) -> None:
    database = world.machines[fault.who].database
    database.crash()
    database.broken = True


def _check_fails(world: World, fault: Fault) -> None:
    _report(world, fault.who, True)


def _check_passes(world: World, fault: Fault) -> None:
    """It is made again and again; what it says while the agent stands still is lost."""
    for after_s in (0.0, 6.0, 12.0):
        world.at(after_s, _report, world, fault.who, False)


def _report(world: World, who: str, bad: bool) -> None:
    world.machines[who].tell(events.HealthReport(Cause(CauseKind.SERVICE, 0), bad))


def _wall_step(world: World, fault: Fault) -> None:
    world.machines[fault.who].clocks.wall_offset_s += fault.how * world.wall_factor


KINDS: dict[str, Kind] = {
    "power_off": Kind(_power_off, _power_on, _lasting(0.5, 10, which=lambda d: d.choice(["", "switch"])), 4),
    "boot_both": Kind(_boot_both, _both_on, _lasting(0.5, 4, how=lambda d: d.choice([0.0, 0.05, d.uniform(0, 3)]))),
    "kill": Kind(_kill, start_again, _lasting(0.05, 6), 4),
    "crash_between": Kind(_crash_between, start_again, _lasting(0.5, 4, how=lambda d: d.randint(1, 40)), 6),
    "freeze": Kind(_freeze, _thaw, _lasting(0.05, 6), 3),
    "freeze_between": Kind(_freeze_between, _untrap, _lasting(0.2, 5, how=lambda d: d.randint(1, 40)), 6),
    "pause": Kind(_pause, _resume, _lasting(0.05, 5, which=lambda d: d.choice(["", "clock"])), 3),
    "cut": Kind(_cut, _uncut, _lasting(0.1, 8, how=lambda d: d.randrange(2), which=lambda d: d.choice(list(CUTS))), 6),
    "isolation": Kind(_isolate, _rejoin, _lasting(0.1, 8), 2),
    "loss": Kind(*_wires("loss", of_lan=True),
                 _lasting(1, 10, how=lambda d: d.choice([0.05, 0.2, 0.3]), which=_some_wires)),
    "jitter": Kind(*_wires("jitter_s"), _lasting(1, 10, how=lambda d: d.choice([0.01, 0.05]), which=_some_wires)),
    "late": Kind(*_wires("late_s"), _lasting(1, 10, how=lambda d: d.choice([0.005, 0.03]), which=_some_wires)),
    "duplicates": Kind(*_wires("twice"), _lasting(1, 10, how=lambda d: d.uniform(0.05, 0.5), which=_some_wires), 1),
    "reordering": Kind(*_wires("held_back"), _lasting(1, 10, how=lambda d: d.uniform(0.05, 0.3), which=_some_wires), 1),
    "corruption": Kind(*_wires("damaged"), _lasting(1, 10, how=lambda d: d.uniform(0.05, 0.3), which=_some_wires), 1),
    "lan_cable": Kind(_unplug, _plug, _lasting(0.1, 8), 3),
    "lan_dead": Kind(_lan_dead, _lan_alive, _lasting(0.5, 8), 3),
    "lan_deaf": Kind(_lan_deaf, _lan_hears, _lasting(0.5, 14), 1),
    "bounce": Kind(_bounce, _bounced, _lasting(1, 8)),
    "guest_has_address": Kind(_claimed_by_guest, _nothing, _lasting(0.5, 6, which=lambda d: d.choice(["", "forged"]))),
    "kernel_refuses": Kind(*_attribute("refuses", True, False), _lasting(0.5, 6), 1),
    "disk_slow": Kind(*_attribute("clerk.delay_s", None, 0.01), _lasting(1, 8, how=lambda d: d.uniform(0.2, 3)), 1),
    "disk_full": Kind(*_attribute("clerk.ledger.full", True, False), _lasting(1, 8), 1),
    "database_silent": Kind(*_attribute("database.silent", True, False), _lasting(0.2, 6), 1),
    "database_crash": Kind(_database_crash, _attribute("database.broken", True, False)[1], _lasting(0.2, 5)),
    "database_slow": Kind(*_attribute("database.delay_s", None, 0.015),
                          _lasting(0.2, 6, how=lambda d: d.uniform(0.05, 1)), 1),
    "replicator_deaf": Kind(*_attribute("database.deaf", True, False), _lasting(0.2, 4), 1),
    "services_hang": Kind(*_attribute("followers.hang", True, False), _lasting(0.5, 6), 1),
    "check_fails": Kind(_check_fails, _check_passes, _lasting(0.5, 6)),
    "wall_step": Kind(_wall_step, _nothing, _lasting(0, 0, how=lambda d: d.choice([-86400.0, -5.0, 3.0, 7200.0]))),
    "fail_over": Kind(operators.fail_over, _nothing, _lasting(0, 0), 6),
    "maintenance": Kind(operators.begin_maintenance, operators.end_maintenance, _lasting(0.5, 8)),
    "settings": Kind(operators.change_settings, operators.change_the_other, _lasting(0.0, 3)),
    "leave_and_join": Kind(operators.leave, operators.join, _lasting(0.5, 5), 1),
    "agent_stop": Kind(operators.stop_agent, start_again, _lasting(0.1, 4)),
    "agent_restart": Kind(operators.restart_agent, start_again,
                          _lasting(0.3, 7, how=lambda d: d.uniform(RESTART_LEAST_S, 6)), 3),
}  # fmt: skip
NEEDS_DATA = {"database_silent", "database_crash", "database_slow", "replicator_deaf"}
NEEDS_SERVICES = {"services_hang"}


def inject(world: World, fault: Fault) -> None:
    """Let a fault happen, and end when it is to."""
    kind = KINDS[fault.kind]
    kind.begin(world, fault)
    world.at(fault.lasts, kind.end, world, fault)


def settle_s(timing: Timing, data: bool) -> float:
    """Return after how long without a fault the pair must be whole again, s.

    Both boot, listen, and wait for each other; a cause of ill health must be gone for 5 s; with shared data one that
    starts alone waits for the other one; a rejoin takes its time.
    """
    return timing.boot_hold_s + 14 + 12 * timing.interval_s + (timing.stale_wait_s if data else 0.0)


def draw_faults(seed: int, seconds: float, timing: Timing, data: bool, services: bool) -> list[Fault]:
    """Return a seed's faults: episodes of one to four, overlapping, and quiet after each until the pair is whole."""
    dice = random.Random(f"faults {seed}")
    kinds = {name: kind for name, kind in KINDS.items()
             if (data or name not in NEEDS_DATA) and (services or name not in NEEDS_SERVICES)}  # fmt: skip
    names, weights = list(kinds), [kind.weight for kind in kinds.values()]
    found: list[Fault] = []
    at = dice.uniform(1, 5)
    while at < seconds:
        end = at
        for number in range(dice.choice([1, 1, 2, 2, 3, 4])):
            name = dice.choices(names, weights)[0]
            when = round(at + (dice.choice([0.02, 0.3, 2.0, 6.0]) * dice.random() if number else 0), 4)
            fault = Fault(when, name, dice.choice("ab"), **kinds[name].draw(dice))
            found.append(fault)
            end = max(end, when + fault.lasts)
        at = end + settle_s(timing, data) + dice.uniform(3, 25)
    return found
