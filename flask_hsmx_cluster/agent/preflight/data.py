"""Preflight of the data: are both databases fit to be kept as one? Like :mod:`.checks`: facts first, then judged.

The table is in ``docs/preflight.md``. What PostgreSQL itself must fulfil is in ``docs/database.md``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...errors import ClusterError, Finding
from ...replication.layout import Layout, differences
from ...replication.scope import MAX_TABLES
from ...settings.values import text, whole
from ..peer.client import Route

PREPARE = "Run `flask cluster database prepare` as root on it, and repeat."
#: Room that is left besides what is copied, bytes.
SPARE_BYTES = 256 * 1024 * 1024
#: The database's port answers by then, s.
PORT_TIMEOUT_S = 2.0
#: Tables that are named in one finding, and tables whose layout is asked for.
NAMED_MOST, LAYOUTS_MOST = 8, 32
_MAX_FINDINGS = 500
#: PostgreSQL's SSLRequest: answered with one byte, before any login. ``S``: it speaks TLS.
_TLS_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class DatabaseFacts:
    """What a gateway tells of its database.

    :param version: as PostgreSQL counts, for example 150012.
    :param system: its system identifier, which a copied disk has too.
    :param tables: by shared table what stands for its declaration and for how it looks; "" where it is missing.
    :param shared_bytes: size of the shared tables.
    :param free_bytes: what is free on its disk; None if that is not known.
    :param findings: what keeps it from being half of two gateways' database.
    """

    port: int
    version: int
    system: str
    tables: Mapping[str, tuple[str, str]]
    shared_bytes: int
    free_bytes: int | None
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "findings": [finding.as_dict() for finding in self.findings]}

    @classmethod
    def from_dict(cls, data: Any) -> DatabaseFacts:
        """Return facts from their dict form.

        :raises ValueError: they are malformed.
        """
        try:
            free = data["free_bytes"]
            if not isinstance(data["tables"], dict) or len(data["tables"]) > MAX_TABLES:
                raise ValueError("tables")
            found = cls(
                port=whole(data["port"], 1, 65535),
                version=whole(data["version"], 0, 10**7),
                system=text(data["system"]),
                tables={text(name): (text(pair[0]), text(pair[1])) for name, pair in data["tables"].items()},
                shared_bytes=whole(data["shared_bytes"], 0, 2**62),
                free_bytes=None if free is None else whole(free, 0, 2**62),
                findings=tuple(_finding(one) for one in data["findings"][:_MAX_FINDINGS]),
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"facts of a database are malformed: {error!r:.80}") from None
        if not found.system.isdecimal():
            raise ValueError("facts of a database are malformed: system")
        return found


def unknown(error: ClusterError) -> DatabaseFacts:
    """Return the facts of a database that does not answer."""
    finding = Finding("database_silent", error.message, error.remedy or "See whether PostgreSQL runs, and its log.")
    return DatabaseFacts(5432, 0, "0", {}, 0, None, (finding,))


@dataclass(frozen=True)
class Side:
    """One gateway of the two, for words.

    :param database: None where its database is not prepared, and so not shared.
    """

    name: str
    database: DatabaseFacts | None


def check_own(side: Side) -> Iterator[Finding]:
    """Is this database as it has to be?"""
    for finding in side.database.findings if side.database else ():
        text, remedy = (words.replace("this gateway", side.name) for words in (finding.text, finding.remedy))
        yield replace(finding, text=f"{side.name}: {text}", remedy=remedy)


def check_both(joiner: Side, creator: Side) -> Iterator[Finding]:
    """Can these two databases be kept as one? The joiner's will be a copy of the creator's."""
    here, there = joiner.database, creator.database
    if here is None and there is None:
        return
    if here is None or there is None:
        unprepared, prepared = (joiner, creator) if here is None else (creator, joiner)
        yield Finding(
            "database_not_shared",
            f"{prepared.name} shares its data, and the database of {unprepared.name} is not prepared for that.",
            PREPARE.replace("on it", f"on {unprepared.name}"),
        )
        return
    if not here.version or not there.version:
        return  # one does not answer: that has been told
    if here.system == there.system:
        yield Finding(
            "database_cloned",
            f"The databases of {joiner.name} and {creator.name} have the same identifier: one is a copy of the other.",
            f"Make a new one on {joiner.name} (pg_dropcluster, pg_createcluster), fill it by the firmware's "
            "migrations, prepare it.",
        )
    if here.version // 10000 != there.version // 10000:
        yield Finding(
            "database_versions_differ",
            f"{joiner.name} has PostgreSQL {here.version // 10000}, {creator.name} has {there.version // 10000}.",
            "They work together; bring both to the same version soon.",
            blocking=False,
        )
    yield from check_scopes(joiner.name, _declared(here), creator.name, _declared(there))
    yield from _space(joiner.name, here, there)


def check_scopes(own_name: str, own: Mapping[str, str], peer_name: str, peer: Mapping[str, str]) -> Iterator[Finding]:
    """Do both gateways declare the same tables to be shared, in the same way?

    :param own: by table what stands for its declaration.
    """
    words = [
        f"only {own_name} shares {listed(own.keys() - peer.keys())}" if own.keys() - peer.keys() else "",
        f"only {peer_name} shares {listed(peer.keys() - own.keys())}" if peer.keys() - own.keys() else "",
    ]
    if otherwise := {name for name in own.keys() & peer.keys() if own[name] != peer[name]}:
        words.append(f"they declare {listed(otherwise)} differently")
    if found := "; ".join(filter(None, words)):
        yield Finding(
            "scopes_differ",
            f"{own_name} and {peer_name} do not share the same tables: {found}.",
            "Bring both to the same firmware and restart their agents; `flask cluster coverage` shows what is shared.",
        )


def tables_that_differ(own: DatabaseFacts, peer: DatabaseFacts) -> list[str]:
    """Return the tables that both have and that look different, at most :data:`LAYOUTS_MOST`."""
    names = sorted(own.tables.keys() & peer.tables.keys())
    return [name for name in names if _looks_different(own.tables[name][1], peer.tables[name][1])][:LAYOUTS_MOST]


def check_layouts(
    joiner: str, own: Mapping[str, Layout], creator: str, peer: Mapping[str, Layout]
) -> Iterator[Finding]:
    """Can the creator's rows be stored on the joiner?

    :param own: of the joiner, by name.
    """
    yield from differences(peer, own, creator, joiner)


def check_port(routes: Mapping[str, Route], port: int, name: str) -> Iterator[Finding]:
    """Does the other gateway's PostgreSQL answer over each link? It lets nobody in yet, but says that it is there."""
    for kind, route in routes.items():
        if kind in ("sync", "backup") and (why := _silent(route, port)):
            yield Finding(
                "database_unreachable",
                f"The database of {name} cannot be reached at {route.remote}, TCP port {port}, over the {kind} link: "
                f"{why}.",
                f"Let {route.local} reach TCP port {port} in the firewall of {name}; `flask cluster database prepare "
                f"--listen {route.remote}` lets PostgreSQL listen there.",
            )


