"""The file of the node store: a small SQLite database with full fsync, one connection and one lock.

What cannot be read is never guessed at: opening fails with an error that says what to do.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, create_engine, event, func, literal, or_, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from .. import models as m
from ..errors import ClusterError

_STORAGE: dict[type, tuple[str, ...]] = {
    bool: ("integer",), int: ("integer",), float: ("real", "integer"), str: ("text",), bytes: ("blob",),
}  # fmt: skip


class StoreError(ClusterError):
    """The node store cannot be read or written."""

    code = "store"


class StoreDamaged(StoreError):
    """What is in the node store cannot be read, or makes no sense."""


class StoreFile:
    """Opened, of the present schema, and sound.

    :param path: the database file; it is created readable for its owner only.
    :raises StoreError: it is damaged, of a later schema, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._create_file()
        self._engine = _engine(path)
        try:
            self._prepare_schema()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close the database. The store is of no use afterwards."""
        with self._lock:
            self._engine.dispose()

    def _create_file(self) -> None:
        if self.path.is_file() and self.path.stat().st_size == 0:  # never so once it has been made
            raise damaged(self.path, "it is empty")
        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(handle, 0o600)
            finally:
                os.close(handle)
        except OSError as error:
            other = error.errno in (errno.ELOOP, errno.EISDIR)
            raise StoreError(
                f"The node store {self.path} cannot be opened: {error.strerror}.",
                "Move away what is there: it must be a file."
                if other
                else "The agent's user must own HSMX_CLUSTER_STATE_DIR, and its disk must be writable.",
            ) from None

    def _prepare_schema(self) -> None:
        with self._errors(), self._engine.begin() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found > m.SCHEMA_VERSION:
                raise StoreError(
                    f"The node store {self.path} was written by a later version of the extension.",
                    "Install that version again, or move the file away and form the cluster anew.",
                )
            if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() != "ok":
                raise damaged(self.path, "its consistency check failed")
            tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
            known = {*m.Base.metadata.tables, *m.FORMER_TABLES, "sqlite_sequence"}
            if found != m.SCHEMA_VERSION and tables - known:
                raise StoreError(
                    f"The file {self.path} is no node store: another program's tables are in it.",
                    "Move it away, or correct HSMX_CLUSTER_STATE_DIR.",
                )
            if found != m.SCHEMA_VERSION:  # else nothing is written: the disk may be full, and the agent must start
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # by itself each of these would be a transaction
                for version in range(found or m.SCHEMA_VERSION, m.SCHEMA_VERSION):
                    for statement in m.UPGRADES.get(version, ()):
                        connection.exec_driver_sql(statement)
                m.Base.metadata.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {m.SCHEMA_VERSION}")

    def demand_types(self) -> None:
        """Look at the type of every value: SQLite takes any into any column.

        :raises StoreDamaged: one cannot be what it should be.
        """
        with self._session() as session:
            for table in m.Base.metadata.sorted_tables:
                wrong = or_(*(func.typeof(column).not_in(_storage(column)) for column in table.columns))
                if session.scalar(select(literal(1)).select_from(table).where(wrong).limit(1)):
                    raise damaged(self.path, f"{table.name} has something else in it than it should")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # none: text that is no text
            if code == sqlite3.SQLITE_ERROR:  # a table or column is missing; disk and locks have codes of their own
                raise damaged(self.path, str(error.orig)) from None
            raise StoreError(
                f"The node store {self.path} cannot be used: {error.orig}.",
                "See whether the disk is full or read-only, and whether a second agent runs.",
            ) from None
        except DatabaseError as error:
            raise damaged(self.path, str(error.orig)) from None
        except UnicodeDecodeError:  # damaged text, be it in SQLite's own message about it
            raise damaged(self.path, "text in it cannot be read") from None

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """One transaction: all of it is on disk when the block has ended, or nothing."""
        with self._lock, self._errors(), Session(self._engine) as session, session.begin():
            yield session


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": 5},
        hide_parameters=True,  # of errors: they may be passwords
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # exclusive: nobody else opens it, and no file of shared memory has to find room on a full disk
        # secure_delete: keys of a cluster that was left must not linger in free pages
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _storage(column: Column[Any]) -> tuple[str, ...]:
    """Return as what SQLite may have stored a column's values."""
    return (*_STORAGE[column.type.python_type], *(["null"] if column.nullable else []))


def damaged(path: Path, why: str) -> StoreDamaged:
    """Return the error that says what to do with a store that cannot be read."""
    return StoreDamaged(
        f"The node store {path} is damaged ({why}). This gateway stays out of the cluster.",
        "Run `flask cluster agent repair` here: the file is kept aside, and this gateway begins anew. Then choose "
        "Replace on the other gateway, and join here with the pairing code that it shows.",
    )
