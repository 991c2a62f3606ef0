"""What both gateways have and what each keeps: every table and every field that the coverage page shows.

And a login: it holds on whichever gateway has the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sample_app.lab import Gateway, Lab, Seller

from .hotel import hotel, in_order, needs_postgres, same, wait_until

pytestmark = needs_postgres

#: What the manual says belongs to one machine.
ONE_MACHINES = {"language", "licence", "performance", "certificate", "firewall_rule", "backup_settings", "backup"}

#: By type, as the coverage page writes it: another value than the one that is there.
ANOTHER = {
    "INTEGER": "coalesce({}, 0) + 1", "BIGINT": "{} + 1", "BOOLEAN": "NOT {}", "TEXT": "{} || 'x'",
    "TIMESTAMP WITHOUT TIME ZONE": "coalesce({}, now()) + interval '1 day'",
}  # fmt: skip
#: Fields that refer to other rows.
ANOTHER_REFERENCE = {
    "charge.building": "'Annex'",
    "charge.number": "(SELECT max(room.number) FROM room WHERE room.number <> charge.number)",
    "guest.access_point_id":
        "(SELECT max(one.id) FROM access_point one WHERE one.id IS DISTINCT FROM guest.access_point_id)",
}
_BACKUP = "INSERT INTO backup (name, made_at, size) VALUES ('nightly', now(), 4096)"
_ANNEX = "INSERT INTO room SELECT 'Annex', number, 'x' || extension, occupied FROM room"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with hotel() as lab:
        yield lab


@pytest.fixture
def active(lab: Lab) -> Gateway:
    return in_order(lab)


class Field:
    """One field of one row on both gateways."""

    def __init__(self, table: dict[str, Any], name: str, kind: str, type_name: str, condition: str) -> None:
        self.table, self.name, self.kind = table["name"].removeprefix("public."), name, kind
        self.key = [field["name"] for field in table["fields"] if field["key"]]
        self._type, self._condition = type_name, condition

    def __repr__(self) -> str:
        return f"{self.table}.{self.name} ({self.kind})"

    def read(self, gateway: Gateway, name: str = "") -> object:
        query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1")
        with gateway.postgres_in_place().connect(user="hsmx") as connection:
            row = connection.execute(query.format(sql.Identifier(name or self.name), *self._row())).fetchone()
        assert row is not None, f"the demo data has no row for {self}: add one, so that it is tested"
        return row[0]

    def change(self, gateway: Gateway) -> object:
        """Give the field another value, as the firmware's user does; return it."""
        width = re.fullmatch(r"VARCHAR\((\d+)\)", self._type)
        another = f"left('y' || coalesce({{}}, ''), {width[1]})" if width else ANOTHER.get(self._type, "")
        another = ANOTHER_REFERENCE.get(f"{self.table}.{self.name}", another)
        query = sql.SQL("UPDATE {table} SET {name} = " + another.replace("{}", "{name}") + " WHERE ({key}) = "
                        "(SELECT {key} FROM {table} WHERE {where} ORDER BY {key} LIMIT 1)")  # fmt: skip
        table, where, key = self._row()
        before = self.read(gateway)
        with gateway.postgres_in_place().connect(user="hsmx") as connection:
            done = connection.execute(query.format(table=table, name=sql.Identifier(self.name), where=where, key=key))
        assert done.rowcount == 1
        after = self.read(gateway)
        assert after != before, f"{self} was not changed"
        return after

    def _row(self) -> tuple[sql.Composable, sql.Composable, sql.Composable]:
        key = sql.SQL(", ").join(map(sql.Identifier, self.key))
        return sql.Identifier(self.table), sql.SQL(self._condition), key


def fields(gateway: Gateway) -> list[Field]:
    """Return every field of every table of the coverage page but keys; of a filtered table for both kinds of rows."""
    found = []
    for table in gateway.cli("coverage")["tables"]:
        assert table["fields"], f"{table['name']} is no model: test it by hand"
        key = [field["name"] for field in table["fields"] if field["key"]] or _primary_key(gateway, table["name"])
        for each in table["fields"]:
            each["key"] = each["name"] in key
        for each in table["fields"]:
            if each["key"]:
                continue
            if table["rows"]:
                found.append(Field(table, each["name"], each["kind"], each["type"], table["rows"]))
                found.append(Field(table, each["name"], "local", each["type"], f"NOT ({table['rows']})"))
            else:
                found.append(Field(table, each["name"], each["kind"], each["type"], "true"))
    return found


def _primary_key(gateway: Gateway, table: str) -> list[str]:
    with gateway.postgres_in_place().connect() as connection:
        return [name for (name,) in connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey) "
            "WHERE indisprimary AND indrelid = %s::regclass", (table,)).fetchall()]  # fmt: skip


def test_each_field_of_each_table_is_shared_or_kept_as_the_coverage_page_says(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    mirrored = {"own": "other", "other": "own"}
    seen = set()
    for gateway, rows in ((active, (_BACKUP, _ANNEX)), (passive, (_BACKUP,))):
        with gateway.postgres_in_place().connect(user="hsmx") as connection:
            for statement in rows:
                connection.execute(statement.encode())
    for field in fields(active):
        seen.add((field.kind, field.table))
        if field.kind == "local":
            for here, there in ((active, passive), (passive, active)):
                before = field.read(there)
                field.change(here)
                assert field.read(there) == before, f"{field} of {here} came to {there}"
            continue
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            field.change(passive)
        value = field.change(active)
        name = mirrored[field.name] if field.kind == "mirrored" else field.name
        wait_until(lambda field=field, name=name, value=value: field.read(passive, name) == value,  # type: ignore[misc]
                   lambda field=field: f"{field} does not come")  # type: ignore[misc]
    assert {table for kind, table in seen if kind == "local"} == ONE_MACHINES | {"interface", "access_point"}
    assert {kind for kind, _ in seen} == {"shared", "bulk", "local", "mirrored"}
    same(active, passive)


def test_rows_come_and_go_with_the_tables_that_are_shared(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    wan = "INSERT INTO interface (kind, id, port, address, note) VALUES ('{}', 900, 'wan7', '203.0.113.9/29', 'test')"
    for gateway in (active, passive):
        with gateway.postgres_in_place().connect(user="hsmx") as connection:
            connection.execute(wan.format("wan").encode())
    with active.postgres_in_place().connect(user="hsmx") as connection:
        connection.execute(wan.format("alias").encode())
        connection.execute("DELETE FROM interface WHERE kind = 'wan' AND id = 900")
    rows = "SELECT kind FROM interface WHERE id = 900 ORDER BY kind"
    with passive.postgres_in_place().connect() as connection:
        wait_until(lambda: connection.execute(rows).fetchall() == [("alias",), ("wan",)])
    same(active, passive)


def test_a_login_survives_a_fail_over(lab: Lab, active: Gateway) -> None:
    """One login at the virtual IP, and sales with its cookie before and after: the other gateway knows it, too."""
    survivor = lab.other(active)
    with Seller(lab.client, lab.virtual_ip, "login-") as seller:
        wait_until(lambda: len(seller.sales()) > 5)
        active.cli("failover")
        wait_until(lambda: survivor.role() == "active")
        before = len(seller.sales())
        wait_until(lambda: len(seller.sales()) > before + 20)
        names = {sale.name for sale in seller.sales()}
    with survivor.postgres_in_place().connect() as connection:
        assert names <= {note for (note,) in connection.execute("SELECT note FROM voucher").fetchall()}
