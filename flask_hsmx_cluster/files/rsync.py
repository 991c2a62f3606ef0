"""rsync's command lines and configuration.

One configuration serves both ways: over ssh the forced command starts the daemon for one connection, on 873/tcp it
listens. So what is never sent is enforced where it is sent from, whatever the other gateway asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .declare import Tree
from .exclude import STAGING, TEMPORARY

#: A daemon's user, which is nobody of the system's.
USER = "hsmx-cluster"
#: What a client may not ask for: anything by which a link is followed, or more than contents is read.
_REFUSED = (
    "copy-links", "copy-dirlinks", "copy-unsafe-links", "keep-dirlinks", "copy-devices", "write-devices", "devices",
    "specials", "acls", "xattrs", "hard-links", "remove-source-files", "fake-super", "super", "log-file",
)  # fmt: skip
#: Neither side waits longer than this for the other, s.
SILENT_MOST_S = 10
#: The other gateway's address answers within this time, or another link is tried, s.
CONNECT_MOST_S = 3
#: For each file that has arrived, and for each deletion: what happened, its length, its name.
OUT_FORMAT = "%o %l %n"


@dataclass(frozen=True)
class Source:
    """Where to pull from.

    :param host: address of the other gateway.
    :param shell: the command that leads there; empty: its daemon is asked.
    :param port: of the daemon.
    :param local: own address to go out from; for the daemon only.
    :param password_file: holds the secret for the daemon.
    """

    host: str
    shell: str = ""
    port: int = 873
    local: str = ""
    password_file: str = ""

    def argv(self, tree: str) -> list[str]:
        """Return options and the source, as the last argument but one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.shell:
            return [f"--rsh={self.shell}", f"{host}::{tree}/"]
        own = [f"--address={self.local}"] if self.local else []
        own.append(f"--contimeout={CONNECT_MOST_S}")
        return [f"--port={self.port}", f"--password-file={self.password_file}", *own, f"{USER}@{host}::{tree}/"]


def serve_text(
    trees: Sequence[Tree], served: dict[str, str], hosts: Sequence[str], lock_file: str, secrets_file: str = ""
) -> str:
    """Return the text of ``rsyncd.conf``: each tree to be read by the other gateway, and by nobody else.

    :param served: path of the file with what is not sent of a tree, by tree; without it nothing is.
    :param hosts: addresses from where the other gateway may come; none: nobody may.
    :param secrets_file: who may read, where the daemon listens itself.
    """
    lines = [
        "use chroot = no",
        "read only = yes",
        "list = no",
        "munge symlinks = yes",
        "max connections = 8",
        f"lock file = {lock_file}",
        f"timeout = {3 * SILENT_MOST_S}",
        "transfer logging = no",
        "max verbosity = 1",
        "reverse lookup = no",
        "forward lookup = no",
        f"refuse options = {' '.join(_REFUSED)}",
        f"hosts allow = {' '.join(hosts) or 'none.invalid'}",
        "hosts deny = *",
    ]
    for tree in trees:
        lines += [f"[{tree.name}]", f"path = {tree.path}", f"exclude from = {served[tree.name]}"]
        if secrets_file:
            lines += [f"auth users = {USER}", f"secrets file = {secrets_file}", "strict modes = yes"]
    return "\n".join(lines) + "\n"


def pull(
    rsync: str, source: Source, tree: Tree, rules: str, protected: str, *, paths: bool = False, dry: bool = False,
    delete_most: int = 0, aside: str = "", checksum: bool = False,
) -> list[str]:
    """Return the command that brings a tree's copy up to date.

    What arrives is renamed when all of it is whole and on the disk. Owners, links and special files are not taken over;
    modes only as far as this gateway's own defaults allow.

    :param rules: the file with what is never sent; what this gateway has under such names stays.
    :param protected: the file with what is not deleted here, though it may be replaced.
    :param paths: only the paths that come on the standard input, each ended by a zero byte.
    :param dry: say only what would be done.
    :param delete_most: delete what the other gateway does not have, at most so many; 0: nothing.
    :param aside: directory for what is replaced or deleted; empty: it is not kept.
    :param checksum: compare contents instead of lengths and times.
    """
    argv = [
        rsync, "--recursive", "--times", "--omit-dir-times", "--no-links", "--no-devices", "--no-specials",
        "--no-perms", "--chmod=ug+rw,Dug+x,o-w", f"--exclude-from={rules}", f"--max-size={tree.file_mb}m",
        f"--timeout={SILENT_MOST_S}", "--no-motd", f"--out-format={OUT_FORMAT}", "--outbuf=L",
    ]  # fmt: skip
    if dry:
        argv.append("--dry-run")
    else:
        argv += [f"--partial-dir={STAGING}", "--delay-updates", f"--temp-dir={TEMPORARY}", "--fsync"]
        argv += ["--info=progress2", "--no-human-readable"]
    if paths:
        # They have changed, even where length and second of the time are what they were.
        argv += ["--from0", "--files-from=-", "--ignore-missing-args", "--ignore-times"]
    if delete_most:
        argv += [f"--filter=merge {protected}", "--delete-delay", f"--max-delete={delete_most}"]
    if aside and not dry:
        argv += ["--backup", f"--backup-dir={aside}"]
    if checksum:
        argv.append("--checksum")
    return [*argv, *source.argv(tree.name), f"{tree.path}/"]


def daemon(rsync: str, configuration: str, address: str, port: int) -> list[str]:
    """Return the command of a daemon that listens on one of this gateway's addresses."""
    return [
        rsync, "--daemon", "--no-detach", f"--config={configuration}", f"--address={address}", f"--port={port}"
    ]  # fmt: skip
