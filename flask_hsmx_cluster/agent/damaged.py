"""What an agent does whose node store cannot be read: it is no member of any cluster, says why, and can be repaired.

Nothing in a damaged store is believed, and nothing is guessed: this gateway holds no address and sends no heartbeat.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..errors import RequestRefused
from .node_store import FILE_NAME
from .store_file import StoreDamaged, StoreError

#: What SQLite keeps beside the file.
COMPANIONS = ("", "-wal", "-shm", "-journal")


class DamagedService:
    """Answers every verb with what is wrong, but for the one that repairs it.

    :param error: what is wrong with the store.
    :param leave: ends this process; the service manager starts a new one.
    """

    def __init__(self, state_dir: str, error: StoreError, leave: Callable[[], None]) -> None:
        self._state_dir = Path(state_dir)
        self._error = error
        self._leave = leave

    def repair(self) -> dict[str, Any]:
        """Put the store aside, and begin anew: as a gateway of no cluster."""
        if not isinstance(self._error, StoreDamaged):
            raise self._error  # another version, a full disk, a second agent: beginning anew would mend none of it
        kept = put_aside(self._state_dir)
        self._leave()
        return {"kept": str(kept)}

    def __getattr__(self, verb: str) -> Callable[..., NoReturn]:
        def refuse(**_arguments: Any) -> NoReturn:
            raise self._error

        return refuse


def put_aside(state_dir: Path) -> Path:
    """Rename the store and what belongs to it, and return its new name: somebody may want to look into it.

    :raises RequestRefused: the directory does not let it.
    """
    names = (state_dir / f"{FILE_NAME}.damaged-{number}" for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    try:
        for companion in COMPANIONS:
            path = state_dir / f"{FILE_NAME}{companion}"
            if path.exists():
                path.rename(f"{kept}{companion}")
    except OSError as error:
        raise RequestRefused(f"The node store cannot be put aside: {error.strerror}.",
                             "The agent's user must own HSMX_CLUSTER_STATE_DIR.") from None  # fmt: skip
    return kept
