"""How each kind of fault is done to a site and undone. What is gone already, or was undone by another one, is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sample_app.lab import Gateway, LabError
from sample_app.lab.postgres import ended
from sample_app.lab.privileges import AGENT_UID, POSTGRES_UID
from tests.bench.data_lab import server_of

from . import clocks
from .kinds import KINDS
from .site import Site

#: What a fault does to a site and a gateway; ``amount`` is from 0 to 1.
Do = Callable[[Site, Gateway, float], object]

REPLICATOR, SERVICES, WEB = "flask_hsmx_cluster.replication", "flask_hsmx_cluster.services", "gunicorn"
FILES = "flask_hsmx_cluster.files"
_KILL, _STOP, _GO_ON, _TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM
#: Steps of a wall clock, s.
_STEPS = (-400 * 86400, -86400, -3600, -5, 5, 3600, 86400, 400 * 86400)
#: Loss at least and at most, %; delays of a slow cable likewise, ms, the least and what is added at random.
_LOSS, _DELAY, _JITTER = (5, 25), (1, 30), (5, 60)


def begin(site: Site, kind: str, gateway: Gateway, amount: float) -> None:
    """Do it.

    :raises LabError: this lab cannot, or what it strikes is not there now.
    """
    DEEDS[kind][0](site, gateway, amount)


def end(site: Site, kind: str, gateway: Gateway) -> None:
    """Undo it, as far as it is still to be undone."""
    DEEDS[kind][1](site, gateway, 0.0)


def heal(site: Site) -> None:
    """Undo whatever is left of any fault, and wait until every process answers.

    :raises LabError: something does not start.
    """
    for kind in KINDS:
        for gateway in site.lab.gateways:
            end(site, kind, gateway)
    for gateway in site.lab.gateways:
        site.signal(gateway.namespace.pids(), _GO_ON)
        site.start_again(gateway, "database", "agent", "web")
    for gateway in site.lab.gateways:
        gateway.wait_until_ready()
        end(site, "maintenance", gateway)  # an agent that was away could not be told before


# Power and cables


def _power_off(site: Site, gateway: Gateway, _: float) -> None:
    if gateway not in site.off:
        site.lose_power(gateway)


def _power_on(site: Site, gateway: Gateway, _: float) -> None:
    if gateway in site.off:
        site.get_power(gateway)


def _shut_down(site: Site, gateway: Gateway, amount: float) -> None:
    _living(site, gateway)
    if gateway.agent is not None:
        gateway.signal_agent(_TERM)
    server_of(gateway).stop(timeout_s=15)
    _power_off(site, gateway, amount)


def _cable(verb: str, *arguments: str) -> Do:
    return lambda site, gateway, _: getattr(site.lab.faults, verb)(gateway, *arguments)


def _both_ways(*cables: str, both_gateways: bool = False) -> tuple[Do, Do]:
    def cut(site: Site, gateway: Gateway, _: float) -> None:
        for each in site.lab.gateways if both_gateways else (gateway,):
            for cable in cables:
                for direction in ("out", "in"):
                    site.lab.faults.cut(each, cable, direction)

    def mend(site: Site, gateway: Gateway, _: float) -> None:
        for each in site.lab.gateways if both_gateways else (gateway,):
            for cable in cables:
                site.lab.faults.mend(each, cable)

    return cut, mend


def _part(site: Site, gateway: Gateway, amount: float) -> None:
    """Nothing passes between the two, and both reach the guests."""
    _both_ways("sync", "backup")[0](site, gateway, amount)
    site.lab.faults.isolate()


def _join(site: Site, gateway: Gateway, amount: float) -> None:
    site.lab.faults.isolate(False)
    _both_ways("sync", "backup")[1](site, gateway, amount)


def _delay(site: Site, _: Gateway, amount: float) -> None:
    least = _between(_DELAY, amount)
    program = (sys.executable, "-m", "tests.chaos.delay_line", site.lab.switch.name, "sync")
    _begin_program(site, "delay", *program, str(least), str(least + _between(_JITTER, amount)))
    for each in site.lab.gateways:
        site.lab.faults.cut(each, "sync", "out")


def _delay_no_more(site: Site, _: Gateway, _amount: float) -> None:
    if site.programs.get("delay"):
        for each in site.lab.gateways:
            site.lab.faults.mend(each, "sync")
    _end_programs(site, "delay")


def _deceive(site: Site, *_: object) -> None:
    names = [each.namespace.name for each in site.lab.gateways]
    program = (sys.executable, "-m", "tests.chaos.hostile_guest", site.lab.client.name, *names, site.lab.virtual_ip)
    _begin_program(site, "hostile_guest", *program)


def _deceive_no_more(site: Site, *_: object) -> None:
    _end_programs(site, "hostile_guest")


# Processes


def _living(site: Site, gateway: Gateway) -> None:
    if gateway in site.off:
        raise LabError(f"{gateway.node_name} has no power")


def _agent(number: signal.Signals) -> Do:
    def send(site: Site, gateway: Gateway, _: float) -> None:
        _living(site, gateway)
        if gateway.agent is not None and gateway.agent.poll() is None:
            gateway.signal_agent(number)

    return send


def _processes(words: str, number: signal.Signals) -> Do:
    def send(site: Site, gateway: Gateway, _: float) -> None:
        found = site.pids(gateway, words)
        if not found and number is not _GO_ON:
            raise LabError(f"{words} does not run on {gateway.node_name}")
        site.signal(found, number)

    return send


def _start_again(name: str) -> Do:
    return lambda site, gateway, _: site.start_again(gateway, name)


def _thaw(site: Site, gateway: Gateway, _: float) -> None:
    if gateway.agent is not None:
        site.signal([gateway.agent.pid], _GO_ON)


def _stop_agent(site: Site, gateway: Gateway, amount: float) -> None:
    _agent(_TERM)(site, gateway, amount)
    site.start_again(gateway, "agent")


def _restart_agent(site: Site, gateway: Gateway, _: float) -> None:
    """Ask it for that; what takes its time is the start of the new one."""
    _living(site, gateway)
    gateway.call("restart")
    if gateway.agent is not None:
        gateway.agent.wait(15)


def _nothing(*_: object) -> None:
    """A fault that is over when it is done."""


# PostgreSQL


def _kill_postmaster(site: Site, gateway: Gateway, _: float) -> None:
    _living(site, gateway)
    site.lab.faults.kill_postmaster(gateway)


def _kill_backend(site: Site, gateway: Gateway, amount: float) -> None:
    found = site.pids(gateway, "postgres: hsmx ", "postgres: hsmx_cluster", "walsender", "logical replication")
    if not found:
        raise LabError(f"PostgreSQL of {gateway.node_name} has no backend")
    site.signal([found[int(amount * (len(found) - 1))]], _KILL)


def _stop_database(mode: str) -> Do:
    def stop(site: Site, gateway: Gateway, _: float) -> None:
        _living(site, gateway)
        server_of(gateway).stop(mode, timeout_s=15)

    return stop


def _freeze_database(site: Site, gateway: Gateway, _: float) -> None:
    _living(site, gateway)
    server_of(gateway).freeze()


def _thaw_database(site: Site, gateway: Gateway, _: float) -> None:
    if server_of(gateway).running():
        server_of(gateway).thaw()


# Disks, processors, clocks


def _fill(site: Site, gateway: Gateway, _: float) -> None:
    if not site.disks:
        raise LabError("no disk of its own")
    site.lab.faults.fill_disk(gateway)


def _empty(site: Site, gateway: Gateway, _: float) -> None:
    (server_of(gateway).data / "filler").unlink(missing_ok=True)
    site.start_again(gateway, "database")


def _fill_store(site: Site, gateway: Gateway, _: float) -> None:
    if not os.path.ismount(gateway.state):
        raise LabError("no disk of its own")
    with _store_filler(gateway).open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):  # to the last byte
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _empty_store(site: Site, gateway: Gateway, _: float) -> None:
    _store_filler(gateway).unlink(missing_ok=True)
    site.start_again(gateway, "agent")


def _store_filler(gateway: Gateway) -> Path:
    return gateway.state / "filler"


def _starve(site: Site, _: Gateway, amount: float) -> None:
    # Each has a session of its own: where the kernel shares out processors by session, all together would be one.
    site.programs["starved"] = [
        _start(sys.executable, "-c", "while True: pass") for _ in range(2 + round(amount * 6))
    ]


def _fed(site: Site, _: Gateway, _amount: float) -> None:
    _end_programs(site, "starved")


def _step(uid: int) -> Do:
    return lambda site, gateway, amount: clocks.step(gateway, uid, _STEPS[int(amount * (len(_STEPS) - 0.001))])


def _step_back(uid: int) -> Do:
    def back(site: Site, gateway: Gateway, _: float) -> None:
        if clocks.library() is not None:
            clocks.step(gateway, uid, 0)

    return back


# Operators


def _fail_over(site: Site, gateway: Gateway, _: float) -> None:
    gateway.call("failover")


def _maintain(site: Site, gateway: Gateway, _: float) -> None:
    gateway.call("maintenance", on=True, duration_s=60)


def _maintain_no_more(site: Site, gateway: Gateway, _: float) -> None:
    if gateway.role() != "unreachable" and gateway.call("status")["node"]["maintenance_left_s"]:
        gateway.call("maintenance", on=False)


def _start(*argv: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, start_new_session=True)


def _begin_program(site: Site, kind: str, *argv: str) -> None:
    """Start a program that says when it is ready."""
    program = _start(*argv, stdin=subprocess.PIPE)
    site.programs[kind] = [program]
    assert program.stdout
    if program.stdout.readline() != b"ready\n":
        raise LabError(f"{' '.join(argv[1:3])} did not start")


def _end_programs(site: Site, kind: str) -> None:
    for program in site.programs.pop(kind, []):
        program.kill()
        program.communicate()
        assert ended(program.pid)


def _between(limits: tuple[float, float], amount: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * amount


#: How each kind is done, and undone.
DEEDS: dict[str, tuple[Do, Do]] = {
    "power_off": (_power_off, _power_on),
    "reboot": (_shut_down, _power_on),
    "pull_lan": (_cable("pull", "lan"), _cable("plug", "lan")),
    "pull_sync": (_cable("pull", "sync"), _cable("plug", "sync")),
    "pull_backup": (_cable("pull", "backup"), _cable("plug", "backup")),
    "cut_lan": _both_ways("lan"),
    "cut_lan_out": (_cable("cut", "lan", "out"), _cable("mend", "lan")),
    "cut_lan_in": (_cable("cut", "lan", "in"), _cable("mend", "lan")),
    "cut_sync_out": (_cable("cut", "sync", "out"), _cable("mend", "sync")),
    "cut_sync_in": (_cable("cut", "sync", "in"), _cable("mend", "sync")),
    "cut_links": _both_ways("sync", "backup"),
    "partition": (_part, _join),
    "wrong_vlan": (lambda site, gateway, _: site.lab.faults.wrong_vlan(gateway),
                   lambda site, gateway, _: site.lab.faults.wrong_vlan(gateway, False)),
    "spanning_tree": (lambda site, gateway, _: site.lab.faults.spanning_tree(gateway),
                      lambda site, gateway, _: site.lab.faults.spanning_tree(gateway, False)),
    "isolated": (lambda site, gateway, _: site.lab.faults.isolate(),
                 lambda site, gateway, _: site.lab.faults.isolate(False)),
    "loss": (lambda site, gateway, amount: site.lab.faults.loss(_between(_LOSS, amount)),
             lambda site, gateway, _: site.lab.faults.loss(0)),
    "delay": (_delay, _delay_no_more),
    "hostile_guest": (_deceive, _deceive_no_more),
    "kill_agent": (_agent(_KILL), _start_again("agent")),
    "freeze_agent": (_agent(_STOP), _thaw),
    "stop_agent": (_stop_agent, _nothing),
    "restart_agent": (_restart_agent, _start_again("agent")),
    "kill_replicator": (_processes(REPLICATOR, _KILL), _nothing),
    "freeze_replicator": (_processes(REPLICATOR, _STOP), _processes(REPLICATOR, _GO_ON)),
    "kill_services": (_processes(SERVICES, _KILL), _nothing),
    "kill_files": (_processes(FILES, _KILL), _nothing),
    "kill_web": (_processes(WEB, _KILL), _start_again("web")),
    "freeze_web": (_processes(WEB, _STOP), _processes(WEB, _GO_ON)),
    "kill_postmaster": (_kill_postmaster, _start_again("database")),
    "kill_backend": (_kill_backend, _start_again("database")),
    "stop_database": (_stop_database("fast"), _start_again("database")),
    "immediate_stop": (_stop_database("immediate"), _start_again("database")),
    "freeze_database": (_freeze_database, _thaw_database),
    "disk_full": (_fill, _empty),
    "store_full": (_fill_store, _empty_store),
    "starved": (_starve, _fed),
    "clock_agent": (_step(AGENT_UID), _step_back(AGENT_UID)),
    "clock_database": (_step(POSTGRES_UID), _step_back(POSTGRES_UID)),
    "failover": (_fail_over, _nothing),
    "maintenance": (_maintain, _maintain_no_more),
}
