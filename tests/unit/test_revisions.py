"""Settings revisions: two gateways, edits on both, lost messages, crashes; they always come together again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads, Offer, Revision, RevisionRefused, Verdict
from flask_hsmx_cluster.settings.model import Advanced, Node, Settings

A, B = "aa" * 16, "bb" * 16
KEY = Key(1, b"k" * 32)
PLAIN = Settings("c" * 32, (Node(A, "A"), Node(B, "B")), (), ())


def edit(heads: Heads | None, author: str, hold_s: int, overrules: Revision | None = None) -> Revision:
    changed = replace(PLAIN, advanced=Advanced(boot_hold_s=hold_s))
    return revisions.draft(heads, changed, author, author[:1], "2026-01-01T00:00:00+00:00", KEY, overrules)


FIRST = edit(None, A, 1)
BASE = Heads(FIRST, peer_digest=FIRST.digest)


def alone(heads: Heads, revision: Revision) -> Heads:
    return revisions.apply(revisions.prepare(heads, revision), revision.digest)


def test_prepare_then_apply_is_idempotent() -> None:
    revision = edit(BASE, A, 2)
    prepared = revisions.prepare(BASE, revision)
    assert revisions.prepare(prepared, revision) == prepared
    applied = revisions.apply(prepared, revision.digest)
    assert applied.applied == revision and applied.lineage == (FIRST.digest,)
    assert revisions.apply(applied, revision.digest) == applied
    assert revisions.prepare(applied, revision) == applied
    assert applied.pending and not revisions.confirmed(applied, revision.digest).pending


def test_what_was_not_prepared_is_not_applied() -> None:
    with pytest.raises(RevisionRefused) as refused:
        revisions.apply(BASE, edit(BASE, A, 2).digest)
    assert refused.value.reason == "unknown"


def test_two_edits_at_once_refuse_each_other() -> None:
    mine = revisions.prepare(BASE, edit(BASE, A, 2))
    with pytest.raises(RevisionRefused) as refused:
        revisions.prepare(mine, edit(BASE, B, 3))
    assert refused.value.reason == "busy"
    again = edit(BASE, A, 4)
    assert revisions.prepare(mine, again).prepared == again  # its own author gave the first one up


def test_an_edit_of_an_older_revision_is_refused() -> None:
    newer = alone(BASE, edit(BASE, A, 2))
    with pytest.raises(RevisionRefused) as refused:
        revisions.prepare(newer, edit(BASE, B, 3))
    assert refused.value.reason == "diverged"


def test_the_absent_gateway_gets_the_latest_of_many() -> None:
    heads = BASE
    for hold_s in range(2, 20):
        heads = alone(heads, edit(heads, A, hold_s))
    late, verdict = revisions.merge(BASE, revisions.offer(heads), leading=False)
    assert verdict is Verdict.ADOPTED and late.applied == heads.applied and late.conflict is None
    _, verdict = revisions.merge(heads, revisions.offer(BASE), leading=True)
    assert verdict is Verdict.AHEAD


@pytest.mark.parametrize("a_leads", [True, False])
def test_both_edited_the_active_ones_stays_and_nothing_is_lost(a_leads: bool) -> None:
    a, b = alone(BASE, edit(BASE, A, 2)), alone(BASE, edit(BASE, B, 3))
    merged_a, _ = revisions.merge(a, revisions.offer(b), leading=a_leads)
    merged_b, _ = revisions.merge(b, revisions.offer(a), leading=not a_leads)
    winner, loser = (a, b) if a_leads else (b, a)
    for heads in (merged_a, merged_b):
        assert heads.applied == winner.applied and heads.conflict == loser.applied
        with pytest.raises(RevisionRefused):
            revisions.prepare(heads, edit(heads, A, 4))
    # and it stays so when the role moves
    later, verdict = revisions.merge(merged_a, revisions.offer(merged_b), leading=not a_leads)
    assert verdict is Verdict.SAME and (later.applied, later.conflict) == (merged_a.applied, merged_a.conflict)


@pytest.mark.parametrize("keep", ["mine", "theirs"])
def test_choosing_ends_the_conflict_on_both(keep: str) -> None:
    a, b = alone(BASE, edit(BASE, A, 2)), alone(BASE, edit(BASE, B, 3))
    b, _ = revisions.merge(b, revisions.offer(a), leading=False)
    a, _ = revisions.merge(a, revisions.offer(b), leading=True)
    chosen = revisions.chosen(b, keep, B)
    assert chosen.advanced.boot_hold_s == (3 if keep == "mine" else 2)
    end = revisions.draft(b, chosen, B, "B", "", KEY, overrules=b.conflict)
    for heads in (a, b):
        assert alone(heads, end).conflict is None
    delivered, verdict = revisions.merge(a, revisions.offer(alone(b, end)), leading=True)
    assert verdict is Verdict.ADOPTED and delivered.conflict is None and delivered.applied == end


def test_unclear_roles_keep_each_its_own() -> None:
    a, b = alone(BASE, edit(BASE, A, 2)), alone(BASE, edit(BASE, B, 3))
    merged, verdict = revisions.merge(a, revisions.offer(b), leading=None)
    assert verdict is Verdict.KEPT and merged.applied == a.applied and merged.conflict == b.applied


def test_the_shown_conflict_is_the_latest_of_the_other_gateways_edits() -> None:
    """The active heard of a first edit, the other was edited again before it heard of anything."""
    a, b = alone(BASE, edit(BASE, A, 2)), alone(BASE, edit(BASE, B, 3))
    a, _ = revisions.merge(a, revisions.offer(b), leading=True)
    b = alone(b, edit(b, B, 4))
    latest = b.applied
    b, _ = revisions.merge(b, revisions.offer(a), leading=False)
    a, verdict = revisions.merge(a, revisions.offer(b), leading=True)
    assert verdict is Verdict.SAME and a.conflict == b.conflict == latest
    b, verdict = revisions.merge(b, revisions.offer(a), leading=False)
    assert verdict is Verdict.SAME and b.conflict == latest


def test_signatures() -> None:
    revision = edit(BASE, A, 2)
    revision.verify([KEY])
    for forged in (
        replace(revision, changed_at="later"),
        replace(revision, settings=PLAIN),
        replace(revision, signature=b""),
        replace(revision, key_id=2),
    ):
        with pytest.raises(RevisionRefused):
            forged.verify([KEY])
    with pytest.raises(RevisionRefused):
        revision.verify([Key(1, b"o" * 32)])


def test_travels_unchanged() -> None:
    heads = alone(BASE, edit(BASE, A, 2))
    assert Offer.from_dict(revisions.offer(heads).to_dict(), [KEY]) == revisions.offer(heads)
    assert Revision.from_dict(FIRST.to_dict()).digest == FIRST.digest


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | inner))
def test_hostile_offers_raise_typed_errors(junk: Any) -> None:
    good = revisions.offer(BASE).to_dict()
    for data in (junk, {**good, "applied": junk}, {**good, "lineage": [junk]}):
        with pytest.raises(RevisionRefused):
            Offer.from_dict(data, [KEY])
    with pytest.raises(RevisionRefused):
        Offer.from_dict({**good, "lineage": ["0" * 64] * 65}, [KEY])
    for name in FIRST.to_dict():
        if junk != FIRST.to_dict()[name] and name != "settings":
            try:
                Revision.from_dict({**FIRST.to_dict(), name: junk}).verify([KEY])
            except RevisionRefused:
                continue
            pytest.fail(f"accepted {name}={junk!r}")


# -- any interleaving -------------------------------------------------------------------------------------------


@dataclass
class Side:
    name: str
    heads: Heads = BASE
    edited: list[Revision] = field(default_factory=list)


class Pair:
    """Two gateways that edit, lose messages and crash at any step; heads are what is on disk."""

    def __init__(self) -> None:
        self.a, self.b = Side(A), Side(B)
        self.parents: dict[str, tuple[str, str]] = {}
        self.counter = 1

    def propose(self, author: Side, other: Side, reached: bool, stop_after: int) -> None:
        """The two phases, cut short after a number of steps."""
        if author.heads.conflict is not None:
            return
        self.counter += 1
        self._change(author, other, edit(author.heads, author.name, self.counter % 100 + 1), reached, stop_after)

    def resolve(self, author: Side, other: Side, keep: str, reached: bool, stop_after: int) -> None:
        if author.heads.conflict is None:
            return
        chosen = revisions.chosen(author.heads, keep, author.name)
        end = revisions.draft(author.heads, chosen, author.name, "", "", KEY, author.heads.conflict)
        self._change(author, other, end, reached, stop_after)

    def _change(self, author: Side, other: Side, revision: Revision, reached: bool, stop_after: int) -> None:
        self.parents[revision.digest] = (revision.parent, revision.merged)
        author.heads = revisions.prepare(revisions.drop_prepared(author.heads), revision)
        if stop_after == 0:
            return
        if reached:
            try:
                other.heads = revisions.prepare(other.heads, revision)
            except RevisionRefused:
                author.heads = revisions.abort(author.heads, revision.digest)
                return
        if stop_after == 1:
            return
        author.heads = revisions.apply(author.heads, revision.digest)
        author.edited.append(revision)
        if stop_after == 2 or not reached:
            return
        other.heads = revisions.confirmed(revisions.apply(other.heads, revision.digest), revision.digest)
        if stop_after == 3:
            return
        author.heads = revisions.confirmed(author.heads, revision.digest)

    def crash(self, side: Side) -> None:
        side.heads = revisions.drop_prepared(side.heads)

    def sync(self, asker: Side, other: Side, a_leads: bool | None, answered: bool) -> None:
        offered = revisions.offer(asker.heads)
        other.heads, _ = revisions.merge(other.heads, offered, self._leads(other, a_leads))
        if answered:
            answer = revisions.offer(other.heads)
            asker.heads, _ = revisions.merge(asker.heads, answer, self._leads(asker, a_leads))

    def _leads(self, side: Side, a_leads: bool | None) -> bool | None:
        return a_leads if a_leads is None or side is self.a else not a_leads

    def forebears(self, digest: str) -> set[str]:
        found, todo = set(), [digest]
        while todo:
            one = todo.pop()
            if one and one not in found:
                found.add(one)
                todo.extend(self.parents.get(one, ()))
        return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("propose"), st.booleans(), st.booleans(), st.integers(0, 4)),
        st.tuples(st.just("resolve"), st.booleans(), st.sampled_from(["mine", "theirs"]), st.integers(0, 4)),
        st.tuples(st.just("sync"), st.booleans(), st.sampled_from([True, False, None]), st.booleans()),
        st.tuples(st.just("crash"), st.booleans(), st.none(), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans())
@example(
    [("propose", False, False, 2), ("propose", True, False, 2), ("sync", False, True, False),
     ("propose", False, False, 2)],
    True,
)
def test_they_always_come_together_and_no_edit_is_dropped(steps: list[Any], a_leads: bool) -> None:
    pair = Pair()
    for kind, a_first, second, third in steps:
        one, other = (pair.a, pair.b) if a_first else (pair.b, pair.a)
        if kind == "propose":
            pair.propose(one, other, second, third)
        elif kind == "resolve":
            pair.resolve(one, other, second, third % 2 == 0, third)
        elif kind == "sync":
            pair.sync(one, other, second, third)
        else:
            pair.crash(one)
    for _ in range(2):
        pair.sync(pair.a, pair.b, a_leads, True)
        pair.sync(pair.b, pair.a, a_leads, True)
    a, b = pair.a.heads, pair.b.heads
    assert a.applied == b.applied
    assert a.conflict == b.conflict
    assert not a.pending and not b.pending
    kept = pair.forebears(a.applied.digest) | (pair.forebears(a.conflict.digest) if a.conflict else set())
    for revision in (*pair.a.edited, *pair.b.edited):
        assert revision.digest in kept
    assert len(a.lineage) <= revisions.MAX_LINEAGE
