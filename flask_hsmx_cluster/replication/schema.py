"""The schema ``hsmx_cluster`` in the host's database: what each gateway keeps there for itself."""

from __future__ import annotations

from psycopg import sql

from .database import Connection, failures, one
from .names import SCHEMA

VERSION = 1

_TABLES = """
CREATE SCHEMA hsmx_cluster;
GRANT USAGE ON SCHEMA hsmx_cluster TO PUBLIC;

-- The right to write shared data. Unlogged: after a crash it is empty, so the gateway comes up refusing.
CREATE UNLOGGED TABLE hsmx_cluster.lease (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    term bigint NOT NULL,
    until_cs bigint NOT NULL,
    server_started timestamptz NOT NULL
) WITH (fillfactor = 10);

-- One row for each transaction that wrote shared data, for the check at its end.
CREATE UNLOGGED TABLE hsmx_cluster.commit_check (transaction xid8 PRIMARY KEY);

CREATE TABLE hsmx_cluster.node (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version integer NOT NULL,
    node_id text NOT NULL,
    peer_id text NOT NULL,
    term bigint NOT NULL DEFAULT 0,
    fork_lsn pg_lsn,
    fork_bulk_lsn pg_lsn,
    -- Our own position at that moment: what comes after it is new to the other gateway.
    own_lsn pg_lsn,
    -- System identifier of the database of which this one was made a copy, or which became a copy of this one.
    joined_system text,
    -- A first copy has begun and not ended: what is here is nobody's data.
    copying boolean NOT NULL DEFAULT false
);

CREATE TABLE hsmx_cluster.incarnation (
    node_id text NOT NULL,
    seq bigint NOT NULL,
    incarnation uuid NOT NULL,
    PRIMARY KEY (node_id, seq)
);

CREATE TABLE hsmx_cluster.sequence_position (
    name text PRIMARY KEY,
    last_value bigint NOT NULL
);

CREATE TABLE hsmx_cluster.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch uuid NOT NULL,
    source_node text NOT NULL,
    term bigint NOT NULL,
    xid bigint NOT NULL,
    end_lsn pg_lsn NOT NULL,
    committed_at timestamptz NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    schema_name text NOT NULL,
    table_name text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('insert', 'update', 'delete', 'truncate')),
    key jsonb,
    new_row jsonb,
    old_row jsonb,
    state text NOT NULL DEFAULT 'kept' CHECK (state IN ('kept', 'reapplied', 'discarded')),
    note text NOT NULL DEFAULT ''
);
CREATE INDEX quarantine_state ON hsmx_cluster.quarantine (state, id);

CREATE TABLE hsmx_cluster.dirty_key (
    batch uuid NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key jsonb
);
"""

# Boot time in 1/100 s: the wall clock may be stepped, and a step must not extend a lease (rule 14). 16 us a call.
_FUNCTIONS = """
CREATE OR REPLACE FUNCTION hsmx_cluster.boot_cs() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT replace(split_part(pg_read_file('/proc/uptime'), ' ', 1), '.', '')::bigint
$$;

CREATE OR REPLACE FUNCTION hsmx_cluster.writable() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    valid boolean;
BEGIN
    -- A clean restart keeps unlogged tables, and boot time begins anew: so a lease ends with the server, too.
    SELECT server_started = pg_postmaster_start_time()
        AND until_cs > replace(split_part(pg_read_file('/proc/uptime'), ' ', 1), '.', '')::bigint
    INTO valid FROM hsmx_cluster.lease;
    RETURN coalesce(valid, false);
END
$$;

CREATE OR REPLACE FUNCTION hsmx_cluster.refuse(what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'This gateway is not the active one: % is shared data and cannot be changed here', what
        USING ERRCODE = 'read_only_sql_transaction', HINT = 'Write through the virtual IP of the cluster.';
END
$$;

-- Once for each statement; the first one of a transaction leaves a row whose trigger asks again at the commit.
-- A row, because a variable of the session could be set by its client, too.
CREATE OR REPLACE FUNCTION hsmx_cluster.guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    valid boolean;
BEGIN
    -- What writable() does; called as a function, it takes twice as long.
    SELECT server_started = pg_postmaster_start_time()
        AND until_cs > replace(split_part(pg_read_file('/proc/uptime'), ' ', 1), '.', '')::bigint
    INTO valid FROM hsmx_cluster.lease;
    IF valid IS NOT TRUE THEN
        PERFORM hsmx_cluster.refuse(TG_TABLE_NAME);
    END IF;
    INSERT INTO hsmx_cluster.commit_check VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

-- For tables of which only some rows are shared: each row is asked. The condition is the trigger's argument.
CREATE OR REPLACE FUNCTION hsmx_cluster.guard_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    shared boolean := false;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('SELECT coalesce((%s), false) FROM (SELECT ($1).*) AS row', TG_ARGV[0]) INTO shared USING OLD;
    END IF;
    IF NOT shared AND TG_OP <> 'DELETE' THEN
        EXECUTE format('SELECT coalesce((%s), false) FROM (SELECT ($1).*) AS row', TG_ARGV[0]) INTO shared USING NEW;
    END IF;
    IF shared THEN
        IF NOT hsmx_cluster.writable() THEN
            PERFORM hsmx_cluster.refuse(TG_TABLE_NAME);
        END IF;
        INSERT INTO hsmx_cluster.commit_check VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

-- A transaction that was begun within the lease must not be committed after it.
CREATE OR REPLACE FUNCTION hsmx_cluster.guard_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    valid boolean;
BEGIN
    SELECT server_started = pg_postmaster_start_time()
        AND until_cs > replace(split_part(pg_read_file('/proc/uptime'), ' ', 1), '.', '')::bigint
    INTO valid FROM hsmx_cluster.lease;
    IF valid IS NOT TRUE THEN
        PERFORM hsmx_cluster.refuse('what this transaction wrote');
    END IF;
    RETURN NULL;
END
$$;
"""

_COMMIT_CHECK = """
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON hsmx_cluster.commit_check
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hsmx_cluster.guard_commit()
"""


def install(connection: Connection, node_id: str, peer_id: str) -> None:
    """Make our schema, or bring it up to date, and say whose it is.

    :param node_id: this gateway, 32 hex digits.
    :param peer_id: the other one, "" while there is none.
    """
    with failures("The cluster's tables cannot be made"), connection.transaction():
        if not installed(connection):
            connection.execute(_TABLES)
            connection.execute(_FUNCTIONS)
            connection.execute(_COMMIT_CHECK)
        else:
            connection.execute(_FUNCTIONS)
        connection.execute(
            """INSERT INTO hsmx_cluster.node (version, node_id, peer_id) VALUES (%s, %s, %s)
               ON CONFLICT (single) DO UPDATE
               SET version = excluded.version, node_id = excluded.node_id, peer_id = excluded.peer_id""",
            (VERSION, node_id, peer_id),
        )


def peer_id(connection: Connection) -> str:
    """Return the node id of the other gateway for which our schema was made; "" if there is none."""
    return str(one(connection, "SELECT peer_id FROM hsmx_cluster.node") or "") if installed(connection) else ""


def installed(connection: Connection) -> bool:
    """Return whether our schema is there."""
    return bool(one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", SCHEMA))


def remove(connection: Connection) -> None:
    """Drop our schema with all that is in it, guards included; nothing of the host's is touched."""
    with failures("The cluster's tables cannot be removed"):
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))
