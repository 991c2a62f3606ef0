"""What people ask of the data, wherever it lies: quarantine, re-apply, discard, what was put aside, verify."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from ...errors import ClusterError, RequestRefused
from ..cluster import Cluster
from ..jobs import Periodic
from ..peer.exchange import Exchange
from . import told as data_told
from .news import news
from .replicator import ReplicatorLink
from .sweep import ACTIONS, Hands, Sweep, event, rows

log = logging.getLogger(__name__)

#: The other gateway is asked this often how much waits there, s.
PEER_EVERY_S = 10.0
NEWS_EVERY_S = 1.0
#: The other gateway's database answers within this time, s.
PEER_TIMEOUT_S = 20.0
MOST_ROWS = 200
STATES = ("", "kept", "reapplied", "discarded")
#: Where a row has values.
VALUES = ("key", "new_row", "old_row")
_BATCH = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")


class DataDesk:
    """Carries out what concerns the data of both gateways, and records what became of it.

    :param link: this gateway's replicator.
    :param look: returns what was seen last of this gateway's database.
    """

    def __init__(
        self, cluster: Cluster, exchange: Exchange, link: ReplicatorLink, look: Callable[[], dict[str, Any]]
    ) -> None:
        self._cluster = cluster
        self._exchange = exchange
        self._link = link
        self._look = look
        self._before: dict[str, Any] | None = None
        self._peer_waiting: tuple[str, int] | None = None
        self._sweep = Sweep(Hands(link.ask, self._make_again, self._swept))
        for verb, answer in (
            ("data_look", lambda told: link.ask("look")),
            ("data_verify", lambda told: link.ask("verify")),
            ("data_make", self._make),
            ("data_make_some", self._make_some),
            ("data_quarantine", lambda told: self._page(*_page_arguments(told))),
            ("data_row", lambda told: self._row(_whole(told.get("row_id")))),
            ("data_value", lambda told: self._value(*_value_arguments(told))),
            ("data_discard", lambda told: self._discard(_ids(told.get("ids")))),
            ("data_reapply", lambda told: self._reapply(
                _whole(told.get("row_id")), told.get("overwrite") is True, _text(told.get("seen", "")))),
            ("data_sweep", lambda told: self._begin_sweep(*_sweep_arguments(told))),
            ("data_swept", lambda told: self._sweep.state()),
            ("data_sweep_stop", lambda told: self._sweep.stop()),
            ("data_aside", lambda told: link.ask("aside")),
            ("data_aside_delete", lambda told: self._aside_delete(_text(told.get("name")))),
        ):  # fmt: skip
            exchange.handle(verb, lambda _sender, told, answer=answer: answer(told))  # type: ignore[misc]

    @property
    def shared(self) -> bool:
        """Whether there is shared data at all."""
        return self._link.shared

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of each job, by name."""
        return {
            "data: what is new": (NEWS_EVERY_S, self.note_news),
            "data: other gateway": (PEER_EVERY_S, self.ask_peer),
        }

    def note_news(self) -> str:
        """Record as events what has changed since the last look."""
        seen = self._look()
        if not seen or not seen.get("following"):
            return "nothing was seen yet"
        before, self._before = self._before, seen
        found = news(before, seen, self._peer_name()) if before is not None else []
        for one in found:
            self._cluster.store.record(one.kind, one.severity, one.text, one.evidence)
        return f"{len(found)} events"

    def ask_peer(self) -> str:
        """Ask how much waits in the other gateway's quarantine."""
        peer = self._peer_id()
        if not peer or not self.shared:
            self._peer_waiting = None
            return "no other gateway" if self.shared else "the database is not shared"
        try:
            seen = self._exchange.ask("data_look", 5.0)
            self._peer_waiting = peer, _whole(seen.get("quarantined"))
        except ClusterError as error:
            return f"not known: {error.message}"
        return f"{self._peer_waiting[1]} rows wait there"

    # -- what is shown ----------------------------------------------------------------------------------------

    def quarantine_status(self) -> list[dict[str, Any]]:
        """Return for each gateway how many rows wait there; None: not known."""
        heads = self._cluster.heads()
        if heads is None:
            return []
        known = dict([self._peer_waiting] if self._peer_waiting else [])
        own = self._look().get("quarantined")
        nodes = heads.applied.settings.nodes
        waiting = {node.node_id: own if node.node_id == self._cluster.node_id else known.get(node.node_id)
                   for node in nodes}  # fmt: skip
        return [{"node": node.node_id, "name": node.name, "waiting": waiting[node.node_id]} for node in nodes]

    def alarms(self) -> list[tuple[str, str, str, str]]:
        """Return what waits for somebody: key, severity, text, remedy."""
        return [
            (
                f"quarantine_{one['node'][:8]}",
                "warning",
                f"{rows(one['waiting'])} that {one['name']} wrote, and the other gateway never had, "
                f"{'waits' if one['waiting'] == 1 else 'wait'} in quarantine.",
                "Open the page Quarantine: make each again, or discard it.",
            )
            for one in self.quarantine_status()
            if one["waiting"]
        ]

    # -- verbs ------------------------------------------------------------------------------------------------

    def verify(self) -> dict[str, Any]:
        """Begin to compare the shared tables of both gateways, on the passive one; return how far it is."""
        if self._cluster.role() == "active":
            return data_told.comparison(self._exchange.ask("data_verify", PEER_TIMEOUT_S))
        return self._link.ask("verify")

    def verified(self) -> dict[str, Any]:
        """Return how far the comparison is, or what came of it."""
        if self._cluster.role() == "active":
            return data_told.comparison(self._exchange.ask("data_look", PEER_TIMEOUT_S).get("verify"))
        found: dict[str, Any] = self._link.ask("look")["verify"]
        return found

    def quarantine(
        self, after: int, limit: int, node: str, table: str, state: str, batch: str, whole: bool
    ) -> dict[str, Any]:
        """Return a page of what a gateway wrote and the other one never had.

        :param node: id of the gateway on which it lies; "": this one.
        """
        if self._is_here(node):
            page = self._page(after, limit, table, state, batch, whole)
        else:
            told = self._exchange.ask(
                "data_quarantine", PEER_TIMEOUT_S, after=after, limit=limit, table=table, state=state, batch=batch,
                whole=whole,
            )  # fmt: skip
            page = data_told.page(told, whole)
            if not whole:
                self._peer_waiting = self._peer_id(), page["waiting"]
        return {**page, "node": node or self._cluster.node_id}

    def row(self, row_id: int, node: str) -> dict[str, Any]:
        """Return one row with its values."""
        if self._is_here(node):
            return self._row(row_id)
        return data_told.row(self._exchange.ask("data_row", PEER_TIMEOUT_S, row_id=row_id))

    def value(self, row_id: int, which: str, column: str, offset: int, node: str) -> dict[str, Any]:
        """Return a part of one value of a row: an export has all of it."""
        if self._is_here(node):
            return self._value(row_id, which, column, offset)
        return data_told.value(self._exchange.ask(
            "data_value", PEER_TIMEOUT_S, row_id=row_id, which=which, column=column, offset=offset))

    def discard(self, ids: list[int], node: str) -> dict[str, Any]:
        """Drop rows of the quarantine from the list of what waits."""
        if self._is_here(node):
            return self._discard(ids)
        return data_told.count(self._exchange.ask("data_discard", PEER_TIMEOUT_S, ids=ids), "discarded")

    def reapply(self, row_id: int, overwrite: bool, node: str, seen: str) -> dict[str, Any]:
        """Make one quarantined change on the active gateway, whichever that is.

        :raises DataConflict: it does not fit any more; it carries both values.
        """
        if self._is_here(node):
            return self._reapply(row_id, overwrite, seen)
        return self._exchange.ask(
            "data_reapply", PEER_TIMEOUT_S, repeatable=False, row_id=row_id, overwrite=overwrite, seen=seen
        )

    def sweep(self, action: str, only: dict[str, Any], node: str) -> dict[str, Any]:
        """Begin to do one thing to many quarantined rows; return how far it is."""
        if self._is_here(node):
            return self._begin_sweep(action, only)
        return data_told.sweep(self._exchange.ask(
            "data_sweep", PEER_TIMEOUT_S, repeatable=False, action=action, only=only))

    def swept(self, node: str) -> dict[str, Any]:
        """Return how far that is, or what came of the last one."""
        if self._is_here(node):
            return self._sweep.state()
        return data_told.sweep(self._exchange.ask("data_swept", PEER_TIMEOUT_S))

    def sweep_stop(self, node: str) -> dict[str, Any]:
        """Stop it; what was done stays done."""
        if self._is_here(node):
            return self._sweep.stop()
        return data_told.sweep(self._exchange.ask("data_sweep_stop", PEER_TIMEOUT_S))

    def aside(self, node: str) -> dict[str, Any]:
        """Return what a gateway has put aside before it became a copy of the other one."""
        found = self._link.ask("aside") if self._is_here(node) else data_told.aside(
            self._exchange.ask("data_aside", PEER_TIMEOUT_S))  # fmt: skip
        return {**found, "node": node or self._cluster.node_id}

    def aside_delete(self, name: str, node: str) -> dict[str, Any]:
        """Delete a set of it."""
        if self._is_here(node):
            return self._aside_delete(name)
        return data_told.aside_set(self._exchange.ask("data_aside_delete", PEER_TIMEOUT_S, name=name))

    # -- on this gateway --------------------------------------------------------------------------------------

    def _page(self, after: int, limit: int, table: str, state: str, batch: str, whole: bool) -> dict[str, Any]:
        return self._link.ask(
            "quarantine", after=after, limit=limit, names=self._names(), table=table, state=state, batch=batch,
            whole=whole,
        )  # fmt: skip

    def _row(self, row_id: int) -> dict[str, Any]:
        return self._link.ask("quarantine_row", row_id=row_id, names=self._names())

    def _value(self, row_id: int, which: str, column: str, offset: int) -> dict[str, Any]:
        return self._link.ask("quarantine_value", row_id=row_id, which=which, column=column, offset=offset)

    def _discard(self, ids: list[int]) -> dict[str, Any]:
        before, after = ACTIONS["discard"]
        done = self._link.ask("mark", ids=ids, before=before, after=after)["marked"]
        if done:
            self._cluster.store.record("discarded", "info", f"{rows(done)} in quarantine discarded")
        return {"discarded": done}

    def _reapply(self, row_id: int, overwrite: bool, seen: str) -> dict[str, Any]:
        if self._cluster.role() == "active":
            self._link.ask("make", row_id=row_id, there=False, overwrite=overwrite, seen=seen)
        else:
            self._exchange.ask(
                "data_make", PEER_TIMEOUT_S / 2, repeatable=False, row_id=row_id, overwrite=overwrite, seen=seen
            )
        before, after = ACTIONS["reapply"]
        self._link.ask("mark", ids=[row_id], before=before, after=after)
        how = ", in place of the present one" if overwrite else ""
        text = f"Row {row_id} of the quarantine was made again on the active gateway{how}"
        self._cluster.store.record("reapplied", "info", text)
        return {"made": True}

    def _make(self, told: dict[str, Any]) -> dict[str, Any]:
        self._require_active()
        row_id, overwrite, seen = _whole(told.get("row_id")), told.get("overwrite") is True, _text(told.get("seen", ""))
        return self._link.ask("make", row_id=row_id, there=True, overwrite=overwrite, seen=seen)

    def _make_some(self, told: dict[str, Any]) -> dict[str, Any]:
        self._require_active()
        return self._link.ask("make_some", ids=_ids(told.get("ids")), there=True)

    def _require_active(self) -> None:
        if self._cluster.role() != "active":
            raise RequestRefused("This gateway is not the active one.", "Try again when the roles are settled.")

    def _make_again(self, ids: list[int]) -> dict[str, Any]:
        if self._cluster.role() == "active":
            return self._link.ask("make_some", ids=ids, there=False)
        return data_told.made(
            self._exchange.ask("data_make_some", PEER_TIMEOUT_S / 2, repeatable=False, ids=ids), ids)

    def _begin_sweep(self, action: str, only: dict[str, Any]) -> dict[str, Any]:
        state = self._sweep.begin(action, only)
        if state["under_way"]:
            self._cluster.store.record(*event(state))
        return state

    def _swept(self, state: dict[str, Any]) -> None:
        self._cluster.store.record(*event(state))

    def _aside_delete(self, name: str) -> dict[str, Any]:
        gone = self._link.ask("drop_aside", name=name)
        since = f", kept since {gone['kept_at']}" if gone["kept_at"] else ""
        text = f"What this gateway had put aside was deleted: {gone['tables']} tables, {gone['rows']:,} rows{since}"
        self._cluster.store.record("aside_deleted", "info", text, (f"schema {name}",))
        return gone

    def _is_here(self, node: str) -> bool:
        if node in ("", self._cluster.node_id):
            return True
        if node != self._peer_id():
            raise RequestRefused("There is no such gateway in the cluster.", "Look at the list again.")
        return False

    def _peer_id(self) -> str:
        heads = self._cluster.heads()
        peer = heads.applied.settings.peer_of(self._cluster.node_id) if heads else None
        return peer.node_id if peer else ""

    def _peer_name(self) -> str:
        return self._names().get(self._peer_id(), "the other gateway")

    def _names(self) -> dict[str, str]:
        heads = self._cluster.heads()
        return {node.node_id: node.name for node in heads.applied.settings.nodes} if heads else {}


