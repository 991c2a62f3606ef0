"""What has happened to the data between two looks at it, as events for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..decision.events import Severity


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
        *_quarantine(before.get("quarantined", 0), now.get("quarantined", 0), peer),
        *_verify(before.get("verify") or {}, now.get("verify") or {}, peer),
    ]


def _following(before: dict[str, Any], now: dict[str, Any], peer: str) -> Iterator[News]:
    copied, copies = _copies(before), _copies(now)
    if copies and not copied:
        yield News("copy_begun", "info", f"The first copy of {peer}'s data has begun")
    if now["error"] and now["error"] != before["error"]:
        yield News("follow_failed", "warning", f"This gateway cannot follow {peer} yet", (now["error"],))
    elif copied and not now["under_way"] and not now["error"]:
        figures = (f"{before['total']:,} rows",) if before.get("total") else ()
        yield News("copy_done", "info", f"The first copy is complete: this gateway follows {peer}", figures)
    rejoined = now.get("rejoined")
    if rejoined and rejoined != before.get("rejoined"):
        yield News("rejoined", "info", f"This gateway follows {peer} again, after {rejoined['seconds']:.1f} s",
                   tuple(_figures(rejoined)))  # fmt: skip


def _copies(following: dict[str, Any]) -> bool:
    """Return whether a first copy is under way; only there is a number of rows to come."""
    return bool(following["under_way"] and (following.get("copying") or following.get("total")))


def _figures(rejoined: dict[str, Any]) -> Iterator[str]:
    yield f"{rejoined['kept']:,} rows went to quarantine"
    yield f"{rejoined['replaced']:,} rows were fetched from the other gateway"
    yield from rejoined["reasons"]


def _quarantine(before: int, now: int, peer: str) -> Iterator[News]:
    if now > before:
        count = "1 change" if now - before == 1 else f"{now - before:,} changes"
        yield News("quarantined", "warning", f"{count} that {peer} never had went to quarantine on this gateway",
                   (f"{now:,} wait there now",))  # fmt: skip


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
                   tuple(_difference(one) for one in differing))  # fmt: skip


def _difference(table: dict[str, Any]) -> str:
    keys = "; ".join(", ".join(key) for key in table["differing"][:5])
    return f"{table['table']}: {keys}" if keys else f"{table['table']}: rows that never stood still"
