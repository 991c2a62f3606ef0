"""What the loop's thread waits for."""

from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import pytest

from flask_hsmx_cluster.agent.heartbeat.poll import CALLS_PER_TURN, Poll


@pytest.fixture
def poll() -> Poll:
    return Poll()


def turn(poll: Poll, timeout_s: float = 5.0) -> int:
    """Wait, read and carry out; return how many readers there were."""
    ready = poll.wait(timeout_s)
    for reader in ready:
        reader()
    poll.carry_out()
    return len(ready)


def test_a_call_that_was_given_up_is_not_carried_out_later(poll: Poll) -> None:
    done: list[int] = []
    with pytest.raises(TimeoutError):
        poll.call(lambda: done.append(1), timeout_s=0.01)
    turn(poll)
    assert not done


def test_a_call_has_its_result_or_its_exception(poll: Poll) -> None:
    results: list[object] = []

    def ask() -> None:
        results.append(poll.call(lambda: 7))
        with pytest.raises(ZeroDivisionError):
            poll.call(lambda: 1 / 0)
        results.append("raised")

    other = threading.Thread(target=ask)
    other.start()
    while other.is_alive():
        turn(poll, 0.1)
    assert results == [7, "raised"]


def test_many_calls_leave_time_for_what_comes_in(poll: Poll) -> None:
    done: list[int] = []
    for number in range(CALLS_PER_TURN + 1):
        with pytest.raises(TimeoutError):
            poll.call(lambda: None, timeout_s=0)
        poll._calls[-1] = (lambda number=number: done.append(number), type(poll._calls[-1][1])())  # type: ignore[misc]
    turn(poll)
    assert len(done) == CALLS_PER_TURN
    assert turn(poll) == 1 and len(done) == CALLS_PER_TURN + 1, "the rest ends the next wait at once"


def test_a_wait_that_a_stop_signal_ended_still_finds_what_has_come_in(poll: Poll) -> None:
    """A poll that was interrupted past its time returns nothing; no lease may be renewed on that (rule 11)."""
    answers: list[list[tuple[int, int]]] = [[], [(7, 1)]]
    read: list[int] = []
    poll._epoll = SimpleNamespace(poll=lambda _timeout: answers.pop(0))  # type: ignore[assignment]
    poll._readers[7] = lambda: read.append(7)
    for reader in poll.wait(0.1):
        reader()
    assert read == [7]


def test_who_was_ended_by_another_reader_is_not_read(poll: Poll) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    read: list[int] = []

    def reads(number: int) -> None:
        read.append(number)
        poll.keep_only([])

    for number, (ours, theirs) in enumerate(pairs):
        poll.register(ours.fileno(), lambda number=number: reads(number))  # type: ignore[misc]
        theirs.send(b"x")
    assert turn(poll) == 2 and len(read) == 1
    with pytest.raises(TimeoutError):
        poll.call(lambda: None, timeout_s=0)
    assert turn(poll) == 1, "it can still be woken"
    for pair in pairs:
        for one in pair:
            one.close()


def test_a_descriptor_is_registered_once_and_may_be_missing(poll: Poll) -> None:
    number = os.eventfd(1)
    poll.register_once(None, lambda: None)
    poll.register_once(number, lambda: None)
    poll.register_once(number, lambda: None)
    assert len(poll.wait(1)) == 1
    os.close(number)
