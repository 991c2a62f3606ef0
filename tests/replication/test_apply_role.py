"""Rows of the other gateway are applied with the right to write shared tables, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_hsmx_cluster.replication.names import APPLY_ROLE
from flask_hsmx_cluster.replication.scope import Scope, TableScope

from .conftest import OWNER, Pair
from .side import NODE_IDS, Side

SCOPE = Scope((
    TableScope("hotel", "guest", "shared"),
    TableScope("hotel", "stay", "shared"),
    TableScope("hotel", "log", "bulk"),
    TableScope("hotel", "point", "shared", columns=("id", "name")),
    TableScope("hotel", "own", "local"),
))
TABLES = f"""
SET ROLE {OWNER};
CREATE SCHEMA hotel;
CREATE TABLE hotel.guest (id bigserial PRIMARY KEY, name text);
CREATE TABLE hotel.stay (id int PRIMARY KEY, guest bigint REFERENCES hotel.guest) PARTITION BY RANGE (id);
CREATE TABLE hotel.stay_low PARTITION OF hotel.stay FOR VALUES FROM (0) TO (100);
CREATE TABLE hotel.log (id bigserial PRIMARY KEY, what text);
CREATE SEQUENCE hotel.seen;
CREATE TABLE hotel.point (id int PRIMARY KEY, name text, seen bigint DEFAULT nextval('hotel.seen'));
CREATE TABLE hotel.own (id int PRIMARY KEY, secret text);
CREATE FUNCTION hotel.who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := current_user; RETURN NEW; END $$;
CREATE TRIGGER who BEFORE INSERT ON hotel.point FOR EACH ROW EXECUTE FUNCTION hotel.who();
"""


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    """An active database, and one that follows it."""
    a, b = (
        Side(server, own, other, SCOPE, TABLES)
        for server, own, other in zip((pair.a, pair.b), NODE_IDS, reversed(NODE_IDS), strict=True)
    )
    a.promote(1)
    b.connection.execute("ALTER TABLE hotel.guest ENABLE ROW LEVEL SECURITY")
    b.connection.execute("ALTER TABLE hotel.point ENABLE ALWAYS TRIGGER who")
    b.follow(a)
    yield a, b
    a.close()
    b.close()


def test_every_kind_of_change_is_applied(sides: tuple[Side, Side]) -> None:
    a, b = sides
    with a.server.connect(user=OWNER) as connection:
        connection.execute("""
            INSERT INTO hotel.guest (name) VALUES ('one'), ('two'), ('three');
            INSERT INTO hotel.stay VALUES (1, 1), (2, 2); INSERT INTO hotel.log (what) VALUES ('came');
            UPDATE hotel.guest SET name = 'third' WHERE id = 3; DELETE FROM hotel.stay WHERE id = 1;
            INSERT INTO hotel.point VALUES (1, 'lobby')""")
    b.wait_for(a)
    guests = b.connection.execute("SELECT name FROM hotel.guest ORDER BY id").fetchall()
    assert guests == [("one",), ("two",), ("third",)]
    assert b.connection.execute("SELECT id FROM hotel.stay_low").fetchall() == [(2,)]
    assert b.connection.execute("SELECT name, seen FROM hotel.point").fetchall() == [(APPLY_ROLE, 1)]
    with a.server.connect(user=OWNER) as connection:
        connection.execute("TRUNCATE hotel.stay")
    b.wait_for(a)
    assert b.connection.execute("SELECT id FROM hotel.stay").fetchall() == []


def test_who_applies_may_do_nothing_else(sides: tuple[Side, Side]) -> None:
    _, b = sides
    rows = b.connection.execute("""
        SELECT subowner::regrole::text, rolsuper, rolcreaterole, rolreplication
        FROM pg_subscription JOIN pg_roles r ON r.oid = subowner""").fetchall()
    assert rows == [(APPLY_ROLE, False, False, False)] * 2
    may = b.connection.execute("""
        SELECT c.oid::regclass::text FROM pg_class c
        WHERE relnamespace IN ('hotel'::regnamespace, 'hsmx_cluster'::regnamespace) AND relkind IN ('r', 'p')
            AND has_table_privilege(%s, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY 1
        """, (APPLY_ROLE,)).fetchall()  # fmt: skip
    assert [name for (name,) in may] == ["hotel.guest", "hotel.log", "hotel.point", "hotel.stay", "hotel.stay_low",
                                         "hsmx_cluster.commit_check",  # where whoever writes leaves a row to be checked
                                         "hsmx_cluster.incarnation", "hsmx_cluster.sequence_position"]
