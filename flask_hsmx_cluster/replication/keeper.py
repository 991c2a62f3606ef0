"""What of a gateway's data is not in force and kept for people: its quarantine, and what it has put aside."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from ..errors import DataConflict, RequestRefused
from . import aside, quarantine, reapply, showing
from .database import Connection, DatabaseFailure, failures, one
from .quarantine import Filter, State
from .setup import Setup

#: No further row is begun after this time, s: others want to ask the database, too.
MAKE_S: Final = 1.0
#: Characters of a value that are told at once: six bytes each must fit into one message between the agents.
PIECE: Final = 80_000


class Keeper:
    """Shows it, and does what people decide.

    :param connection: returns a connection to this gateway's database.
    :param open_peer: opens one to the other gateway's database, as the role that may read what is shared.
    """

    def __init__(
        self, connection: Callable[[], Connection], setup: Callable[[], Setup], open_peer: Callable[[], Connection]
    ) -> None:
        self._connection = connection
        self._setup = setup
        self._open_peer = open_peer

    # -- quarantine -------------------------------------------------------------------------------------------

    def page(
        self, after: int, limit: int, names: dict[str, str], table: str = "", state: str = "kept", batch: str = "",
        whole: bool = False,
    ) -> dict[str, Any]:
        """Return a page of the quarantine, see :func:`.showing.page`."""
        only = Filter(state=state, table=table, batch=batch)
        return showing.page(self._connection(), only, after=after, limit=limit, names=names, whole=whole)

    def row(self, row_id: int, names: dict[str, str]) -> dict[str, Any]:
        """Return one row of the quarantine."""
        return showing.single(self._connection(), row_id, names)

    def value(self, row_id: int, which: str, column: str, offset: int) -> dict[str, Any]:
        """Return a part of one value of a row, and how many characters that has in all.

        :raises RequestRefused: there is no such value.
        """
        found = quarantine.piece(self._connection(), row_id, which, column, offset, PIECE)
        if found is None:
            raise RequestRefused("There is no such value in quarantine.", "Look at the list again.")
        return {"text": found[0], "length": found[1]}

    def count(self, **only: Any) -> dict[str, Any]:
        """Return how many rows a filter lets through."""
        return {"rows": quarantine.count(self._connection(), _filter(only))}

    def ids(self, after: int, limit: int, **only: Any) -> dict[str, Any]:
        """Return which rows a filter lets through."""
        return {"ids": quarantine.ids(self._connection(), _filter(only), after=after, limit=limit)}

    def mark(self, ids: list[int], before: State, after: State) -> dict[str, Any]:
        """Note what became of rows."""
        return {"marked": quarantine.mark(self._connection(), ids, before, after)}

    def make(self, row_id: int, there: bool, overwrite: bool, seen: str = "") -> dict[str, Any]:
        """On the active gateway: make a quarantined change.

        :param there: it lies in the other gateway's quarantine. It is read from there: it may have many MB.
        """
        with ExitStack() as stack:
            self._make(self._source(there, stack), row_id, overwrite, seen)
        return {"made": True}

    def make_some(self, ids: list[int], there: bool) -> dict[str, Any]:
        """On the active gateway: make quarantined changes, in this order, as far as time allows.

        :return: ``made``, ids; and ``unfit``: of those that were not made, ``id``, ``kind`` and ``text``.
        """
        made: list[int] = []
        unfit: list[dict[str, Any]] = []
        until = time.monotonic() + MAKE_S
        with ExitStack() as stack:
            source = self._source(there, stack)
            for row_id in ids:
                try:
                    self._make(source, row_id, overwrite=False)
                    made.append(row_id)
                except DataConflict as found:
                    unfit.append({"id": row_id, "kind": found.kind, "text": found.message})
                except RequestRefused as found:
                    unfit.append({"id": row_id, "kind": "refused", "text": found.message})
                except DatabaseFailure as found:  # of this row, by a trigger of the host's; or of everything
                    if source.closed or not one(self._connection(), "SELECT hsmx_cluster.writable()"):
                        raise
                    unfit.append({"id": row_id, "kind": "database", "text": found.message})
                if time.monotonic() > until:
                    break
        return {"made": made, "unfit": unfit}

    def _source(self, there: bool, stack: ExitStack) -> Connection:
        return stack.enter_context(self._open_peer()) if there else self._connection()

    def _make(self, source: Connection, row_id: int, overwrite: bool, seen: str = "") -> None:
        setup = self._setup()
        wanted = reapply.request(source, row_id)
        reapply.make(self._connection(), wanted, setup.scope, active_id=setup.node_id, overwrite=overwrite, seen=seen)

    # -- aside ------------------------------------------------------------------------------------------------

    def aside(self) -> dict[str, Any]:
        """Return what was put aside, see :func:`.aside.sets`."""
        with failures("What was put aside cannot be looked at"):
            connection = self._connection()
            database = str(one(connection, "SELECT current_database()::text"))
            return {"sets": [each.as_dict() for each in aside.sets(connection)], "database": database}

    def drop_aside(self, name: str) -> dict[str, Any]:
        """Delete one set of what was put aside; it is gone then."""
        with failures("What was put aside cannot be deleted"):
            return aside.drop(self._connection(), name).as_dict()


def _filter(only: dict[str, Any]) -> Filter:
    return Filter(**{**only, "ids": tuple(only.get("ids", ()))})
