"""The schema ``hsmx_cluster`` in the host's database: what each gateway keeps there for itself."""

from __future__ import annotations

from psycopg import sql

from .database import Connection, DatabaseFailure, failures, one
from .names import SCHEMA

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

-- The same for the guard, which reads it at each statement: a sequence shows its present value in whatever isolation a
-- transaction runs, a row the one at the transaction's begin. (It costs less, too.)
CREATE UNLOGGED SEQUENCE hsmx_cluster.lease_until_cs MINVALUE 0;
CREATE UNLOGGED SEQUENCE hsmx_cluster.lease_server MINVALUE 0;
-- When somebody's commit read the boot time last, and for which end of the lease: see guard_commit().
CREATE UNLOGGED SEQUENCE hsmx_cluster.lease_seen MINVALUE 0;
-- One row for each transaction that wrote shared data, for the check at its end. More turns: see guard_commit().
CREATE UNLOGGED TABLE hsmx_cluster.commit_check (turn integer NOT NULL);

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
-- What a hand-over writes last. It is there on both: a change of it never meets one that the other gateway made.
INSERT INTO hsmx_cluster.sequence_position VALUES ('confirmed', 0);

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
-- How many wait is asked each second: of 500,000 rows it took 300 ms of three processes without this index, 60 with it.
CREATE INDEX quarantine_waiting ON hsmx_cluster.quarantine (id) WHERE state = 'kept' AND schema_name <> 'hsmx_cluster';
-- What happened to one row before: by its key, and by the key that an update gave it.
CREATE INDEX quarantine_key ON hsmx_cluster.quarantine USING hash (key);
CREATE INDEX quarantine_moved ON hsmx_cluster.quarantine (batch, id) WHERE operation = 'update' AND NOT new_row @> key;

-- What this gateway followed when it became active last. Any other table may have rows that it never got.
CREATE TABLE hsmx_cluster.followed (
    schema_name text NOT NULL,
    table_name text NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);

