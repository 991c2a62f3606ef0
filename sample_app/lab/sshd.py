"""The sshd of a gateway's firmware: the system's own program, on port 22 of one gateway, with keys of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from .namespace import LabError, Namespace, run
from .privileges import AGENT_UID, GROUP

PROGRAM = Path("/usr/sbin/sshd")
#: Users as the firmware's image has them: sshd and ssh look them up. The agent's home is its state directory.
_USERS = """root:x:0:0:root:/root:/bin/sh
sshd:x:{sshd}:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
hsmx-cluster:*:{uid}:{gid}::{home}:/bin/sh
"""
_CONFIGURATION = """ListenAddress 0.0.0.0
HostKey {key}
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
LogLevel VERBOSE
"""
_SSHD_UID = 61005


class Sshd:
    """One gateway's sshd.

    :param directory: the gateway's; ``state`` in it is the home of the agent's user.
    """

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        if not PROGRAM.exists():
            raise LabError("sshd is not installed (Debian: openssh-server)")
        self._namespace, self._directory = namespace, directory
        self.key = directory / "ssh_host_ed25519_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)])
        users = _USERS.format(sshd=_SSHD_UID, uid=AGENT_UID, gid=GROUP, home=directory / "state")
        (directory / "passwd").write_text(users)
        (directory / "sshd_config").write_text(_CONFIGURATION.format(key=self.key))

    def start(self) -> subprocess.Popen[bytes]:
        passwd = shlex.quote(str(self._directory / "passwd"))
        steps = [
            f"mount --bind {passwd} /etc/passwd", "mount -t tmpfs none /run", "mkdir -m 755 /run/sshd",
            f"exec {PROGRAM} -D -e -f {shlex.quote(str(self._directory / 'sshd_config'))}",
        ]  # fmt: skip
        with (self._directory / "sshd.log").open("ab") as log:
            return subprocess.Popen(
                self._namespace.command("sh", "-euc", "\n".join(steps)), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            )  # fmt: skip