def sweep_choice(table: str, batch: str, ids: list[int], upto: int) -> dict[str, Any]:
    """Return which rows are meant, checked.

    :raises RequestRefused: neither rows nor an end are named: then nobody has looked at what they are.
    """
    if not ids and not upto:
        raise RequestRefused("No row was chosen.", "Name rows, or with `upto` the last one that you have seen.")
    return {"table": table, "batch": batch, "ids": ids, "upto": upto}


def is_batch(value: Any) -> bool:
    """Tell whether this names a rejoin; empty: every one."""
    return isinstance(value, str) and (not value or _BATCH.fullmatch(value) is not None)


def _sweep_arguments(told: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    action, only = told.get("action"), told.get("only")
    known = isinstance(action, str) and action in ACTIONS
    if not known or not isinstance(only, dict) or not is_batch(only.get("batch")):
        raise _unreadable()
    ids = _ids(only.get("ids")) if only.get("ids") else []
    return str(action), sweep_choice(_text(only.get("table")), only["batch"], ids, _whole(only.get("upto")))


def _value_arguments(told: dict[str, Any]) -> tuple[int, str, str, int]:
    which = told.get("which")
    if not isinstance(which, str) or which not in VALUES:
        raise _unreadable()
    return _whole(told.get("row_id")), str(which), _text(told.get("column")), _whole(told.get("offset"))


def _page_arguments(told: dict[str, Any]) -> tuple[int, int, str, str, str, bool]:
    state, batch = told.get("state"), told.get("batch", "")
    if not isinstance(state, str) or state not in STATES or not is_batch(batch):
        raise _unreadable()
    limit = min(max(1, _whole(told.get("limit"))), MOST_ROWS)
    table, whole = _text(told.get("table")), told.get("whole") is True
    return _whole(told.get("after")), limit, table, str(state), batch, whole


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise _unreadable()
    return value


def _ids(value: Any) -> list[int]:
    if not isinstance(value, list) or not 0 < len(value) <= 1000:
        raise _unreadable()
    return [_whole(one) for one in value]


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise _unreadable()
    return value


def _unreadable() -> RequestRefused:
    return RequestRefused("What the other gateway says of its data cannot be read.", "Are both gateways up to date?")
