"""What is said of the data, for the page and for the CLI alike. Like :mod:`.cluster` it decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..translate import gettext as _
from . import cluster as words

#: An active gateway's database is made writable meanwhile; only later it is said that it is not, s.
WRITABLE_WITHIN_S = 5.0

#: By kind of news the sign beside the text, so that colour is never the only one.
SIGNS = {"ok": "✓", "warn": "!", "bad": "✕", "info": "i"}


@dataclass(frozen=True)
class DataWords:
    """The state of the data in words.

    :param remedy: what to do, or what it means; may be empty.
    :param done: of ``total`` rows while the data is copied, else None.
    :param total: 0 while it is not known.
    :param facts: labels and values of what is known besides.
    :param more: what else is known of how far the copy is: tables, bytes, time.
    """

    kind: Literal["ok", "warn", "bad", "info"]
    text: str
    remedy: str = ""
    done: int | None = None
    total: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    more: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        return SIGNS[self.kind]

    @property
    def progress(self) -> str:
        """Return how far the copy is; empty while that is not known."""
        if self.done is None or not (self.done or self.total):
            return ""
        rows = _("%(done)s of %(total)s rows", done=f"{self.done:,}", total=f"{self.total:,}")
        return " · ".join((rows if self.total else _("%(done)s rows so far", done=f"{self.done:,}"), *self.more))


def describe(status: dict[str, Any]) -> DataWords | None:
    """Return what to say of the data; None where it is not shared, or there is no cluster."""
    data = status["data"]
    if data is None or status["cluster"] is None:
        return None
    peer = status["peer"]["name"] if status["peer"] else _("the other gateway")
    if data["problem"]:
        return DataWords("bad", _("The database cannot be kept like the other gateway's: %(why)s", why=data["problem"]),
                         data["remedy"], facts=_facts(data, peer))
    if not data["set_up"]:
        return DataWords("info", _("The database is being made ready. This takes a few seconds."))
    if data.get("stale") is not None:
        return _stale(data["stale"], data, peer)
    if status["node"]["role"] == "active":
        return _active(status, data, peer)
    if status["node"]["role"] == "passive":
        return _passive(data, peer)
    return DataWords("warn", _("The data is not shared while the cluster settings are not in force here."),
                     facts=_facts(data, peer))


def _stale(stale: dict[str, Any], data: dict[str, Any], peer: str) -> DataWords:
    """Return what to say of a gateway that serves, or waits to, although the other one's data may be newer."""
    facts = _facts(data, peer)
    known = stale["in_step_at"]
    since = _("as of %(at)s UTC", at=known[:16].replace("T", " ")) if known else _("of which time is not known")
    if not stale["waits"]:
        return DataWords("bad", _("This gateway serves data %(since)s: that of %(peer)s may be newer.", since=since,
                                  peer=peer),
                         _("Switch %(peer)s on: what it alone has is then kept in quarantine.", peer=peer), facts=facts)
    text = _("This gateway has started alone, with data %(since)s: that of %(peer)s may be newer.", since=since,
             peer=peer)
    if stale["left_s"] is None:
        return DataWords("bad", f"{text} {_('It does not serve.')}",
                         _("Switch %(peer)s on. If it is gone, choose a shorter wait in the advanced settings, or "
                           "replace it.", peer=peer), facts=facts)
    return DataWords(
        "bad", f"{text} {_('It waits for %(time)s more, then it serves.', time=words.duration(stale['left_s']))}",
        _("Switch %(peer)s on if you can: then nothing is missing.", peer=peer), facts=facts)


def _active(status: dict[str, Any], data: dict[str, Any], peer: str) -> DataWords:
    facts = _facts(data, peer)
    if data.get("writable") is False and status["node"]["since_s"] > WRITABLE_WITHIN_S:
        return DataWords("bad", _("The database of this gateway refuses writes."),
                         _("It is tried again all the time. Check PostgreSQL on this gateway."), facts=facts)
    if data["synchronous"]:
        return DataWords("ok", _("Every write is confirmed by both gateways."), facts=facts)
    if status["peer"] is None:
        return DataWords("warn", _("Writes are confirmed by this gateway only: no other gateway has joined."),
                         _("What is written now is copied when one joins."), facts=facts)
    if data["follower"] is not None and not data["follower"]["filled"]:
        return DataWords("info", _("%(peer)s is being filled with this gateway's data for the first time.", peer=peer),
                         _("Until it is complete, %(peer)s cannot take over.", peer=peer), facts=facts)
    if not data["wants_synchronous"]:
        return _asynchronous(data, peer, facts)
    since, slowed = data["degraded_since_s"], _slowed(data["follower"] or {}, peer)
    if since is None:
        text = _("Writes are confirmed by this gateway only, at this moment.")
        return DataWords("warn", f"{text}{slowed}", facts=facts)
    text = _("Writes are confirmed by this gateway only, for %(time)s now.", time=words.duration(since))
    return DataWords(
        "bad", f"{text}{slowed}",
        _("If this gateway fails now, what was written meanwhile is missing on %(peer)s. It ends by itself when "
          "%(peer)s has caught up; look there if it does not.", peer=peer), facts=facts)


