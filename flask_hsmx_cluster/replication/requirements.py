"""What two gateways need of a PostgreSQL server: its settings, and what is looked at before anything is changed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from ..errors import Finding
from .access import Address, present_access
from .database import Connection, failures, one
from .names import AGENT_ROLE, APPLY_ROLE, PEER_ROLE, SCHEMA

LEAST_VERSION = 15
PREPARE = "Run `flask cluster database prepare` as root on this gateway."
#: How long a link address may take to answer, s.
PROBE_TIMEOUT_S = 1.0

#: Files in the data directory.
SERVER_CERTIFICATE, SERVER_KEY = "hsmx_cluster_server.crt", "hsmx_cluster_server.key"

# "May I speak TLS?" in PostgreSQL's protocol; the answer is one byte, "S" for yes.
_TLS_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Setting:
    """One setting of the server.

    :param value: what prepare sets, as text with a unit.
    :param fits: whether a present value, as ``pg_settings`` shows it in its base unit, is good enough to stay.
    :param restart: whether the server takes a new value only when it starts.
    """

    name: str
    value: str
    fits: Callable[[str], bool]
    restart: bool = False


def _exactly(value: str) -> Callable[[str], bool]:
    return lambda present: present == value


def _between(least: int, most: int = 2**31) -> Callable[[str], bool]:
    return lambda present: least <= int(present) <= most


#: Of the other gateway's connections alone. While it applies one long change it answers nothing: the server's own
#: ``wal_sender_timeout`` would end the stream, and the change would be begun anew, for ever. The kernel tells
#: who is gone.
PEER_SETTINGS = {
    "wal_sender_timeout": "60s", "tcp_user_timeout": "3s", "tcp_keepalives_idle": "1", "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
}  # fmt: skip
SETTINGS = (
    Setting("wal_level", "logical", _exactly("logical"), restart=True),
    # A peer that died is noticed after this; also the longest that an apply worker sleeps after a lost connection.
    Setting("wal_retrieve_retry_interval", "100ms", _between(1, 100)),
    Setting("wal_sender_timeout", "3s", _between(1000, 5000)),
    Setting("wal_receiver_timeout", "3s", _between(1000, 5000)),
    Setting("wal_receiver_status_interval", "1s", _between(1, 1)),
    # What is kept for an absent peer, MB. Without a bound it fills the disk; past it the peer needs a full copy.
    Setting("max_slot_wal_keep_size", "4GB", _between(1024)),
    Setting("max_replication_slots", "20", _between(20), restart=True),
    Setting("max_wal_senders", "20", _between(20), restart=True),
    Setting("max_logical_replication_workers", "16", _between(16), restart=True),
    Setting("max_sync_workers_per_subscription", "4", _between(4)),
    # A transaction is kept in memory up to this size while it is read from the log, and past it on the disk: commits
    # that wait for both gateways wait behind that (a change of 500,000 rows: 1.65 s with PostgreSQL's 64 MB, 0.18 s
    # with this).
    Setting("logical_decoding_work_mem", "256MB", _between(256 * 1024)),
    Setting("max_worker_processes", "24", _between(24), restart=True),
    Setting("track_commit_timestamp", "on", _exactly("on"), restart=True),
    Setting("ssl_cert_file", SERVER_CERTIFICATE, _exactly(SERVER_CERTIFICATE)),
    Setting("ssl_key_file", SERVER_KEY, _exactly(SERVER_KEY)),
    Setting("ssl", "on", _exactly("on")),
)


def listening(present: str, wanted: Sequence[Address]) -> Setting:
    """Return the setting with which the server listens on addresses, besides those of ``present``."""
    entries = [entry.strip() for entry in present.split(",") if entry.strip()]

    def missing(value: str) -> list[str]:
        listed = {entry.strip() for entry in value.split(",")}
        return [str(address) for address in wanted
                if not listed & {"*", str(address), "0.0.0.0" if isinstance(address, IPv4Address) else "::"}]

    return Setting("listen_addresses", ", ".join([*entries, *missing(present)]),
                   lambda value: not missing(value), restart=True)


def configured(connection: Connection) -> dict[str, tuple[str, str]]:
    """Return, by setting, the value in force (base unit), and the text in the files that waits for a restart."""
    with failures("PostgreSQL's settings cannot be read"):
        return {name: (value, waiting or "") for name, value, waiting in connection.execute("""
            SELECT s.name, s.setting,
                   (SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name ORDER BY f.seqno DESC LIMIT 1)
            FROM pg_settings s""")}


def state(setting: Setting, present: dict[str, tuple[str, str]]) -> str:
    """Return ``good``, ``waits`` (for a restart) or ``wrong``."""
    value, waiting = present.get(setting.name, ("", ""))
    if _fits(setting, value):
        return "good"
    return "waits" if setting.restart and (waiting == setting.value or _fits(setting, waiting)) else "wrong"


def _fits(setting: Setting, value: str) -> bool:
    try:
        return setting.fits(value)
    except ValueError:
        return False


# ---- checks ----


def check(
    connection: Connection, tables: Sequence[tuple[str, str]] = (), listen: Sequence[Address] = ()
) -> list[Finding]:
    """Return what keeps this server from being half of two gateways' database. Nothing is changed.

    :param connection: of a superuser, to the host's database.
    :param tables: schema and name of each shared table.
    :param listen: own addresses on the links; only the present machine's own are tried.
    :raises DatabaseFailure: the server does not answer.
    """
    findings = list(check_server(connection))
    if findings:
        return findings
    for look in (_settings, _roles, _access):
        findings += look(connection)
    for address in listen:
        findings += _reached(address, int(one(connection, "SHOW port")))
    return [*findings, *check_tables(connection, tables)]


def check_server(connection: Connection) -> Iterator[Finding]:
    """Yield what no preparation can mend."""
    with failures("PostgreSQL cannot be asked what it is"):
        name = str(one(connection, "SELECT version()"))
        if not name.startswith("PostgreSQL "):
            yield Finding("database_kind", f"The database is not PostgreSQL but {name[:60]!r}.", "Use PostgreSQL.")
            return
        if connection.info.server_version < LEAST_VERSION * 10000:
            yield Finding("database_version", f"The database is {' '.join(name.split()[:2])}.",
                          f"Upgrade it to PostgreSQL {LEAST_VERSION} or newer.")
            return
        if one(connection, "SELECT pg_is_in_recovery()"):
            yield Finding("database_standby", "The database is a read-only copy of another one.",
                          "Give each gateway a PostgreSQL server of its own.")
        if not one(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            yield Finding("database_not_superuser", f"The role {connection.info.user} may not look at everything.",
                          "Connect as a superuser.")


def _settings(connection: Connection) -> Iterator[Finding]:
    present = configured(connection)
    waiting = []
    for setting in SETTINGS:
        found = state(setting, present)
        if found == "waits":
            waiting.append(setting.name)
        elif found == "wrong":
            yield Finding("database_setting", f"{setting.name} is {present.get(setting.name, ('unknown', ''))[0]!r}.",
                          f"It must be {setting.value}. {PREPARE}")
    if waiting:
        yield Finding("database_restart", f"PostgreSQL must be restarted for {', '.join(waiting)}.",
                      "Restart it, for example: systemctl restart postgresql")


def _roles(connection: Connection) -> Iterator[Finding]:
    with failures("PostgreSQL's roles cannot be read"):
        roles = {name: rights for name, *rights in connection.execute(
            "SELECT rolname, rolsuper, rolreplication, rolbypassrls, rolcreaterole OR rolcreatedb FROM pg_roles "
            "WHERE rolname = ANY(%s) AND rolcanlogin", ([AGENT_ROLE, PEER_ROLE, APPLY_ROLE],))}
    if not roles.get(AGENT_ROLE, [False])[0]:
        yield Finding("database_role", f"There is no superuser {AGENT_ROLE}.", PREPARE)
    for role, purpose, rights in (
        (PEER_ROLE, "replicate", [False, True, False, False]),
        (APPLY_ROLE, "apply what the other gateway has written", [False, False, True, False]),
    ):
        if role not in roles:
            yield Finding("database_role", f"There is no role {role}.", PREPARE)
        elif roles[role] != rights:
            yield Finding("database_role", f"The role {role} may do more, or less, than {purpose}.", PREPARE)
    if PEER_ROLE in roles and (missing := missing_peer_settings(connection)):
        yield Finding("database_role", f"The role {PEER_ROLE} lacks its own {', '.join(missing)}.", PREPARE)


def missing_peer_settings(connection: Connection) -> list[str]:
    """Return which of :data:`PEER_SETTINGS` the role lacks.

    :raises DatabaseFailure: it cannot be read.
    """
    with failures("PostgreSQL's roles cannot be read"):
        present = one(connection, "SELECT coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = %s", PEER_ROLE)
    return [name for name, value in PEER_SETTINGS.items() if f"{name}={value}" not in (present or ())]


def _access(connection: Connection) -> Iterator[Finding]:
    if present_access(connection) is None:
        yield Finding("database_access", "pg_hba.conf does not limit who may come in as the cluster.", PREPARE)
    with failures("pg_hba.conf cannot be checked"):
        for number, error, address, method in connection.execute(
            "SELECT line_number, error, address, auth_method FROM pg_hba_file_rules WHERE error IS NOT NULL OR "
            "auth_method = 'trust' AND type <> 'local' AND address NOT IN ('127.0.0.1', '::1', 'localhost')"
        ):
            if error:
                yield Finding("database_access", f"pg_hba.conf, line {number}: {error}", "Correct it.")
            else:
                yield Finding("database_open", f"pg_hba.conf, line {number}: {address} needs no password ({method}).",
                              "Demand scram-sha-256 there.", blocking=False)


def _reached(address: Address, port: int) -> Iterator[Finding]:
    try:
        with socket.create_connection((str(address), port), PROBE_TIMEOUT_S) as probe:
            probe.sendall(_TLS_REQUEST)
            answer = probe.recv(1)
    except OSError as error:
        yield Finding("database_not_listening", f"PostgreSQL does not answer on {address}: {error.strerror or error}.",
                      f"{PREPARE} Then restart PostgreSQL; it must start after the network is up.")
        return
    if answer != b"S":
        yield Finding("database_tls", f"PostgreSQL speaks no TLS on {address}.", PREPARE)


def check_tables(connection: Connection, tables: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Yield what keeps shared tables from being replicated, or would make them a way to more rights."""
    with failures("The shared tables cannot be looked at"):
        for schema, table in tables:
            yield from _table(connection, schema, table)


