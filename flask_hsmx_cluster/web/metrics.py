"""The status as metrics, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Of the content.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "hsmx_cluster_"
_ROLES = ("active", "passive", "standalone")

Sample = tuple[dict[str, Any], float | int | None]


def text(status: Mapping[str, Any]) -> str:
    """Return the metrics of an answer to ``status``. What is not known is left out."""
    lines: list[str] = []
    for name, kind, words, samples in _metrics(status):
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += [f"# HELP {_PREFIX}{name} {words}", f"# TYPE {_PREFIX}{name} {kind}"]
            lines += [f"{_PREFIX}{name}{_labels(labels)} {float(value):g}" if isinstance(value, float)
                      else f"{_PREFIX}{name}{_labels(labels)} {int(value)}" for labels, value in known]  # fmt: skip
    return "\n".join(lines) + "\n"


def _metrics(status: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    node, peer = status["node"], status["peer"]
    about = {key: node[key] for key in ("name", "firmware", "version")}
    yield "info", "gauge", "This gateway.", [(about, 1)]
    yield "role", "gauge", "1 for the role that this gateway has.", [
        ({"role": role}, int(node["role"] == role)) for role in _ROLES
    ]
    yield "role_seconds", "gauge", "Since when it has this role, s.", [({}, float(node["since_s"]))]
    yield "takeovers_total", "counter", "Take-overs in this cluster so far, by either gateway (the term).", [
        ({}, node["term"])
    ]
    yield "ready", "gauge", "Whether a fail-over would work now.", [({}, int(status["readiness"]["ready"]))]
    yield "maintenance", "gauge", "Whether this gateway is in maintenance.", [
        ({}, int(node["maintenance_left_s"] is not None))
    ]
    yield "peer_heard_seconds", "gauge", "Since the other gateway was heard last, s.", [
        ({}, _seconds(peer and peer["heard_ms"]))
    ]
    yield "alarms", "gauge", "Alarms at present, by severity.", [
        ({"severity": severity}, sum(one["severity"] == severity for one in status["alarms"]))
        for severity in ("warning", "critical")
    ]
    yield "alarm", "gauge", "Each alarm at present.", [
        ({"key": one["key"], "severity": one["severity"]}, 1) for one in status["alarms"]
    ]
    yield from _paths(status["paths"])
    yield "virtual_ip_held", "gauge", "Whether this gateway holds a virtual IP.", [
        ({"address": one["address"], "port": one["port"]}, int(one["held"])) for one in status["virtual_ips"]
    ]
    yield from _data(status["data"] or {})
    yield from _jobs(status["jobs"])
    yield "events_total", "counter", "What the heartbeat counts, such as messages and refusals.", [
        ({"what": what}, count) for what, count in sorted(status["counters"].items())
    ]
    yield "certificate_expires_timestamp_seconds", "gauge", "When a gateway's certificate ends, s since 1970.", [
        ({"gateway": one["name"]}, one["certificate"]["not_after"])
        for one in (status.get("renewal") or {"gateways": ()})["gateways"] if one.get("certificate")
    ]
    arbiter = status.get("arbiter")
    yield "arbiter_answers", "gauge", "Whether the arbiter answers this gateway.", [
        ({}, int(arbiter["answers"]) if arbiter else None)
    ]
    yield "arbiter_granted", "gauge", "Whether this gateway serves by the arbiter's word alone.", [
        ({}, int(arbiter["word"] == "granted") if arbiter else None)
    ]
    yield "notifications_waiting", "gauge", "Notifications that wait to be sent.", [
        ({"target": one["name"]}, one["waiting"]) for one in status.get("notify") or []
    ]
    yield "notifications_failing", "gauge", "Attempts in a row that have failed.", [
        ({"target": one["name"]}, one["failures"]) for one in status.get("notify") or []
    ]


def _paths(paths: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    named = [({"path": one["name"]}, one) for one in paths]
    yield "path_up", "gauge", "Whether heartbeats come over a path.", [
        (label, int(one["state"] == "up")) for label, one in named
    ]
    yield "path_heard_seconds", "gauge", "Since the last heartbeat over a path, s.", [
        (label, _seconds(one["heard_ms"])) for label, one in named
    ]
    yield "path_rtt_seconds", "gauge", "Round trip over a path, s.", [
        (label, _seconds(one["rtt_ms"])) for label, one in named
    ]
    yield "path_loss_ratio", "gauge", "Heartbeats lost over a path, 0 to 1.", [
        (label, float(one["loss_percent"]) / 100) for label, one in named
    ]


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    follower = data.get("follower") or {}
    if data:
        yield "data_synchronous", "gauge", "Whether writes are confirmed by both gateways.", [
            ({}, int(bool(data.get("synchronous"))))
        ]
        yield "data_degraded_seconds", "gauge", "Since when writes are confirmed by this gateway only, s.", [
            ({}, data.get("degraded_since_s"))
        ]
    yield "replication_lag_bytes", "gauge", "WAL that the other gateway has not applied yet, bytes.", [
        ({}, follower.get("lag_bytes"))
    ]
    yield "replication_kept_bytes", "gauge", "WAL that is kept for the other gateway, bytes.", [
        ({}, follower.get("kept_bytes"))
    ]
    yield "replication_brake_seconds", "gauge", "Delay of each write while the other gateway catches up, s.", [
        ({}, _seconds(follower.get("brake_ms")))
    ]
    yield "replication_streaming", "gauge", "Whether the other gateway follows.", [
        ({}, int(bool(follower["streaming"])) if "streaming" in follower else None)
    ]
    yield "quarantine_waiting", "gauge", "Changes that wait in quarantine.", [
        ({"gateway": one["name"]}, one["waiting"]) for one in data.get("quarantine") or []
    ]


def _jobs(jobs: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    yield "job_last_run_seconds", "gauge", "Since a job of the agent began last, s.", [
        ({"job": one["name"]}, one["last_run_s"]) for one in jobs
    ]
    yield "job_took_seconds", "gauge", "How long its last run took, s.", [
        ({"job": one["name"]}, _seconds(one["took_ms"])) for one in jobs
    ]
    yield "job_failed", "gauge", "Whether its last run has failed.", [
        ({"job": one["name"]}, int(str(one["result"]).startswith("failed"))) for one in jobs
    ]


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _labels(labels: Mapping[str, Any]) -> str:
    if not labels:
        return ""
    escaped = {
        key: str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for key, value in labels.items()
    }
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"
