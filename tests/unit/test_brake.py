"""How much writers are slowed while the other gateway does not catch up, in a model of both."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.replication.brake import CATCH_UP_S, GIVE_UP_S, MOST_MS, Brake

LOOK_EVERY_S = 0.2
BYTES = 300.0  #: of a transaction


@dataclass
class Model:
    """Clients that never pause, and a gateway that applies what they write.

    :param clients: how many.
    :param each_s: what one of their transactions takes unless it is slowed, s.
    :param applies: transactions that the other gateway applies in a second.
    :param behind: transactions that it has still to apply.
    :param told_every: it tells how far it is with each of so many looks.
    """

    clients: int
    each_s: float
    applies: float
    behind: float
    told_every: int = 1
    written: float = 1e9
    brakes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.brake = Brake()
        self.applied = self.written - self.behind * BYTES
        self.told = self.applied

    @property
    def seconds(self) -> float:
        return len(self.brakes) * LOOK_EVERY_S

    def rate(self, ms: float) -> float:
        """Return how many transactions all clients together write in a second."""
        return self.clients / (self.each_s + ms / 1000)

    def step(self) -> int:
        number = len(self.brakes)
        if number % self.told_every == 0:
            self.told = self.applied
        ms = self.brake.look(number * LOOK_EVERY_S, int(self.written), int(self.told))
        self.brakes.append(ms)
        self.written += self.rate(ms) * LOOK_EVERY_S * BYTES
        self.applied = min(self.written, self.applied + self.applies * LOOK_EVERY_S * BYTES)
        return ms

    def until_caught_up(self, most_s: float) -> None:
        """Go on until all that was written at the last look is applied, as commits begin to wait then."""
        while True:
            before = self.written
            self.step()
            assert all(0 <= ms <= MOST_MS for ms in self.brakes)
            assert self.seconds < most_s, "it does not catch up"
            if self.applied >= before:
                return


@given(
    clients=st.integers(1, 16), each_s=st.floats(0.0002, 0.01), share=st.floats(0.02, 1), behind_s=st.floats(0, 20),
    told_every=st.integers(1, 10),
)
def test_whoever_keeps_up_with_half_of_what_slowed_clients_write_catches_up_in_time(
    clients: int, each_s: float, share: float, behind_s: float, told_every: int
) -> None:
    """In twice the time that it would take if nobody wrote, and some seconds."""
    slowest, fastest = clients / (each_s + MOST_MS / 1000), clients / each_s
    applies = 2 * slowest + share * max(0.0, fastest - 2 * slowest)
    model = Model(clients, each_s, applies, behind_s * applies, told_every)
    learnt_s = (told_every + 8) * LOOK_EVERY_S  # until it is at its most
    written_meanwhile = fastest * (CATCH_UP_S + learnt_s)
    model.until_caught_up(CATCH_UP_S + learnt_s + 2 * (behind_s + written_meanwhile / applies))


def test_without_it_the_same_gateway_falls_behind_for_ever() -> None:
    """What the model is for."""
    model = Model(clients=4, each_s=0.0015, applies=1600, behind=3000)
    model.brake.look = lambda *_: 0  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="does not catch up"):
        model.until_caught_up(600)
    assert model.written - model.applied > 3000 * BYTES


@given(clients=st.integers(1, 16), each_s=st.floats(0.001, 0.05), behind=st.floats(0, 100_000))
def test_nobody_is_slowed_where_it_catches_up_anyway(clients: int, each_s: float, behind: float) -> None:
    model = Model(clients, each_s, 0, behind)
    model.applies = model.rate(0) + behind / (CATCH_UP_S - 1)
    model.until_caught_up(CATCH_UP_S + 1)
    assert set(model.brakes) == {0}


def test_the_brake_is_gone_when_it_has_caught_up_is_waited_for_or_has_gone() -> None:
    for applied in (2500, 2000, None):
        brake = Brake()
        for look in range(20):
            brake.look(look * LOOK_EVERY_S, 2000, 500)
        assert brake.ms == MOST_MS
        assert brake.look(4, 2500, applied) == 0
        assert brake.look(4.2, 9000, 2500) == 0, "and it begins with a line of its own"


def test_a_gateway_that_stands_still_is_waited_for_no_longer_until_it_goes_on() -> None:
    brake, at = Brake(), 0.0
    while at < GIVE_UP_S:
        brake.look(at, int(10_000 + at * 1000), 5000)
        at += LOOK_EVERY_S
    assert brake.ms == MOST_MS
    assert brake.look(at + LOOK_EVERY_S, 50_000, 5000) == 0
    assert brake.look(at + 100, 99_000, 5000) == 0
    assert brake.look(at + 101, 100_000, 96_000) > 0, "it goes on, and has reached a new low"
