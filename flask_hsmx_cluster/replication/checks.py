"""What is looked at again and again while two gateways share their data: what a migration, an operator or a full disk
may have done to it.

Findings become alarms: a blocking one is critical.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql

from ..errors import Finding
from . import access, aside, catalogue, channel, requirements
from .database import Connection, failures, one, table
from .guard import TRIGGER
from .layout import differences
from .names import SCHEMA
from .scope import Scope
from .tables import SchemaMismatch

#: Of what may be kept for an absent gateway, this much has been used when the alarm is raised, and raised again.
WAL_WARNING, WAL_CRITICAL = 0.4, 0.8
#: The disk of the database is nearly full with less, bytes and parts of it.
DISK_LEAST, DISK_PART = 512 * 1024 * 1024, 0.05
#: More are not told: where many tables lack the same, a few say it.
MOST_FINDINGS = 60
#: So much of the server's log is searched for the reason of a worker's end, bytes.
LOG_READ = 64 * 1024

_UNGUARDED = """
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM unnest(%s::text[], %s::text[]) AS w (schema_name, table_name)
JOIN pg_namespace own ON own.nspname = w.schema_name
JOIN pg_class root ON root.relnamespace = own.oid AND root.relname = w.table_name
CROSS JOIN LATERAL (SELECT root.oid AS relid UNION SELECT relid FROM pg_partition_tree(root.oid)) AS part
JOIN pg_class c ON c.oid = part.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = %s AND t.tgenabled IN ('O', 'A'))
ORDER BY 1
"""
_FOLLOWED = """
SELECT n.nspname::text, c.relname::text FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.subname = %s AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SLOTS = b"""
SELECT coalesce(wal_status, ''), safe_wal_size,
       (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
FROM pg_replication_slots WHERE slot_name = ANY(%s)
"""
#: Of an error that a worker met, the server logs a line ``ERROR``, then lines with these marks, at last ``_WORKER``.
_ERROR = re.compile(r"ERROR:\s+(.+)")
_BELONGS = re.compile(r"(?:DETAIL|HINT|CONTEXT|STATEMENT):")
_WORKER = re.compile(r"CONTEXT:\s+processing remote data for replication origin")


@dataclass(frozen=True)
class Gateway:
    """What is looked at.

    :param declared: the scope as the host declares it; ``scope``: what of it can be shared at present.
    :param name: what people call this gateway; ``peer_name``: the other one.
    :param peer_id: "" while there is no other one.
    """

    declared: Scope
    scope: Scope
    name: str
    peer_name: str
    peer_id: str


@dataclass
class Result:
    """What was found.

    :param done: what was mended, in words.
    :param renew: tables were made, or lost their guard: publications and guards must be made anew.
    """

    findings: list[Finding] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    renew: bool = False


def look(connection: Connection, gateway: Gateway, peer: Connection | None) -> Result:
    """Look at this gateway's database, and compare it with the active one's.

    :param peer: the active gateway's, if this one is passive and it can be reached.
    """
    result = Result()
    with failures("The shared tables cannot be looked at"):
        result.findings += _not_there(connection, gateway)
        here = [(each.schema, each.table) for each in gateway.scope.shared()]
        result.findings += requirements.check_tables(connection, here)
        result.findings += _kept(connection, gateway)
        result.findings += _disk(connection)
        missing = unguarded(connection, gateway.scope)
        result.renew = bool(missing) or catalogue.present(connection, gateway.declared) != gateway.scope
        if missing:
            result.done.append(f"the guard is put on {', '.join(missing)}")
    if peer is not None:
        found = compare(connection, peer, gateway.scope, gateway.name, gateway.peer_name)
        result.findings += found
        if not any(one.blocking for one in found):
            result.done += take_up(connection, peer, gateway.scope)
    return result


# The schema --------------------------------------------------------------------------------------------------------


def compare(connection: Connection, peer: Connection, scope: Scope, name: str, peer_name: str) -> list[Finding]:
    """Return in what the shared tables of this, the passive gateway differ from the active one's.

    :param peer: to the active gateway's database.
    """
    with failures("The tables of both gateways cannot be compared"):
        sent = catalogue.published(peer, sum(channel.TAKES.values(), ()))
        declared = {(each.schema, each.table): each for each in catalogue.of_scope(scope)}
        here = [declared.get((each.schema, each.table), replace(each, columns=None)) for each in sent]
        return differences(catalogue.layouts(peer, sent), catalogue.layouts(connection, here), peer_name, name)


def require_same(connection: Connection, peer: Connection, scope: Scope, name: str, peer_name: str) -> None:
    """Before this gateway follows the active one: can it store what comes?

    :raises SchemaMismatch: it cannot; with the reason and the remedy.
    """
    blocking = [finding for finding in compare(connection, peer, scope, name, peer_name) if finding.blocking]
    if blocking:
        more = f" (and {len(blocking) - 1} more differences)" if len(blocking) > 1 else ""
        raise SchemaMismatch(f"{blocking[0].text}{more}", blocking[0].remedy)


def take_up(connection: Connection, peer: Connection, scope: Scope) -> list[str]:
    """Follow tables that the active gateway has begun to share, too: PostgreSQL leaves out what it was not told of.

    What this gateway has in them of its own is kept aside, as in the first copy.

    :return: what was done, in words.
    """
    done = []
    for stream in channel.streams(connection):
        followed = {(schema, name) for schema, name in connection.execute(_FOLLOWED, (stream.name,)).fetchall()}
        sent = catalogue.published(peer, channel.TAKES[stream.name])
        new = [one for one in sent if (one.schema, one.table) not in followed]
        if not stream.enabled or not new or not all(_shared(scope, one) for one in new):
            continue
        with failures("Newly shared tables cannot be taken up"):
            for each in new:
                _empty(connection, scope, each)
            access.grant_apply(connection)
            connection.execute(
                sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = true)").format(
                    sql.Identifier(stream.name)
                )
            )
        done.append(f"{', '.join(each.table for each in new)}: copied, and followed from now on")
    return done


