"""A stand-in for the agent: a real Unix socket that speaks the control protocol and remembers a cluster."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import socketserver
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from flask_hsmx_cluster.control import VERBS
from flask_hsmx_cluster.errors import ChecksFailed, ClusterError, DataConflict, Finding, PairingFailed, RequestRefused
from flask_hsmx_cluster.firewall import text as texts
from flask_hsmx_cluster.firewall.rules import Peer, peers_of, services
from flask_hsmx_cluster.firewall.rules import rules as rules_for
from flask_hsmx_cluster.settings import model as settings
from flask_hsmx_cluster.settings import rules

from .renewing import Renewing

OWN_ID, PEER_ID = "a" * 32, "b" * 32
CODE = "7KQM-2XWP-9RTC-4HVN"
Json = dict[str, Any]


def port(name: str, *addresses: str, carrier: bool = True) -> Json:
    return {"name": name, "mac": "02:00:00:00:00:01", "carrier": carrier, "addresses": list(addresses),
            "kind": "ethernet", "mtu": 1500}


class FakeAgent:
    """The verbs, over an in-memory cluster. Tests set its attributes to make it say something else."""

    def __init__(self) -> None:
        self.ports = [port("lan0", "10.0.0.1/24"), port("sync0", "192.168.254.1/30"), port("back0", "172.31.0.1/30"),
                      port("spare0", carrier=False)]
        self.peer_ports = [port("lan0", "10.0.0.2/24"), port("sync0", "192.168.254.2/30"),
                           port("backup1", "172.31.0.2/30")]
        self.settings: Json | None = None
        self.revision = 0
        self.conflict: Json | None = None
        self.role = "standalone"
        self.phase, self.taken_over_by = "leading", ""
        self.peer: Json | None = None
        self.maintenance_s: int | None = None
        self.alarms: list[Json] = []
        self.calls: list[tuple[str, Json]] = []
        self.refusals: dict[str, ClusterError] = {}
        self.findings: list[Finding] = []
        self.peer_firmware = "5.2.03"
        self.firewall_closes: bool | None = True
        self.file_ports: dict[str, int] = {}
        self.delivered = True
        self.unprobed = 0
        self.paths_down: set[str] = set()
        self.data: Json | None = None
        self.services: Json | None = None
        self.pppoe: list[Json] = []
        self.notify: list[Json] = []
        self.tested: Json = {"delivered": True, "answer": "It answered 200 OK.", "took_ms": 12, "gateway": "gateway-a"}
        self.files: Json | None = None
        self.arbiter: Json | None = None
        self.renewing = Renewing()
        self.quarantine: dict[str, list[Json]] = {OWN_ID: [], PEER_ID: []}
        self.conflict_of: dict[int, DataConflict] = {}
        self.verified: Json = dict(NOT_COMPARED)
        self.swept: Json = dict(NOT_SWEPT)
        self.sweeping: Json = {}
        self.long_values: dict[tuple[int, str, str], str] = {}
        self.aside: dict[str, list[Json]] = {OWN_ID: [], PEER_ID: []}

    # ---- scenes ----

    def keep(self, node: str, *rows: Json) -> None:
        """Put rows into the quarantine of a gateway, and share the database if it is not."""
        self.data = self.data or data_status()
        self.quarantine[node] += rows

    def form(self, *, paired: bool = True) -> None:
        """Be in a cluster, active, with the other gateway unless ``paired`` is False."""
        self.settings = cluster_settings(paired)
        self.revision, self.role = 1, "active"
        self.peer = peer_status() if paired else None

    # ---- verbs ----

    def verb_status(self) -> Json:
        formed, held = self.settings is not None, self.role == "active"
        vips = self.settings["virtual_ips"] if self.settings else []
        return {
            "node": {"id": OWN_ID, "name": "gateway-a", "role": self.role, "since_s": 93784.2,
                     "why": "took over: 5 of 5 probes unanswered on sync and on backup" if held else "", "term": 3,
                     "phase": self.phase, "phase_text": "holds the virtual IPs and serves",
                     "maintenance_left_s": self.maintenance_s, "health": [],
                     "firmware": "5.2.03", "version": "0.1.0", "protocol": 1},
            "peer": self.peer,
            "cluster": {"id": "c" * 32, "revision": self.revision, "pending": not self.delivered,
                        "conflict": self.conflict is not None} if formed else None,
            "paths": [self._path(link) for link in self.settings["links"]] if self.settings and self.peer else [],
            "virtual_ips": [{"address": vip["address"], "port": vip["port"], "held": held,
                             "reading": "held" if held else "answered",
                             "text": "held by this gateway" if held else "answers from gateway-b"} for vip in vips],
            "router_advertisements": self._advertised(held),
            "alarms": self.alarms,
            "readiness": {"ready": self.peer is not None and not self.alarms,
                          "reasons": [] if self.peer else ["No other gateway has joined."]},
            "data": self.data and {**self.data, "quarantine": self._waiting()},
            "services": self.services,
            "pppoe": self.pppoe,
            "notify": self.notify,
            "files": self.files,
            "arbiter": self.arbiter,
            "renewal": self.verb_renewal(),
            "jobs": [{"name": "heartbeat", "last_run_s": 0.1, "took_ms": 0.4, "next_run_s": 0.1, "result": "ok"}],
            "counters": {"sent": 1200, "received": 1180, "refused_malformed": 0, "refused_bad_signature": 2},
            "pairing": {"expires_in_s": 540, "attempts_left": 5} if formed and not self.peer else None,
        }

    def _waiting(self) -> list[Json]:
        names = {OWN_ID: "gateway-a", PEER_ID: "gateway-b"}
        known = names if self.peer else {OWN_ID: "gateway-a"}
        return [{"node": node, "name": name, "waiting": len(self._kept(node, "kept"))} for node, name in known.items()]

    def _kept(self, node: str, state: str = "", table: str = "") -> list[Json]:
        return [row for row in self.quarantine[node]
                if state in ("", row["state"]) and table in ("", f"{row['schema_name']}.{row['table_name']}")]

    def _advertised(self, held: bool) -> list[Json]:
        return [
            {"port": one["port"], "address": "fe80::5", "networks": [], "since_s": 7200.0 if held else None,
             "last_s": 64.0 if held else None, "problem": "", "other_routers": []}
            for one in (self.settings or {}).get("networks", []) if one.get("advertise")
        ]

    def _path(self, link: Json) -> Json:
        down = link["kind"] in self.paths_down
        mine, other = link["ends"].get(OWN_ID), link["ends"].get(PEER_ID)
        return {"name": link["kind"], "kind": link["kind"], "local": mine["address"], "remote": other["address"],
                "state": "down" if down else "up", "heard_ms": 45210.0 if down else 62.0,
                "rtt_ms": None if down else 0.31, "loss_percent": 100.0 if down else 0.0,
                "why": "no carrier on sync0" if down else ""}

    def verb_settings(self) -> Json:
        return {"formed": self.settings is not None, "node_id": OWN_ID, "settings": self.settings,
                "revision": self.revision, "author": "gateway-a" if self.revision else "",
                "changed_at": "2030-05-06T07:08:09+00:00" if self.revision else "", "pending": False,
                "conflict": self.conflict}

    def verb_ports(self) -> Json:
        return {"ports": self.ports}

    def verb_peer_ports(self) -> Json:
        return {"ports": self.peer_ports, "node_name": "gateway-b"}

    def verb_events(self, limit: int = 100, before: int | None = None) -> Json:
        newest = 120 if before is None else before - 1
        kinds = ("active", "alarm_path_sync", "of_a_later_version")
        return {"events": [
            {"id": number, "at": f"2030-05-06T07:08:{number % 60:02}+00:00", "kind": kinds[number % 3],
             "severity": ("info", "warning", "critical")[number % 3], "text": f"Event {number}",
             "evidence": ["5 of 5 probes unanswered on sync", "10.0.0.100 silent on lan0 for 52 ms"],
             "node": "gateway-a"}
            for number in range(newest, max(0, newest - limit), -1)]}

    def verb_preflight(self, settings: Json | None = None) -> Json:
        return {"findings": [finding.as_dict() for finding in self.findings],
                "checked": [{"key": "clock", "text": "Both clocks agree.", "ok": True},
                            {"key": "virtual_ip_in_use", "text": "The virtual IP is free.", "ok": not self.findings}]}

    def verb_firewall(self, peers: list[str]) -> Json:
        known = peers_of(settings.from_dict(self.settings), OWN_ID) if self.settings else ()
        firmwares = ["5.2.03", self.peer_firmware] if self.peer else ["5.2.03"]
        some = services(firmwares, **self.file_ports)
        found = rules_for(some, [Peer(ip_address(one)) for one in peers] or known)
        return {"rules": [one.as_dict() for one in found], "services": [one.as_dict() for one in some],
                "nftables": texts.nftables(found), "iptables": texts.iptables(found), "firmware": "5.2.03",
                "peer_firmware": firmwares[1] if self.peer else "", "closes": self.firewall_closes,
                "findings": [one.as_dict() for one in self.findings], "table": "off"}

    def verb_propose(self, settings: Json, base_revision: int) -> Json:
        if base_revision != self.revision:
            raise RequestRefused(f"Revision {self.revision} is in force, not {base_revision}.", "Look at it first.")
        self._check(settings)
        self.settings, self.revision = settings, self.revision + 1
        return {"revision": self.revision, "delivered": self.delivered, "unprobed": self.unprobed}

    def verb_create(self, settings: Json) -> Json:
        if self.settings is not None:
            raise RequestRefused("This gateway is in a cluster already.", "Leave it first.")
        self._check(settings)
        self.settings, self.revision, self.role = {**settings, "cluster_id": "c" * 32}, 1, "active"
        return {"code": CODE, "expires_in_s": 600, "revision": 1}

    def verb_pairing_code(self) -> Json:
        return {"code": CODE, "expires_in_s": 600}

    def verb_join(self, address: str, code: str, ends: Json) -> Json:
        if code != CODE:
            raise PairingFailed("The code is wrong or has expired.", "Ask for a new code on the first gateway.")
        self._check(None)
        self.form()
        self.role = "passive"
        self.peer = {**peer_status(), "role": "active"}
        return {"settings": self.settings, "peer": "gateway-b"}

    def verb_take_over(self, by: str) -> Json:
        if self.phase != "holding":
            raise RequestRefused("This gateway does not wait for the other one.", "Nothing was changed.")
        self.taken_over_by, self.role, self.phase = by, "active", "leading"
        return {"by": by}

    def verb_restart(self, within_s: int = 15) -> Json:
        return {"within_s": within_s}

    def verb_replace(self) -> Json:
        if self.peer is None or self.peer["role"] != "unknown":
            raise RequestRefused("gateway-b is not dead: it is heard on sync.", "Switch it off first.")
        self.form(paired=False)
        return {"code": CODE, "expires_in_s": 600, "replaced": "gateway-b"}

    def verb_quarantine(self, after: int = 0, limit: int = 50, node: str = "", table: str = "", state: str = "kept",
                        batch: str = "", whole: bool = False) -> Json:
        found = [row for row in self._kept(self._gateway(node), state, table) if batch in ("", row["batch"])]
        rows = [row for row in found if row["id"] > after][:limit]
        more = rows and rows[-1] is not found[-1]
        tables = sorted({f"{row['schema_name']}.{row['table_name']}" for row in self._kept(node or OWN_ID, state)})
        return {"rows": rows, "total": len(found), "after": rows[-1]["id"] if more else None,
                "waiting": len(self._kept(node or OWN_ID, "kept")), "node": node or OWN_ID,
                "tables": [{"table": name, "rows": len(self._kept(node or OWN_ID, state, name))} for name in tables],
                "batches": [{"batch": batch, "kept_at": "2030-05-06T11:09:00+00:00", "rows": 1}
                            for batch in sorted({row["batch"] for row in self._kept(node or OWN_ID, state)})],
                "newest": max((row["id"] for row in self.quarantine[node or OWN_ID]), default=0)}

    def verb_quarantine_row(self, row_id: int, node: str = "") -> Json:
        for row in self.quarantine[self._gateway(node)]:
            if row["id"] == row_id:
                return row
        raise RequestRefused(f"There is no row {row_id} in quarantine.", "Look at the list again.")

    def verb_quarantine_value(self, row_id: int, which: str, column: str, offset: int = 0, node: str = "") -> Json:
        value = self.long_values[row_id, which, column]
        return {"text": value[offset : offset + 1000], "length": len(value)}

    def _gateway(self, node: str) -> str:
        if node not in ("", OWN_ID, PEER_ID):
            raise RequestRefused("There is no such gateway in the cluster.", "Look at the list again.")
        return node or OWN_ID

    def verb_discard(self, ids: list[int], node: str = "") -> Json:
        found = [row for row in self._kept(self._gateway(node), "kept") if row["id"] in ids]
        for row in found:
            row["state"] = "discarded"
        return {"discarded": len(found)}

    def verb_reapply(self, row_id: int, overwrite: bool = False, node: str = "", seen: str = "") -> Json:
        row = self.verb_quarantine_row(row_id, node)
        conflict = self.conflict_of.get(row_id)
        if conflict is not None and not (overwrite and conflict.can_overwrite and seen == conflict.seen):
            raise conflict
        row["state"] = "reapplied"
        return {"made": True}

    def verb_sweep(self, action: str, ids: list[int] | None = None, upto: int = 0, node: str = "", table: str = "",
                   batch: str = "") -> Json:
        before, after = {"reapply": ("kept", "reapplied"), "discard": ("kept", "discarded"),
                         "restore": ("discarded", "kept")}[action]
        chosen = [row for row in self._kept(self._gateway(node), before, table) if batch in ("", row["batch"])
                  and (row["id"] in ids if ids else row["id"] <= upto)]
        unfit = [row for row in chosen if action == "reapply" and row["id"] in self.conflict_of]
        self.swept = {**NOT_SWEPT, "action": action, "table": table, "batch": batch, "chosen": len(ids or ()),
                      "ended_at": "2030-05-06T07:08:21+00:00", "total": len(chosen),
                      "done": len(chosen) - len(unfit), "unfit": len(unfit), **self.sweeping,
                      "reasons": [{"kind": "changed", "rows": len(unfit), "example": unfit[0]["text"],
                                   "id": unfit[0]["id"]}] if unfit else []}
        for row in chosen:
            row["state"] = before if row in unfit else after
        return self.swept

    def verb_swept(self, node: str = "") -> Json:
        self._gateway(node)
        return self.swept

    def verb_sweep_stop(self, node: str = "") -> Json:
        self.swept |= {"under_way": False, "stopped": True}
        return self.swept

    def verb_aside(self, node: str = "") -> Json:
        return {"sets": self.aside[self._gateway(node)], "database": "hsmx", "node": node or OWN_ID}

    def verb_aside_delete(self, name: str, node: str = "") -> Json:
        (gone,) = [one for one in self.aside[self._gateway(node)] if one["name"] == name]
        self.aside[node or OWN_ID].remove(gone)
        return gone

    def verb_verify(self) -> Json:
        self.verified = {**NOT_COMPARED, "under_way": True, "began_at": "2030-05-06T07:08:09+00:00"}
        return self.verified

    def verb_verified(self) -> Json:
        return self.verified

    def verb_leave(self, force: bool = False) -> Json:
        self.settings, self.peer, self.role, self.revision = None, None, "standalone", 0
        return {"left": True, "peer_informed": not force}

    def verb_failover(self) -> Json:
        if self.peer is None:
            raise RequestRefused("There is nobody to fail over to.", "Let another gateway join first.")
        self.role, self.peer["role"] = self.peer["role"], self.role
        return {"took_ms": 6.2, "to": "gateway-a" if self.role == "active" else "gateway-b"}

    def verb_renewal(self) -> Json:
        peer_active = self.peer is not None and self.peer["role"] == "active"
        active = OWN_ID if self.role == "active" else PEER_ID if peer_active else None
        return self.renewing.told(active, alone=self.peer is None)

    def verb_renewal_look(self) -> Json:
        return self.verb_renewal()

    def verb_renewal_begin(self, kind: Any) -> Json:
        self.renewing.begin(kind)
        return self.verb_renewal()

    def verb_renewal_end(self) -> Json:
        self.renewing.guide = None
        return self.verb_renewal()

    def verb_notify_test(self, name: str) -> Json:
        return self.tested

    def verb_files_sync(self) -> Json:
        return {"begun": True}

    def verb_files_allow(self, tree: str) -> Json:
        return {"allowed": sum(one["asks"] for one in (self.files or {"trees": ()})["trees"] if one["name"] == tree)}

    def verb_pppoe(self, name: str, connect: bool) -> Json:
        return {"name": name, "connect": connect}

    def verb_maintenance(self, on: bool, duration_s: int = 3600) -> Json:
        self.maintenance_s = duration_s if on else None
        return {"on": on, "left_s": self.maintenance_s or 0}

    def verb_resolve_conflict(self, keep: str) -> Json:
        assert self.conflict is not None
        self.settings = self.settings if keep == "mine" else self.conflict["settings"]
        self.revision, self.conflict = self.revision + 1, None
        return {"revision": self.revision}

    def verb_pair(self, message: str) -> Json:
        return {"message": base64.b64encode(b"answer to " + base64.b64decode(message)).decode()}

    def verb_peer(self, message: str, address: str) -> Json:
        return self.verb_pair(message)

    def _check(self, data: Json | None) -> None:
        found = list(self.findings)
        if data is not None:
            found += rules.check(settings.from_dict(data), {OWN_ID: self.ports})
        if any(finding.blocking for finding in found):
            raise ChecksFailed(found)

    # ---- the socket ----

    def answer(self, line: bytes) -> Json:
        request = json.loads(line)
        verb, arguments = request["verb"], request["arguments"]
        assert verb in VERBS
        self.calls.append((verb, copy.deepcopy(arguments)))
        try:
            if verb in self.refusals:
                raise self.refusals[verb]
            return {"ok": True, "result": getattr(self, f"verb_{verb}")(**arguments)}
        except ClusterError as error:
            return {"ok": False, "error": error.as_dict()}

    @contextlib.contextmanager
    def listening(self, path: Path) -> Iterator[FakeAgent]:
        """Serve on a socket until the block ends."""
        agent = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(json.dumps(agent.answer(self.rfile.readline())).encode() + b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        with Server(str(path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
                path.unlink(missing_ok=True)


NOT_COMPARED: Json = {
    "under_way": False, "error": "", "began_at": "", "ended_at": "", "progress": None, "result": None,
}

NOT_SWEPT: Json = {
    "action": "", "table": "", "batch": "", "chosen": 0, "under_way": False, "began_at": "", "ended_at": "",
    "error": "", "remedy": "", "stopped": False, "total": 0, "done": 0, "unfit": 0, "reasons": [], "left_s": None,
}


def files_tree(state: str, **changes: Any) -> Json:
    return {"name": "portal", "path": "/srv/portal", "state": state, "files": 1200, "size": 2**21, "left_out": 0,
            "unreadable": [], "unreadable_count": 0, "alike_at": "", "asks": 0, "of": 0, "examples": [], "error": "",
            "remedy": "", "aside": "", "last": None, **changes}  # fmt: skip


def files(one: Json, role: str = "passive", **changes: Any) -> Json:
    return {"role": role, "way": "ssh", "problem": "", "remedy": "", "progress": None, "trees": [one], **changes}


def put_aside(stamp: str = "", **changes: Any) -> Json:
    """Return one set of what was put aside, as the agent tells it."""
    listed = [{"table": "public.voucher", "copy": "public.voucher", "rows": 50, "bytes": 16384},
              {"table": "public.guest", "copy": "public.guest", "rows": 2, "bytes": 8192}]
    return {"name": f"hsmx_cluster_aside{stamp}", "kept_at": "2030-05-06T07:08:09+00:00", "tables": 2, "rows": 52,
            "bytes": 24576, "current": not stamp, "listed": listed, **changes}


def kept_row(number: int, **changes: Any) -> Json:
    """Return a row of the quarantine, as the agent tells it."""
    row = {"id": number, "text": f"voucher {8840 + number} created 11:02:13 on gateway-b", "batch": "0" * 32,
           "source_node": PEER_ID, "term": 3, "end_lsn": "0/1A2B3C8", "committed_at": "2030-05-06T11:02:13+00:00",
           "kept_at": "2030-05-06T11:09:00+00:00", "schema_name": "public", "table_name": "voucher",
           "operation": "insert", "key": {"id": str(8840 + number)}, "old_row": None,
           "new_row": {"id": str(8840 + number), "code": "KX7-22Q", "minutes": "60", "note": None}, "state": "kept",
           "note": "", "shortened": False}
    return {**row, **changes}


def conflict_of(kind: str = "changed", seen: str = "5" * 64) -> DataConflict:
    """Return why a change of a voucher does not fit any more."""
    return DataConflict("voucher 8841 was changed on the active gateway, too.", "Compare both and decide.", kind=kind,
                        wanted={"id": "8841", "code": "KX7-22Q", "minutes": "60"},
                        present={"id": "8841", "code": "KX7-22Q", "minutes": "90"}, seen=seen)


def compared(*differing: str, tables: int = 4) -> Json:
    """Return what came of a comparison; in the tables named, keys differ."""
    names = ["public.guest", "public.setting", "public.voucher", "hsmx_cluster.incarnation"][:tables]
    found = [{"table": name, "rows": 120000, "equal": name not in differing, "key_columns": ["id"],
              "differing": [["8841"], ["8847"]] if name in differing else [],
              "differing_rows": 2 if name in differing else 0, "unsettled": 0, "incomplete": False} for name in names]
    return {**NOT_COMPARED, "began_at": "2030-05-06T07:08:09+00:00", "ended_at": "2030-05-06T07:08:21+00:00",
            "result": {"equal": not differing, "seconds": 12.2, "tables": found}}


def comparing(**changes: Any) -> Json:
    """Return how far a comparison is."""
    step = {"table": "public.voucher", "tables_done": 2, "tables": 4, "rows": 40000, "expected": 120000,
            "all_rows": 280000, "all_expected": 360100, "took_s": 9.0, "left_s": 2.6, **changes}
    return {**NOT_COMPARED, "under_way": True, "began_at": "2030-05-06T07:08:09+00:00", "progress": step}


def data_status(**changes: Any) -> Json:
    """Return the data of an active gateway that the other one follows, changed."""
    return {"set_up": True, "problem": "", "remedy": "", "synchronous": True,
            "wants_synchronous": True, "degraded_since_s": None,
            "follower": {"streaming": True, "caught_up": True, "filled": True, "lag_bytes": 0, "kept_bytes": 16 << 20,
                         "wal_status": "reserved", "brake_ms": 0},
            "writable": True, "synchronous_standby": "hsmx_cluster", "version": "15.10", "size_bytes": 35 << 20,
            "stale": None, "quarantined": 0, "streams": [],
            "following": {"step": "", "copying": False, "done": 0, "total": 0, "error": "", "under_way": False},
            **changes}


def following_status(**progress: Any) -> Json:
    """Return the data of a passive gateway that follows, or with ``progress`` is on the way to."""
    going = {"step": "", "copying": False, "done": 0, "total": 0, "error": "", "under_way": False, **progress}
    streams = [{"name": name, "enabled": True, "worker_pid": 4711, "origin_lsn": "0/1A2B3C8", "error_count": 0}
               for name in ("hsmx_cluster", "hsmx_cluster_bulk")]
    return data_status(synchronous=False, follower=None, writable=False, synchronous_standby="",
                       streams=[] if progress else streams, following=going)


def peer_status() -> Json:
    return {"id": PEER_ID, "name": "gateway-b", "role": "passive", "heard_ms": 62.0, "health": [],
            "maintenance": False, "firmware": "5.2.03", "version": "0.1.0", "revision": 1}


def cluster_settings(paired: bool = True) -> Json:
    def ends(name: str, network: str) -> Json:
        both = {OWN_ID: {"port": name, "address": f"{network}.1/30"},
                PEER_ID: {"port": name, "address": f"{network}.2/30"}}
        return both if paired else {OWN_ID: both[OWN_ID]}

    nodes = [{"node_id": OWN_ID, "name": "gateway-a"}, {"node_id": PEER_ID, "name": "gateway-b"}]
    return {
        "cluster_id": "c" * 32,
        "nodes": nodes if paired else nodes[:1],
        "virtual_ips": [{"address": "10.0.0.100/24", "port": "lan0", "off_subnet": False, "virtual_mac": False}],
        "links": [{"kind": "sync", "ends": ends("sync0", "192.168.254")},
                  {"kind": "backup", "ends": ends("back0", "172.31.0")}],
        "advanced": {"heartbeat_ms": 100, "ping_pongs": 5, "lease_s": 2, "boot_hold_s": 3, "announce_refresh_s": 100,
                     "stale_wait_s": 60, "references": ["10.0.0.254"]},
    }
