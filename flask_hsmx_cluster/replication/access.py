"""Who may come in: the other gateway from its link addresses, by TLS with pinned certificates; nobody else.

One block at the head of ``pg_hba.conf`` is ours. PostgreSQL takes the first line that matches, so nothing that
stands below it can open what it closes, and it closes nothing but our roles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ..errors import RequestRefused
from .database import CONNECT_TIMEOUT_S, Connection, DatabaseFailure, failures, one
from .names import AGENT_ROLE, APPLY_ROLE, PEER_ROLE, PUBLICATION, PUBLICATION_BULK, PUBLICATION_ROWS, SCHEMA
from .server_files import data_file, read_file, write_file

#: The other gateway's certificate, in the data directory.
PEER_CERTIFICATE = "hsmx_cluster_peer.crt"
#: Most addresses that a peer has: two links, each perhaps with IPv4 and IPv6, and those of a change under way.
MAX_ADDRESSES = 8
MAX_CERTIFICATE = 16 * 1024

_BEGIN = b"# hsmx_cluster: begin. Kept by the cluster, do not edit. It must stay at the head of this file."
_END = b"# hsmx_cluster: end."
_LOCK = 0x68736D78  # "hsmx": one writer at a time

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class _Rule:
    """One line of ``pg_hba.conf``; an empty address stands for the Unix socket."""

    kind: str
    databases: tuple[str, ...]
    role: str
    address: str
    method: str

    def line(self) -> str:
        # Quoted, a name is never a keyword such as "all".
        databases = ",".join(name if self.method == "reject" else f'"{name}"' for name in self.databases)
        prefix = "" if self.address in ("", "all") else f"/{ip_address(self.address).max_prefixlen}"
        return " ".join(filter(None, (self.kind, databases, f'"{self.role}"', self.address + prefix, self.method)))


def checked_addresses(addresses: Iterable[str]) -> tuple[Address, ...]:
    """Return IP addresses of single machines, each once, in order.

    :raises RequestRefused: one of them is none, or there are too many.
    """
    found: dict[Address, None] = {}
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            raise RequestRefused(f"{text!r:.60} is no IP address.", "Give addresses of links.") from None
        scoped = isinstance(address, IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None)
        if scoped or address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
            raise RequestRefused(f"{address} is not the address of one machine.", "Give addresses of links.")
        found[address] = None
        if len(found) > MAX_ADDRESSES:
            raise RequestRefused(f"More than {MAX_ADDRESSES} addresses.", "Give the addresses of the two links.")
    return tuple(found)


def checked_database(name: str) -> str:
    """Return a database's name if it can stand in ``pg_hba.conf`` and mean only itself.

    :raises RequestRefused: it cannot.
    """
    if not re.fullmatch(r"\w[\w .$-]*", name) or len(name.encode()) > 63:
        raise RequestRefused(
            f"The database's name {name!r:.80} cannot be written into pg_hba.conf safely.",
            "Give it a name of letters, digits, '_', '-' and '.'.",
        )
    return name


# ---- access ----


def set_access(connection: Connection, peer_addresses: Sequence[str], *, password: str = "") -> None:
    """Let the other gateway into the connection's database, from these addresses only.

    Its sessions from other addresses end.

    :param peer_addresses: its own addresses on the links.
    :param password: a new one for its role; empty: unchanged.
    :raises RequestRefused: an address or the database's name cannot be used, or ``pg_hba.conf`` is not in order.
    :raises DatabaseFailure: the server refused; who may come in is then unchanged.
    """
    allowed = checked_addresses(peer_addresses)
    if not allowed:
        raise RequestRefused("No address of the other gateway is given.", "Give its addresses on the links.")
    if password:
        set_password(connection, PEER_ROLE, password)
    write_access(connection, allowed)
    _end_sessions(connection, allowed)


def drop_access(connection: Connection) -> None:
    """Let the other gateway in no more: no address, no password, no session.

    :raises DatabaseFailure: the server refused.
    """
    write_access(connection, ())
    with failures("The other gateway's access cannot be dropped"):
        if one(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", PEER_ROLE):
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD NULL").format(sql.Identifier(PEER_ROLE)))
    _end_sessions(connection, ())


def present_access(connection: Connection) -> tuple[Address, ...] | None:
    """Return the addresses that the block lets in now; None if there is no block."""
    old = _hba(connection)[1]
    if _BEGIN not in old:
        return None
    block, _rest = _split(old)
    found = re.findall(rf'^hostssl \S+ "{PEER_ROLE}" (\S+)/\d+ '.encode(), b"\n".join(block), re.MULTILINE)
    return tuple(ip_address(text.decode()) for text in found)


def write_access(connection: Connection, allowed: Sequence[Address]) -> bool:
    """Write the block for the connection's database, and return whether anything had to be changed.

    What the server makes of the file is read back before it is put into force; if it is not exactly what was
    meant, the old file is put back.
    """
    database = checked_database(connection.info.dbname)
    rules = list(_rules(database, allowed))
    with failures("pg_hba.conf cannot be changed"):
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        path, old = _hba(connection)
        _block, rest = _split(old)
        lines = [_BEGIN, *(rule.line().encode() for rule in rules), _END]
        new = b"\n".join(lines) + b"\n" + rest
        changed = new != old
        if changed:
            if not _block and (wrong := _error(connection)):
                raise RequestRefused(f"pg_hba.conf has an error: {wrong}", "Correct it, and try again.")
            write_file(connection, path, new)
        if wrong := _error(connection) or _difference(connection, rules):
            if changed:
                write_file(connection, path, old)
            raise DatabaseFailure(
                f"PostgreSQL does not read pg_hba.conf as it was meant: {wrong}", "Nothing was changed. See the file."
            )
        with failures("PostgreSQL does not read its configuration anew"):
            connection.execute("SELECT pg_reload_conf()")
        return changed
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _rules(database: str, allowed: Sequence[Address]) -> Iterator[_Rule]:
    # "all" does not mean replication connections of the physical kind.
    every = ("all", "replication")
    yield _Rule("local", (database,), AGENT_ROLE, "", "scram-sha-256")
    for address in allowed:
        yield _Rule("hostssl", (database,), PEER_ROLE, str(address), "scram-sha-256")
    for role in (AGENT_ROLE, PEER_ROLE, APPLY_ROLE):
        yield _Rule("local", every, role, "", "reject")
        yield _Rule("host", every, role, "all", "reject")


def _hba(connection: Connection) -> tuple[str, bytes]:
    path = str(one(connection, "SHOW hba_file"))
    content = read_file(connection, path)
    if content is None:
        raise RequestRefused(f"{path} does not exist.", "See PostgreSQL's setting hba_file.")
    return path, content


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines of our block, markers included, and what follows it."""
    lines = content.split(b"\n")
    begins, ends = ([at for at, line in enumerate(lines) if line.strip() == mark] for mark in (_BEGIN, _END))
    if not begins and not ends:
        return [], content
    if len(begins) != 1 or len(ends) != 1 or ends < begins or any(line.strip() for line in lines[: begins[0]]):
        raise RequestRefused(
            "The cluster's block in pg_hba.conf has been edited.",
            "Remove every line between and including the two that begin with '# hsmx_cluster:', and prepare again.",
        )
    return lines[begins[0]: ends[0] + 1], b"\n".join(lines[ends[0] + 1:])


