"""This gateway's own table of packet rules, where it is wanted: what only the other gateway uses is closed for others.

It is set before settings that need it come into force, set again when somebody has flushed it, and removed when the
cluster is left. It can close ports and open none: what it accepts another table may still drop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Protocol

from ..errors import ClusterError
from ..firewall.rules import MOST_PEERS, Address, Service, peers_of
from ..firewall.text import TABLE, own_table
from ..network import nftables
from ..network.clock import boot_time_s
from .revisions.model import Revision

#: Addresses that are about to be tried are let in for so long, s.
EXPECTED_FOR_S = 60.0

#: Takes kind, severity, text and evidence of an event.
Record = Callable[[str, str, str, list[str]], None]


class Hand(Protocol):
    """What touches the kernel: :mod:`~flask_hsmx_cluster.network.nftables`."""

    def listed(self, name: str) -> str: ...

    def replace_table(self, name: str, body: str) -> None: ...


class PacketTable:
    """Keeps the table as it is to be. Thread-safe.

    :param wanted: False: there is none, and one that a former configuration has left is removed.
    """

    def __init__(self, wanted: bool, record: Record, hand: Hand | None = None) -> None:
        self.wanted = wanted
        self._record = record
        self._hand: Hand = hand or nftables
        self._lock = threading.Lock()
        self._body: str | None = None  # None: not known, as after a start
        self._listing = ""
        self._expected: dict[Address, float] = {}
        self._problem: ClusterError | None = None
        self._since = boot_time_s()

    def keep(self, services: Iterable[Service], sources: Iterable[Address]) -> str:
        """Bring the table in line; return what was done, in words.

        :param sources: the other gateway's addresses; none: there is no table.
        """
        with self._lock:
            found = list(sources) if self.wanted else []
            if found:
                found += (one for one, until in self._expected.items() if until > boot_time_s())
            try:
                result = self._set(own_table(services, found) if found else "")
                self._problem = None
            except ClusterError as error:
                if self._problem is None:
                    self._since = boot_time_s()
                self._body, self._problem = None, error
                return f"waits: {error.message}" if self.wanted else "switched off"
        return result if self.wanted else "switched off"

    def expect(self, addresses: Any) -> None:
        """Let further addresses in for a while, from the next :meth:`keep` on: they are about to be tried.

        :param addresses: a list of texts, as the other gateway told it; what cannot be read is left out.
        """
        if not self.wanted or not isinstance(addresses, list):
            return
        found: dict[Address, float] = {}
        for text in addresses[:MOST_PEERS]:
            with suppress(ValueError):
                if "%" not in str(text):
                    found[ip_address(str(text))] = boot_time_s() + EXPECTED_FOR_S
        with self._lock:
            self._expected = dict(list({**self._expected, **found}.items())[-2 * MOST_PEERS :])

    def alarms(self) -> list[tuple[str, str, str, str]]:
        """Return key, severity, text and remedy of what keeps the table from being as it should."""
        problem = self._problem
        if not self.wanted or problem is None:
            return []
        text = f"The cluster's own packet rules cannot be set on this gateway: {problem.message}"
        return [("firewall_table", "warning", text, problem.remedy or "It is tried again every few seconds by itself.")]

    @property
    def kept(self) -> bool:
        """Whether the table is in place, as far as is known."""
        return bool(self._body)

    def _set(self, body: str) -> str:
        if body == self._body == "":
            return "no other gateway yet"
        present = self._hand.listed(TABLE)
        if body and body == self._body and present == self._listing:
            return "in place"
        lost = body == self._body
        if body or present:
            self._hand.replace_table(TABLE, body)
        self._body, self._listing = body, self._hand.listed(TABLE) if body else ""
        if lost:
            self._record(
                "firewall_restored", "warning", "The cluster's own packet rules were set again.",
                ["somebody had changed them" if present else "somebody had removed them"],
            )
        return "set again" if lost else "set" if body else "removed"


def sources_of(node_id: str, revisions: Iterable[Revision | None]) -> list[Address]:
    """Return the other gateway's addresses in revisions of the settings, None among them left out."""
    found = [peer.address for one in revisions if one is not None for peer in peers_of(one.settings, node_id)]
    return list(dict.fromkeys(found))
