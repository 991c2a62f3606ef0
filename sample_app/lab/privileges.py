"""Runs a program as an unprivileged user of a gateway, who can read the code wherever it lies.

A checkout or a Python below ``/root`` is closed to every other user. In the program's own mount namespace, and only
there, such a closed directory is covered by an empty one that holds what the program needs and nothing else.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: Users that no Debian machine has. All are in one group, so that the web app may use the agent's control socket.
AGENT_UID, WEB_UID, POSTGRES_UID, GROUP = 61001, 61002, 61004, 61000
#: All that the agent may do beyond any user; the web app may do nothing.
AGENT_CAPABILITIES, NO_CAPABILITIES = "-all,+net_admin,+net_raw", "-all"
_TUN = Path("/dev/net/tun")


def command(uid: int, capabilities: str, machine: Path, argv: Sequence[str]) -> list[str]:
    """Return the command that runs ``argv`` as a user, in a mount namespace that may be changed.

    Each step replaces itself by the next, so that the process is in the end ``argv`` itself.

    :param machine: directory of the gateway; its file ``boot-id`` is what the kernel seems to say, and its file
        ``passwd``, if there is one, which users there seem to be, and ``tun``, likewise, its /dev/net/tun.
    """
    drop = ["setpriv", f"--reuid={uid}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs"]
    drop += [f"--{kind}={capabilities}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["sh", "-euc", "\n".join((*_mounts(machine), 'exec "$@"')), "sh", *drop, *argv]


def make_tun(machine: Path) -> None:
    """Give a gateway a /dev/net/tun that is open to all, where udev did not open this machine's own.

    Once per gateway, before its processes start: they start at the same time.
    """
    if _TUN.exists() and _TUN.stat().st_mode & 0o006 != 0o006 and not (tun := machine / "tun").exists():
        os.mknod(tun, stat.S_IFCHR | 0o666, _TUN.stat().st_rdev)
        tun.chmod(0o666)


def _mounts(machine: Path) -> Iterator[str]:
    yield "umask 022"
    yield _bind(machine / "boot-id", Path("/proc/sys/kernel/random/boot_id"))
    if (users := machine / "passwd").exists():
        yield _bind(users, Path("/etc/passwd"))
    if (tun := machine / "tun").exists():
        yield _bind(tun, _TUN)
    needed = {path: closed for path in (REPOSITORY, Path(sys.prefix), Path(sys.base_prefix))
              if (closed := _closed_ancestor(path))}
    for number, path in enumerate(needed):
        aside = machine / f"needed-{number}"
        yield f"mkdir -p {_quoted(aside)}"
        yield _bind(path, aside)
    for closed in set(needed.values()):
        yield f"mount -t tmpfs -o mode=755 none {_quoted(closed)}"
    for number, path in enumerate(needed):
        yield f"mkdir -p {_quoted(path)}"
        yield _bind(machine / f"needed-{number}", path)


def _closed_ancestor(path: Path) -> Path | None:
    """Return the outermost directory on the way to a path that others may not pass."""
    way = (path, *path.parents)
    return next((each for each in reversed(way) if not each.stat().st_mode & stat.S_IXOTH), None)


def _bind(source: Path, target: Path) -> str:
    return f"mount --bind {_quoted(source)} {_quoted(target)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