def _error(connection: Connection) -> str:
    with failures("pg_hba.conf cannot be checked"):
        row = connection.execute(
            "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY line_number").fetchone()
    return f"line {row[0]}: {row[1]}" if row else ""


def _difference(connection: Connection, rules: Sequence[_Rule]) -> str:
    # Since PostgreSQL 16 lines may come from other files too.
    order = "rule_number" if connection.info.server_version >= 160000 else "line_number"
    with failures("pg_hba.conf cannot be checked"):
        rows = connection.execute(
            "SELECT type, database, user_name, coalesce(address, ''), auth_method FROM pg_hba_file_rules "
            f"ORDER BY {order} LIMIT %s", (len(rules),)).fetchall()
    for rule, row in zip(rules, rows, strict=False):
        if row != (rule.kind, list(rule.databases), [rule.role], rule.address, rule.method):
            return f"{rule.line()!r} became {row!r:.200}"
    return "" if len(rows) == len(rules) else "lines are missing"


def _end_sessions(connection: Connection, allowed: Sequence[Address]) -> None:
    with failures("Sessions of the other gateway cannot be ended"):
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s "
            "AND (client_addr = ANY(%s::inet[])) IS NOT TRUE",
            (PEER_ROLE, [str(address) for address in allowed]),
        )


# ---- rights and secrets ----


def set_password(connection: Connection, role: str, password: str) -> None:
    """Give a role a password. The server and its log see only what SCRAM derives from it."""
    with failures(f"The password of {role} cannot be set"), connection.transaction():
        connection.execute("SET LOCAL log_statement = 'none'")
        connection.execute("SET LOCAL log_min_duration_statement = -1")
        connection.execute("SET LOCAL log_min_error_statement = 'panic'")
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(verifier.decode())))


def grant_shared(connection: Connection) -> None:
    """Let the other gateway read what is published, and what of it is in quarantine; nothing else, in the
    connection's database.
    """
    peer = sql.Identifier(PEER_ROLE)
    with failures("The other gateway cannot be given the right to read"), connection.transaction():
        connection.execute(sql.SQL("DROP OWNED BY {}").format(peer))
        tables = connection.execute(
            "SELECT schemaname, tablename, attnames, cardinality(attnames) = (SELECT count(*) FROM pg_attribute "
            "WHERE attrelid = format('%%I.%%I', schemaname, tablename)::regclass AND attnum > 0 AND NOT attisdropped) "
            "FROM pg_publication_tables WHERE pubname = ANY(%s)",
            ([PUBLICATION, PUBLICATION_ROWS, PUBLICATION_BULK],)).fetchall()
        if one(connection, "SELECT to_regclass('hsmx_cluster.followed') IS NOT NULL"):
            tables += [(SCHEMA, name, (), True) for name in ("followed", "quarantine")]
        for schema in sorted({row[0] for row in tables}):
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), peer))
        for schema, table, columns, whole in tables:
            some = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
            connection.execute(sql.SQL("GRANT SELECT {} ON {} TO {}").format(
                sql.SQL("") if whole else some, sql.Identifier(schema, table), peer))


