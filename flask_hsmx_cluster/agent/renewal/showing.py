"""What is shown of certificates and renewals: the verb ``renewal``, and alarms. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...errors import Finding
from ...network.clock import boot_time_s
from ...renewal.certificate import Certificate
from ...renewal.guide import Facts, Guide, Kind, Progress

TITLES: dict[Kind, str] = {
    "certificate": "The renewal of the certificates",
    "firmware": "The firmware upgrade",
    "extension": "The upgrade of the cluster software",
}
#: Alarms of the data, by the beginning of their keys, that speak of tables: they are shown beside an upgrade.
_OF_TABLES = ("schema_", "scopes_differ", "not_following", "apply_stopped", "table_", "column_")
_REMEDY = "Renew it, the passive gateway's first: the page Certificates and upgrades guides through it."

Json = dict[str, Any]


def of_data(alarms: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield which alarms of the shared database speak against a fail-over during an upgrade."""
    for one in alarms:
        if str(one["key"]).removeprefix("peer_").startswith(_OF_TABLES):
            blocking = one["severity"] == "critical"
            yield Finding("renewal_tables", str(one["text"]), str(one["remedy"]), blocking=blocking)


def alarms(own: Facts, peer: Facts | None, unseen: str, now: float) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, severity, text and remedy of what is wrong with certificates.

    :param unseen: why this gateway's is not seen, if that lasts.
    :param now: s since 1970.
    """
    for key, facts in (("certificate", own), ("peer_certificate", peer)):
        seen = facts.certificate if facts else None
        if facts is not None and seen is not None and (severity := seen.severity(now)) is not None:
            yield key, severity, f"The certificate of {facts.name} {_ends(seen, now)}", _REMEDY
    if unseen:
        yield ("certificate_unseen", "warning", f"{own.name} shows no certificate: {unseen}.",
               "See whether its web server runs, and whether HSMX_CLUSTER_HTTPS names its port.")  # fmt: skip


def _ends(seen: Certificate, now: float) -> str:
    if seen.validity(now) == "not_yet":
        return "is not valid yet: see whether the clock of the gateway is right."
    if seen.validity(now) == "expired":
        return "has expired: browsers warn of it."
    days = seen.days_left(now)
    return "expires today." if days == 0 else f"expires in {days} day{'s' if days != 1 else ''}."


def status(
    guide: Guide | None, found: Progress | None, checks: Iterable[Finding], facts: Mapping[str, Facts],
    ages: Mapping[str, float], active: str | None, own: str, now: float,
) -> Json:  # fmt: skip
    """Return the answer to the verb ``renewal``.

    :param found: how far it is; None: none is under way.
    :param ages: by node id since when the facts are as they are, boot time, s.
    """
    names = {one.node_id: one.name for one in facts.values()} | {
        one.node_id: one.name for one in (guide.before if guide else ())
    }
    begun = {one.node_id: one for one in guide.before} if guide and found else {}
    listed = [*dict.fromkeys([*([one.node_id for one in guide.before] if guide and found else []), *facts])]
    findings = [one.as_dict() for one in checks]
    return {
        "kind": guide.kind if guide and found else None,
        "began_at": guide.began_at if guide and found else "",
        "by": guide.by if guide and found else "",
        "ended_at": guide.ended_at if guide else "",
        "first": names[found.first] if found else "",
        "finished": found is not None and found.finished,
        "steps": [
            {"key": step.key, "node": step.node_id, "name": names[step.node_id], "state": step.state, "note": step.note}
            for step in (found.steps if found else ())
        ],
        "may_fail_over": found is not None and found.fails_over_now and not any(one["blocking"] for one in findings),
        "checks": findings,
        "gateways": [
            {
                "node": node,
                "name": names[node],
                "own": node == own,
                "role": "unknown" if active is None else "active" if node == active else "passive",
                "renewed": found is not None and node in found.renewed,
                "before": _before(begun[node]) if node in begun else None,
                **_now(facts.get(node), ages.get(node), now),
            }
            for node in sorted(listed, key=lambda node: node != own)
        ],
    }


def _before(one: Any) -> Json:
    return {key: getattr(one, key) for key in ("fingerprint", "not_after", "firmware", "version")}


def _now(facts: Facts | None, since: float | None, now: float) -> Json:
    if facts is None:
        return {"known": False}
    seen = facts.certificate
    return {
        "known": True,
        "age_s": None if since is None or since < 0 else round(boot_time_s() - since, 1),
        "https": facts.https,
        "problem": facts.problem,
        "certificate": None
        if seen is None
        else {**seen.as_dict(), "days_left": seen.days_left(now), "validity": seen.validity(now),
              "severity": seen.severity(now)},
        "firmware": facts.firmware,
        "version": facts.version,
        "protocol": facts.protocol,
    }  # fmt: skip
