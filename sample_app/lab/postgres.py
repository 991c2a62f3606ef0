"""One PostgreSQL server of the lab or of a test: made, started, stopped, killed, frozen, and removed."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from .namespace import LabError, run
from .privileges import GROUP, NO_CAPABILITIES, POSTGRES_UID

#: Oldest major version that two gateways can use.
LEAST_VERSION = 15
_DEBIAN = Path("/usr/lib/postgresql")
_STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

#: What two gateways need and a stock server lacks, for tests that are not about preparing one.
READY = {
    "wal_level": "logical",
    "wal_retrieve_retry_interval": "100ms",
    "wal_sender_timeout": "3s",
    "wal_receiver_timeout": "3s",
    "wal_receiver_status_interval": "1s",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_logical_replication_workers": "16",
    "max_sync_workers_per_subscription": "4",
    "max_worker_processes": "24",
    "logical_decoding_work_mem": "256MB",
    "track_commit_timestamp": "on",
}


def binaries() -> Path | None:
    """Return the directory of the newest PostgreSQL server that Debian installed; None if there is none."""
    found = (path for path in _DEBIAN.glob("*/bin") if (path / "postgres").exists() and path.parent.name.isdecimal())
    newest = max(found, key=lambda path: int(path.parent.name), default=None)
    return newest if newest is not None and int(newest.parent.name) >= LEAST_VERSION else None


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on."""
    with socket.create_server((address, 0)) as taken:
        return int(taken.getsockname()[1])


def as_postgres(*argv: str) -> list[str]:
    """Return the command that runs ``argv`` as the user of the lab's servers: PostgreSQL refuses to be root."""
    if os.geteuid():
        return list(argv)
    return ["setpriv", f"--reuid={POSTGRES_UID}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs",
            f"--inh-caps={NO_CAPABILITIES}", f"--bounding-set={NO_CAPABILITIES}", *argv]