def give_to_apply_role(connection: Connection, subscription: str) -> None:
    """Let a subscription, in the transaction that makes it, be of a role that may write shared tables and nothing else.

    PostgreSQL 15 lets only a superuser own one at that moment; nobody sees that the role is one meanwhile.

    :raises DatabaseFailure: there is no such role.
    """
    role = sql.Identifier(APPLY_ROLE)
    with failures("The subscription cannot be given to the role that applies"):
        grant_apply(connection)
        connection.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(role))
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} OWNER TO {}").format(sql.Identifier(subscription), role))
        connection.execute(sql.SQL("ALTER ROLE {} NOSUPERUSER").format(role))


def grant_apply(connection: Connection) -> None:
    """Grant what applying needs on shared tables, their partitions, and the sequences of columns that do not travel."""
    role, publications = sql.Identifier(APPLY_ROLE), [PUBLICATION, PUBLICATION_ROWS, PUBLICATION_BULK]
    for kind, schema, name in connection.execute(_APPLIED, (publications, APPLY_ROLE)).fetchall():
        rights = "USAGE ON SEQUENCE" if kind == "S" else "SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLE"
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role))
        connection.execute(sql.SQL("GRANT {} {} TO {}").format(sql.SQL(rights), sql.Identifier(schema, name), role))


def pin_certificate(connection: Connection, pem: str) -> str:
    """Keep the other gateway's certificate where the server finds it, and return the path for ``sslrootcert``.

    :raises RequestRefused: it is not exactly one certificate.
    """
    path = data_file(connection, PEER_CERTIFICATE)
    content = _one_certificate(pem)
    if read_file(connection, path) != content:
        write_file(connection, path, content)
    return path


@lru_cache(maxsize=4)  # each is kept open for good: a certificate changes seldom
def pin_here(pem: str) -> str:
    """Return a path by which this process, and nobody else, reads a certificate."""
    descriptor = os.memfd_create("peer-certificate", 0)
    os.write(descriptor, pem.encode())
    return f"/proc/self/fd/{descriptor}"


def peer_dsn(addresses: Sequence[str], port: int, database: str, password: str, certificate: str) -> str:
    """Return the connection string to the other gateway's database, for subscriptions and for reading.

    :param addresses: its addresses in the order in which they are tried: sync, then backup.
    :param certificate: path that :func:`pin_certificate` returned.
    """
    found = checked_addresses(addresses)
    return make_conninfo(
        host=",".join(map(str, found)), port=port, dbname=database, user=PEER_ROLE, password=password,
        # A subscription heeds no connect_timeout: without the second one a dead link would hold it for minutes.
        connect_timeout=CONNECT_TIMEOUT_S, tcp_user_timeout=CONNECT_TIMEOUT_S * 1000,
        # Who waits for an answer sends nothing: only these tell that the other machine has lost its power.
        keepalives_idle=5, keepalives_interval=1, keepalives_count=3,
        sslmode="verify-ca", sslrootcert=certificate, channel_binding="require",
    )


#: What an apply worker writes to, or draws numbers from, and has no right to yet.
_APPLIED = """
    WITH published AS (
        SELECT DISTINCT format('%%I.%%I', schemaname, tablename)::regclass AS root
        FROM pg_publication_tables WHERE pubname = ANY(%s)),
    tables AS (SELECT root AS oid FROM published UNION SELECT relid FROM published, pg_partition_tree(root)),
    wanted AS (
        SELECT oid FROM tables UNION
        SELECT d.refobjid FROM tables t JOIN pg_attrdef a ON a.adrelid = t.oid
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
            AND d.refclassid = 'pg_class'::regclass)
    SELECT c.relkind, n.nspname, c.relname FROM wanted JOIN pg_class c USING (oid)
    JOIN pg_namespace n ON n.oid = c.relnamespace, (SELECT %s AS name) AS role
    WHERE CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(role.name, c.oid, 'USAGE')
        ELSE NOT has_table_privilege(role.name, c.oid, 'TRUNCATE') END AND c.relkind IN ('r', 'p', 'S')
"""


def _one_certificate(pem: str) -> bytes:
    try:
        if len(pem) > MAX_CERTIFICATE:
            raise ValueError("too large")
        (certificate,) = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise RequestRefused("The other gateway's certificate cannot be read.", "Pair the gateways anew.") from None
    return certificate.public_bytes(Encoding.PEM)
