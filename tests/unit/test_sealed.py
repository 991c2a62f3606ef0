"""Sealed messages: authentic, addressed, accepted once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.peer import sealed
from flask_hsmx_cluster.agent.peer.sealed import (
    NO_INCARNATION,
    Receiver,
    Refusal,
    SealRefused,
    StaleIncarnation,
    open_answer,
    seal_request,
)

A, B, C = "aa" * 16, "bb" * 16, "cc" * 16
KEY, NEXT, OTHER = Key(1, b"k" * 32), Key(2, b"n" * 32), Key(1, b"o" * 32)


def refused(receiver: Receiver, data: bytes, *keys: Key) -> Refusal:
    with pytest.raises(SealRefused) as error:
        receiver.open_request(data, keys or (KEY,))
    return error.value.refusal


def test_question_and_answer() -> None:
    receiver = Receiver(B)
    data, asked = seal_request(KEY, A, B, receiver.incarnation, b"what?")
    request = receiver.open_request(data, (KEY,))
    assert (request.sender, request.payload, request.stale) == (A, b"what?", False)
    assert open_answer(receiver.seal_answer(request, b"that"), asked) == b"that"
    assert b"what" not in data


def test_a_replay_is_refused() -> None:
    receiver = Receiver(B)
    data, _ = seal_request(KEY, A, B, receiver.incarnation, b"fail over")
    receiver.open_request(data, (KEY,))
    assert refused(receiver, data) is Refusal.REPLAY


def test_a_restarted_receiver_refuses_all_of_before_and_names_its_incarnation() -> None:
    before, after = Receiver(B), Receiver(B)
    data, asked = seal_request(KEY, A, B, before.incarnation, b"fail over")
    request = after.open_request(data, (KEY,))
    assert request.stale
    with pytest.raises(StaleIncarnation) as stale:
        open_answer(after.seal_challenge(request), asked)
    assert stale.value.incarnation == after.incarnation
    data, asked = seal_request(KEY, A, B, stale.value.incarnation, b"fail over")
    assert not after.open_request(data, (KEY,)).stale


def test_the_memory_of_requests_is_bounded_and_forgets_no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "MAX_REMEMBERED", 10)
    receiver = Receiver(B)
    taken = []
    for _ in range(25):
        data, _asked = seal_request(KEY, A, B, receiver.incarnation, b"x")
        assert not receiver.open_request(data, (KEY,)).stale
        taken.append(data)
        assert len(receiver._seen) < 10
    for data in taken:
        try:
            assert receiver.open_request(data, (KEY,)).stale
        except SealRefused as error:
            assert error.refusal is Refusal.REPLAY


def test_wrong_keys_and_wrong_nodes() -> None:
    receiver = Receiver(B)
    incarnation = receiver.incarnation
    assert refused(receiver, seal_request(OTHER, A, B, incarnation, b"x")[0]) is Refusal.BAD_SIGNATURE
    assert refused(receiver, seal_request(NEXT, A, B, incarnation, b"x")[0]) is Refusal.UNKNOWN_KEY
    assert refused(receiver, seal_request(KEY, A, C, incarnation, b"x")[0]) is Refusal.STRANGER
    assert refused(receiver, seal_request(KEY, B, B, incarnation, b"x")[0]) is Refusal.STRANGER
    data, _ = seal_request(NEXT, A, B, incarnation, b"x")
    assert receiver.open_request(data, (KEY, NEXT)).key == NEXT


def test_an_answer_answers_one_request_only() -> None:
    receiver = Receiver(B)
    first, asked_first = seal_request(KEY, A, B, receiver.incarnation, b"1")
    _, asked_second = seal_request(KEY, A, B, receiver.incarnation, b"2")
    answer = receiver.seal_answer(receiver.open_request(first, (KEY,)), b"yes")
    with pytest.raises(SealRefused) as error:
        open_answer(answer, asked_second)
    assert error.value.refusal is Refusal.WRONG_ANSWER
    with pytest.raises(SealRefused):
        open_answer(first, asked_first)  # a request reflected is no answer
    assert refused(receiver, answer) is Refusal.MALFORMED
    assert open_answer(answer, asked_first) == b"yes"


def test_a_challenge_cannot_be_forged() -> None:
    receiver = Receiver(B)
    data, asked = seal_request(KEY, A, B, NO_INCARNATION, b"x")
    challenge = bytearray(receiver.seal_challenge(receiver.open_request(data, (KEY,))))
    challenge[-1] ^= 1
    with pytest.raises(SealRefused):
        open_answer(bytes(challenge), asked)


@given(st.binary(max_size=400))
def test_garbage_is_malformed(data: bytes) -> None:
    assert refused(Receiver(B), data) in (Refusal.MALFORMED, Refusal.VERSION)
    _, asked = seal_request(KEY, A, B, NO_INCARNATION, b"x")
    with pytest.raises(SealRefused):
        open_answer(data, asked)


@given(st.data())
def test_every_bit_counts(data: st.DataObject) -> None:
    receiver = Receiver(B)
    message = bytearray(seal_request(KEY, A, B, receiver.incarnation, b"payload")[0])
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealRefused):
        receiver.open_request(bytes(message), (KEY,))
    assert not receiver._seen


def test_truncation_and_excess_are_refused() -> None:
    receiver = Receiver(B)
    message, _ = seal_request(KEY, A, B, receiver.incarnation, b"payload")
    for length in range(len(message)):
        refused(receiver, message[:length])
    assert refused(receiver, message + b"x") is Refusal.BAD_SIGNATURE
    assert refused(receiver, message + bytes(sealed.MAX_MESSAGE)) is Refusal.MALFORMED
