"""Chaos without a lab: the same seed gives the same faults, a broken record is reported as broken, and it is drawn."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sample_app.lab.measure import Interval
from tests.chaos.bounds import BOUNDS, CONVERGED_WITHIN_S, bound
from tests.chaos.faults import DEEDS
from tests.chaos.kinds import KINDS
from tests.chaos.probe import Gaps
from tests.chaos.record import (
    FAULT,
    HELD,
    LOST,
    NO_ANSWER,
    ROLE,
    TWO_MACS,
    WORKED,
    Record,
    Span,
    joined,
    lane,
    numbered,
    read,
    without,
)
from tests.chaos.schedule import Episode, episodes
from tests.chaos.timeline import draw, draw_run
from tests.chaos.verdict import judge, reigns

VIRTUAL_IP = "10.0.0.100"


def first(number: int, seed: int = 7) -> list[Episode]:
    return list(itertools.islice(episodes(seed), number))


def good(kind: str = "power_off", on: str = "active") -> Record:
    """A gateway loses its power at 101 s, the other one has the address 0.15 s later, all is in order at 112 s."""
    record = Record()
    record.begin("episode 3", 100, 113)
    record.add(FAULT, kind, 101, 105, gateway="a", on=on, amount=0.5, refused="")
    record.add(lane(ROLE, "a"), "active", 100, 101, term=4)
    record.add(lane(ROLE, "a"), "unreachable", 101, 107)
    record.add(lane(ROLE, "a"), "passive", 107, 113, term=5)
    record.add(lane(ROLE, "b"), "passive", 100, 101.15, term=4)
    record.add(lane(ROLE, "b"), "active", 101.15, 113, term=5)
    record.add(lane(HELD, "a"), VIRTUAL_IP, 100, 101)
    record.add(lane(HELD, "b"), VIRTUAL_IP, 101.15, 113)
    record.add(NO_ANSWER, "gap", 101, 101.16)
    record.add(WORKED, "in order", 105, 112, why="")
    return record


def broken(record: Record) -> list[str]:
    return [violation.invariant for violation in judge(record).violations]


# What is drawn from a seed


def test_a_seed_gives_the_same_faults_each_time_and_another_seed_others() -> None:
    assert first(60) == first(60)
    assert first(60) != first(60, seed=8)


def test_every_kind_of_fault_comes_in_turn_alone_and_some_at_once() -> None:
    turn = first(len(KINDS) * 3 // 2)
    assert {episode.case for episode in turn} == {*KINDS, "overlapping"}
    assert [episode.number for episode in turn] == list(range(len(turn)))


def test_faults_that_overlap_strike_different_things_and_do_overlap() -> None:
    mixed = [episode for episode in first(600) if len(episode.faults) > 1]
    assert {len(episode.faults) for episode in mixed} == {2, 3}
    for episode in mixed:
        for one, other in itertools.combinations(episode.faults, 2):
            assert not one.struck & other.struck, episode
        for one, other in itertools.pairwise(episode.faults):
            assert other.after_s <= one.after_s + one.lasts_s


def test_only_the_wanted_kinds_are_drawn() -> None:
    drawn = list(itertools.islice(episodes(1, ("loss",)), 5))
    assert [episode.case for episode in drawn] == ["loss"] * 5


# What is seen


def test_an_outage_is_what_the_control_answered_and_the_virtual_ip_did_not() -> None:
    gaps = Gaps(0.004)
    for number, at in enumerate((10.0, 10.004, 10.1)):  # late questions tell of nothing, if they are answered
        gaps.asked(number, at)
        gaps.control(number)
        assert gaps.answered(number, at + 0.001) == ([["seen", 10.001]] if number == 0 else [])
    for number, at in enumerate((10.11, 10.12, 10.2, 10.25, 10.3), 3):
        gaps.asked(number, at)
        if at not in (10.11, 10.3):  # nobody answered the first and the last one: that was the machine
            gaps.control(number)
    gaps.asked(8, 10.31)
    assert gaps.answered(8, 10.311) == [["gap", 10.12, 10.254], ["seen", 10.311]]
    for number, at in ((11, 10.5), (12, 10.51), (13, 11.5)):
        gaps.asked(number, at)
        gaps.control(number)
    gaps.asked(14, 11.51)
    assert gaps.answered(14, 11.511)[0] == ["gap", 10.5, pytest.approx(10.614)], "nobody asked for a second"


def test_a_single_question_that_is_lost_is_not_worth_telling() -> None:
    gaps = Gaps(0.004)
    gaps.asked(9, 10.4)
    gaps.control(9)
    gaps.asked(10, 10.404)
    assert gaps.answered(10, 10.405) == [["seen", 10.405]]


def test_answers_of_two_that_follow_each_other_are_one_time() -> None:
    answers = [Interval(1, 1.01), Interval(1.01, 1.02), Interval(1.025, 1.035), Interval(2, 2.01)]
    assert joined(answers, 0.01) == [Interval(1, 1.035), Interval(2, 2.01)]


def test_what_a_gateway_without_power_held_does_not_count() -> None:
    off = [Interval(3, 4), Interval(6, 7)]
    assert without([Interval(1, 5)], off) == [Interval(1, 3), Interval(4, 5)]
    assert without([Interval(3, 4), Interval(5, 9)], off) == [Interval(5, 6), Interval(7, 9)]
    assert without([Interval(1, 2)], [Interval(0, float("inf"))]) == []


# What is judged


def test_every_kind_has_a_bound_with_a_reason_and_can_be_done() -> None:
    assert set(BOUNDS) == set(KINDS) == set(DEEDS)
    assert all(each.why for each in BOUNDS.values())


def test_a_good_record_is_found_good() -> None:
    verdict = judge(good())
    assert verdict.violations == ()
    assert (verdict.case, verdict.faults, verdict.lost) == ("power_off", 1, 0)
    assert (verdict.two_ms, round(verdict.none_ms), verdict.converged_s) == (0, 160, 7)


def test_two_kernels_with_one_address_are_reported() -> None:
    record = good()
    record.add(lane(HELD, "a"), VIRTUAL_IP, 107, 107.002)
    assert broken(record) == ["two_holders"]
    assert judge(record).two_ms == pytest.approx(2)


def test_two_kernels_with_different_addresses_are_fine() -> None:
    record = good()
    record.add(lane(HELD, "a"), "fd00:0:0:1::100", 107, 113)
    assert broken(record) == []


def test_two_macs_that_answer_are_reported() -> None:
    record = good()
    record.add(TWO_MACS, "two", 107, 107.01)
    assert broken(record) == ["two_holders"]


def test_both_may_serve_while_nothing_passes_between_them() -> None:
    record = good("partition", on="both")
    record.add(lane(HELD, "a"), VIRTUAL_IP, 102, 105)
    assert broken(record) == []
    assert judge(record).two_ms == pytest.approx(3000)


def test_an_outage_beyond_its_bound_is_reported() -> None:
    record = good()
    record.add(NO_ANSWER, "gap", 108, 108 + bound(["power_off"]).none_ms / 1000 + 0.001)
    assert broken(record) == ["none"]


@pytest.mark.parametrize(("patience_ms", "most_ms"), [(0, 1000), (400, 3000), (None, 3000)])
def test_a_loss_of_power_may_cost_more_only_where_a_stall_is_remembered(patience_ms: int | None, most_ms: int) -> None:
    record = good()
    record.spans = [span for span in record.spans if not span.lane.startswith(ROLE)]
    said = {} if patience_ms is None else {"patience_ms": patience_ms}
    for gateway in "ab":
        record.add(lane(ROLE, gateway), "passive", 99, 100, **said)
    assert most_ms - 1000 <= judge(record).bound.none_ms < most_ms


def test_an_address_that_no_kernel_has_is_an_outage_whether_or_not_somebody_asked() -> None:
    record = Record(span for span in good().spans if span.lane != NO_ANSWER)
    assert judge(record).none_ms == pytest.approx(150)
    gone = Record(span for span in record.spans if span.lane != lane(HELD, "b"))
    assert broken(gone) == ["none"]


def test_a_fault_of_the_passive_gateway_may_cost_no_outage() -> None:
    record = good(on="passive")
    record.add(NO_ANSWER, "gap", 102, 103)
    assert broken(record) == ["none"]


def test_while_several_faults_last_there_may_be_none_but_not_for_long_afterwards() -> None:
    record = good()
    record.add(FAULT, "power_off", 102, 106, gateway="b", on="passive", amount=0, refused="")
    record.add(NO_ANSWER, "gap", 102, 107)
    assert broken(record) == []
    assert judge(record).none_ms == pytest.approx(1000)
    record.add(NO_ANSWER, "gap", 107, 130)
    assert broken(record) == ["none"]


def test_what_costs_no_more_together_than_alone_is_counted_from_the_beginning() -> None:
    record = good("kill_web")
    record.add(FAULT, "clock_agent", 102, 106, gateway="b", on="passive", amount=0, refused="")
    assert broken(record) == []
    record.add(NO_ANSWER, "gap", 103, 104)
    assert broken(record) == ["none"]


def test_two_at_the_passive_gateway_may_cost_no_more_than_one() -> None:
    record = good("freeze_agent", on="passive")
    record.add(FAULT, "pull_lan", 102, 106, gateway="b", on="passive", amount=0, refused="")
    record.add(NO_ANSWER, "gap", 103, 104)
    assert broken(record) == ["none"]


def test_after_a_partition_two_may_not_go_on() -> None:
    record = good("partition", on="both")
    record.add(lane(HELD, "a"), VIRTUAL_IP, 104, 105.1)
    assert broken(record) == []
    record.add(lane(HELD, "a"), VIRTUAL_IP, 105.1, 105.4)
    assert broken(record) == ["two_holders"]


def test_a_gateway_without_power_is_no_reason_for_two() -> None:
    assert bound(["power_off", "kill_web"]).two_ms < 100
    assert bound(["power_off", "cut_links", "isolated"]).two_ms == float("inf")


def test_an_agent_that_does_not_end_when_asked_is_reported_unless_it_is_frozen() -> None:
    record = good()
    refused = "not done: ... 'cluster', 'agent']' timed out after 15 seconds"
    record.add(FAULT, "reboot", 102, 117, gateway="a", on="active", amount=0, refused=refused)
    assert broken(record) == ["did_not_stop"]
    record.add(FAULT, "freeze_agent", 101.5, 110, gateway="a", on="active", amount=0, refused="")
    assert broken(record) == []


def test_a_lost_write_is_reported() -> None:
    record = good()
    record.add(LOST, "lost", 112, 112, count=2, names=["b1", "h1-7"])
    assert broken(record) == ["lost_acknowledged"]
    assert judge(record).lost == 2


def test_a_pair_that_does_not_get_into_order_is_reported() -> None:
    record = Record(span for span in good().spans if span.lane != WORKED)
    assert broken(record) == ["unconverged"]
    record.add(WORKED, "not in order", 105, 106, why="gateway-a is not ready")
    assert "gateway-a is not ready" in judge(record).violations[0].text
    late = Record(span for span in good().spans if span.lane != WORKED)
    late.add(WORKED, "in order", 105, 105 + CONVERGED_WITHIN_S + 1, why="")
    assert broken(late) == ["unconverged"]


def test_a_term_that_falls_is_reported() -> None:
    record = good()
    record.add(lane(ROLE, "b"), "active", 113, 114, term=4)
    assert broken(record) == ["term"]
    assert [one.invariant for one in judge(good(), {"a": 4, "b": 6}).violations] == ["term"]
    assert reigns(good()) == {"a": 4, "b": 5}


def test_a_fault_that_could_not_be_done_does_not_count() -> None:
    record = good()
    record.add(FAULT, "kill_web", 102, 103, gateway="b", on="passive", amount=0, refused="not done: it has no power")
    assert judge(record).faults == 1


def test_faults_that_sever_every_wire_together_are_allowed_two_holders() -> None:
    assert bound(["pull_sync", "pull_backup", "isolated"]).two_ms == float("inf")
    assert bound(["pull_sync", "isolated"]).two_ms == bound(["kill_web", "isolated"]).two_ms < 100


# What is kept and drawn


def test_a_record_survives_a_file_and_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    assert list(read(path)) == []
    good().append_to(path)
    good("kill_agent").append_to(path)
    with path.open("a") as file:
        file.write('{"lane": "epi')
    found = list(read(path))
    assert [record.spans for record in found] == [good().spans, good("kill_agent").spans]
    assert len(numbered(found)) == 2


def test_the_picture_is_whole_and_tells_what_broke() -> None:
    record = good()
    record.add(lane(HELD, "a"), VIRTUAL_IP, 107, 107.002)
    record.add(LOST, "lost", 112, 112, count=1, names=["<b1>"])
    picture = draw(record)
    root = ET.fromstring(picture)
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("BROKEN two_holders: two gateways had an address for 2.0 ms") for text in texts)
    assert any(text.startswith("BROKEN lost_acknowledged") for text in texts)
    assert "power_off (a, active)" in texts and f"{VIRTUAL_IP} on b" in texts and "160 ms" in texts
    assert "prefers-color-scheme: dark" in picture and "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_a_picture_of_a_whole_run_has_all_of_its_faults() -> None:
    later = Record(Span(each.lane, each.what, each.start + 20, each.end + 20, each.more) for each in good("loss").spans)
    texts = [text.text for text in ET.fromstring(draw_run([good(), later], "seed 7")).iter()]
    assert {"power_off (a, active)", "loss (a, active)", "Every invariant held in 2 episodes."} <= set(texts)


@pytest.mark.parametrize("kinds, unattended", [
    (("freeze_agent", "wrong_vlan"), True), (("isolated", "kill_agent"), True), (("freeze_agent", "pull_sync"), False),
    (("wrong_vlan", "pull_sync"), False),
])  # fmt: skip
def test_a_dead_agent_that_nobody_can_see_may_have_the_address_for_its_lease(
    kinds: tuple[str, ...], unattended: bool
) -> None:
    assert (2000 < bound(kinds).two_ms < 3000) is unattended
