"""A host's migrations with Alembic, as its developer would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

_ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
_REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = {revision!r}, {before!r}

def may_write(bind):
    there = bind.exec_driver_sql("SELECT to_regprocedure('hsmx_cluster.writable()') IS NOT NULL").scalar()
    return not there or bind.exec_driver_sql("SELECT hsmx_cluster.writable()").scalar()

def upgrade():
    {upgrade}
"""


class Migrations:
    """A directory of migrations.

    :param directory: where they are written.
    :param steps: the body of each one's ``upgrade``, in their order; they are called 1, 2, ...
    """

    def __init__(self, directory: Path, *steps: str) -> None:
        self._config = Config()
        self._config.set_main_option("script_location", str(directory))
        self._config.set_main_option("path_separator", "os")
        (directory / "versions").mkdir()
        (directory / "env.py").write_text(_ENV)
        for number, step in enumerate(steps, 1):
            text = _REVISION.format(
                revision=str(number), before=str(number - 1) if number > 1 else None, upgrade=step
            )
            (directory / "versions" / f"{number}.py").write_text(text)

    def upgrade(self, connect: Callable[[], Any], revision: str = "head") -> None:
        """Migrate a gateway's database.

        :param connect: opens psycopg's connection to it.
        """
        engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
        with engine.connect() as connection:
            self._config.attributes["connection"] = connection
            command.upgrade(self._config, revision)
            connection.commit()
        engine.dispose()