def _slowed(follower: dict[str, Any], peer: str) -> str:
    """Return a sentence, with a space before it, where writes are slowed; else nothing."""
    if not follower.get("brake_ms"):
        return ""
    return " " + _("Writes are slowed by %(ms)s ms each so that %(peer)s catches up, %(size)s left.",
                   ms=follower["brake_ms"], peer=peer, size=words.size(follower["lag_bytes"]))


def _asynchronous(data: dict[str, Any], peer: str, facts: tuple[tuple[str, str], ...]) -> DataWords:
    if (data["follower"] or {}).get("streaming"):
        return DataWords("info", _("Writes are confirmed by this gateway only: asynchronous by configuration."),
                         _("If this gateway fails, the last ones are missing on %(peer)s, and wait in quarantine when "
                           "this gateway is back.", peer=peer), facts=facts)
    return DataWords("bad", _("%(peer)s does not get what is written here.", peer=peer),
                     _("If this gateway fails now, what was written meanwhile is missing there. It ends by itself when "
                       "%(peer)s has caught up; look there if it does not.", peer=peer), facts=facts)


def _passive(data: dict[str, Any], peer: str) -> DataWords:
    facts, streams = _facts(data, peer), data.get("streams", ())
    following = data.get("following") or {}
    if following.get("under_way"):
        return _under_way(following, peer, facts)
    if following.get("error"):
        return DataWords(
            "bad", _("This gateway does not follow %(peer)s: %(why)s", peer=peer, why=following["error"]),
            following.get("remedy")
            or _("It is tried again by itself. If this stays, check PostgreSQL on both gateways, then the sync cable."),
            facts=facts)
    if streams and all(stream["enabled"] and stream["worker_pid"] for stream in streams):
        return DataWords("ok", _("This gateway follows %(peer)s.", peer=peer), facts=facts)
    if any(stream["enabled"] for stream in streams):
        return DataWords("warn", _("This gateway gets no changes from %(peer)s at the moment.", peer=peer),
                         _("It connects again by itself. If this stays, read the log of PostgreSQL on this gateway."),
                         facts=facts)
    return DataWords("warn", _("This gateway does not follow %(peer)s yet.", peer=peer),
                     _("It begins by itself when %(peer)s is active and answers.", peer=peer), facts=facts)


def _under_way(following: dict[str, Any], peer: str, facts: tuple[tuple[str, str], ...]) -> DataWords:
    step = following["step"]
    if step in ("", "begins"):
        return DataWords("info", _("This gateway begins to follow %(peer)s.", peer=peer), facts=facts)
    if not following["copying"]:
        return DataWords("info", _("This gateway catches up with %(peer)s: it %(does)s.", peer=peer, does=_(step)),
                         facts=facts)
    return DataWords(
        "info", _("The first copy is under way: this gateway %(does)s.", does=_(step)),
        _("Until it is complete, this gateway has only a part of the data."),
        max(0, following["done"]), max(0, following["total"]), facts, tuple(_how_far(following)))


def _how_far(following: dict[str, Any]) -> Iterator[str]:
    """Yield what is known of a copy besides its rows."""
    if tables := following.get("tables"):
        yield _("%(done)s of %(total)s tables", done=following["tables_done"], total=tables)
    if size := following.get("total_bytes"):
        yield _("%(done)s of %(total)s", done=words.size(following["done_bytes"]), total=words.size(size))
    if (left_s := following.get("left_s")) is not None:
        yield _("about %(time)s left", time=words.duration(left_s))


def _facts(data: dict[str, Any], peer: str) -> tuple[tuple[str, str], ...]:
    found = []
    if data["follower"] is not None:
        found.append((_("WAL kept for %(peer)s", peer=peer), words.size(data["follower"]["kept_bytes"])))
    if "size_bytes" in data:
        found.append((_("Database"), _("%(size)s, PostgreSQL %(version)s", size=words.size(data["size_bytes"]),
                                       version=data["version"])))
    return tuple(found)
