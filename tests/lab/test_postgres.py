"""A gateway's own PostgreSQL: on the gateway's addresses, gone with its power, back after its boot."""

from __future__ import annotations

import pytest

from sample_app.lab import Gateway, Lab
from sample_app.lab.postgres import LEAST_VERSION, PostgresServer, binaries

pytestmark = pytest.mark.skipif(binaries() is None, reason=f"PostgreSQL {LEAST_VERSION} or newer is not installed")


def boot_id(server: PostgresServer) -> str:
    with server.connect() as connection:
        row = connection.execute("SELECT pg_read_file('/proc/sys/kernel/random/boot_id')").fetchone()
    assert row is not None
    return str(row[0])


def expected_boot_id(gateway: Gateway) -> str:
    return (gateway.directory / "boot-id").read_text()


def test_a_gateways_postgresql_lives_and_dies_with_it() -> None:
    with Lab() as lab:
        server = lab.a.add_postgres()
        server.start()
        assert boot_id(server) == expected_boot_id(lab.a) != expected_boot_id(lab.b)
        listening = lab.a.namespace.run("ss", "-Hltn", "sport = :5432")
        assert "10.99.0.1:5432" in listening and "10.98.0.1:5432" in listening and "10.0.0." not in listening
        with server.connect() as connection:
            connection.execute("CREATE TABLE t AS SELECT 1")
        lab.faults.power_off(lab.a)
        assert not server.running() and not server.ready()
        lab.faults.power_on(lab.a, start=False)
        server.start()
        assert boot_id(server) == expected_boot_id(lab.a)
        with server.connect() as connection:
            assert connection.execute("TABLE t").fetchall() == [(1,)]
