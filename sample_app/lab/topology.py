"""The lab's machines and cables.

::

    gateway a ─ lan0    ┐                  ┌ lan0 ─ gateway b
    client ──── lan0    ┼ br-lan (switch) ─┼ lan0 ─ router
    gateway a ─ sync0   ┄ sync cable ┄┄┄┄┄┄┄ sync0   ─ gateway b
    gateway a ─ backup0 ┄ backup cable ┄┄┄┄┄ backup0 ─ gateway b
    gateway a ─ wan0 ┐
    router ──── wan0 ┼ br-wan, if the lab has one
    gateway b ─ wan0 ┘

Every machine is a network namespace. All cables pass through a fifth one, the *switch*: there they are pulled, cut
and made lossy, so that a fault never touches the gateways' own kernels, nor this machine's.

A cable between the two gateways is ``direct`` or goes through a ``switch``. Both are a veth from each gateway to a
bridge. What makes one direct is its carrier: when one end is pulled or loses its power, the far end loses carrier
too. (A single veth pair would do the same for power, but could not be pulled without setting the far gateway's own
port administratively down, which no pulled cable does.)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal

from flask_hsmx_cluster.agent.heartbeat.reign import ReignMemory

from .faults import Faults
from .gateway import Gateway
from .namespace import LabError, Namespace, run

CableKind = Literal["direct", "switch"]

#: Names of labs: hsmx-<process id of the owner>-<its start time>-<number>.
_PREFIX = "hsmx"
_NUMBERS = itertools.count(1)

#: The client keeps what it has learned, so that only an announcement can change its mind. Milliseconds.
_KEEPS_NEIGHBOURS = {f"net/{family}/neigh/lan0/base_reachable_time_ms": 3_600_000 for family in ("ipv4", "ipv6")}

#: A firmware's address translation, in its shortest form.
_TRANSLATION = """
table ip firmware {
    chain postrouting { type nat hook postrouting priority srcnat; oifname "wan0" masquerade; }
}
"""


class Lab:
    """Two gateways, a client and a router; a context manager that leaves nothing behind.

    :param sync: how the synchronisation cable runs.
    :param backup: how the backup cable runs; None for no such cable.
    :param app: the gateways' application factory, as ``flask --app`` takes it.
    :param lans: how many networks with clients there are: on lan0, lan1 and so on; the gateways have own addresses on
        lan0 only, the client has one in 10.<4 + number>.0.0/16 on each.
    :param postgres: give each gateway a PostgreSQL of its own, prepared; the app has to use it.
    :param database_disk_mb: size of each database's own disk, which can be filled; None: it has none.
    :param wan: give it an outside: the router has :attr:`outside` behind it and is reached by wan0. There the gateways
        have no addresses of their own, and translate what the client sends to :attr:`wan_ip` (``masquerade``).
    :param more: more own addresses of the gateways by port, as ``10.97.0.{}/24``; the databases listen on them.
    :param keep_files: leave the gateways' state and logs in :attr:`directory` at the end.
    """

    #: The address that the gateways share, and its IPv6 sister.
    virtual_ip = "10.0.0.100"
    virtual_ip6 = "fd00:0:0:1::100"
    router_address = "10.0.0.254"
    #: With ``wan``: the address that the gateways share there, the router's, and one far away.
    wan_ip = "203.0.113.2"
    wan_router = "203.0.113.1"
    outside = "198.51.100.1"
    #: What is added to each ``--virtual-ip`` when the cluster is formed, for example ``,virtual-mac``.
    virtual_ip_options = ""

    def __init__(
        self,
        sync: CableKind = "direct",
        backup: CableKind | None = "direct",
        app: str = "sample_app.lab.bare_firmware:create_app",
        keep_files: bool = False,
        postgres: bool = False,
        lans: int = 1,
        database_disk_mb: int | None = None,
        wan: bool = False,
        more: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{_start_time(os.getpid())}-{next(_NUMBERS)}"
        self.directory = Path(tempfile.gettempdir(), self.name)
        self.keep_files = keep_files
        self._postgres, self._database_disk_mb = postgres, database_disk_mb
        self.cables: dict[str, CableKind] = {"lan": "switch", "sync": sync}
        if backup:
            self.cables["backup"] = backup
        #: The networks with clients, by their cables; lan0's is called lan.
        self.lans = {"lan": "lan0"} | {f"lan{number}": f"lan{number}" for number in range(1, lans)}
        self.cables |= dict.fromkeys(self.lans, "switch")
        self.wan = wan
        if wan:
            self.cables["wan"] = "switch"
        self.switch = Namespace(f"{self.name}-switch")
        self.client = Namespace(f"{self.name}-client")
        self.router = Namespace(f"{self.name}-router")
        ports = {"lan0": ("10.0.0.{}/24", "fd00:0:0:1::{}/64"), "sync0": ("10.99.0.{}/24",)}
        if backup:
            ports["backup0"] = ("10.98.0.{}/24",)
        ports |= {port: () for port in self.lans.values() if port not in ports}
        if wan:
            ports["wan0"] = ()
        ports |= {port: (*ports[port], *addresses) for port, addresses in (more or {}).items()}
        self.a, self.b = (
            Gateway(
                side, Namespace(f"{self.name}-{side}"), self.directory / side, app,
                {port: tuple(each.format(number) for each in addresses) for port, addresses in ports.items()},
            )
            for side, number in (("a", 1), ("b", 2))
        )
        self.gateways = (self.a, self.b)
        self._undo = contextlib.ExitStack()
        self.faults: Faults

    def __enter__(self) -> Lab:
        if os.geteuid():
            raise LabError("the lab needs root, for its network namespaces")
        remove_stale_labs()
        with contextlib.ExitStack() as undo:
            undo.enter_context(_ending_on_sigterm())
            for gateway in self.gateways:
                undo.callback(gateway.reap)
            undo.callback(_remove, self.name, keep_files=self.keep_files)
            self._build()
            self.faults = undo.enter_context(contextlib.closing(Faults(self)))
            for gateway in self.gateways:
                undo.callback(gateway.remove_postgres)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def start(self) -> None:
        """Start both gateways' processes, and wait until they answer."""
        for gateway in self.gateways:
            gateway.start()
        for gateway in self.gateways:
            gateway.wait_until_ready()

    def other(self, gateway: Gateway) -> Gateway:
        """Return the other one of the two gateways."""
        return self.b if gateway is self.a else self.a

    def _build(self) -> None:
        hosts = {"client": self.client, "router": self.router}
        everyone = [self.switch, *hosts.values(), self.a.namespace, self.b.namespace]
        run(["ip", "-batch", "-"], "".join(f"netns add {each.name}\n" for each in everyone))
        self.switch.sysctl({"net/ipv6/conf/all/disable_ipv6": 1, "net/ipv6/conf/default/disable_ipv6": 1})
        for each in everyone[1:]:  # A ping socket for root, in every namespace.
            each.sysctl({"net/ipv4/ping_group_range": "0 0"})
        for host in hosts.values():
            host.sysctl({f"net/ipv6/conf/{scope}/accept_dad": 0 for scope in ("all", "default")})
        self.switch.ip(*self._wiring())
        self.client.sysctl(_KEEPS_NEIGHBOURS)
        for host, number in ((self.client, 50), (self.router, 254)):
            host.ip(
                "link set lo up", "link set lan0 up",
                f"addr add 10.0.0.{number}/24 dev lan0", f"addr add fd00:0:0:1::{number}/64 dev lan0 nodad",
            )
        for number, port in enumerate(self.lans.values()):
            self.client.ip(f"link set {port} up", f"addr add 10.{4 + number}.255.50/16 dev {port}")
        if self.wan:
            self.router.ip(
                "link set wan0 up", f"addr add {self.wan_router}/24 dev wan0", f"addr add {self.outside}/32 dev lo"
            )
            self.client.ip(f"route add default via {self.virtual_ip}")
        self.directory.mkdir(mode=0o755)
        secret_key = secrets.token_hex(32)
        for gateway in self.gateways:
            # With a WAN, the way out comes and goes with its address.
            gateway.prepare("" if self.wan else self.router_address, _TRANSLATION if self.wan else "")
            if self._postgres:
                gateway.environment["FIRMWARE_SECRET_KEY"] = secret_key  # logins survive a fail-over
                gateway.install_postgres(self._database_disk_mb)

    def _wiring(self) -> Iterator[str]:
        bridge = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        for cable in (*self.cables, "wrong"):
            yield f"link add br-{cable} {bridge}"
            yield f"link set br-{cable} up"
        # The two ends of a veth must differ in their index: where they are equal, the kernel takes the port for one
        # that stands on no other, and may report a lost carrier a second late.
        near, far = itertools.count(101), itertools.count(11)
        for cable in self.cables:
            machines = {gateway.name: gateway.namespace for gateway in self.gateways}
            if cable in self.lans:
                machines["client"] = self.client
            if cable in ("lan", "wan"):
                machines["router"] = self.router
            for name, machine in machines.items():
                yield (
                    f"link add {cable}-{name} index {next(near)} up master br-{cable} "
                    f"type veth peer name {self.lans.get(cable, f'{cable}0')} index {next(far)} netns {machine.name}"
                )