CREATE TABLE hsmx_cluster.dirty_key (
    batch uuid NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key jsonb
);
"""

_BRAKE = """
-- 1 while a lease is granted and writers are not slowed: who finds that looks no further.
CREATE UNLOGGED SEQUENCE hsmx_cluster.unhindered MINVALUE 0;
-- By how much each transaction is slowed, and until which boot time at most: see hinder().
CREATE UNLOGGED SEQUENCE hsmx_cluster.brake_ms MINVALUE 0;
CREATE UNLOGGED SEQUENCE hsmx_cluster.brake_until_cs MINVALUE 0;
"""

#: When this server was started, as the lease knows it: a clean restart keeps what is unlogged, and boot time may begin
#: anew, so a lease ends with the server.
SERVER = """(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())
        OPERATOR(pg_catalog.*) 1000000::pg_catalog.float8)::pg_catalog.int8"""
_UNTIL_CS = "pg_catalog.pg_sequence_last_value('hsmx_cluster.lease_until_cs'::pg_catalog.regclass)"
# The functions that each write calls are written into each other, and every name in them is qualified instead of a
# SET search_path: that takes 5 us a call, and more of what the client does next.
_GRANTED = f"""{_UNTIL_CS} OPERATOR(pg_catalog.>) 0::pg_catalog.int8"""
_UNHINDERED = """pg_catalog.pg_sequence_last_value('hsmx_cluster.unhindered'::pg_catalog.regclass)
        OPERATOR(pg_catalog.>) 0::pg_catalog.int8"""
_SAME_SERVER = f"""pg_catalog.pg_sequence_last_value('hsmx_cluster.lease_server'::pg_catalog.regclass)
        OPERATOR(pg_catalog.=) {SERVER}"""
# Boot time, 1/100 s: the wall clock may be stepped, and a step must not extend a lease (rule 14). Read by a commit it
# takes some 20 us.
_BOOT_CS = """pg_catalog.replace(pg_catalog.split_part(pg_catalog.pg_read_file('/proc/uptime', 0, 32), ' ', 1), '.', '')
        ::pg_catalog.int8"""


_WALL_US = """pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
        OPERATOR(pg_catalog.*) 1000000::pg_catalog.float8"""
# So a commit is content with the boot time that another one has just read, if more than 250 ms of the same lease were
# left, and the wall clock says that it was at most 10 ms ago, which is as finely as boot time is told. It would be
# wrong only if that clock were set back, after 240 ms or more without any commit or a restart of the server, by what
# has passed since, to 10 ms. Whatever changes the lease forgets the reading (:mod:`.guard`); who has read just before
# keeps one of 10 ms at most, and none at all of a lease that was revoked. Each function that is called here takes a
# thousandth of a small transaction, so there are few.
_JUST_SEEN = f"""{_UNHINDERED} AND pg_catalog.abs({_WALL_US}
        OPERATOR(pg_catalog.-)
        pg_catalog.pg_sequence_last_value('hsmx_cluster.lease_seen'::pg_catalog.regclass)::pg_catalog.float8)
        OPERATOR(pg_catalog.<=) 5000::pg_catalog.float8"""
# That this transaction has left its row is noted in a variable, which a rolled back savepoint sets back as it takes
# the row away. Who can write shared data could set it, too, and be checked by his statements only.
_TO_BE_CHECKED = "pg_catalog.current_setting('hsmx_cluster.to_be_checked', true) OPERATOR(pg_catalog.=) 'yes'"
#: What a client that ends its transaction says, as nearly all do. No function of a client's runs then.
_COMMITS = "ARRAY['COMMIT', 'COMMIT;', 'commit', 'commit;', 'END', 'END;', 'end', 'end;']"
# Between the words there may be comments.
_PREPARES = r"(^|;|\*/|\n)\s*prepare(\s|/\*.*\*/|--[^\n]*\n)+transaction\M"
_FUNCTIONS = rf"""
CREATE OR REPLACE FUNCTION hsmx_cluster.writable() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
BEGIN
    RETURN ({_SAME_SERVER} AND {_UNTIL_CS} OPERATOR(pg_catalog.>) {_BOOT_CS}) IS TRUE;
END
$$;

-- Whether the lease that a statement of this transaction has found has not ended, and the server has not either. What
-- it notes is true whoever calls it.
CREATE OR REPLACE FUNCTION hsmx_cluster.in_time() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    until_cs pg_catalog.int8 := {_UNTIL_CS};
    -- The midst of the time in which others are content with it.
    seen pg_catalog.int8 := ({_WALL_US} OPERATOR(pg_catalog.+) 5000::pg_catalog.float8)::pg_catalog.int8;
    left_cs pg_catalog.int8 := until_cs OPERATOR(pg_catalog.-) {_BOOT_CS};
BEGIN
    -- A transaction that was made read-only after it wrote cannot note it; its commit is none the worse.
    IF ({_SAME_SERVER}) IS NOT TRUE THEN
        RETURN false;
    END IF;
    IF left_cs OPERATOR(pg_catalog.>) 25::pg_catalog.int8
        AND pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off'
    THEN
        PERFORM pg_catalog.setval('hsmx_cluster.lease_seen', seen);
    END IF;
    RETURN (left_cs OPERATOR(pg_catalog.>) 0::pg_catalog.int8) IS TRUE;
END
$$;

