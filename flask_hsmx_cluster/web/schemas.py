"""What the REST API takes and answers, as JSON Schema: one table, from which the description for machines is made.

An answer's schema names the keys that are always there and what they hold; later versions may add others.
"""

from __future__ import annotations

from typing import Any

from ..control import MAX_MAINTENANCE_S

Schema = dict[str, Any]

#: Most rows of quarantine in one answer.
MOST_ROWS = 200

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}
ROW_ID: Schema = {"type": "integer", "minimum": 1, "maximum": 2**62}
NODE: Schema = {"type": "string", "maxLength": 32, "description": "A gateway's id; empty: this one."}
TABLE: Schema = {"type": "string", "maxLength": 200, "description": "schema.table; empty: all."}
BATCH: Schema = {"type": "string", "pattern": "^([0-9a-f]{32})?$", "description": "Of one rejoin; empty: all."}
STATE: Schema = {"type": "string", "enum": ["", "kept", "reapplied", "discarded"]}


def maybe(schema: Schema) -> Schema:
    """Return the schema of what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def of(**keys: Schema) -> Schema:
    """Return the schema of an object with at least these keys."""
    return {"type": "object", "properties": keys, "required": list(keys)}


def by_name(schema: Schema) -> Schema:
    """Return the schema of an object whose keys are names."""
    return {"type": "object", "additionalProperties": schema}


def ref(name: str) -> Schema:
    """Return a reference to one of :data:`SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


_VALUES = maybe(by_name(maybe(TEXT)))
_LINK = of(kind={"type": "string", "enum": ["sync", "backup", "service"]}, ends=by_name(ref("LinkEnd")))

#: Named schemas.
SCHEMAS: dict[str, Schema] = {
    "Error": of(
        error={
            **of(code=TEXT, message=TEXT, remedy=TEXT),
            "properties": {
                "code": TEXT, "message": TEXT, "remedy": TEXT, "findings": many(ref("Finding")),
                "kind": {"type": "string",
                         "enum": ["changed", "exists", "gone", "unique", "reference", "rule", "schema", ""]},
                "wanted": _VALUES, "present": _VALUES, "base": _VALUES, "can_overwrite": FLAG, "seen": TEXT,
            },
        }
    ),
    "Finding": of(key=TEXT, text=TEXT, remedy=TEXT, field=TEXT, blocking=FLAG),
    "LinkEnd": of(port=TEXT, address=TEXT),
    "Settings": of(
        cluster_id=TEXT, nodes=many(of(node_id=TEXT, name=TEXT)), virtual_ips=many(of(address=TEXT, port=TEXT)),
        links=many(_LINK), advanced={"type": "object"},
    ),
    "HeldSettings": of(
        formed=FLAG, node_id=TEXT, settings=maybe(ref("Settings")), revision=WHOLE, author=TEXT, changed_at=TEXT,
        pending=FLAG, conflict=maybe(of(revision=WHOLE, author=TEXT, changed_at=TEXT, settings=ref("Settings"))),
    ),
    "Port": of(name=TEXT, mac=TEXT, carrier=FLAG, addresses=many(TEXT), kind=TEXT, mtu=WHOLE),
    "Event": of(
        id=WHOLE, at=TEXT, kind=TEXT, severity={"type": "string", "enum": ["info", "warning", "critical"]}, text=TEXT,
        evidence=many(TEXT), node=TEXT,
    ),
    "Status": of(
        node=of(id=TEXT, name=TEXT, role={"type": "string", "enum": ["standalone", "passive", "active"]},
                since_s=NUMBER, why=TEXT, phase=TEXT, phase_text=TEXT, maintenance_left_s=maybe(NUMBER),
                health=many(of(key=TEXT, text=TEXT)), firmware=TEXT, version=TEXT, protocol=WHOLE),
        peer=maybe(of(id=TEXT, name=TEXT, role=TEXT)),
        cluster=maybe(of(id=TEXT, revision=WHOLE, pending=FLAG, conflict=FLAG)),
        paths=many(of(name=TEXT, kind=TEXT, state=TEXT)),
        virtual_ips=many(of(address=TEXT, port=TEXT, held=FLAG, reading=TEXT, text=TEXT)),
        alarms=many(of(key=TEXT, severity=TEXT, text=TEXT, remedy=TEXT)),
        readiness=of(ready=FLAG, reasons=many(TEXT)), data=maybe(ref("Data")), services=maybe({"type": "object"}),
        files=maybe({"type": "object"}), pppoe=many(of(name=TEXT, state=TEXT)), notify=many(of(name=TEXT)),
        renewal=ref("Renewal"), jobs=many(of(name=TEXT, result=TEXT)), counters=by_name(NUMBER),
        pairing=maybe(of(expires_in_s=WHOLE, attempts_left=WHOLE)),
    ),
    "Data": of(
        set_up=FLAG, problem=TEXT, remedy=TEXT, synchronous=FLAG, wants_synchronous=FLAG,
        degraded_since_s=maybe(NUMBER), follower=maybe({"type": "object"}),
        quarantine=many(of(node=TEXT, name=TEXT, waiting=maybe(WHOLE))),
    ),
    "Renewal": of(
        kind=maybe({"type": "string", "enum": ["certificate", "firmware", "extension"]}), began_at=TEXT, by=TEXT,
        first=TEXT, finished=FLAG, may_fail_over=FLAG, checks=many(ref("Finding")),
        steps=many(of(key=TEXT, node=TEXT, name=TEXT, note=TEXT,
                      state={"type": "string", "enum": ["done", "now", "next"]})),
        gateways=many(of(node=TEXT, name=TEXT, own=FLAG, role=TEXT, renewed=FLAG, known=FLAG)),
    ),
    "Checks": of(findings=many(ref("Finding")), checked=many(of(key=TEXT, text=TEXT, ok=FLAG))),
    "Promise": of(
        formed=FLAG, heartbeat_ms=WHOLE, lease_s=NUMBER, conditions=many(TEXT), limits=many(TEXT),
        promises=many(of(fault=TEXT, title=TEXT, none_ms=maybe(WHOLE), two_ms=maybe(WHOLE), why=TEXT)),
    ),
    "Code": of(code=TEXT, expires_in_s=NUMBER),
    "Firewall": of(
        rules=many(of(protocol=TEXT, port=WHOLE, source=TEXT, use=TEXT, link=TEXT)),
        services=many(of(protocol=TEXT, port=WHOLE, use=TEXT)), nftables=TEXT, iptables=TEXT, firmware=TEXT,
        peer_firmware=TEXT, findings=many(ref("Finding")), closes=maybe(FLAG),
        table={"type": "string", "enum": ["off", "kept", "waits"]},
    ),
    "Interfaces": of(
        interfaces=many(of(port=TEXT)), read_back=many(of(port=TEXT, gateway=TEXT, ok=maybe(FLAG), text=TEXT)),
        fetched=by_name(many(TEXT)), unmatched=many(ANY), unanswered=maybe(of(code=TEXT, message=TEXT, remedy=TEXT)),
    ),
    "Coverage": of(replicable=FLAG, counts={"type": "object"}, tables=many({"type": "object"}), warnings=many(ANY)),
    "Row": of(
        id=WHOLE, text=TEXT, schema_name=TEXT, table_name=TEXT, key=_VALUES, old_row=_VALUES, new_row=_VALUES,
        operation={"type": "string", "enum": ["insert", "update", "delete", "truncate"]}, committed_at=TEXT,
        kept_at=TEXT, state=TEXT, note=TEXT, shortened=FLAG, source_node=TEXT, term=WHOLE, end_lsn=TEXT, batch=TEXT,
    ),
    "Page": of(
        rows=many(ref("Row")), total=WHOLE, waiting=WHOLE, after=maybe(WHOLE), node=TEXT, newest=WHOLE,
        tables=many(of(table=TEXT, rows=WHOLE)), batches=many(of(batch=TEXT, kept_at=TEXT, rows=WHOLE)),
    ),
    "Sweep": of(
        action=TEXT, table=TEXT, batch=TEXT, chosen=WHOLE, under_way=FLAG, began_at=TEXT, ended_at=TEXT, total=WHOLE,
        done=WHOLE, unfit=WHOLE, reasons=many(of(kind=TEXT, rows=WHOLE, example=TEXT, id=WHOLE)), stopped=FLAG,
        error=TEXT, remedy=TEXT, left_s=maybe(NUMBER),
    ),
    "AsideSet": of(
        name=TEXT, kept_at=TEXT, tables=WHOLE, rows=WHOLE, bytes=WHOLE, current=FLAG,
        listed=many(of(table=TEXT, copy=TEXT, rows=WHOLE, bytes=WHOLE)),
    ),
    "Aside": of(sets=many(ref("AsideSet")), database=TEXT),
    "Comparison": of(
        under_way=FLAG, began_at=TEXT, ended_at=TEXT, error=TEXT, progress=maybe({"type": "object"}),
        result=maybe(of(equal=FLAG, seconds=NUMBER, tables=many({"type": "object"}))),
    ),
}  # fmt: skip

#: Arguments of requests that change something, by name.
ARGUMENTS: dict[str, Schema] = {
    "settings": ref("Settings"),
    "base_revision": {"type": "integer", "minimum": 0, "maximum": 2**53},
    "address": {"type": "string", "maxLength": 64, "description": "192.0.2.1 or 192.0.2.1:8080"},
    "code": {"type": "string", "maxLength": 64},
    "ends": {"type": "object", "description": "By kind of link.", "additionalProperties": ref("LinkEnd")},
    "force": FLAG,
    "row_id": ROW_ID,
    "overwrite": FLAG,
    "node": NODE,
    "seen": {"type": "string", "maxLength": 64},
    "ids": {"type": "array", "items": ROW_ID, "minItems": 1, "maxItems": 1000},
    "upto": ROW_ID,
    "table": TABLE,
    "batch": BATCH,
    "action": {"type": "string", "enum": ["reapply", "discard", "restore"]},
    "tree": {"type": "string", "maxLength": 32},
    "kind": {"type": "string", "enum": ["certificate", "firmware", "extension"]},
    "connect": FLAG,
    "on": FLAG,
    "duration_s": {"type": "integer", "minimum": 60, "maximum": MAX_MAINTENANCE_S, "default": 3600},
    "keep": {"type": "string", "enum": ["mine", "theirs"]},
    "by": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Who decides this."},
    "within_s": {"type": "integer", "minimum": 5, "maximum": 60, "default": 15},
}
#: The same where the name means something else under a path.
OF_PATH: dict[tuple[str, str], Schema] = {
    ("pppoe", "name"): {"type": "string", "maxLength": 32},
    ("notify/test", "name"): {"type": "string", "maxLength": 32},
    ("data/aside/delete", "name"): {"type": "string", "maxLength": 63},
}
#: Arguments that may be left out, under any path or under one.
OPTIONAL = {"force", "overwrite", "node", "seen", "upto", "table", "batch", "duration_s", "within_s"}
OPTIONAL_UNDER = {("preflight", "settings"), ("data/quarantine/sweep", "ids")}

_COUNT = {"type": "integer", "minimum": 1}
_RENEWAL, _SWEEP, _COMPARISON = ref("Renewal"), ref("Sweep"), ref("Comparison")
_OF_ROWS: dict[str, Schema] = {"node": NODE, "table": TABLE, "batch": BATCH, "state": STATE}

#: For each path under ``api/`` and method: what it does, what it answers, and what its query may hold.
OPERATIONS: dict[tuple[str, str], tuple[str, Schema, dict[str, Schema]]] = {
    ("status", "GET"): ("How both gateways are", ref("Status"), {}),
    ("settings", "GET"): ("The settings in force", ref("HeldSettings"), {}),
    ("ports", "GET"): ("This gateway's network ports", of(ports=many(ref("Port"))), {}),
    ("peer-ports", "GET"): ("The other gateway's", of(ports=many(ref("Port")), node_name=TEXT), {}),
    ("interfaces", "GET"): ("Own addresses of both gateways", ref("Interfaces"), {}),
    ("firewall", "GET"): ("The rules for the other gateway", ref("Firewall"), {"peer": {
        "type": "array", "items": {"type": "string", "maxLength": 64}, "maxItems": 8}}),
    ("events", "GET"): ("What happened, newest first", of(events=many(ref("Event"))), {
        "limit": {**_COUNT, "maximum": 500, "default": 100}, "before": ROW_ID}),
    ("settings", "POST"): ("Change the settings", of(revision=WHOLE, delivered=FLAG), {}),
    ("preflight", "POST"): ("Check settings", ref("Checks"), {}),
    ("create", "POST"): ("Create a cluster", ref("Code"), {}),
    ("pairing-code", "POST"): ("Draw a new pairing code", ref("Code"), {}),
    ("join", "POST"): ("Join the other gateway's cluster", of(settings=ref("Settings"), peer=TEXT), {}),
    ("failover", "POST"): ("Fail over", of(took_ms=NUMBER, to=TEXT), {}),
    ("take-over", "POST"): ("End the wait for the other gateway", of(by=TEXT), {}),
    ("agent/restart", "POST"): ("Restart the agent; addresses and role stay", of(within_s=NUMBER), {}),
    ("promise", "GET"): ("What each fault may cost", ref("Promise"), {}),
    ("renewal", "GET"): ("Certificates, versions and a renewal that is under way", _RENEWAL, {}),
    ("renewal/look", "POST"): ("The same, looked at anew", _RENEWAL, {}),
    ("renewal/begin", "POST"): ("Begin a renewal", _RENEWAL, {}),
    ("renewal/end", "POST"): ("End it", _RENEWAL, {}),
    ("files/sync", "POST"): ("Look at all files now", of(begun=FLAG), {}),
    ("files/allow-deletions", "POST"): ("Let deletions be done that wait", of(allowed=WHOLE), {}),
    ("pppoe", "POST"): ("Dial a PPPoE connection, or disconnect it", of(name=TEXT, connect=FLAG), {}),
    ("notify/test", "POST"): ("Send a test message", of(
        delivered=FLAG, answer=TEXT, took_ms=NUMBER, gateway=TEXT), {}),
    ("maintenance", "POST"): ("Switch maintenance on or off", of(on=FLAG, left_s=NUMBER), {}),
    ("leave", "POST"): ("Leave the cluster", of(left=FLAG, peer_informed=FLAG), {}),
    ("replace", "POST"): ("Forget the other gateway, which is dead", of(
        code=TEXT, expires_in_s=NUMBER, replaced=TEXT), {}),
    ("resolve-conflict", "POST"): ("Choose one of two revisions", of(revision=WHOLE), {}),
    ("data", "GET"): ("How the shared data is", maybe(ref("Data")), {}),
    ("data/coverage", "GET"): ("What is shared of each table", ref("Coverage"), {}),
    ("data/quarantine", "GET"): ("Rows in quarantine", ref("Page"), {
        **_OF_ROWS, "after": {"type": "integer", "minimum": 0, "maximum": 2**59},
        "limit": {**_COUNT, "maximum": MOST_ROWS, "default": 50}}),
    ("data/quarantine/{row_id}", "GET"): ("One row", ref("Row"), {"node": NODE}),
    ("data/quarantine/export", "GET"): ("All rows as a file", many(ref("Row")), {
        **_OF_ROWS, "format": {"type": "string", "enum": ["json", "csv"], "default": "json"}}),
    ("data/quarantine/reapply", "POST"): ("Make a change again", of(made=FLAG), {}),
    ("data/quarantine/discard", "POST"): ("Discard rows", of(discarded=WHOLE), {}),
    ("data/quarantine/sweep", "POST"): ("Begin to do it to many", _SWEEP, {}),
    ("data/quarantine/sweep", "GET"): ("How far it is", _SWEEP, {"node": NODE}),
    ("data/quarantine/sweep-stop", "POST"): ("Stop it", _SWEEP, {}),
    ("data/aside", "GET"): ("What a gateway has put aside", ref("Aside"), {"node": NODE}),
    ("data/aside/delete", "POST"): ("Delete a set for good", ref("AsideSet"), {}),
    ("data/verify", "GET"): ("How far the comparison is", _COMPARISON, {}),
    ("data/verify", "POST"): ("Begin to compare both gateways", _COMPARISON, {}),
    ("openapi.json", "GET"): ("This description", {"type": "object"}, {}),
}  # fmt: skip