def _table(connection: Connection, schema: str, table: str) -> Iterator[Finding]:
    name = f"{schema}.{table}"
    row = connection.execute(
        "SELECT c.oid, c.relkind, c.relpersistence, c.relrowsecurity FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s", (schema, table)).fetchone()
    if row is None:
        yield Finding("table_missing", f"The shared table {name} does not exist here.", "Run the host's migrations.")
        return
    oid, kind, persistence, row_security = row
    if kind not in ("r", "p") or persistence != "p":
        yield Finding("table_kind", f"{name} is no ordinary, logged table.", "Declare it local, or make it one.")
        return
    if row_security:
        yield Finding("table_row_security", f"{name} has row security: the other gateway would see only some rows.",
                      f"ALTER ROLE {PEER_ROLE} BYPASSRLS, or disable the table's row security.", blocking=False)
    for leaf, identity in connection.execute(_IDENTITY, (oid,)):
        if not identity:
            yield Finding("table_identity", f"{leaf} has no primary key: once shared, UPDATE and DELETE would fail.",
                          f"Add a primary key, or: ALTER TABLE {leaf} REPLICA IDENTITY FULL")
    for leaf, trigger in connection.execute(_TRIGGERS, (oid, SCHEMA)):
        yield Finding("table_trigger", f"On the passive gateway {leaf}'s trigger {trigger} would run too.",
                      f"ALTER TABLE {leaf} ENABLE TRIGGER {trigger} makes it run where rows are written only.")


#: A table and its partitions; rows live in those without partitions of their own.
_LEAVES = """
    WITH start AS (SELECT %s::oid AS oid),
    leaf AS (SELECT oid FROM start UNION SELECT relid FROM start, pg_partition_tree(start.oid))
"""
_IDENTITY = _LEAVES + """
    SELECT c.oid::regclass::text, c.relreplident = 'f' OR EXISTS (
        SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
    FROM leaf JOIN pg_class c USING (oid) WHERE c.relkind = 'r'
"""
#: Triggers that an apply worker runs too. Ours, and those of foreign keys, are known.
_TRIGGERS = _LEAVES + """
    SELECT t.tgrelid::regclass::text, quote_ident(t.tgname) FROM leaf JOIN pg_trigger t ON t.tgrelid = leaf.oid
    JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgenabled IN ('A', 'R') AND NOT t.tgisinternal AND n.nspname <> %s
"""
