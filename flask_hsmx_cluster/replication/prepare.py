"""Makes a stock PostgreSQL ready for two gateways, once per gateway, and says what it changed."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ..errors import ChecksFailed
from .access import Address, checked_addresses, checked_database, present_access, set_password, write_access
from .credentials import Credentials
from .database import CONNECT_TIMEOUT_S, Connection, DatabaseFailure, failures, one
from .names import AGENT_ROLE, APPLY_ROLE, PEER_ROLE
from .requirements import (
    PEER_SETTINGS,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    SETTINGS,
    Setting,
    check_server,
    configured,
    listening,
    missing_peer_settings,
    state,
)
from .server_files import data_file, read_file, write_file

#: How long the server may take to read its settings anew, s.
RELOAD_TIMEOUT_S = 5.0

# What each role may do. The agent's rights are explained in docs/database.md.
_ROLES = {
    AGENT_ROLE: "LOGIN SUPERUSER",
    PEER_ROLE: "LOGIN REPLICATION NOSUPERUSER NOCREATEROLE NOCREATEDB",
    # A worker has to log in, and refuses tables with row security to whom it applies. Clients are let in by nothing.
    APPLY_ROLE: "LOGIN BYPASSRLS NOREPLICATION NOSUPERUSER NOCREATEROLE NOCREATEDB",
}


@dataclass(frozen=True)
class Change:
    """One thing that was changed; ``restart`` if PostgreSQL takes it only when it starts."""

    what: str
    before: str
    after: str
    restart: bool = False


@dataclass(frozen=True)
class Preparation:
    """What :func:`prepare` did.

    :param restart: PostgreSQL must be restarted, for a change of now or of before.
    """

    changes: tuple[Change, ...]
    restart: bool
    credentials: Credentials = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the form of ``--json``: without the credentials."""
        return {"changes": [asdict(change) for change in self.changes], "restart": self.restart}


def prepare(
    connection: Connection, listen: Sequence[str] = (), stored: Credentials | None = None
) -> Preparation:
    """Make the server ready, and the connection's database the one that is shared. A second run changes nothing.

    :param connection: of a superuser, to the host's database, in autocommit mode.
    :param listen: own addresses on the links, on which the server shall listen too.
    :param stored: what an earlier run returned; used on if it still works.
    :raises ChecksFailed: this server cannot be made ready.
    :raises RequestRefused: an address or the database's name cannot be used.
    :raises DatabaseFailure: the server refused; what was changed before stays, a later run goes on.
    """
    addresses = checked_addresses(listen)
    database = checked_database(connection.info.dbname)
    if findings := list(check_server(connection)):
        raise ChecksFailed(findings)
    changes: list[Change] = []
    certificate = _certificate(connection, changes)
    restart = _settings(connection, addresses, changes)
    make_roles(connection, changes)
    if write_access(connection, present_access(connection) or ()):
        changes.append(Change("pg_hba.conf", "", f"{AGENT_ROLE} by the Unix socket only, "
                              f"{PEER_ROLE} from no address until the gateways are paired"))
    dsn = _login(connection, database, stored, changes)
    return Preparation(tuple(changes), restart, Credentials(dsn, certificate))


# ---- certificate ----


def _certificate(connection: Connection, changes: list[Change]) -> str:
    paths = [data_file(connection, name) for name in (SERVER_CERTIFICATE, SERVER_KEY)]
    certificate, key = (read_file(connection, path) or b"" for path in paths)
    if not _belong_together(certificate, key):
        certificate, key = new_certificate()
        # In this order a crash leaves two that do not fit, which the next run sees.
        write_file(connection, paths[1], key)
        write_file(connection, paths[0], certificate)
        changes.append(Change(SERVER_CERTIFICATE, "", "a new one, signed by itself; the other gateway pins it"))
    return certificate.decode()


def new_certificate() -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key, PEM.

    It is pinned, not judged by its dates: a gateway whose clock is wrong still reaches the other one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hsmx_cluster database")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
        # It signs nothing but itself: who pins it trusts this one server.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return (certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _belong_together(certificate: bytes, key: bytes) -> bool:
    try:
        public = load_pem_private_key(key, None).public_key()
        return bool(x509.load_pem_x509_certificate(certificate).public_key() == public)
    except (ValueError, TypeError):
        return False


