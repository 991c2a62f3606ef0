"""What operators do: the same verbs as the agent's, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Kind, Motive, Role

from .disk import NodeStore
from .world import ADDRESS, World

if TYPE_CHECKING:
    from .faults import Fault

OTHER_ADDRESS = "10.0.0.111"
#: An agent that stops gives a hand-over this long, s.
STOP_WAITS_S = 2.0


def fail_over(world: World, _fault: Fault) -> None:
    """Ask whoever is active."""
    for machine in world.machines.values():
        if machine.core is not None and machine.core.role is Role.ACTIVE and not machine.frozen:
            machine.tell(events.FailoverRequested(Motive.REQUEST))
            return


def restart_agent(world: World, fault: Fault) -> None:
    """Ask an agent to be restarted; where it refuses it goes on."""
    machine = world.machines[fault.who]
    if machine.core is not None and not (machine.frozen or machine.paused or machine.standing_still):
        machine.tell(events.RestartRequested(fault.how))


def begin_maintenance(world: World, fault: Fault) -> None:
    """Refused while the other one is in it; an active gateway hands over first, and stays out of it if it cannot."""
    machine = world.machines[fault.who]
    core = machine.core
    if core is None or machine.frozen or machine.maintenance or (core.peer is not None and core.peer.maintenance):
        return
    if core.role is Role.ACTIVE:
        before, machine.ends_maintenance_at = len(machine.handovers), world.now + fault.lasts
        machine.tell(events.FailoverRequested(Motive.MAINTENANCE))
        world.at(1.0, _maintained_after, world, fault, before)
    else:
        _maintain(world, fault.who, True)


def _maintained_after(world: World, fault: Fault, before: int) -> None:
    machine = world.machines[fault.who]
    if len(machine.handovers) > before and machine.handovers[-1].ok and world.now < machine.ends_maintenance_at:
        _maintain(world, fault.who, True)


def _maintain(world: World, who: str, on: bool) -> None:
    machine = world.machines[who]
    machine.maintenance = on
    machine.tell(events.MaintenanceSet(on))


def end_maintenance(world: World, fault: Fault) -> None:
    """The operator ends it, or its time is over."""
    if fault.lasts < 1.0:  # its hand-over may be under way still
        world.at(1.0 - fault.lasts, _maintain, world, fault.who, False)
    _maintain(world, fault.who, False)


def change_settings(world: World, fault: Fault) -> None:
    """Another virtual IP is in force on one gateway first."""
    revision = max(world.settings[name][0] for name in world.settings) + 1
    address = OTHER_ADDRESS if world.settings[fault.who][1] == ADDRESS else ADDRESS
    world.machines[world.other(fault.who).name].tell(events.SettingsExpected())
    _put_in_force(world, fault.who, revision, address)


def change_the_other(world: World, fault: Fault) -> None:
    revision, address = max(world.settings.values())
    for name in world.settings:
        if world.settings[name] != (revision, address):
            _put_in_force(world, name, revision, address)


def _put_in_force(world: World, name: str, revision: int, address: str) -> None:
    machine = world.machines[name]
    world.settings[name] = (revision, address)
    if machine.session is None:
        return
    if machine.frozen or machine.paused or machine.standing_still:
        world.at(0.1, _put_in_force, world, name, revision, address)
    else:
        world.replan(name)


def stop_agent(world: World, fault: Fault) -> None:
    """Hand over if active, say goodbye, end."""
    machine = world.machines[fault.who]
    if machine.session is None or machine.frozen or machine.paused:
        return
    session, machine.stopping = machine.session, True
    if session.core.role is Role.ACTIVE:
        machine.tell(events.FailoverRequested(Motive.STOP))
    _goodbye(world, fault.who, session, world.now + STOP_WAITS_S)


def _goodbye(world: World, who: str, session: object, until: float) -> None:
    machine = world.machines[who]
    if machine.session is None or machine.session is not session:
        machine.stopping = False
        return
    if machine.paused or (machine.session.core.active.handover is not None and world.now < until):
        world.at(0.01, _goodbye, world, who, session, until)
        return
    if not machine.standing_still and not machine.paused and not machine.frozen:
        machine.perform([events.Send(Kind.BYE)])
    machine.stopping = False
    world.kill(who)


def leave(world: World, fault: Fault) -> None:
    """A gateway leaves the cluster: it gives up what is shared, and the other one is alone in it."""
    machine = world.machines[fault.who]
    other = machine.peer
    if machine.session is None or other.session is None or not (machine.member and other.member):
        return
    if any(one.frozen or one.paused or one.standing_still for one in world.machines.values()):
        return
    machine.perform([events.Release()])
    world.kill(fault.who)
    machine.database.term = None
    machine.member = False
    world.replan(other.name)


def join(world: World, fault: Fault) -> None:
    """It joins anew, with a key of its own, as one that has just started."""
    machine = world.machines[fault.who]
    if machine.member:
        return
    busy = any(one.frozen or one.paused or one.standing_still for one in world.machines.values())
    if busy or not machine.powered or not machine.peer.powered or machine.peer.session is None:
        world.at(0.5, join, world, fault)
        return
    reserved = machine.clerk.ledger.reserved
    machine.clerk.ledger = NodeStore(reserved=reserved)
    world.key = world.draw() * 4
    machine.member = True
    world.replan(machine.peer.name, new_key=True)
    world.start(fault.who, machine_boot=False)
