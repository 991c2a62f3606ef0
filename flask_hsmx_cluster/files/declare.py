"""Which directories both gateways are to have, as the firmware states them. Checked, and touches nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..errors import ConfigError
from .exclude import check_pattern, excluder

#: Most trees, and most patterns of one.
TREES_MOST, PATTERNS_MOST = 16, 100
#: Largest file that is copied unless the firmware says otherwise, MB, and the most that it may say.
FILE_MB, FILE_MOST_MB = 1024, 1024 * 1024
#: Places that are a gateway's own, or the system's: no tree may be one of them, or have one in it.
_NEVER = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var")
#: Places below which no tree may lie either.
_NEVER_BELOW = ("/boot", "/dev", "/proc", "/run", "/sys")


@dataclass(frozen=True)
class Tree:
    """A directory that both gateways have, the passive one as a copy.

    :param name: the same on both gateways.
    :param path: absolute; it may differ between the gateways.
    :param exclude: names that are not sent, beside those that never are; see :mod:`.exclude`.
    :param file_mb: larger files are not copied, MB.
    """

    name: str
    path: str
    exclude: tuple[str, ...] = ()
    file_mb: int = FILE_MB

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch("[a-z0-9][a-z0-9_-]{0,31}", self.name, re.ASCII):
            raise self._refuse("its name must be small letters, digits, - and _, 32 at most", "For example portal.")
        if self.name == "global":  # a section of rsync's own
            raise self._refuse("this name is taken", "Choose another one.")
        self._check_path()
        if not isinstance(self.exclude, tuple) or len(self.exclude) > PATTERNS_MOST:
            raise self._refuse(f"exclude must be a list of at most {PATTERNS_MOST} names", "For example ['*.tmp'].")
        for pattern in self.exclude:
            if problem := check_pattern(pattern):
                raise self._refuse(f"exclude: {pattern!r:.60} {problem}", "For example *.tmp")
        if type(self.file_mb) is not int or not 1 <= self.file_mb <= FILE_MOST_MB:
            raise self._refuse(f"file_mb must be a whole number from 1 to {FILE_MOST_MB}", "It is in MB.")

    def _check_path(self) -> None:
        path = self.path
        if not isinstance(path, str) or not path.startswith("/") or not path.isprintable() or len(path) > 1000:
            raise self._refuse("path must be an absolute path of printable characters", "For example /srv/portal.")
        if path != "/" and any(part in ("", ".", "..") for part in path[1:].split("/")):
            raise self._refuse("path must be written without //, . and .., and not end with a slash", "Correct it.")
        if re.search(r"[%#;\\\"]", path):  # they mean something to rsync's configuration
            raise self._refuse("path must not hold % # ; \\ or a quotation mark", "Choose another directory.")
        if path in _NEVER or any(path.startswith(f"{one}/") for one in _NEVER_BELOW):
            raise self._refuse(f"{path} is the system's own", "Declare the directory of the firmware's files alone.")
        never = excluder(())
        for part in path.split("/"):
            if never.fullmatch(os.fsencode(part)):
                raise self._refuse(f"what is called {part} is never sent", "Backups, certificates and the licence are "
                                   "each gateway's own; choose another directory.")  # fmt: skip

    def _refuse(self, problem: str, remedy: str) -> ConfigError:
        return ConfigError(f"Files {self.name!r:.60}: {problem}.", remedy)


@dataclass(frozen=True)
class Files:
    """All that the firmware states of its files.

    :param ssh_port: TCP port of the system's sshd on both gateways.
    :param ssh_host_key: the public host key of this gateway's sshd.
    :param rsync_port: TCP port of the rsync daemon, where one gateway's firmware is older than 5.2.03.
    :param every_s: between two full passes, s.
    """

    trees: tuple[Tree, ...] = ()
    ssh_port: int = 22
    ssh_host_key: str = "/etc/ssh/ssh_host_ed25519_key.pub"
    rsync_port: int = 873
    every_s: int = 60

    def __post_init__(self) -> None:
        check_together(self.trees)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what :meth:`to_json` gave.

        :raises ConfigError: it is malformed.
        """
        try:
            told = json.loads(text)
            return cls(**{**told, "trees": tuple(tree_from(one) for one in told["trees"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"What is declared of files cannot be read: {error!r:.100}") from None


def tree_from(told: object) -> Tree:
    """Return a tree as the host states it.

    :raises ConfigError: it cannot work; names the field.
    """
    if not isinstance(told, Mapping):
        raise ConfigError(f"Files: {told!r:.60} is not a mapping.", "State name and path.")
    known = {field.name for field in fields(Tree)}
    for name in told:
        if name not in known:
            raise ConfigError(f"Files: a field {name!r:.40} is not known.", f"Use {', '.join(sorted(known))}.")
    for name in ("name", "path"):
        if name not in told:
            raise ConfigError(f"Files {told.get('name', '')!r:.60}: {name} is missing.", "State it.")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Tree(**values)


def check_together(trees: tuple[Tree, ...]) -> None:
    """Check trees against each other.

    :raises ConfigError: they cannot be declared together.
    """
    if len(trees) > TREES_MOST:
        raise ConfigError(f"Files: more than {TREES_MOST} directories are declared.", "Declare one above them.")
    names = [tree.name for tree in trees]
    for name in sorted(name for name in set(names) if names.count(name) > 1):
        raise ConfigError(f"Files: {name} is declared twice.", "Give each directory its own name.")
    for one in trees:
        for other in trees:
            if one is not other and f"{other.path}/".startswith(f"{one.path}/"):
                raise ConfigError(f"Files: {other.path} ({other.name}) lies in {one.path} ({one.name}).",
                                  "Declare one of the two.")  # fmt: skip