# ---- settings ----


def _settings(connection: Connection, listen: Sequence[Address], changes: list[Change]) -> bool:
    """Set what is not good enough, and return whether the server must be restarted."""
    present = configured(connection)
    value, waiting = present["listen_addresses"]
    wanted = [listening(waiting or value, listen), *SETTINGS]
    for setting in wanted:
        if state(setting, present) == "wrong":
            with failures(f"{setting.name} cannot be set"):
                connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(
                    sql.Identifier(setting.name), sql.Literal(setting.value)))
            changes.append(Change(setting.name, present[setting.name][0], setting.value, setting.restart))
    states = _reloaded(connection, wanted)
    if wrong := [name for name, found in states.items() if found == "wrong"]:
        raise DatabaseFailure(f"PostgreSQL does not take the new value of {', '.join(wrong)}.",
                              "See whether it is given on the server's command line, and its log.")
    return "waits" in states.values()


def _reloaded(connection: Connection, wanted: Sequence[Setting]) -> dict[str, str]:
    """Let the server read its settings anew, and return how each of them is then."""
    with failures("PostgreSQL does not read its configuration anew"):
        connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + RELOAD_TIMEOUT_S
    while True:
        present = configured(connection)
        states = {setting.name: state(setting, present) for setting in wanted}
        if "wrong" not in states.values() or time.monotonic() > deadline:
            return states
        time.sleep(0.02)


# ---- roles ----


def make_roles(connection: Connection, changes: list[Change]) -> None:
    """Make the cluster's roles, or give them the rights that they need."""
    right = {
        AGENT_ROLE: "rolcanlogin AND rolsuper",
        PEER_ROLE: "rolcanlogin AND rolreplication AND NOT (rolsuper OR rolcreaterole OR rolcreatedb)",
        APPLY_ROLE: "rolcanlogin AND rolbypassrls "
        "AND NOT (rolsuper OR rolreplication OR rolcreaterole OR rolcreatedb)",
    }
    for role, attributes in _ROLES.items():
        with failures(f"The role {role} cannot be made"):
            good = one(connection, f"SELECT {right[role]} FROM pg_roles WHERE rolname = %s", role)
            if good:
                continue
            verb = "CREATE" if good is None else "ALTER"
            connection.execute(sql.SQL(f"{verb} ROLE {{}} {attributes}").format(sql.Identifier(role)))
        changes.append(Change(f"role {role}", "" if good is None else "other rights", attributes))
    _peer_settings(connection, changes)


def _peer_settings(connection: Connection, changes: list[Change]) -> None:
    with failures(f"The settings of the role {PEER_ROLE} cannot be changed"):
        for name in missing_peer_settings(connection):
            connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(
                sql.Identifier(PEER_ROLE), sql.Identifier(name), sql.Literal(PEER_SETTINGS[name])))
            changes.append(Change(f"{name} of the role {PEER_ROLE}", "", PEER_SETTINGS[name]))


def _login(connection: Connection, database: str, stored: Credentials | None, changes: list[Change]) -> str:
    """Return the agent's connection string, with the stored password if that still works, else with a new one."""
    sockets = str(one(connection, "SHOW unix_socket_directories")).split(",")[0].strip()
    if not sockets.startswith("/"):
        raise DatabaseFailure("PostgreSQL has no Unix socket in a directory.", "Set unix_socket_directories.")
    base = {"host": sockets, "port": one(connection, "SHOW port"), "dbname": database, "user": AGENT_ROLE}
    if stored is not None and _same(stored.dsn, base) and _works(stored.dsn):
        return stored.dsn
    password = secrets.token_urlsafe(32)
    set_password(connection, AGENT_ROLE, password)
    changes.append(Change(f"password of {AGENT_ROLE}", "", "a new one, known to the agent only"))
    return make_conninfo(**base, password=password)


def _same(dsn: str, base: dict[str, Any]) -> bool:
    try:
        found = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        return False  # Not ours, whatever it is: it gets a successor.
    return all(str(found.get(key)) == str(value) for key, value in base.items())


def _works(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S).close()
    except psycopg.OperationalError:
        return False
    return True
