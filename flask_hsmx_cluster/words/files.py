"""What is said of the files that both gateways have, for page and CLI. Like :mod:`.cluster` it decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..translate import gettext as _
from ..translate import ngettext
from . import cluster as words
from .traffic import SIGNS, Kind, Row


@dataclass(frozen=True)
class Question:
    """Deletions that wait for a person.

    :param name: of the files; ``text``: what would be done; ``examples``: some of what would be deleted.
    """

    name: str
    text: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class FilesWords:
    """All that is said.

    :param remedy: what to do; may be empty.
    :param done: files that have arrived, of ``total``, while they are copied, else None.
    :param progress: how far the copy is, in words; may be empty.
    :param passive: this gateway pulls.
    """

    kind: Kind
    text: str
    remedy: str
    rows: tuple[Row, ...]
    questions: tuple[Question, ...]
    done: int | None
    total: int
    progress: str
    passive: bool

    @property
    def sign(self) -> str:
        return SIGNS[self.kind]


def describe(status: dict[str, Any]) -> FilesWords | None:
    """Return what to say; None where no files are declared, or there is no other gateway."""
    told = status.get("files")
    if told is None or status["cluster"] is None or status["peer"] is None:
        return None
    peer, trees = status["peer"]["name"], told["trees"]
    kind, text, remedy = _headline(told, peer)
    progress = told["progress"] or {}
    known = bool(progress.get("of_files"))
    return FilesWords(
        kind, text, remedy, tuple(_row(one, peer) for one in trees), tuple(_questions(trees, peer)),
        progress["files"] if progress else None, progress.get("of_files", 0),
        _progress(progress) if known else "", told["role"] == "passive",
    )  # fmt: skip


def _headline(told: dict[str, Any], peer: str) -> tuple[Kind, str, str]:
    states = {one["state"] for one in told["trees"]}
    if told["problem"]:
        return "warn", _("The files are not kept as one: %(why)s", why=told["problem"]), told["remedy"]
    if "asks" in states:
        return "bad", _("Many files are gone on %(peer)s: nothing is deleted here before you allow it.", peer=peer), ""
    if "asks_there" in states:
        return "bad", _("Many files are gone here: %(peer)s deletes nothing before you allow it there.", peer=peer), ""
    if states & {"failed", "absent", "undeclared"}:
        return "warn", _("Not all files are the same on both gateways."), ""
    if "copying" in states:
        return "info", _("Files are being copied from %(peer)s.", peer=peer), ""
    if states == {"synchronised"}:
        return "ok", _("Both gateways have the same files."), ""
    return "info", _("Whether both gateways have the same files is being looked at."), ""


def _row(one: dict[str, Any], peer: str) -> Row:
    count = ngettext("1 file, %(size)s", "%(n)s files, %(size)s", one["files"], size=words.size(one["size"]))
    state = one["state"]
    said: dict[str, tuple[Kind, str]] = {
        "synchronised": ("ok", _("%(count)s, the same on %(peer)s", count=count, peer=peer)),
        "copying": ("info", _("%(count)s here, more are coming", count=count)),
        "behind": ("info", _("%(count)s here, not yet the same as on %(peer)s", count=count, peer=peer)),
        "asks": ("bad", _("%(n)s deletions wait for you", n=f"{one['asks']:,}")),
        "asks_there": ("bad", _("%(n)s deletions wait for you on %(peer)s's own page Files", n=f"{one['asks']:,}",
                                peer=peer)),
        "failed": ("warn", _("could not be copied: %(why)s", why=f"{one['error']} {one['remedy']}".strip())),
        "absent": ("warn", _("%(path)s is not there, or cannot be read", path=one["path"])),
        "undeclared": ("warn", _("%(peer)s declares no files of this name", peer=peer)),
        "waiting": ("plain", _("nothing is known of %(peer)s's files yet", peer=peer)),
    }
    kind, text = said[state]
    if one["unreadable_count"]:
        text += " · " + _("%(n)s cannot be read", n=f"{one['unreadable_count']:,}")
        kind = "warn"
    if one["left_out"]:
        text += " · " + _("%(n)s links, special or too large files are left out", n=f"{one['left_out']:,}")
    if one["aside"]:
        text += " · " + _("what this gateway had otherwise is kept in %(path)s", path=one["aside"])
    return Row(kind, one["name"], text)


def _questions(trees: list[dict[str, Any]], peer: str) -> Iterator[Question]:
    for one in trees:
        if one["asks"] and one["state"] != "asks_there":
            text = _("%(peer)s no longer has %(n)s of the %(all)s files of %(name)s that are here. If they were "
                     "deleted there on purpose, allow it. If not, look there first: here they are safe.",
                     peer=peer, n=f"{one['asks']:,}", all=f"{one['of']:,}", name=one["name"])  # fmt: skip
            yield Question(one["name"], text, tuple(one["examples"]))


def _progress(progress: dict[str, Any]) -> str:
    return _("%(name)s: %(done)s of %(all)s files, %(bytes)s of %(of)s", name=progress["tree"],
             done=f"{progress['files']:,}", all=f"{progress['of_files']:,}", bytes=words.size(progress["size"]),
             of=words.size(progress["of_size"]))  # fmt: skip
