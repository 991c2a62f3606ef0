"""The files of the agent's own: keys, what is never sent, rsync's configuration, and what was kept aside."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClusterError
from .declare import Tree
from .exclude import path_rules, rsync_rules
from .rsync import USER, serve_text
from .ssh import authorized_keys, known_hosts, public_key, serve_command

log = logging.getLogger(__name__)
#: Of what was kept aside of a tree so many times are held; the oldest goes.
ASIDES_MOST = 10
#: Names given by :meth:`Places.new_aside`; whatever else lies there is an administrator's, and stays.
_ASIDE = re.compile(r"\d{6,18}-")


@dataclass(frozen=True)
class Peer:
    """What the other gateway has told.

    :param key: public key with which it pulls; ``host_key``: its sshd's; ``secret``: what its daemon wants to hear.
    :param addresses: from where it comes, and where it is.
    """

    key: str = ""
    host_key: str = ""
    secret: str = ""
    addresses: tuple[str, ...] = ()


class Places:
    """Where these files are; all of them can be read by the agent's user only.

    :param state_dir: the agent's, and the home directory of its user, where sshd looks for its keys.
    """

    def __init__(self, state_dir: str) -> None:
        self.home = Path(state_dir)
        self.directory = self.home / "files"
        self.key = self.directory / "key"
        self.password = self.directory / "password"
        self._secret = self.directory / "secret"

    def rules(self, tree: Tree) -> Path:
        """Return the file with what is never sent of a tree, as the gateway that pulls leaves it alone."""
        return self.directory / f"{tree.name}.rules"

    def served(self, tree: Tree) -> Path:
        """Return the file with all that this gateway does not send of a tree."""
        return self.directory / f"{tree.name}.served"

    def protected(self, tree: Tree) -> Path:
        """Return the file with what is not deleted of a tree, because it is not copied."""
        return self.directory / f"{tree.name}.protected"

    def leave_out(self, tree: Tree, paths: Iterable[bytes]) -> None:
        """Take note of links and the like in a tree that was looked at: they are neither sent nor deleted.

        Whoever names a path beyond a link would be led along it. What cannot be written keeps everything from going.
        """
        paths = sorted(paths)
        try:
            _write(self.protected(tree), path_rules(paths, b"P"))
            _write(self.served(tree), rsync_rules(tree.exclude).encode() + path_rules(paths))
        except OSError as error:
            log.warning("What is not copied of %s cannot be written, so nothing is: %s", tree.name, error)
            for file in (self.protected(tree), self.served(tree)):
                file.unlink(missing_ok=True)

    def serve_configuration(self, listening: bool) -> Path:
        return self.directory / ("daemon.conf" if listening else "ssh.conf")

    def make_keys(self) -> tuple[str, str]:
        """Return this gateway's public key and the secret of its daemon; they are made if there are none.

        :raises ClusterError: they cannot be.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if not self.key.exists():
            self._make_key()
        if not self._secret.exists():
            _write(self._secret, secrets.token_hex(24))
        return public_key(self.key.with_suffix(".pub").read_text()), self._secret.read_text()

    def _make_key(self) -> None:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hsmx-cluster", "-f", str(self.key)]
        try:
            subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True)
        except FileNotFoundError:
            raise ClusterError("ssh is not installed: files are not copied.", "Install openssh-client.") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise ClusterError(f"No key for the copying of files could be made: {error}"[:300]) from None

    def write(self, trees: Sequence[Tree], peer: Peer, ssh_port: int, over_ssh: bool, rsync: str) -> None:
        """Write all that sshd and rsync read.

        :param over_ssh: files travel over ssh; otherwise nobody may log in.
        """
        served = {tree.name: str(self.served(tree)) for tree in trees}
        for tree in trees:
            never = rsync_rules(tree.exclude)
            _write(self.rules(tree), never)
            if (former := self.served(tree)).exists() and not former.read_bytes().startswith(never.encode()):
                former.unlink()  # of another configuration
        for listening in (False, True):
            lock = str(self.directory / f"{'daemon' if listening else 'ssh'}.lock")
            secret = str(self.directory / "secrets") if listening else ""
            _write(self.serve_configuration(listening), serve_text(trees, served, peer.addresses, lock, secret))
        _write(self.directory / "secrets", f"{USER}:{self._secret.read_text()}\n")
        _write(self.password, f"{peer.secret}\n")
        _write(self.directory / "known_hosts", known_hosts(peer.host_key, peer.addresses, ssh_port))
        command = serve_command(rsync, str(self.serve_configuration(False)))
        (self.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        _write(self.home / ".ssh" / "authorized_keys",
               authorized_keys(peer.key, peer.addresses, command) if over_ssh else "")  # fmt: skip

    def forget(self) -> None:
        """Let nobody in any more, and forget the keys: this gateway is in no cluster. What was kept aside stays."""
        with contextlib.suppress(FileNotFoundError):
            (self.home / ".ssh" / "authorized_keys").unlink()
        for path in self.directory.glob("*"):
            if path.is_file():
                path.unlink()

    def new_aside(self, tree: str) -> Path:
        """Return the name of a directory for what is replaced or deleted, which is not there yet.

        Its number tells the order: a wall clock that was set back does not.
        """
        (self.directory / "aside" / tree).mkdir(mode=0o700, parents=True, exist_ok=True)
        number = max((_number(former) for former in self._asides(tree)), default=0) + 1
        time_of_day = time.strftime("%Y-%m-%dT%H.%M.%SZ", time.gmtime())
        return self.directory / "aside" / tree / f"{number:06}-{time_of_day}"

    def bound_asides(self, tree: str) -> None:
        """Delete the oldest of what was kept aside of a tree, if there is more of it than is held."""
        for former in sorted(self._asides(tree), key=_number)[:-ASIDES_MOST]:
            shutil.rmtree(former, ignore_errors=True)

    def _asides(self, tree: str) -> list[Path]:
        return [path for path in (self.directory / "aside" / tree).iterdir() if _ASIDE.match(path.name)]


def _number(aside: Path) -> int:
    return int(aside.name.partition("-")[0])


def _write(path: Path, text: str | bytes) -> None:
    """Write a file as a whole, for nobody else to read, unless it has this text already."""
    content = text.encode() if isinstance(text, str) else text
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
