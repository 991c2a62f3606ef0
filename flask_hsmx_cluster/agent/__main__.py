"""The agent's process: ``python -m flask_hsmx_cluster.agent``, started by ``flask cluster agent``.

Joins the fast half (:mod:`.loop`) and the slow half (:mod:`.service`) under one APScheduler.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from ..decision.model import Cause, CauseKind
from ..errors import ClusterError
from .clerk import Clerk
from .config import AgentConfig
from .control_server import ControlServer
from .jobs import Jobs
from .loop import HeartbeatLoop
from .node_store import NodeStore
from .service import AgentService

log = logging.getLogger("flask_hsmx_cluster.agent")
#: Less free space than this in the state directory is ill health, bytes.
DISK_FREE_LEAST = 50 * 1024 * 1024
HEALTH_EVERY_S = 5.0
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


def run(config: AgentConfig) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    store = NodeStore.open(config)
    clerk = Clerk(store)
    jobs = Jobs()
    loop = HeartbeatLoop(clerk, config.heartbeat_port, clock_stepped=jobs.rearm)
    service = AgentService(config, store, loop, jobs.as_dicts)

    def check_disk() -> str:
        free = shutil.disk_usage(config.state_dir).free
        loop.report_health(Cause(CauseKind.DISK), free < DISK_FREE_LEAST)
        return f"{free // (1024 * 1024)} MB free"

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    jobs.start_heartbeat(loop.run)
    service.start()
    jobs.every("check the disk", HEALTH_EVERY_S, check_disk)
    for name, (period_s, work) in service.periodic_jobs().items():
        jobs.every(name, period_s, work)
    server = ControlServer(config, service)
    server.start()
    log.info("Agent of %s is up", config.node_name)
    stop.wait()
    log.info("Agent is asked to stop")
    loop.stop()
    server.stop()
    jobs.stop()
    clerk.close()


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


if __name__ == "__main__":
    main()