def listed(names: Sequence[str] | set[str]) -> str:
    """Return names in words, the first few."""
    ordered = sorted(name.removeprefix("public.") for name in names)
    more = f" and {len(ordered) - NAMED_MOST} more" if len(ordered) > NAMED_MOST else ""
    return ", ".join(ordered[:NAMED_MOST]) + more


def layouts_from(data: Any) -> dict[str, Layout]:
    """Return layouts that the other gateway told, by name.

    :raises ValueError: they are malformed.
    """
    if not isinstance(data, list) or len(data) > LAYOUTS_MOST:
        raise ValueError("layouts are malformed")
    return {layout.name: layout for layout in map(Layout.from_dict, data)}


def _space(name: str, here: DatabaseFacts, there: DatabaseFacts) -> Iterator[Finding]:
    """Is there room for the copy, for the write-ahead log of copying, and for the own data that is kept aside?"""
    needed = 2 * there.shared_bytes + here.shared_bytes + SPARE_BYTES
    if here.free_bytes is not None and here.free_bytes < needed:
        yield Finding(
            "database_space",
            f"{name} has {_megabytes(here.free_bytes)} free for its database, and the first copy may take "
            f"{_megabytes(needed)}.",
            f"Free some space on {name}, or give its PostgreSQL a larger disk.",
        )


def _megabytes(size: int) -> str:
    return f"{size // 1_000_000} MB"


def _declared(facts: DatabaseFacts) -> dict[str, str]:
    return {name: declared for name, (declared, _looks) in facts.tables.items()}


def _looks_different(own: str, peer: str) -> bool:
    return bool(own and peer) and own != peer


def _silent(route: Route, port: int) -> str:
    try:
        with socket.create_connection((route.remote, port), PORT_TIMEOUT_S, (route.local, 0)) as connection:
            connection.sendall(_TLS_REQUEST)
            answer = connection.recv(1)
    except OSError as error:
        return error.strerror or str(error)
    return "" if answer == b"S" else "what answers is no PostgreSQL with TLS"


def _finding(data: Any) -> Finding:
    return Finding(
        text(data["key"]), text(data["text"], 1000), text(data["remedy"], 1000), "", data["blocking"] is not False
    )
