"""A provider: a machine with a real access concentrator (Debian's ``pppoe-server``) on one of the lab's switches."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flask_hsmx_cluster.services.pppd import quoted

from .namespace import Namespace, run

if TYPE_CHECKING:
    from .topology import Lab

#: What is called in place of pppd on a kernel without PPP, at either end.
PPPD_STAND_IN = Path(__file__).with_name("pppd_stand_in.py")
ADDRESS, FIRST_CLIENT = "10.60.0.1", "10.60.0.10"


class Concentrator:
    """An access concentrator. It speaks the real discovery; the far end of each session is a ``pppd`` of this kernel.

    :param users: passwords by user name.
    :param lan: the switch's network to which its port ``wan0`` is connected.
    """

    name = "lab-concentrator"

    def __init__(self, lab: Lab, users: Mapping[str, str], lan: str = "lan1") -> None:
        self.namespace = Namespace(f"{lab.name}-provider")
        self.lan = lan
        self.switch = lab.switch
        self._directory = lab.directory / "provider"
        self._secrets = self._directory / "secrets"
        self._users = users
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the machine, connect it, and start the concentrator."""
        self._directory.mkdir()
        run(["ip", "netns", "add", self.namespace.name])
        self.namespace.sysctl({"net/ipv4/ip_forward": 1})
        self.switch.ip(
            f"link add {self.lan}-provider up master br-{self.lan} type veth "
            f"peer name wan0 netns {self.namespace.name}"
        )
        self.namespace.ip("link set lo up", "link set wan0 up")
        self.set_users(self._users)
        self.serve()

    def mac(self) -> str:
        """Return the MAC of its port."""
        return self.namespace.run("cat", "/sys/class/net/wan0/address").strip()

    def set_users(self, users: Mapping[str, str]) -> None:
        if _kernel_has_ppp():
            lines = [f"{quoted(user)} * {quoted(password)} *\n" for user, password in users.items()]
        else:
            lines = [f"{user}\t{password}\n" for user, password in users.items()]
        self._secrets.write_text("".join(lines))
        self._secrets.chmod(0o600)

    def serve(self) -> None:
        """Start the concentrator's program; only there, its pppd is covered by the stand-in, or knows the users."""
        options = self._directory / "options"
        options.write_text("require-pap\nlcp-echo-interval 1\nlcp-echo-failure 3\n")
        server = ["pppoe-server", "-F", "-I", "wan0", "-C", self.name, "-L", ADDRESS, "-R", FIRST_CLIENT]
        secrets = shlex.quote(str(self._secrets))
        if _kernel_has_ppp():
            ready = f"mount --bind {secrets} /etc/ppp/pap-secrets"
        else:
            ready = f"mount --bind {shlex.quote(str(PPPD_STAND_IN))} /usr/sbin/pppd"
        script = f"export PPPD_STAND_IN_SECRETS={secrets}; {ready} && exec {shlex.join([*server, '-O', str(options)])}"
        with (self._directory / "concentrator.log").open("ab") as log:
            self._process = self.namespace.popen("unshare", "-m", "sh", "-euc", script, output=log)

    def stop(self) -> None:
        """End the concentrator and its sessions."""
        self.namespace.kill_all()
        if self._process is not None:
            self._process.wait(5)
            self._process = None

    def remove(self) -> None:
        self.stop()
        run(["ip", "netns", "delete", self.namespace.name])

    @contextlib.contextmanager
    def running(self) -> Iterator[Concentrator]:
        """Run it for a while."""
        self.start()
        try:
            yield self
        finally:
            self.remove()


def pppd_on_this_kernel() -> str:
    """Return the pppd that the lab's gateways use: Debian's where the kernel has PPP, else the stand-in."""
    return "/usr/sbin/pppd" if _kernel_has_ppp() else str(PPPD_STAND_IN)


def _kernel_has_ppp() -> bool:
    return Path("/dev/ppp").exists()