class PostgresServer:
    """A PostgreSQL server of its own directory, which holds its data, its log and its Unix socket.

    The superuser ``postgres`` needs no password on the socket; over TCP every user needs one.

    :param directory: made by :meth:`create`; short, because the name of a Unix socket has at most 107 bytes.
    :param addresses: IP addresses to listen on.
    :param port: TCP port, which names the Unix socket too.
    :param settings: more lines of ``postgresql.conf``, for example :data:`READY`.
    :param disk_mb: size of a disk of its own for the data, in the machine's memory; None: they lie in the directory.
    :param command: turns a program's arguments into the command that runs it, each step replaced by the next;
        a gateway of the lab gives one that enters its namespaces.
    """

    def __init__(
        self, directory: Path, *, addresses: Sequence[str] = ("127.0.0.1",), port: int = 5432,
        settings: Mapping[str, str] | None = None, command: Callable[..., Sequence[str]] = as_postgres,
        disk_mb: int | None = None,
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.addresses = tuple(addresses)
        self.port = port
        self.settings = dict(settings or {})
        #: Database that :attr:`dsn` names.
        self.database = "postgres"
        self._command = command
        self._disk_mb = disk_mb
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"PostgresServer({str(self.directory)!r})"

    @property
    def dsn(self) -> str:
        """Connection string of the superuser, over the Unix socket."""
        return make_conninfo(host=str(self.directory), port=self.port, user="postgres", dbname=self.database)

    def connect(self, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection; parameters replace those of :attr:`dsn`. It commits each statement by itself."""
        return psycopg.connect(self.dsn, **{"autocommit": True, "connect_timeout": 10, **parameters})

    # Its life

    def create(self) -> None:
        """Make the directory and in it a new cluster of databases, as ``initdb`` does.

        :raises LabError: PostgreSQL is not installed or refused.
        """
        self.directory.mkdir(mode=0o755, parents=True)
        if not os.geteuid():
            os.chown(self.directory, POSTGRES_UID, GROUP)
        if self._disk_mb is not None:
            self.data.mkdir()
            options = f"size={self._disk_mb}m,mode=700,uid={POSTGRES_UID},gid={GROUP}"
            run(["mount", "-t", "tmpfs", "-o", options, "hsmx-lab", str(self.data)])
        arguments = ("-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
                     "--auth-local=trust", "--auth-host=scram-sha-256")
        with _known_user() as known:
            run([*known, *as_postgres(_program("initdb"), *arguments)], timeout_s=120)
        wanted = {
            "listen_addresses": ",".join(self.addresses), "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            # Ordinary files in its directory: nothing is left in the machine's memory by a server that was killed.
            "dynamic_shared_memory_type": "mmap", **self.settings,
        }
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {_quoted(value)}\n" for name, value in wanted.items())

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and wait until it takes connections; also after :meth:`kill`.

        :raises LabError: it ended or is not ready in time; the message holds the end of its log.
        """
        if self.running():
            raise LabError(f"{self} runs already")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(_program("postgres"), "-D", str(self.data)), cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory), "LANG": "C.UTF-8"},
            )
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self} did not start:\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def ready(self) -> bool:
        """Return whether the server takes connections now."""
        try:
            self.connect(dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def running(self) -> bool:
        """Return whether the server's first process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def stop(self, mode: str = "fast", timeout_s: float = 60) -> None:
        """Stop the server: ``smart`` waits for its clients, ``fast`` ends them, ``immediate`` skips the checkpoint."""
        if not self.running():
            return
        assert self._process is not None
        self._process.send_signal(_STOP[mode])
        self._process.wait(timeout_s)
        self._process = None

    def kill_postmaster(self) -> None:
        """End its first process only, as the kernel does when memory is short; the others notice and end, too."""
        pids = _family(self._process.pid) if self.running() and self._process else []
        for pid in pids[:1]:
            _signal(pid, signal.SIGKILL)
        self.reap()
        _wait_gone(pids)

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does."""
        pids = self._halted()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self.reap()
        _wait_gone(pids)

    def reap(self) -> None:
        """Take note that its processes have been killed, and forget what a machine forgets that loses its power."""
        if self._process is not None:
            self._process.wait(10)
            self._process = None
        lock = self.data / "postmaster.pid"
        if lock.exists():
            lines = lock.read_text().splitlines()
            memory = lines[6].split() if len(lines) > 6 else []
            if len(memory) == 2:
                subprocess.run(["ipcrm", "-m", memory[1]], capture_output=True, timeout=10)
            lock.unlink()
        for name in (f".s.PGSQL.{self.port}", f".s.PGSQL.{self.port}.lock"):
            (self.directory / name).unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stop all of its processes where they are: connections stay open, and nobody answers."""
        self._halted()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self._process is not None:
            for pid in reversed(_family(self._process.pid)):
                _signal(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Kill the server and remove its directory."""
        self.kill()
        if os.path.ismount(self.data):
            run(["umount", "--lazy", str(self.data)])
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Return what the server has logged since it was created."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _halted(self) -> list[int]:
        """Stop its processes and return them. The first one goes first: afterwards it starts no others."""
        if self._process is None or self._process.poll() is not None:
            return []
        stopped: list[int] = []
        while more := [pid for pid in _family(self._process.pid) if pid not in stopped]:
            for pid in more:
                _signal(pid, signal.SIGSTOP)
            stopped += more
        return stopped


def _program(name: str) -> str:
    directory = binaries()
    if directory is None:
        raise LabError(f"PostgreSQL {LEAST_VERSION} or newer is not installed (Debian: postgresql)")
    return str(directory / name)


@contextlib.contextmanager
def _known_user() -> Iterator[list[str]]:
    """Give the command prefix with which the present or the lab's user has a name: ``initdb`` insists on one."""
    with contextlib.suppress(KeyError):
        pwd.getpwuid(os.geteuid() or POSTGRES_UID)
        yield []
        return
    with tempfile.NamedTemporaryFile("w") as names:
        names.write(f"{Path('/etc/passwd').read_text()}hsmx-postgres:x:{POSTGRES_UID}:{GROUP}::/:/bin/false\n")
        names.flush()
        os.chmod(names.name, 0o644)
        mount = f'mount --bind {shlex.quote(names.name)} /etc/passwd; exec "$@"'
        yield ["unshare", "--mount", "sh", "-euc", mount, "sh"]


def _family(first: int) -> list[int]:
    """Return a process and its descendants, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name in brackets may hold anything, also brackets; the parent is the second field after it.
                parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    found = [first]
    for pid in found:
        found += children.get(pid, [])
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_gone(pids: Sequence[int], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while left := [pid for pid in pids if not ended(pid)]:
        if time.monotonic() > deadline:
            raise LabError(f"processes {left} do not end")
        time.sleep(0.002)


def ended(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        status = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:
        return True
    # A zombie holds nothing any more; who inherited it may be slow to take note.
    return bool(re.match(r" [ZX]", status.rpartition(")")[2]))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
