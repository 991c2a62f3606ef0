"""What the replicator's answers mean for the brain."""

from __future__ import annotations

from typing import Any, cast

from flask_hsmx_cluster.agent.data.replicator import ReplicatorLink
from flask_hsmx_cluster.agent.heartbeat.database_hand import DatabaseHand
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Term

FIRST, SECOND = Term(7, "a" * 32), Term(9, "a" * 32)


class Link:
    """Answers when it is told to."""

    shared = True

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []

    def send(self, verb: str, **arguments: Any) -> bool:
        return True

    def receive(self) -> list[dict[str, Any]]:
        answers, self.answers = self.answers, []
        return answers

    def answer(self, verb: str, term: Term | None, result: dict[str, Any] | None) -> None:
        told = {"ok": False, "error": {"message": "no"}} if result is None else {"ok": True, "result": result}
        self.answers.append({"id": 1, "verb": verb, "term": term and term.counter, **told})


def hand() -> tuple[DatabaseHand, Link]:
    link = Link()
    return DatabaseHand(cast(ReplicatorLink, link)), link


def test_an_answer_is_of_the_reign_that_asked() -> None:
    database, link = hand()
    database.promote(FIRST, 2.0)
    link.answer("promote", FIRST, {"term": 7, "synchronous": False})
    assert database.receive() == [events.DataPromoted(FIRST, True), events.SynchronousSet(False)]


def test_an_answer_that_comes_in_a_later_reign_says_nothing_of_it() -> None:
    database, link = hand()
    database.promote(FIRST, 2.0)
    database.demote()
    database.promote(SECOND, 2.0)
    link.answer("promote", FIRST, {"term": 7, "synchronous": True})
    link.answer("renew", FIRST, {"renewed": False, "term": 7, "synchronous": True})
    link.answer("demote", None, {})
    assert database.receive() == []
    link.answer("promote", SECOND, None)
    assert database.receive() == [events.DataPromoted(SECOND, False, "no")]


def test_a_right_that_was_kept_over_a_restart_is_told_once() -> None:
    """The promotion of the new agent may fail, or come too late: the next renewal finds that it may write."""
    database, link = hand()
    database.promote(FIRST, 2.0)
    link.answer("promote", FIRST, None)
    database.renew(FIRST, 2.0)
    for _ in range(2):
        link.answer("renew", FIRST, {"renewed": True})
    assert database.receive() == [events.DataPromoted(FIRST, False, "no"), events.DataPromoted(FIRST, True)]
    link.answer("renew", FIRST, {"renewed": True})
    assert database.receive() == [], "it is known"


def test_a_right_is_kept_or_it_is_not() -> None:
    database, link = hand()
    database.keep(FIRST, 15.0)
    link.answer("keep", FIRST, {"kept": True})
    link.answer("keep", FIRST, {"kept": False})
    link.answer("keep", FIRST, None)
    assert database.receive() == [events.DataKept(True), events.DataKept(False), events.DataKept(False)]
