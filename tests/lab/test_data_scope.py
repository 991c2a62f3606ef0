"""What both gateways have and what each keeps: every table and every field that the coverage page shows.

And a login: it holds on whichever gateway has the address.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sample_app.lab import Gateway, Lab, Seller

from .fields import fields
from .hotel import hotel, in_order, needs_postgres, same, wait_until

pytestmark = needs_postgres

#: What the manual says belongs to one machine.
ONE_MACHINES = {"language", "licence", "performance", "certificate", "firewall_rule", "backup_settings", "backup"}

_BACKUP = "INSERT INTO backup (name, made_at, size) VALUES ('nightly', now(), 4096)"
_ANNEX = "INSERT INTO room SELECT 'Annex', number, 'x' || extension, occupied FROM room"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with hotel() as lab:
        yield lab


@pytest.fixture
def active(lab: Lab) -> Gateway:
    return in_order(lab)


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
