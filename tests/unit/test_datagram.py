"""Heartbeat datagrams: what is sent is what is heard, and nothing else gets in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.heartbeat.datagram import LONGEST, Challenges, Clone, Codec, Received, Refusal, path_tag
from flask_hsmx_cluster.decision.model import (
    MOST_TERM,
    ArbiterUse,
    Beat,
    Cause,
    CauseKind,
    Kind,
    Motive,
    PortReport,
    Role,
    Term,
)

A, B = b"\xaa" * 16, b"\xbb" * 16
SYNC, BACKUP, LAN = path_tag("sync"), path_tag("backup"), path_tag("ethernet")


def codec(node: bytes, peer: bytes, incarnation: int = 1, key: bytes = b"k" * 32, cluster: bytes = b"c" * 8) -> Codec:
    return Codec(cluster, node, peer, {1: key}, 1, incarnation.to_bytes(8, "big"), Challenges())


def greet(a: Codec, b: Codec) -> None:
    """Exchange until both believe each other: two round trips at most."""
    for _ in range(3):
        b.decode(a.encode(beat(), SYNC, 1.0), SYNC, 1.0)
        a.decode(b.encode(beat(), SYNC, 1.0), SYNC, 1.0)


def beat(kind: Kind = Kind.BEAT) -> Beat:
    return Beat(
        kind,
        Role.ACTIVE,
        Term(7, "ab" * 16),
        served=True,
        lease_left_ms=1900,
        revision=3,
        causes=frozenset({Cause(CauseKind.UNSEEN, 1)}),
        ports=(PortReport(b"\2" * 6, carrier=True, holds=True, peer_seen=True),),
    )


beats = st.builds(
    Beat,
    kind=st.sampled_from(Kind),
    role=st.sampled_from(Role),
    term=st.builds(
        Term,
        st.integers(0, MOST_TERM),
        st.binary(min_size=16, max_size=16).map(bytes.hex).filter(lambda text: set(text) != {"0"}),
    ),
    motive=st.sampled_from(Motive),
    listening=st.booleans(),
    maintenance=st.booleans(),
    served=st.booleans(),
    spread=st.booleans(),
    synchronous=st.booleans(),
    lease_left_ms=st.integers(0, 2**32 - 1),
    position=st.integers(0, 2**64 - 1),
    revision=st.integers(0, 2**32 - 1),
    arbiter=st.sampled_from(ArbiterUse),
    causes=st.frozensets(st.builds(Cause, st.sampled_from(CauseKind), st.integers(0, 255)), max_size=16),
    ports=st.lists(
        st.builds(
            PortReport,
            st.binary(min_size=6, max_size=6),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
        max_size=8,
    ).map(tuple),
)


@given(beats)
def test_what_is_sent_is_what_is_heard(sent: Beat) -> None:
    a, b = codec(A, B), codec(B, A)
    greet(a, b)
    heard = b.decode(a.encode(sent, SYNC, 2.0), SYNC, 2.0)
    assert isinstance(heard, Received)
    assert heard.beat == sent


def test_an_echo_tells_when_what_it_answers_was_sent() -> None:
    a, b = codec(A, B), codec(B, A)
    greet(a, b)
    b.decode(a.encode(beat(), SYNC, 2.0), SYNC, 2.5)
    for now in (3.0, 9.0):  # however old it is by then
        heard = a.decode(b.encode(beat(), SYNC, now), SYNC, now)
        assert isinstance(heard, Received)
        assert heard.echo_at == 2.0
    other_path = a.decode(b.encode(beat(), LAN, 9.0), LAN, 9.0)
    assert isinstance(other_path, Received)
    assert other_path.echo_at is None


def test_a_new_incarnation_must_answer_our_challenge() -> None:
    a, b = codec(A, B), codec(B, A)
    assert b.decode(a.encode(beat(), SYNC, 1.0), SYNC, 1.0) is Refusal.UNPROVEN
    greet(a, b)
    assert isinstance(b.decode(a.encode(beat(), SYNC, 1.0), SYNC, 1.0), Received)


def test_replay_is_refused_also_after_a_restart_of_either_side() -> None:
    a, b = codec(A, B), codec(B, A)
    recorded = []
    for _ in range(5):
        recorded.append(a.encode(beat(), SYNC, 1.0))
        b.decode(recorded[-1], SYNC, 1.0)
        a.decode(b.encode(beat(), SYNC, 1.0), SYNC, 1.0)
    assert b.decode(recorded[-1], SYNC, 1.0) is Refusal.REPLAY
    restarted_b = codec(B, A, incarnation=9)
    assert all(restarted_b.decode(data, SYNC, 1.0) is Refusal.UNPROVEN for data in recorded)
    restarted_a = codec(A, B, incarnation=5)
    greet(restarted_a, b)
    assert all(b.decode(data, SYNC, 1.0) is Refusal.UNPROVEN for data in recorded)
    assert isinstance(b.decode(restarted_a.encode(beat(), SYNC, 1.0), SYNC, 1.0), Received)


def test_a_datagram_counts_only_on_its_own_path() -> None:
    a, b = codec(A, B), codec(B, A)
    greet(a, b)
    assert b.decode(a.encode(beat(), SYNC, 1.0), BACKUP, 1.0) is Refusal.STRANGER


def test_identity_refusals() -> None:
    a, b = codec(A, B), codec(B, A)
    greet(a, b)
    assert b.decode(codec(A, B, cluster=b"x" * 8).encode(beat(), SYNC, 1), SYNC, 1) is Refusal.OTHER_CLUSTER
    assert b.decode(codec(A, B, key=b"x" * 32).encode(beat(), SYNC, 1), SYNC, 1) is Refusal.BAD_SIGNATURE
    assert b.decode(codec(b"\xcc" * 16, B).encode(beat(), SYNC, 1), SYNC, 1) is Refusal.STRANGER
    assert isinstance(b.decode(codec(B, A, incarnation=77).encode(beat(), SYNC, 1), SYNC, 1), Clone)
    assert b.counters["refused_clone"] == 1
    other_key = Codec(b"c" * 8, A, B, {2: b"k" * 32}, 2, b"i" * 8, Challenges())
    assert b.decode(other_key.encode(beat(), SYNC, 1), SYNC, 1) is Refusal.UNKNOWN_KEY


def test_two_keys_rotate() -> None:
    both = Codec(b"c" * 8, B, A, {2: b"n" * 32, 1: b"k" * 32}, 2, b"i" * 8, Challenges())
    old = codec(A, B)
    old.keys[2] = b"n" * 32
    greet(old, both)
    assert isinstance(both.decode(old.encode(beat(), SYNC, 1), SYNC, 1), Received)


def test_round_trip_is_told_without_the_peers_waiting_time() -> None:
    a, b = codec(A, B), codec(B, A)
    greet(a, b)
    b.decode(a.encode(beat(), SYNC, 10.0), SYNC, 10.001)
    answer = a.decode(b.encode(beat(), SYNC, 10.051), SYNC, 10.052)
    assert isinstance(answer, Received) and answer.rtt_s == pytest.approx(0.002, abs=1e-5)


def test_hostile_bytes_change_nothing_but_a_counter() -> None:
    a, b = codec(A, B), codec(B, A)
    greet(a, b)
    good = a.encode(beat(), SYNC, 1.0)
    dice = random.Random(1)
    tries = 20_000
    refused_before = sum(value for key, value in b.counters.items() if key.startswith("refused"))
    for _ in range(tries):
        data = bytearray(good)
        match dice.randrange(4):
            case 0:
                data = bytearray(dice.randbytes(dice.randrange(LONGEST + 50)))
            case 1:
                del data[dice.randrange(len(data)) :]
            case 2:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            case _:
                data += dice.randbytes(dice.randrange(1, 20))
        assert isinstance(b.decode(bytes(data), SYNC, 1.0), Refusal)
    refused = sum(value for key, value in b.counters.items() if key.startswith("refused"))
    assert refused - refused_before == tries
    assert isinstance(b.decode(good, SYNC, 1.0), Received)


def test_a_recording_on_one_path_keeps_no_other_path_from_proving_itself() -> None:
    a, b = codec(A, B), codec(B, A)
    recorded = codec(A, B, incarnation=3).encode(beat(), SYNC, 1.0)
    for _ in range(3):
        a.decode(b.encode(beat(), BACKUP, 1.0), BACKUP, 1.0)
        b.decode(a.encode(beat(), BACKUP, 1.0), BACKUP, 1.0)
        b.decode(recorded, SYNC, 1.0)  # between any two of the peer's
    assert isinstance(a.decode(b.encode(beat(), BACKUP, 1.0), BACKUP, 1.0), Received)


def heard_clone(listener: Codec, data: bytes, tag: int = LAN) -> Clone:
    found = listener.decode(data, tag, 1.0)
    assert isinstance(found, Clone)
    return found


def test_two_machines_with_one_identity_prove_each_other() -> None:
    one, copy = codec(A, B), codec(A, B, incarnation=2)
    first = heard_clone(copy, one.encode(beat(), LAN, 1.0))
    assert not first.proven, "it may be a recording"
    answer = heard_clone(one, copy.encode(beat(), LAN, 1.0, first.challenge))
    assert answer.proven
    assert heard_clone(copy, one.encode(beat(), LAN, 1.0, answer.challenge)).proven


def test_a_recording_of_ourselves_proves_no_clone() -> None:
    """What was recorded of our own earlier run, and of a clone that has gone meanwhile, answers no challenge of now."""
    earlier, peer = codec(A, B), codec(B, A)
    recorded = []
    for _ in range(5):
        recorded.append(earlier.encode(beat(), LAN, 1.0))
        peer.decode(recorded[-1], LAN, 1.0)
        earlier.decode(peer.encode(beat(), LAN, 1.0), LAN, 1.0)
    restarted = codec(A, B, incarnation=2)
    copy = codec(A, B, incarnation=3)
    challenge = heard_clone(copy, restarted.encode(beat(), LAN, 1.0)).challenge
    proof = copy.encode(beat(), LAN, 1.0, challenge)
    assert heard_clone(restarted, proof).proven
    recorded.append(proof)
    for _ in range(3):
        assert not any(heard_clone(restarted, data).proven for data in recorded)
    assert restarted.decode(restarted.encode(beat(), LAN, 1.0, challenge), LAN, 1.0) is Refusal.REPLAY


def test_a_clone_is_proven_on_the_path_of_its_answer_only() -> None:
    one, copy = codec(A, B), codec(A, B, incarnation=2)
    challenge = heard_clone(copy, one.encode(beat(), LAN, 1.0)).challenge
    assert not heard_clone(one, copy.encode(beat(), SYNC, 1.0, challenge)).proven


def test_a_proof_of_a_clone_keeps_the_peer_from_nothing() -> None:
    one, copy, peer = codec(A, B), codec(A, B, incarnation=2), codec(B, A)
    greet(one, peer)
    challenge = heard_clone(copy, one.encode(beat(), LAN, 1.0)).challenge
    assert heard_clone(one, copy.encode(beat(), LAN, 1.0, challenge)).proven
    assert isinstance(one.decode(peer.encode(beat(), SYNC, 1.0), SYNC, 1.0), Received)
    restarted = codec(B, A, incarnation=7)
    greet(restarted, one)
    assert isinstance(one.decode(restarted.encode(beat(), SYNC, 1.0), SYNC, 1.0), Received)