def remove_stale_labs() -> None:
    """Remove what labs left behind whose owner was killed."""
    names = [path.name for path in (*Path("/run/netns").glob(f"{_PREFIX}-*"),
                                    *Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*"))]
    labs = {tuple(name.split("-")[1:4]) for name in names}
    for lab in labs:
        if len(lab) == 3 and all(part.isdigit() for part in lab) and _start_time(int(lab[0])) != lab[1]:
            _remove("-".join((_PREFIX, *lab)))


def _remove(lab: str, keep_files: bool = False) -> None:
    for path in Path("/run/netns").glob(f"{lab}-*"):
        # Somebody else may clean up the same stale lab at this moment.
        with contextlib.suppress(LabError):
            Namespace(path.name).kill_all()
            run(["ip", "netns", "delete", path.name])
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (mounted := Path(line.split()[1])).is_relative_to(Path(tempfile.gettempdir(), lab)):
            with contextlib.suppress(LabError):
                run(["umount", "--lazy", str(mounted)])
    for state in Path(tempfile.gettempdir(), lab).glob("*/state"):
        ReignMemory.of(state).forget()
    if not keep_files:
        shutil.rmtree(Path(tempfile.gettempdir(), lab), ignore_errors=True)


def _start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty if there is none with that id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program by an exception, so that the lab is taken down on the way out."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield  # Somebody else sees to it.
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
