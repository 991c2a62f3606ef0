"""The pairing channel: the code opens it, nothing else does, and hostile bytes change nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.peer import pairing
from flask_hsmx_cluster.agent.peer.pairing import Joiner, Offerer, code_hash, new_code
from flask_hsmx_cluster.errors import PairingFailed

A, B, C = "aa" * 16, "bb" * 16, "cc" * 16
SECRET = b"s" * 32


def offerer(**arguments: object) -> Offerer:
    return Offerer(A, SECRET, 100.0, **arguments)  # type: ignore[arg-type]


def echo(joiner: str, payload: bytes) -> bytes:
    return b"answer to " + payload


def proven(side: Offerer, node: str = B) -> Joiner:
    joiner = Joiner(node, SECRET)
    joiner.on_offer(side.receive(joiner.hello(), 0, echo))
    return joiner


def test_both_talk_once_the_code_is_proved() -> None:
    side = offerer()
    joiner = proven(side)
    assert joiner.peer_id == A
    for word in (b"one", b"two", b"three"):
        assert joiner.on_answer(side.receive(joiner.request(word), 1, echo)) == b"answer to " + word


def test_handler_learns_who_joins() -> None:
    seen: list[str] = []
    side = offerer()
    side.receive(proven(side).request(b"x"), 0, lambda joiner, _: (seen.append(joiner), b"")[1])
    assert seen == [B]


def test_repeated_bytes_get_the_same_answer_and_are_carried_out_once() -> None:
    side, calls = offerer(), []

    def count(joiner: str, payload: bytes) -> bytes:
        calls.append(payload)
        return b"done"

    joiner = proven(side)
    request = joiner.request(b"commit")
    first = side.receive(request, 0, count)
    assert side.receive(request, 1000, count) == first  # even when the code has expired meanwhile
    assert calls == [b"commit"]
    assert joiner.on_answer(first) == b"done"


def test_a_wrong_code_burns_an_attempt_and_learns_nothing() -> None:
    noted: list[int] = []
    side = offerer(on_attempt=noted.append)
    answers = set()
    for _ in range(7):
        joiner = Joiner(B, b"wrong" * 6 + b"..")
        joiner_hello = side.receive(joiner.hello(), 0, echo)
        try:
            joiner.on_offer(joiner_hello)
        except PairingFailed as error:
            assert "No pairing code" in error.message
            continue
        answer = side.receive(joiner.request(b"x"), 0, lambda *_: pytest.fail("carried out"))
        answers.add(answer)
        with pytest.raises(PairingFailed, match="does not accept"):
            joiner.on_answer(answer)
    assert noted == [4, 3, 2, 1, 0]
    assert len(answers) == 1 and len(answers.pop()) == 7


def test_five_attempts_end_it_for_the_right_code_too() -> None:
    side = offerer(attempts_left=1)
    rightful = proven(side)
    thief = Joiner(C, b"0" * 32)
    thief.on_offer(side.receive(thief.hello(), 0, echo))
    side.receive(thief.request(b"x"), 0, echo)
    with pytest.raises(PairingFailed, match="No pairing code"):
        rightful.on_answer(side.receive(rightful.request(b"x"), 0, echo))


def test_an_expired_code_is_dead() -> None:
    side = offerer()
    joiner = proven(side)
    assert side.alive(99.9) and not side.alive(100.0)
    with pytest.raises(PairingFailed, match="No pairing code"):
        joiner.on_answer(side.receive(joiner.request(b"x"), 100.0, echo))


def test_a_used_code_serves_its_user_only() -> None:
    side = offerer(joiner=B)
    stranger = proven(side, C)
    with pytest.raises(PairingFailed, match="used by another"):
        stranger.on_answer(side.receive(stranger.request(b"x"), 0, echo))
    joiner = proven(side, B)
    assert joiner.on_answer(side.receive(joiner.request(b"x"), 0, echo)) == b"answer to x"


def test_the_joiner_finds_out_an_impostor() -> None:
    impostor = Offerer(A, b"0" * 32, 100.0)
    joiner = proven(impostor)
    real = offerer()
    assert impostor.receive(joiner.request(b"x"), 0, echo)[5] == 5
    joiner = proven(real)
    other = proven(real, C)
    with pytest.raises(PairingFailed, match="did not come from"):
        joiner.on_answer(real.receive(other.request(b"x"), 0, echo))


def test_a_man_in_the_middle_with_keys_of_his_own_gets_nowhere() -> None:
    side, middle = offerer(), Offerer(A, b"0" * 32, 100.0)
    joiner = Joiner(B, SECRET)
    joiner.on_offer(middle.receive(joiner.hello(), 0, echo))
    with pytest.raises(PairingFailed):
        joiner.on_answer(side.receive(joiner.request(b"secret"), 0, lambda *_: pytest.fail("opened")))


def test_own_address_is_told_apart() -> None:
    side = offerer()
    joiner = Joiner(A, SECRET)
    with pytest.raises(PairingFailed, match="own"):
        joiner.on_offer(side.receive(joiner.hello(), 0, echo))


def test_a_recorded_exchange_stays_closed_to_who_learns_the_code_later() -> None:
    side = offerer()
    joiner = proven(side)
    request = joiner.request(b"the cluster key")
    again = offerer()  # same code, same ids: only the ephemeral keys differ
    assert again.receive(request, 0, lambda *_: pytest.fail("opened"))[5] == 5


def test_sessions_are_bounded() -> None:
    side = offerer()
    for number in range(pairing.MAX_SESSIONS + 5):
        joiner = proven(side, f"{number:032x}")
        side.receive(joiner.request(b"x"), 0, echo)
    assert len(side._sessions) == pairing.MAX_SESSIONS


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_burns_nothing(data: bytes) -> None:
    side = offerer()
    for message in (data, side.receive(b"", 0, echo)[:6] + data):
        answer = side.receive(message, 0, lambda *_: pytest.fail("opened"))
        assert len(answer) == 7
    assert side.attempts_left == 5


@pytest.mark.parametrize("position", range(0, 200, 7))
def test_a_flipped_byte_opens_nothing_and_crashes_nothing(position: int) -> None:
    side = offerer()
    joiner = proven(side)
    side.receive(joiner.request(b"first"), 0, echo)
    request = bytearray(joiner.request(b"second" * 20))
    request[position % len(request)] ^= 0x40
    side.receive(bytes(request), 0, lambda *_: pytest.fail("opened"))
    assert side.attempts_left >= 4


def test_truncated_messages_raise_typed_errors_only() -> None:
    side = offerer()
    offer = side.receive(Joiner(B, SECRET).hello(), 0, echo)
    for length in range(len(offer)):
        with pytest.raises(PairingFailed):
            Joiner(B, SECRET).on_offer(offer[:length])
    for length in range(0, 120, 5):
        joiner = proven(side)
        answer = side.receive(joiner.request(b"x"), 0, echo)
        with pytest.raises(PairingFailed):
            joiner.on_answer(answer[:length] if length < len(answer) else b"")


def test_keys_of_low_order_are_refused() -> None:
    side = offerer()
    hello = bytearray(Joiner(B, SECRET).hello())
    hello[-32:] = bytes(32)
    side.receive(bytes(hello), 0, echo)
    request = bytearray(proven(side).request(b"x"))
    request[6 + 16 : 6 + 16 + 32] = bytes(32)
    assert len(side.receive(bytes(request), 0, echo)) == 7
    assert side.attempts_left == 5


def test_oversized_messages_are_refused() -> None:
    side = offerer()
    joiner = proven(side)
    assert len(side.receive(joiner.request(bytes(pairing.MAX_MESSAGE)), 0, echo)) == 7


# -- the code ---------------------------------------------------------------------------------------------------


def test_codes_have_95_random_bits_and_are_read_as_people_type_them() -> None:
    codes = {new_code() for _ in range(50)}
    assert len(codes) == 50
    for code in codes:
        sloppy = f" {code.lower().replace('-', ' ')} ".replace("0", "o").replace("1", "l")
        assert code_hash(sloppy) == code_hash(code)
        assert len(code_hash(code)) == 32


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_every_single_typo_and_every_swap_shows(seed: int) -> None:
    rng = random.Random(seed)
    plain = list(new_code().replace("-", ""))
    at = rng.randrange(20)
    for character in pairing._ALPHABET:
        if character != plain[at]:
            with pytest.raises(PairingFailed, match="typing error"):
                code_hash("".join([*plain[:at], character, *plain[at + 1 :]]))
    at = rng.randrange(19)
    if plain[at] != plain[at + 1]:
        swapped = [*plain[:at], plain[at + 1], plain[at], *plain[at + 2 :]]
        with pytest.raises(PairingFailed, match="typing error"):
            code_hash("".join(swapped))


@pytest.mark.parametrize("text", ["", "x" * 1000, "é" * 20, "\x00" * 20, "UUUU-UUUU-UUUU-UUUU-UUUU"])
def test_what_is_no_code_is_told(text: str) -> None:
    with pytest.raises(PairingFailed) as failed:
        code_hash(text)
    assert failed.value.message.isprintable()
