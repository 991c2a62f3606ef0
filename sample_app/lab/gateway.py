"""One gateway of the lab: a machine with its own addresses, files and processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask_hsmx_cluster.agent.heartbeat.reign import ReignMemory
from flask_hsmx_cluster.control import ControlClient
from flask_hsmx_cluster.errors import AgentUnavailable

from .namespace import LabError, Namespace
from .postgres import PostgresServer
from .privileges import (
    AGENT_CAPABILITIES,
    AGENT_UID,
    GROUP,
    NO_CAPABILITIES,
    POSTGRES_UID,
    REPOSITORY,
    WEB_UID,
    command,
    make_tun,
)
from .sshd import Sshd


class CommandFailed(LabError):
    """A ``flask cluster`` command ended with an error.

    :param code: its exit status.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Gateway:
    """A gateway: its agent (two capabilities) and its web app (none) are processes of users of their own.

    :param name: ``a`` or ``b``.
    :param directory: where its state and its logs go.
    :param app: its application factory, as ``flask --app`` takes it.
    :param addresses: its own addresses, by port.
    """

    def __init__(
        self, name: str, namespace: Namespace, directory: Path, app: str, addresses: Mapping[str, Sequence[str]]
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.directory = directory
        self.state = directory / "state"
        self.app = app
        self.addresses = addresses
        #: More environment for its processes, for example ``HSMX_CLUSTER_LOG_LEVEL``.
        self.environment: dict[str, str] = {}
        #: What starts the programs of a user, by user id, for example ``("env", "NAME=value")``.
        self.started_by: dict[int, tuple[str, ...]] = {}
        self.agent: subprocess.Popen[bytes] | None = None
        self.web: subprocess.Popen[bytes] | None = None
        #: Its own PostgreSQL, if :meth:`add_postgres` gave it one.
        self.postgres: PostgresServer | None = None
        #: Its own sshd, if :meth:`declare_files` gave it one.
        self.sshd: Sshd | None = None
        self._sshd_process: subprocess.Popen[bytes] | None = None
        self.https: subprocess.Popen[bytes] | None = None
        self._gateway_address = self._packet_rules = ""

    def __repr__(self) -> str:
        return f"Gateway({self.name!r})"

    @property
    def node_name(self) -> str:
        return f"gateway-{self.name}"

    def address(self, port: str) -> str:
        """Return its own first address on a port, with prefix length."""
        return self.addresses[port][0]

    # The machine

    def prepare(self, default_gateway: str, packet_rules: str = "") -> None:
        """Make its files, and bring it up for the first time.

        :param default_gateway: empty: it has no default route of its own.
        :param packet_rules: of its firmware, for nft; empty: it has none, and its kernel tracks no connections.
        """
        self._gateway_address, self._packet_rules = default_gateway, packet_rules
        for path, uid, mode in (
            (self.directory, 0, 0o755), (self.state, AGENT_UID, 0o750), (self.directory / "home", WEB_UID, 0o750)
        ):
            path.mkdir()
            path.chmod(mode)
            os.chown(path, uid, GROUP)
        (self.state / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        self.namespace.sysctl({"net/ipv4/ip_unprivileged_port_start": 0, "net/ipv4/ip_forward": 1})
        self.boot()

    def add_postgres(
        self, settings: Mapping[str, str] | None = None, disk_mb: int | None = None
    ) -> PostgresServer:
        """Give it a PostgreSQL of its own, not started yet, on its addresses of the links.

        :param settings: more lines of ``postgresql.conf``; none: as Debian's package leaves it, but for the addresses.
        :param disk_mb: see :class:`.postgres.PostgresServer`.
        """
        links = [address.partition("/")[0] for port, addresses in self.addresses.items() if port != "lan0"
                 for address in addresses if ":" not in address]
        self.postgres = PostgresServer(
            self.directory / "postgres", addresses=["127.0.0.1", *links], settings=settings, disk_mb=disk_mb,
            command=lambda *argv: self._command(POSTGRES_UID, NO_CAPABILITIES, *argv),
        )
        self.postgres.create()
        return self.postgres

    def install_postgres(self, disk_mb: int | None = None) -> None:
        """Give it a PostgreSQL with the firmware's database, prepared as the documentation tells an operator.

        :param disk_mb: see :class:`.postgres.PostgresServer`.
        """
        server = self.add_postgres(disk_mb=disk_mb)
        server.start()
        with server.connect() as connection:
            connection.execute("CREATE ROLE hsmx LOGIN")
            connection.execute("CREATE DATABASE hsmx OWNER hsmx")
        server.database = "hsmx"
        self.environment["SQLALCHEMY_DATABASE_URI"] = f"postgresql+psycopg://hsmx@/hsmx?host={server.directory}"
        self.environment["FIRMWARE_STATE_DIR"] = str(self.directory / "home")
        listen = [part for address in server.addresses[1:] for part in ("--listen", address)]
        self.cli("database", "prepare", "--dsn", server.dsn, *listen, uid=AGENT_UID)
        server.stop()  # it is started again with the gateway, and with its new settings

    def postgres_in_place(self) -> PostgresServer:
        """Return its PostgreSQL.

        :raises LabError: it has none.
        """
        if self.postgres is None:
            raise LabError(f"{self.node_name} has no PostgreSQL")
        return self.postgres

    def remove_postgres(self) -> None:
        """End its PostgreSQL and remove all of it."""
        if self.postgres is not None:
            self.postgres.remove()
            self.postgres = None

    def declare_files(self, **trees: Sequence[str]) -> None:
        """Let it declare directories of its own, below :attr:`files`, and give it an sshd.

        :param trees: by name what is excluded beside what always is.
        """
        self.sshd = Sshd(self.namespace, self.directory)
        stated = []
        for name, exclude in trees.items():
            path = self.files / name
            path.mkdir(parents=True)
            os.chown(path, WEB_UID, GROUP)
            path.chmod(0o2775)
            stated.append({"name": name, "path": str(path), "exclude": list(exclude)})
        self.environment["HSMX_CLUSTER_FILES"] = json.dumps(stated)
        self.environment["HSMX_CLUSTER_SSH_HOST_KEY"] = f"{self.sshd.key}.pub"

    def serve_https(self) -> None:
        """Let it serve HTTPS beside HTTP, with a certificate of its own; its agent watches that."""
        self.environment.setdefault("FIRMWARE_STATE_DIR", str(self.directory / "home"))
        self.environment |= {"FIRMWARE_HTTPS_PORT": "443", "HSMX_CLUSTER_HTTPS": "127.0.0.1:443"}

    @property
    def files(self) -> Path:
        """Where its declared directories are."""
        return self.directory / "files"

    def boot(self) -> None:
        """Give the machine a new boot id, an empty memory, its ports and its own addresses; no process is started."""
        (self.directory / "boot-id").write_text(f"{uuid.uuid4()}\n")
        ReignMemory.of(self.state).forget()
        make_tun(self.directory)
        lines = ["link set lo up"]
        for port, addresses in self.addresses.items():
            lines.append(f"link set {port} up")
            lines += [f"addr add {each} dev {port} {'nodad' if ':' in each else ''}" for each in addresses]
        if self._gateway_address:
            lines.append(f"route add default via {self._gateway_address}")
        self.namespace.ip(*lines)
        if self._packet_rules:
            self.namespace.run("nft", "-f", "-", stdin=self._packet_rules)

    def die(self, tidy_after_s: float = 0.0) -> None:
        """End all that a machine without power no longer has: processes at once, then addresses and routes.

        :param tidy_after_s: time until addresses and routes go. Both gateways share one kernel here: while it takes a
            thousand addresses from one of them, the other one gets none (7 ms became 100 to 260 ms).
        """
        self.namespace.kill_all()
        self.reap()
        time.sleep(tidy_after_s)
        lines = [f"{what} {port}{how}" for port in self.addresses
                 for what, how in (("addr flush dev", ""), ("link set", " down"))]
        self.namespace.ip(*lines)
        if self._packet_rules:
            self.namespace.run("nft", "flush", "ruleset")
            self.namespace.run("conntrack", "--flush")

    # Its processes

    def start(self) -> None:
        """Start the database if there is one, the web app and the agent."""
        if self.postgres is not None and not self.postgres.running():
            self.postgres.start()
        if self.sshd is not None:
            self._sshd_process = self.sshd.start()
        self.start_web()
        if "FIRMWARE_HTTPS_PORT" in self.environment:
            self.start_https()
        self.start_agent()

    def start_agent(self) -> None:
        argv = (sys.executable, "-m", "flask", "--app", self.app, "cluster", "agent")
        self.agent = self._start("agent", AGENT_UID, AGENT_CAPABILITIES, *argv)

    def start_web(self) -> None:
        options = ("--config", "python:sample_app.lab.web_server", "--bind", "0.0.0.0:80")
        argv = (sys.executable, "-m", "gunicorn", *options, f"{self.app}()")
        self.web = self._start("web", WEB_UID, NO_CAPABILITIES, *argv)

    def start_https(self) -> None:
        argv = (sys.executable, "-m", "sample_app.https")
        self.https = self._start("https", WEB_UID, NO_CAPABILITIES, *argv)

    def wait_until_ready(self, timeout_s: float = 20) -> None:
        """Wait until the agent answers and the web app listens.

        :raises LabError: not in time, or one of them has ended; the message holds the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not (self._agent_answers() and self._web_listens()):
            for name, process in (("agent", self.agent), ("web", self.web), ("https", self.https)):
                if process is not None and process.poll() is not None:
                    raise LabError(f"{name} of {self.node_name} ended:\n{self.log(name)[-3000:]}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.node_name} is not ready after {timeout_s:.0f} s:\n{self.log('agent')[-3000:]}")
            time.sleep(0.05)

    def stop_web(self) -> None:
        """End the web app, as a service manager does."""
        if self.web is not None:
            self.web.terminate()
            self.web.wait(10)
            self.web = None

    def signal_agent(self, number: signal.Signals) -> None:
        """Send the agent a signal; with SIGKILL and SIGTERM also wait for its end."""
        if self.agent is None:
            raise LabError(f"no agent runs on {self.node_name}")
        self.agent.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.agent.wait(15)
            self.agent = None

    def reap(self) -> None:
        """Take note of processes that have been killed."""
        for process in (self.agent, self.web, self.https, self._sshd_process):
            if process is not None:
                process.wait(5)
        self.agent = self.web = self.https = self._sshd_process = None
        if self.postgres is not None:
            self.postgres.reap()

    def log(self, name: str) -> str:
        """Return what ``agent``, ``web`` or ``https`` has logged since the lab began."""
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Talking to it

    def cli(self, *arguments: str, timeout_s: float = 60, uid: int = WEB_UID) -> Any:
        """Run ``flask cluster ... --json`` on the gateway as the web app's user, and return what it prints.

        :raises CommandFailed: it ended with an error, which the message holds.
        """
        flask = (sys.executable, "-m", "flask", "--app", self.app, "cluster", *arguments, "--json")
        done = subprocess.run(
            self._command(uid, NO_CAPABILITIES, *flask), cwd=self.directory, env=self._environment(),
            capture_output=True, text=True, timeout=timeout_s,
        )
        if done.returncode:
            output = done.stderr.strip() or done.stdout.strip()
            raise CommandFailed(f"{self.node_name}: cluster {' '.join(arguments)}: {output}", done.returncode)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise LabError(f"cluster {' '.join(arguments)} printed no JSON: {done.stdout!r:.500}") from None

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Call a verb of the agent's control socket (1 ms, where the CLI takes a new process)."""
        return ControlClient(self.state / "agent.sock").call(verb, **arguments)

    def role(self) -> str:
        """Return the role that the agent reports; ``unreachable`` if there is no agent that answers."""
        try:
            return str(self.call("status")["node"]["role"])
        except AgentUnavailable:
            return "unreachable"

    def holds(self, address: str) -> bool:
        """Return whether the kernel has an address (without prefix length)."""
        found = json.loads(self.namespace.run("ip", "-j", "addr", "show"))
        return any(info["local"] == address for port in found for info in port["addr_info"])

    def _agent_answers(self) -> bool:
        return self.agent is None or self.role() != "unreachable"

    def _web_listens(self) -> bool:
        # Its own TCP table says so, and no request has to be made up.
        return self.web is None or bool(self.namespace.run("ss", "-Hltn", "sport = :80").strip())

    def _start(self, name: str, uid: int, capabilities: str, *argv: str) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as files:
            log = files.enter_context((self.directory / f"{name}.log").open("ab"))
            return subprocess.Popen(
                self._command(uid, capabilities, *argv), cwd=self.directory, env=self._environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )

    def _command(self, uid: int, capabilities: str, *argv: str) -> list[str]:
        started = (*self.started_by.get(uid, ()), *argv)
        return self.namespace.command(*command(uid, capabilities, self.directory, started))

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.directory / "home"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "HSMX_CLUSTER_STATE_DIR": str(self.state),
            "HSMX_CLUSTER_FIRMWARE_VERSION": "5.2.03",
            "HSMX_CLUSTER_NODE_NAME": self.node_name,
            "HSMX_CLUSTER_ALLOWED_UIDS": f"[{WEB_UID}]",
            # Where nothing is forwarded there are no connections to move.
            "HSMX_CLUSTER_CONNTRACK": "on" if self._packet_rules else "off",
            **self.environment,
        }
