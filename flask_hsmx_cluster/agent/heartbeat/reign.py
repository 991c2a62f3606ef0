"""The present reign, remembered where it outlives the agent, but not the machine: in a small file in memory.

A disk may be full or slow just when the role moves. What it says then is of an earlier reign, and an agent that is
killed and started again would go on with that one, in a term that is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ...decision.model import MOST_TERM
from ...network.clock import machine_boot_id

#: A file system in memory that every Linux has (shm_overview(7)); it takes no time to write.
DIRECTORY: Final = Path("/dev/shm")
#: A longer file is none of ours, bytes.
LONGEST: Final = 256


@dataclass(frozen=True)
class Reign:
    """A reign of this gateway.

    :param term: its number.
    :param node: this gateway's node id then; ``cluster``: the cluster's id.
    :param asked: an operator has asked for it.
    """

    term: int
    node: str
    cluster: str
    asked: bool = False


class ReignMemory:
    """Remembers one reign at most.

    :param path: the file. Anybody may write into its directory: what is not this user's own is nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._boot_id = machine_boot_id()

    @classmethod
    def of(cls, state_dir: str | Path) -> ReignMemory:
        """Return the memory of the gateway with this state directory."""
        name = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:16]
        return cls(DIRECTORY / f"hsmx-cluster-{name}")

    def remember(self, reign: Reign) -> None:
        """Remember a reign, in place of an earlier one.

        :raises OSError: it cannot be; nothing is remembered then.
        """
        written = json.dumps({**asdict(reign), "boot_id": self._boot_id}).encode()
        new = self.path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(handle, "wb", buffering=0) as file:
                if file.write(written) != len(written):
                    raise OSError(0, "no room in memory")
            new.replace(self.path)
        except OSError:
            for path in (new, self.path):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise

    def forget(self) -> None:
        """Remember none.

        :raises OSError: it cannot be removed.
        """
        self.path.unlink(missing_ok=True)

    def recall(self, node: str, cluster: str) -> Reign | None:
        """Return this node's reign in this cluster that has not ended since the machine started, if there is one."""
        try:
            written = json.loads(self._read())
            found = Reign(written["term"], written["node"], written["cluster"], written["asked"])
            boot_id = written["boot_id"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        sound = type(found.term) is int and 0 < found.term <= MOST_TERM and type(found.asked) is bool
        return found if sound and (boot_id, found.node, found.cluster) == (self._boot_id, node, cluster) else None

    def _read(self) -> bytes:
        handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
            return os.read(handle, LONGEST) if own else b""
        finally:
            os.close(handle)
