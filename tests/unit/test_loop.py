"""The heartbeat loop's dealings with other threads, without sockets or a kernel."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.clerk import Clerk
from flask_hsmx_cluster.agent.heartbeat.loop import HeartbeatLoop
from flask_hsmx_cluster.agent.heartbeat.reign import ReignMemory
from flask_hsmx_cluster.agent.heartbeat.start import stock_terms
from flask_hsmx_cluster.agent.store_file import StoreError
from flask_hsmx_cluster.decision.events import Announce, HandoverEnded, Renew
from flask_hsmx_cluster.decision.model import Motive, Role
from flask_hsmx_cluster.errors import NetworkError, RequestRefused


@pytest.fixture
def notes() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def loop(notes: list[tuple[Any, ...]]) -> HeartbeatLoop:
    clerk: Any = SimpleNamespace(record=lambda *words: notes.append(words))
    return HeartbeatLoop(clerk, ReignMemory(Path("/nowhere")), 5555)


def direct(loop: HeartbeatLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what other threads ask for at once, on their own thread."""
    monkeypatch.setattr(loop, "call", lambda work, timeout_s=5.0: work())


def test_settings_that_were_replaced_meanwhile_are_not_applied_again(
    loop: HeartbeatLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network changed while the gateway was about to leave: it must not find itself back in the cluster."""
    direct(loop, monkeypatch)
    applied: list[Any] = []
    monkeypatch.setattr(loop, "_apply", applied.append)
    old: Any = SimpleNamespace()
    loop._session = SimpleNamespace(membership=old)  # type: ignore[assignment]
    with loop._applying:
        thread = threading.Thread(target=loop._reapply, args=(old,))
        thread.start()
        loop._session = None
    thread.join(2)
    assert not applied
    loop._session = SimpleNamespace(membership=old)  # type: ignore[assignment]
    loop._reapply(old)
    assert applied == [old]


@pytest.mark.parametrize("renewed_at", [None, 1000.0])
def test_a_change_does_not_bring_addresses_that_still_wait(loop: HeartbeatLoop, renewed_at: float | None) -> None:
    """A gateway that is becoming active waits for its data: a change of the settings meanwhile takes no addresses."""
    done: list[Any] = []
    lease = SimpleNamespace(addresses=[], routes=[])
    core = SimpleNamespace(role=Role.ACTIVE, renewed_at=renewed_at, term="its term")
    new: Any = SimpleNamespace(core=core, lease=lease, perform=done.extend, remember_reign=done.append)
    loop._carry_over(SimpleNamespace(lease=lease), new)  # type: ignore[arg-type]
    assert done == ([] if renewed_at is None else ["its term", Renew(), Announce()])


def test_settings_that_cannot_be_applied_again_are_tried_until_they_can_and_told_once(
    loop: HeartbeatLoop, notes: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    direct(loop, monkeypatch)

    def fail(_membership: Any) -> None:
        raise NetworkError("There is no port lan0 on this gateway.", "")

    monkeypatch.setattr(loop, "_apply", fail)
    session: Any = SimpleNamespace(membership=SimpleNamespace(), stale=False)
    loop._session = session
    for _ in range(3):
        session.stale = False
        loop._reapply(session.membership)
        assert session.stale, "it is tried again"
    assert [note[0] for note in notes] == ["apply_failed"]


def test_a_second_hand_over_is_refused_and_the_first_gets_its_result(
    loop: HeartbeatLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct(loop, monkeypatch)
    asked = threading.Event()
    active = SimpleNamespace(handover=None)

    def tell(_event: Any) -> None:
        active.handover = object()  # type: ignore[assignment]
        asked.set()

    core = SimpleNamespace(active=active, plan=SimpleNamespace(peer_name="gw-b"))
    loop._session = SimpleNamespace(core=core, tell=tell)  # type: ignore[assignment]
    results: list[Any] = []
    first = threading.Thread(target=lambda: results.append(loop._hand_over(Motive.REQUEST)))
    first.start()
    assert asked.wait(2)
    with pytest.raises(RequestRefused, match="under way"):
        loop._hand_over(Motive.REQUEST)
    loop._handover_ended(HandoverEnded(True, "done", 0.002))
    first.join(2)
    assert results == [{"took_ms": 2.0, "to": "gw-b"}]


def test_a_full_disk_keeps_no_gateway_out_of_its_cluster() -> None:
    """Rule 7: what cannot be written postpones nothing; the terms stay unlike those of other runs."""
    class FullDisk:
        def __init__(self) -> None:
            self.events: list[str] = []

        def reserved_term(self) -> int:
            return 40

        def reserve_term(self, counter: int) -> None:
            raise StoreError("The node store cannot be written: disk full")

        def record(self, kind: str, severity: str, text: str, evidence: list[str]) -> None:
            self.events.append(kind)

    ledger = FullDisk()
    clerk = Clerk(ledger)  # type: ignore[arg-type]
    first, last = stock_terms(clerk)
    assert first > 40 and last == first - 1, "none of them counts as reserved"
    clerk.close()
    assert ledger.events == ["terms_not_reserved"]


def test_whoever_waits_for_a_role_is_told_before_the_disk_is_waited_for() -> None:
    order: list[str] = []
    ledger = SimpleNamespace(record=lambda kind, *_rest: order.append(f"written: {kind}"))
    clerk = Clerk(ledger)  # type: ignore[arg-type]
    clerk.when("active", lambda: order.append("told"))
    clerk.record("passive", "info", "Became passive.")
    clerk.record("active", "info", "Became active.")
    clerk.close()
    assert order == ["written: passive", "told", "written: active"]


def test_what_must_be_on_disk_is_written_again_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.agent.clerk.AGAIN_S", 0.02)
    tried, written, full = threading.Event(), threading.Event(), [True]
    order: list[str] = []

    def job(name: str) -> Callable[[], None]:
        def write() -> None:
            tried.set()
            if full[0]:
                raise StoreError("The node store cannot be written: disk full")
            order.append(name)
            written.set()

        return write

    clerk = Clerk(SimpleNamespace())  # type: ignore[arg-type]
    clerk.keep("reign", job("the reign before"))
    assert tried.wait(5)
    clerk.keep("reign", job("the reign"))
    full[0] = False
    assert written.wait(5)
    full[0] = True
    clerk.keep("terms", job("terms"))
    full[0] = False
    clerk.close()
    assert order in (["the reign", "terms"], ["the reign before", "the reign", "terms"])


def test_what_must_be_on_disk_is_written_again_however_many_events_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.agent.clerk.AGAIN_S", 0.02)
    written, tries = threading.Event(), []

    def write() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreError("The node store cannot be written: disk full")
        written.set()

    clerk = Clerk(SimpleNamespace())  # type: ignore[arg-type]

    def event() -> None:
        """There is always one more."""
        if not written.wait(0.001):
            clerk.do(event)

    clerk.do(event)
    clerk.keep("reign", write)
    assert written.wait(5)
    clerk.close()


def test_a_child_that_is_started_again_is_heard_although_it_has_the_descriptor_of_the_one_before(
    loop: HeartbeatLoop,
) -> None:
    ours, theirs = socket.socketpair()
    loop.services = SimpleNamespace(fileno=ours.fileno, receive=lambda: None)  # type: ignore[assignment]
    loop._listen_to_children()
    loop._listen_to_children()
    number = ours.detach()
    again, far = socket.socketpair()
    os.dup2(again.fileno(), number)  # closes the one before, which leaves the poll unnoticed
    again.close()
    loop.services = SimpleNamespace(fileno=lambda: number, receive=lambda: None)  # type: ignore[assignment]
    loop._listen_to_children()
    far.send(b"x")
    assert [reader.args for reader in loop._poll.wait(5)] == [(number,)]  # type: ignore[attr-defined]
    for one in (theirs, far):
        one.close()
    os.close(number)
