"""Single fields of the sample firmware's rows, read and changed by plain SQL as its own user does."""

from __future__ import annotations

import re
from typing import Any

from psycopg import sql

from sample_app.lab import Gateway

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
