"""What has happened to the data between two looks at it, as events for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...decision.events import Severity

#: Tables that an event names.
TABLES_NAMED = 20


@dataclass(frozen=True)
class News:
    """An event."""

    kind: str
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()


def news(before: dict[str, Any], now: dict[str, Any], peer: str) -> list[News]:
    """Return what is new.

    :param before: what the replicator's verb ``look`` said last; ``now``: what it says at present.
    :param peer: name of the other gateway.
    """
    return [
        *_following(before["following"], now["following"], peer),
        *_quarantine(before, now, peer),
        *_verify(before.get("verify") or {}, now.get("verify") or {}, peer),
    ]


def _following(before: dict[str, Any], now: dict[str, Any], peer: str) -> Iterator[News]:
    was, is_now = _copy(before), _copy(now)
    if is_now in ("going", "done") and was not in ("going", is_now):
        yield News("copy_begun", "info", f"The first copy of {peer}'s data has begun")
    if is_now == "done" != was:
        figures = (f"{now['total']:,} rows",) if now.get("total") else ()
        yield News("copy_done", "info", f"The first copy is complete: this gateway follows {peer}", figures)
    if now["error"] and now["error"] != before["error"]:
        yield News("follow_failed", "warning", f"This gateway cannot follow {peer} yet", (now["error"],))
    rejoined = now.get("rejoined")
    if rejoined and rejoined != before.get("rejoined"):
        yield News("rejoined", "info", f"This gateway follows {peer} again, after {rejoined['seconds']:.1f} s",
                   tuple(_figures(rejoined)))  # fmt: skip


def _copy(following: dict[str, Any]) -> str:
    """Return how a first copy stands: ``none``, ``going``, ``failed`` or ``done``. Only a copy has a number of rows."""
    if not (following.get("copying") or following.get("total")):
        return "none"
    if following["under_way"]:
        return "going"
    return "failed" if following["error"] else "done"


def _figures(rejoined: dict[str, Any]) -> Iterator[str]:
    yield f"{rejoined['kept']:,} rows went to quarantine"
    yield f"{rejoined['replaced']:,} rows were fetched from the other gateway"
    yield from rejoined["reasons"]


def _quarantine(before: dict[str, Any], now: dict[str, Any], peer: str) -> Iterator[News]:
    more = now.get("quarantined", 0) - before.get("quarantined", 0)
    # There are more, too, when discarded ones are taken back.
    if more > 0 and now.get("kept_last", 0) > before.get("kept_last", 0):
        count = "1 change" if more == 1 else f"{more:,} changes"
        yield News("quarantined", "warning", f"{count} that {peer} never had went to quarantine on this gateway",
                   (f"{now['quarantined']:,} wait there now",))  # fmt: skip


def _verify(before: dict[str, Any], now: dict[str, Any], peer: str) -> Iterator[News]:
    if now.get("under_way") or not now.get("ended_at") or now["ended_at"] == before.get("ended_at"):
        return
    result = now.get("result")
    if result is None:
        yield News("verify_failed", "warning", "The data of both gateways could not be compared", (now["error"],))
    elif result["equal"]:
        count = sum(one["rows"] for one in result["tables"])
        yield News("verified", "info", f"This gateway has the same data as {peer}",
                   (f"{count:,} rows in {len(result['tables'])} tables, {result['seconds']:.1f} s",))  # fmt: skip
    else:
        differing = [one for one in result["tables"] if not one["equal"]]
        yield News("verify_differs", "critical", f"This gateway's data differs from {peer}'s",
                   tuple(_differences(differing)))


def _differences(tables: list[dict[str, Any]]) -> Iterator[str]:
    for table in tables[:TABLES_NAMED]:
        keys = "; ".join(", ".join(key) for key in table["differing"][:5])
        count = table.get("differing_rows", 0)
        yield f"{table['table']}: {keys or (f'{count:,} rows' if count else 'rows that never stood still')}"
    if len(tables) > TABLES_NAMED:
        yield f"and {len(tables) - TABLES_NAMED:,} more tables"
