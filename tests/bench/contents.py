"""What is in the firmware's shared tables, by plain SQL: nothing of the product's own scope or digests is used here.

What belongs to one gateway is left out by hand, and what is mirrored is read the other way round.
"""

from __future__ import annotations

from typing import Any

import psycopg

#: Rows of each shared table in an order of their own. ``{own}`` and ``{other}`` change places on one gateway.
_ROWS = {
    "access_point": "SELECT id, name, location, model, mac, channel, up FROM access_point ORDER BY id",
    "guest": "SELECT * FROM guest ORDER BY id",
    "voucher": "SELECT * FROM voucher ORDER BY id",
    "portal_text": "SELECT * FROM portal_text ORDER BY id",
    "room": "SELECT * FROM room ORDER BY building, number",
    "charge": "SELECT * FROM charge ORDER BY id",
    "account": "SELECT * FROM account ORDER BY id",
    "account_device": "SELECT * FROM account_device ORDER BY account_id, mac",
    "accounting": "SELECT * FROM accounting ORDER BY id",
    "interface": "SELECT * FROM interface WHERE kind <> 'wan' ORDER BY kind, id",
    "pppoe_connection": "SELECT * FROM pppoe_connection ORDER BY id",
    "port_address": "SELECT port, {own}, {other}, note FROM port_address ORDER BY port",
}


def contents(connection: psycopg.Connection[tuple[Any, ...]], mirrored: bool = False) -> dict[str, str]:
    """Return number of rows and a hash of each shared table.

    :param mirrored: this gateway's own is the other one's other.
    """
    own, other = ("other", "own") if mirrored else ("own", "other")
    found = {}
    for table, rows in _ROWS.items():
        query = f"""
            SELECT count(*), md5(coalesce(string_agg(md5(one::text), '' ORDER BY number), ''))
            FROM (SELECT row_number() OVER () AS number, one
                  FROM ({rows.format(own=own, other=other)}) AS one) AS numbered"""
        number, digest = connection.execute(query.encode()).fetchone() or (0, "")
        found[table] = f"{number} rows, {digest}"
    return found


def differing(active: psycopg.Connection[tuple[Any, ...]], passive: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
    """Return the shared tables that are not the same on both gateways, each with what is there."""
    here, there = contents(active), contents(passive, mirrored=True)
    return [f"{table}: {here[table]} and {there[table]}" for table in here if here[table] != there[table]]