def _shared(scope: Scope, wanted: catalogue.Wanted) -> bool:
    if wanted.schema == SCHEMA:
        return True  # a newer version of ours publishes one more
    found = scope.find(wanted.schema, wanted.table)
    return found is not None and found.kind != "local"


def _empty(connection: Connection, scope: Scope, wanted: catalogue.Wanted) -> None:
    found = scope.find(wanted.schema, wanted.table)
    where = sql.SQL(f" WHERE ({found.rows})" if found and found.rows else "")
    name = table(wanted.schema, wanted.table)
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        if connection.execute(sql.SQL("SELECT FROM {}{} LIMIT 1").format(name, where)).fetchone() is None:
            return
        aside.keep(connection, wanted.schema, wanted.table, aside.now(connection))
        connection.execute(sql.SQL("DELETE FROM {}{}").format(name, where))


def _not_there(connection: Connection, gateway: Gateway) -> Iterator[Finding]:
    """Yield declared tables and columns that the host has not made (yet)."""
    for each in gateway.declared.shared():
        found = gateway.scope.find(each.schema, each.table)
        remedy = "Run the firmware's migration on this gateway (for example: flask db upgrade)."
        if found is None:
            yield Finding("table_missing", f"The table {each.name} is declared shared and does not exist here.", remedy)
        elif missing := [column for column in each.columns if column not in found.columns]:
            yield Finding(
                "column_missing", f"The table {each.name} is declared with {', '.join(missing)}, and lacks that.",
                remedy)


def unguarded(connection: Connection, scope: Scope) -> list[str]:
    """Return shared tables and partitions without the guard, quoted: a partition may be new."""
    tables = scope.shared()
    rows = connection.execute(
        _UNGUARDED.encode(), ([each.schema for each in tables], [each.table for each in tables], TRIGGER)
    ).fetchall()
    return [name for (name,) in rows]


# What fills --------------------------------------------------------------------------------------------------------


def _kept(connection: Connection, gateway: Gateway) -> Iterator[Finding]:
    """Is the log that is kept for the other gateway near its bound?"""
    names = [channel.slot_of(name, gateway.peer_id) for name in channel.subscriptions(gateway.scope)]
    for status, left, most in connection.execute(_SLOTS, (names,)).fetchall() if gateway.peer_id else ():
        if finding := wal_finding(status, left, most, gateway.peer_name):
            yield finding
            return


def wal_finding(status: str, left: int | None, most: int, peer_name: str) -> Finding | None:
    """Return what is to be said of the log that is kept for the other gateway.

    :param left: how much more may be written, bytes; None without a bound.
    :param most: ``max_slot_wal_keep_size``, bytes.
    """
    if status == "lost":
        return Finding(
            "wal_kept", f"The changes kept for {peer_name} have grown past the bound and are gone.",
            f"Bring {peer_name} back: its tables are then compared and filled anew by themselves.")
    if left is None or most <= 0:
        return None
    used = 1 - max(0, left) / most
    if used < WAL_WARNING:
        return None
    return Finding(
        "wal_kept", f"{used:.0%} of the {most // 10**6} MB of changes that may be kept for {peer_name} are used.",
        f"Bring {peer_name} back soon: past the bound it must be filled anew. max_slot_wal_keep_size is the bound.",
        blocking=used >= WAL_CRITICAL)


def _disk(connection: Connection) -> Iterator[Finding]:
    found = catalogue.disk(connection)
    if found is not None and found[0] < max(DISK_LEAST, DISK_PART * found[1]):
        yield Finding(
            "database_disk", f"Only {found[0] // 10**6} MB are free on the disk of this gateway's database.",
            "Free some space: a full disk stops PostgreSQL. The log kept for an absent gateway is there, too.")


# Why a worker ended --------------------------------------------------------------------------------------------------


def last_failure(connection: Connection) -> str:
    """Return what PostgreSQL logged when an apply worker failed last; "" if that cannot be read.

    No catalogue tells it. The log is what each of the server's processes has as its standard error, if that is a file.
    """
    file = one(connection, "SELECT coalesce(pg_current_logfile(), '/proc/self/fd/2')")
    size = one(connection, "SELECT size FROM pg_stat_file(%s, true) WHERE NOT isdir", file)
    if not size:  # a pipe, a socket, the journal
        return ""
    data = one(connection, "SELECT pg_read_binary_file(%s, %s, %s)", file, max(0, size - LOG_READ), LOG_READ)
    return failure_in(bytes(data).decode(errors="replace"))


def failure_in(log: str) -> str:
    """Return the reason of the last failure of an apply worker in a server's log.

    What users wrote is in the log, too: each line is looked at once, whatever is in it.
    """
    found = reason = ""
    for line in log.split("\n"):
        if line.startswith("\t"):  # goes on with the line before
            continue
        if error := _ERROR.search(line):
            reason = error[1]
        elif _WORKER.search(line):
            found, reason = reason or found, ""
        elif not _BELONGS.search(line):
            reason = ""
    return "".join(filter(str.isprintable, found)).strip()[:300]


def as_dict(result: Result) -> dict[str, object]:
    """Return the form that travels to the agent."""
    findings: Sequence[Finding] = result.findings
    return {"findings": [one.as_dict() for one in findings[:MOST_FINDINGS]], "done": result.done, "renew": result.renew}