CREATE OR REPLACE FUNCTION hsmx_cluster.refuse(what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'This gateway is not the active one: % is shared data and cannot be changed here', what
        USING ERRCODE = 'read_only_sql_transaction', HINT = 'Write through the virtual IP of the cluster.';
END
$$;

-- Where a write is not simply free: it is refused, or slowed, once for each transaction and before that locks anything
-- by it. A brake that is not renewed ends by itself.
CREATE OR REPLACE FUNCTION hsmx_cluster.hinder(what text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
BEGIN
    IF ({_TO_BE_CHECKED}) IS NOT TRUE AND {_GRANTED}
        AND pg_catalog.pg_sequence_last_value('hsmx_cluster.brake_until_cs'::pg_catalog.regclass)
            OPERATOR(pg_catalog.>) {_BOOT_CS}
    THEN
        PERFORM pg_catalog.pg_sleep(
            pg_catalog.pg_sequence_last_value('hsmx_cluster.brake_ms'::pg_catalog.regclass)
            OPERATOR(pg_catalog./) 1000::pg_catalog.float8);
    END IF;
    IF ({_GRANTED}) IS NOT TRUE THEN
        PERFORM hsmx_cluster.refuse(what);
    END IF;
END
$$;

-- Once for each statement: whether a lease is granted. The first one of a transaction leaves a row, whose trigger asks
-- at the commit whether the lease has not ended, too. All of it has the writer's rights: to change them takes longer.
CREATE OR REPLACE FUNCTION hsmx_cluster.guard() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    noted pg_catalog.text;
BEGIN
    IF ({_UNHINDERED}) IS NOT TRUE THEN
        PERFORM hsmx_cluster.hinder(TG_TABLE_NAME);
    END IF;
    IF ({_TO_BE_CHECKED}) IS NOT TRUE THEN
        INSERT INTO hsmx_cluster.commit_check VALUES (0);
        noted := pg_catalog.set_config('hsmx_cluster.to_be_checked', 'yes', true);  -- faster than PERFORM
    END IF;
    RETURN NULL;
END
$$;

-- For tables of which only some rows are shared: each row is asked. The condition is the trigger's argument. Whoever
-- has a table, if only a temporary one, may give it this trigger with any condition: so it has the writer's rights.
CREATE OR REPLACE FUNCTION hsmx_cluster.guard_row() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog AS $$
DECLARE
    shared boolean := false;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('SELECT coalesce((%s), false) FROM (SELECT ($1).*) AS row', TG_ARGV[0]) INTO shared USING OLD;
    END IF;
    IF NOT shared AND TG_OP <> 'DELETE' THEN
        EXECUTE format('SELECT coalesce((%s), false) FROM (SELECT ($1).*) AS row', TG_ARGV[0]) INTO shared USING NEW;
    END IF;
    IF shared AND ({_UNHINDERED}) IS NOT TRUE THEN
        PERFORM hsmx_cluster.hinder(TG_TABLE_NAME);
    END IF;
    IF shared AND ({_TO_BE_CHECKED}) IS NOT TRUE THEN
        INSERT INTO hsmx_cluster.commit_check VALUES (0);
        PERFORM set_config('hsmx_cluster.to_be_checked', 'yes', true);
    END IF;
    RETURN NULL;
END
$$;

-- A transaction that was begun within the lease must not be committed after it. A client may want deferred checks at
-- once (SET CONSTRAINTS ALL IMMEDIATE, as some frameworks do): then this one is made, and deferred again to the commit.
CREATE OR REPLACE FUNCTION hsmx_cluster.guard_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    stack pg_catalog.text;
    wordy boolean;
BEGIN
    -- What an expression takes is its preparation, once for each transaction: nearly all are done with this one.
    IF pg_catalog.current_query() OPERATOR(pg_catalog.=) ANY ({_COMMITS}) AND {_JUST_SEEN}
    THEN
        RETURN NULL;
    END IF;
    IF NEW.turn OPERATOR(pg_catalog.<) 0 THEN
        PERFORM pg_catalog.set_config('hsmx_cluster.at_once', 'yes', true);
        RETURN NULL;
    END IF;
    IF ({_JUST_SEEN}) IS NOT TRUE THEN
        IF NOT hsmx_cluster.in_time() THEN
            PERFORM hsmx_cluster.refuse('what this transaction wrote');
        END IF;
    END IF;
    wordy := pg_catalog.octet_length(pg_catalog.current_query()) OPERATOR(pg_catalog.>) 10;  -- than 'COMMIT' is
    IF wordy AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.<>) '0'
        AND pg_catalog.current_query() OPERATOR(pg_catalog.~*) '{_PREPARES}'
    THEN
        RAISE EXCEPTION 'Shared data cannot be written in a prepared transaction'
            USING ERRCODE = 'feature_not_supported', HINT = 'It might be committed when this gateway may not write.';
    END IF;
    -- At a commit nothing but this function runs. Else there is doubt, which a second row settles: its check is made
    -- at once, or not, as this one.
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF pg_catalog.strpos(stack, pg_catalog.chr(10)) OPERATOR(pg_catalog.>) 0
        OR wordy AND pg_catalog.current_query() OPERATOR(pg_catalog.~~*) '%constraints%'
    THEN
        PERFORM pg_catalog.set_config('hsmx_cluster.at_once', 'no', true);
        INSERT INTO hsmx_cluster.commit_check
            VALUES (-1 OPERATOR(pg_catalog.-) NEW.turn);
        IF pg_catalog.current_setting('hsmx_cluster.at_once') OPERATOR(pg_catalog.=) 'yes' THEN
            SET CONSTRAINTS hsmx_cluster.at_commit DEFERRED;
            INSERT INTO hsmx_cluster.commit_check
                VALUES (NEW.turn OPERATOR(pg_catalog.+) 1);
        END IF;
    END IF;
    RETURN NULL;
END
$$;
-- What a writer's own rights must be enough for.
GRANT INSERT ON hsmx_cluster.commit_check TO PUBLIC;
GRANT SELECT ON SEQUENCE hsmx_cluster.lease_until_cs, hsmx_cluster.lease_server, hsmx_cluster.lease_seen,
    hsmx_cluster.unhindered TO PUBLIC;
"""

#: What brings the schema from each version to the next; the first makes it. A step that was released stays as it is.
STEPS: tuple[str, ...] = (_TABLES, _BRAKE)

_COMMIT_CHECK = """
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON hsmx_cluster.commit_check
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hsmx_cluster.guard_commit()
"""


def install(connection: Connection, node_id: str, peer_id: str) -> None:
    """Make our schema, or bring it up to date, and say whose it is.

    :param node_id: this gateway, 32 hex digits.
    :param peer_id: the other one, "" while there is none.
    :raises DatabaseFailure: it was made by a newer version, or PostgreSQL refuses.
    """
    with failures("The cluster's tables cannot be made"), connection.transaction():
        present = version(connection)
        if present > len(STEPS):
            raise DatabaseFailure(
                f"The cluster's tables in the database have version {present}; this firmware knows {len(STEPS)}.",
                "Install the newer firmware again, or leave the cluster with it first.",
            )
        for step in STEPS[present:]:
            connection.execute(step.encode())
        connection.execute(_FUNCTIONS)
        if not present:
            connection.execute(_COMMIT_CHECK)
        connection.execute(
            """INSERT INTO hsmx_cluster.node (version, node_id, peer_id) VALUES (%s, %s, %s)
               ON CONFLICT (single) DO UPDATE
               SET version = excluded.version, node_id = excluded.node_id, peer_id = excluded.peer_id""",
            (len(STEPS), node_id, peer_id),
        )


def version(connection: Connection) -> int:
    """Return the version of our schema that is there; 0 if none is."""
    if not installed(connection):
        return 0
    return int(one(connection, "SELECT version FROM hsmx_cluster.node") or 1)


def node_id(connection: Connection) -> str:
    """Return the node id of the gateway for which our schema was made; "" if there is none."""
    return str(one(connection, "SELECT node_id FROM hsmx_cluster.node") or "") if installed(connection) else ""


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
