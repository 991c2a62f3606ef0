"""Settings revisions: how two gateways that are not always in touch come to hold the same settings.

Pure logic. A gateway's :class:`Heads` are what it keeps on disk; each function returns the next heads, to be
stored in one transaction before anything depends on them. So a crash between any two steps leaves a state from
which the next exchange goes on.

*Two phases.* The author prepares on both gateways, applies at home, then tells the other to apply. Nobody
applies what its author has not: a prepared revision found after a crash of the author can be dropped.

*Absence.* With the other gateway absent the revision applies at home and is pending; :func:`merge` brings it
over later. Edits of both since their last common revision are a conflict: the active gateway's stays in force on
both, the other's is kept beside it until an operator chooses (:func:`draft` with ``overrules``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from ...errors import ClusterError
from ...settings.model import Settings
from ...settings.model import from_dict as settings_from_dict
from ...settings.model import to_dict as settings_to_dict
from ...settings.values import text, whole
from ..membership import Key

#: Highest number of a revision, and of a key.
MOST_NUMBER = 2**53 - 1
#: Forebears remembered. A gateway that missed more revisions than this finds a conflict, and loses nothing.
MAX_LINEAGE = 64

_SIGNING_LABEL = b"hsmx-cluster settings revision 1\0"


class RevisionRefused(ClusterError):
    """A revision does not fit this gateway's, or its signature is not the cluster's.

    :param reason: ``busy``, ``diverged``, ``conflict``, ``unknown``, ``signature`` or ``malformed``.
    """

    code = "revision"

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.reason = reason


@dataclass(frozen=True)
class Revision:
    """One signed revision of the settings.

    :param number: one more than its parent's, so that a later edit always has the higher one.
    :param parent: digest of the revision that it was edited from; empty for the first.
    :param merged: digest of the revision that it overrules, where it ended a conflict; else empty.
    :param author: id of the node on which it was entered.
    :param changed_at: wall time of the edit, ISO 8601, for people only.
    :param key_id: cluster key of the signature.
    """

    number: int
    parent: str
    merged: str
    author: str
    author_name: str
    changed_at: str
    settings: Settings
    key_id: int = 0
    signature: bytes = b""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the signature, 64 hex digits."""
        return hashlib.sha256(json.dumps(self._body(), sort_keys=True).encode()).hexdigest()

    def _body(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "parent": self.parent,
            "merged": self.merged,
            "author": self.author,
            "author_name": self.author_name,
            "changed_at": self.changed_at,
            "settings": settings_to_dict(self.settings),
        }

    def signed(self, key: Key) -> Revision:
        """Return the revision with a signature by a cluster key."""
        return replace(self, key_id=key.key_id, signature=_signature(key, self.digest))

    def verify(self, keys: Sequence[Key]) -> None:
        """Raise :class:`RevisionRefused` unless one of the cluster's keys signed it."""
        for key in keys:
            if key.key_id == self.key_id and hmac.compare_digest(self.signature, _signature(key, self.digest)):
                return
        raise RevisionRefused("signature", "The settings are not signed with this cluster's key.")

    def to_dict(self) -> dict[str, Any]:
        """Return the form that travels in sealed messages."""
        return {**self._body(), "key_id": self.key_id, "signature": self.signature.hex()}

    @classmethod
    def from_dict(cls, data: Any) -> Revision:
        """Return a revision from its dict form; anything malformed raises a typed error."""
        try:
            return cls(
                number=whole(data["number"], 0, MOST_NUMBER),
                parent=_digest(data["parent"]),
                merged=_digest(data["merged"]),
                author=text(data["author"]),
                author_name=text(data["author_name"]),
                changed_at=text(data["changed_at"]),
                settings=settings_from_dict(data["settings"]),
                key_id=whole(data["key_id"], 0, MOST_NUMBER),
                signature=bytes.fromhex(text(data["signature"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RevisionRefused("malformed", "The settings revision cannot be read.") from None


@dataclass(frozen=True)
class Heads:
    """What one gateway knows about its settings.

    :param applied: the revision in force.
    :param lineage: digests of its forebears, newest first, at most :data:`MAX_LINEAGE`.
    :param prepared: accepted, to be applied when its author says so.
    :param conflict: the revision that contradicts the one in force; shown until an operator chooses.
    :param peer_digest: what the other gateway confirmed to have in force; empty when unknown.
    :param there: that revision, where it is another one than here: the other gateway can be reached by its links.
    """

    applied: Revision
    lineage: tuple[str, ...] = ()
    prepared: Revision | None = None
    conflict: Revision | None = None
    peer_digest: str = ""
    there: Revision | None = None

    @property
    def pending(self) -> bool:
        """Whether the other gateway has yet to confirm the revision in force."""
        return self.peer_digest != self.applied.digest

    def knows(self, digest: str) -> bool:
        """Whether a revision is the one in force or one of its forebears."""
        return digest == self.applied.digest or digest in self.lineage


@dataclass(frozen=True)
class Offer:
    """What one gateway tells the other about its heads."""

    applied: Revision
    lineage: tuple[str, ...]
    conflict: Revision | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "applied": self.applied.to_dict(),
            "lineage": list(self.lineage),
            "conflict": self.conflict.to_dict() if self.conflict else None,
        }

    @classmethod
    def from_dict(cls, data: Any, keys: Sequence[Key], known: Revision | None = None) -> Offer:
        """Return an offer from its dict form with its signatures verified; else raise :class:`RevisionRefused`.

        :param known: a revision that is likely to be in it: with a thousand aliases it takes 0.1 s to read one, which
            the heartbeats of this process feel, and most offers bring what both have.
        """
        try:
            lineage = tuple(_digest(digest) for digest in data["lineage"])
            same = known is not None and known.to_dict() == data["applied"]
            applied = known if known is not None and same else Revision.from_dict(data["applied"])
            conflict = Revision.from_dict(data["conflict"]) if data["conflict"] is not None else None
        except (KeyError, TypeError, ValueError):
            raise RevisionRefused("malformed", "The other gateway's revisions cannot be read.") from None
        if len(lineage) > MAX_LINEAGE or "" in lineage:
            raise RevisionRefused("malformed", "The other gateway's revisions have forebears that cannot be.")
        applied.verify(keys)
        if conflict:
            conflict.verify(keys)
        return cls(applied, lineage, conflict)


class Verdict(Enum):
    """What :func:`merge` found."""

    SAME = "same"
    """Both have the same revision in force."""
    ADOPTED = "adopted"
    """The other gateway's is a later one: it is in force here now."""
    AHEAD = "ahead"
    """Ours is a later one: the other gateway will adopt it."""
    KEPT = "kept"
    """Both were edited: ours stays in force, theirs is kept beside it."""
    YIELDED = "yielded"
    """Both were edited: the active gateway's is in force here now, ours is kept beside it."""


def offer(heads: Heads) -> Offer:
    """Return what to tell the other gateway."""
    return Offer(heads.applied, heads.lineage, heads.conflict)


def draft(
    heads: Heads | None,
    settings: Settings,
    author: str,
    author_name: str,
    changed_at: str,
    key: Key,
    overrules: Revision | None = None,
) -> Revision:
    """Return a signed new revision on top of the one in force.

    :param overrules: the conflicting revision, when this one ends the conflict.
    """
    number = 0
    if heads is not None:
        number = max(heads.applied.number, overrules.number if overrules else 0)
    return Revision(
        number=number + 1,
        parent=heads.applied.digest if heads else "",
        merged=overrules.digest if overrules else "",
        author=author,
        author_name=author_name,
        changed_at=changed_at,
        settings=settings,
    ).signed(key)


def prepare(heads: Heads, revision: Revision) -> Heads:
    """Accept a revision that may be applied next. Repeating it changes nothing; an author's later one replaces
    its earlier one.

    :raises RevisionRefused: the other author has one prepared (``busy``), it was not edited from the one in force
        (``diverged``), or there is a conflict that it does not end (``conflict``).
    """
    if heads.applied == revision or heads.prepared == revision:
        return heads
    if heads.prepared is not None and heads.prepared.author != revision.author:
        raise RevisionRefused(
            "busy", "The settings are being changed on the other gateway at this moment.", "Look again and repeat."
        )
    parents = {revision.parent, revision.merged}
    if heads.applied.digest not in parents:
        raise RevisionRefused(
            "diverged", "The settings were changed on the other gateway meanwhile.", "Look at them and repeat."
        )
    if heads.conflict is not None and heads.conflict.digest not in parents:
        raise RevisionRefused(
            "conflict", "Two different settings exist since both gateways were edited.", "Choose one of them first."
        )
    return replace(heads, prepared=revision)


def apply(heads: Heads, digest: str) -> Heads:
    """Put the prepared revision in force. Repeating it changes nothing.

    :raises RevisionRefused: it is not the one prepared (``unknown``).
    """
    if heads.applied.digest == digest:
        return heads
    revision = heads.prepared
    if revision is None or revision.digest != digest:
        raise RevisionRefused("unknown", "The other gateway has not prepared this settings revision.")
    parents = [parent for parent in (revision.parent, revision.merged) if parent]
    lineage = (*parents, *(older for older in heads.lineage if older not in parents))
    there = _one_of(heads.peer_digest, heads.applied, heads.there)
    return Heads(revision, lineage[:MAX_LINEAGE], peer_digest=heads.peer_digest, there=there)


def abort(heads: Heads, digest: str) -> Heads:
    """Drop the prepared revision, if it is this one."""
    if heads.prepared is not None and heads.prepared.digest == digest:
        return replace(heads, prepared=None)
    return heads


def drop_prepared(heads: Heads, author: str = "") -> Heads:
    """Drop what is prepared, or only what a certain node prepared.

    Safe at any time: its author applies first, so if it is in force anywhere, :func:`merge` will bring it.
    """
    if heads.prepared is not None and author in ("", heads.prepared.author):
        return replace(heads, prepared=None)
    return heads


def confirmed(heads: Heads, digest: str) -> Heads:
    """Note what the other gateway has in force."""
    if heads.peer_digest == digest:
        return heads
    return replace(heads, peer_digest=digest, there=_one_of(digest, heads.there, heads.conflict))


def merge(heads: Heads, theirs: Offer, leading: bool | None) -> tuple[Heads, Verdict]:
    """Bring this gateway's heads together with the other's.

    :param leading: True if this gateway is the active one, False if the other is, None if that is not clear: then
        each keeps its own in force and both show the conflict.
    """
    same = theirs.applied.digest == heads.applied.digest
    heads = replace(heads, peer_digest=theirs.applied.digest, there=None if same else theirs.applied)
    if same:
        return replace(heads, conflict=_open_conflict(heads, theirs)), Verdict.SAME
    if heads.applied.digest in theirs.lineage:
        adopted = replace(_adopt(heads, theirs), conflict=heads.conflict)
        return replace(adopted, conflict=_open_conflict(adopted, theirs)), Verdict.ADOPTED
    if theirs.applied.digest in heads.lineage:
        return heads, Verdict.AHEAD
    if leading is False:
        return replace(_adopt(heads, theirs), conflict=heads.applied), Verdict.YIELDED
    return replace(heads, prepared=None, conflict=theirs.applied), Verdict.KEPT


def _adopt(heads: Heads, theirs: Offer) -> Heads:
    return Heads(theirs.applied, theirs.lineage, peer_digest=heads.peer_digest)


def _one_of(digest: str, *known: Revision | None) -> Revision | None:
    return next((revision for revision in known if revision is not None and revision.digest == digest), None)


def _open_conflict(heads: Heads, theirs: Offer) -> Revision | None:
    """Return the conflicting revision that both gateways show from now on; none if the one in force ended it.

    One of the two may have been told of an earlier edit only. The later one descends from it, and replaces it.
    """
    known = (heads.conflict, theirs.conflict)
    still = [revision for revision in known if revision is not None and not heads.knows(revision.digest)]
    return max(still, key=lambda revision: (revision.number, revision.digest), default=None)


def chosen(heads: Heads, keep: str, node_id: str) -> Settings:
    """Return the settings to keep.

    :param keep: ``mine`` for what was entered on this gateway, ``theirs`` for what was entered on the other.
    :raises RevisionRefused: there is no conflict (``conflict``).
    """
    if heads.conflict is None:
        raise RevisionRefused("conflict", "There is nothing to choose: both gateways have the same settings.")
    applied_is_mine = heads.applied.author == node_id
    if applied_is_mine == (heads.conflict.author == node_id):
        applied_is_mine = True  # both entered on one gateway: what is in force here counts as ours
    return (heads.applied if applied_is_mine == (keep == "mine") else heads.conflict).settings


def _signature(key: Key, digest: str) -> bytes:
    return hmac.digest(key.secret, _SIGNING_LABEL + digest.encode(), "sha256")


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) not in (0, 64):
        raise ValueError("not a digest")
    return value
