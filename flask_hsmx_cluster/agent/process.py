"""The agent's process, started by ``flask cluster agent``.

Joins the fast half (:mod:`.heartbeat.loop`) and the slow half (:mod:`.service`) under one APScheduler.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..arbiter.declare import Arbiter
from ..decision.model import Cause, CauseKind
from ..errors import ClusterError
from ..network.clock import boot_time_s
from .arbiter.hand import ArbiterHand, ArbiterLink
from .arbiter.side import ArbiterSide
from .checks import database_is_silent, disk_is_low
from .clerk import Clerk
from .config import AgentConfig
from .control_server import ControlServer
from .damaged import DamagedService
from .data.replicator import ReplicatorLink
from .data.side import database_is_prepared
from .ending import Ending
from .files.link import FilesLink
from .files.side import SET_UP
from .heartbeat.loop import HeartbeatLoop
from .heartbeat.reign import ReignMemory
from .heartbeat.services_hand import ServicesLink
from .heartbeat.watchdog import Watchdog
from .jobs import Jobs, Periodic
from .node_store import NodeStore
from .service import AgentService
from .store_file import StoreDamaged, StoreError

log = logging.getLogger("flask_hsmx_cluster.agent")
HEALTH_EVERY_S = 1.0
#: An agent that restarts ends this long after it has said so, s: whoever asked gets the answer first.
LEAVE_AFTER_S = 0.1
#: systemd hears this often that an agent without a heartbeat lives, s.
WATCHDOG_EVERY_S = 1.0
#: A store that is not damaged, but cannot be used, may be usable a little later, s: a disk was full, or not there.
LOOK_AGAIN_S = 10.0
#: Exit status after an error in the heartbeat.
EXIT_HEARTBEAT_FAILED = 70
#: A thread that waits for the interpreter must not wait long: the heartbeat is one of them.
SWITCH_INTERVAL_S = 0.0005


def read_config() -> AgentConfig:
    """Return the configuration that ``flask cluster agent`` left on an inherited descriptor."""
    number = os.environ.get("HSMX_CLUSTER_CONFIG_FD", "")
    if not number.isdigit():
        sys.exit("The agent is started by `flask cluster agent`, which hands it its configuration.")
    with os.fdopen(int(number), "rb") as file:
        file.seek(0)
        return AgentConfig.from_json(file.read())


def lock_state_dir(config: AgentConfig) -> int:
    """Make sure that this is the only agent of the gateway; the lock lasts as long as the process."""
    state_dir = Path(config.state_dir)
    state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"Another agent runs already with the state directory {state_dir}.")
    return descriptor


Check = Callable[[], tuple[bool, str]]


def health_checks(
    config: AgentConfig, directories: Callable[[], list[str]]
) -> Iterator[tuple[str, CauseKind, Check]]:
    """Yield name, kind of ill health, and work of each periodic check.

    :param directories: what lies on the disks that must not be full.
    """
    yield "check the disk", CauseKind.DISK, lambda: disk_is_low(directories())
    if config.database_url:
        yield "check the database", CauseKind.DATABASE, partial(database_is_silent, config.database_url)


def report(loop: HeartbeatLoop, kind: CauseKind, check: Check) -> str:
    """Carry out a check, tell the decision core, and return the result in words."""
    bad, words = check()
    loop.report_health(Cause(kind), bad)
    return words


def run(config: AgentConfig) -> None:
    """Run the agent until SIGTERM or SIGINT, or until it is asked to restart, be it by SIGHUP."""
    try:
        store = NodeStore.open(config)
        store.demand_sound()
    except StoreError as error:
        run_damaged(config, error)
        return
    clerk = Clerk(store)
    jobs = Jobs()
    link = ReplicatorLink(config.log_level, shared=database_is_prepared(config.state_dir))
    services = ServicesLink(config.log_level)
    stated = Arbiter.from_json(config.arbiter) if config.arbiter else None
    hand = ArbiterHand(ArbiterLink(config.log_level) if stated else None, stated is not None and stated.required)
    loop = HeartbeatLoop(
        clerk, ReignMemory.of(config.state_dir), config.heartbeat_port, clock_stepped=jobs.rearm, link=link,
        synchronous=config.synchronous, services=services, arbiter=hand,
    )  # fmt: skip
    arbiter = ArbiterSide(stated, hand, loop.listen_to_children) if stated else None
    files = FilesLink(config.log_level)
    ended, stopped, leaving = Ending(), threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        ended.set()

    def leave() -> None:
        leaving.set()
        threading.Timer(LEAVE_AFTER_S, stop).start()

    service = AgentService(
        config, store, loop, jobs.as_dicts, link=link, services=(services, loop.services), files=files,
        soon=jobs.soon, leave=leave, arbiter=arbiter,
    )  # fmt: skip

    for role in ("active", "passive"):  # at once: a gateway that is active copies no files over its own any more
        clerk.when(role, partial(jobs.soon, SET_UP))

    def restart() -> None:
        try:
            service.restart()
        except ClusterError as error:
            clerk.record("restart_refused", "warning", f"The agent was not restarted: {error.message}", (error.remedy,))

    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=restart, name="restart").start())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    jobs.start_heartbeat(loop.run, ended.set)
    service.start()
    for name, kind, check in health_checks(config, service.directories):
        jobs.every(name, HEALTH_EVERY_S, partial(report, loop, kind, check), apart=True)

    def start_jobs(found: Periodic) -> None:
        for name, (period_s, work) in found.items():
            jobs.every(name, period_s, work)

    service.when_shared(lambda: start_jobs(service.data_jobs()))
    start_jobs(service.periodic_jobs())
    server = ControlServer(config, service)
    server.start()
    log.info("Agent of %s is up", config.node_name)
    ended.wait()
    if not stopped.is_set():
        # The service manager starts the agent anew, and within the lease it goes on with its reign.
        os._exit(EXIT_HEARTBEAT_FAILED)
    log.info("Agent is asked to stop")
    if leaving.is_set():
        loop.end()
    else:
        loop.stop()
    server.stop()
    service.stop()
    jobs.stop()
    services.stop()
    files.stop()
    if arbiter is not None:
        arbiter.stop()
    link.stop()
    clerk.close()


def run_damaged(config: AgentConfig, error: StoreError) -> None:
    """Say what is wrong with the node store, to whoever asks, until SIGTERM, SIGINT or the repair."""
    log.critical("%s %s", error.message, error.remedy)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    notify = Watchdog()
    service = DamagedService(config.state_dir, error, lambda: threading.Timer(LEAVE_AFTER_S, ended.set).start())
    server = ControlServer(config, service)
    server.start()
    until = math.inf if isinstance(error, StoreDamaged) else boot_time_s() + LOOK_AGAIN_S
    while not ended.wait(WATCHDOG_EVERY_S) and boot_time_s() < until:
        notify.ping()
    server.stop()


def main() -> None:
    config = read_config()
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    lock = lock_state_dir(config)
    try:
        run(config)
    except ClusterError as error:
        sys.exit(f"{error.message} {error.remedy}".strip())
    finally:
        os.close(lock)
