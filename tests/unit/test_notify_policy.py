"""When a target is told what. The time is simulated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from flask_hsmx_cluster.notify import texts
from flask_hsmx_cluster.notify.news import News
from flask_hsmx_cluster.notify.policy import (
    BETWEEN_S,
    MOST_SAID,
    MOST_WAITING,
    RETRY_S,
    SETTLE_S,
    Alarm,
    Limits,
    Voice,
)
from flask_hsmx_cluster.notify.texts import Message

LIMITS = Limits("warning", 1800.0, 86400.0)
DISK = Alarm("disk@a", "disk", "gateway-a", "warning", "The disk is nearly full.", "Free some space.")
PATH = Alarm("path_sync", "path_sync", "gateway-a", "warning", "No heartbeats over sync.", "Check its cable.")
DEAD = Alarm("peer@a", "peer", "gateway-a", "critical", "gateway-b is not heard.", "Is it powered on?")


@dataclass
class Listener:
    """A target that takes what is due, and the clock."""

    voice: Voice = field(default_factory=Voice)
    now: float = 1000.0
    got: list[list[str]] = field(default_factory=list)
    answers: bool = True

    def run(self, seconds: float, *alarms: Alarm, limits: Limits = LIMITS, **options: object) -> list[list[str]]:
        """Let time pass with these alarms; return the messages that came meanwhile, as kind and key."""
        before, end = len(self.got), self.now + seconds
        step = max(1.0, seconds / 2000)
        while self.now < end:
            present = {one.ident: one for one in alarms}
            self.voice.hear(present, self.now, "2030-01-02T03:04:05.000+00:00", limits, **options)  # type: ignore[arg-type]
            if due := self.voice.due(self.now):
                if self.answers:
                    self.got.append([f"{one.kind} {one.key}" for one in due])
                    self.voice.delivered(due, self.now)
                else:
                    self.voice.failed("refused", self.now)
            self.now += step
        return self.got[before:]


@pytest.fixture
def target() -> Listener:
    return Listener()


def test_an_alarm_is_told_once_and_its_end_once(target: Listener) -> None:
    assert target.run(600, DISK) == [["raised disk"]]
    assert target.run(600) == [["over disk"]]
    assert target.run(600) == []


def test_what_comes_together_is_told_together_and_a_storm_in_few_messages(target: Listener) -> None:
    assert target.run(60, DISK, PATH) == [["raised disk", "raised path_sync"]]
    for count in range(60):  # another alarm each second
        target.run(1, *(Alarm(f"x{number}", f"x{number}", "a", "warning", "x") for number in range(count)), DISK, PATH)
    target.run(60, *(Alarm(f"x{number}", f"x{number}", "a", "warning", "x") for number in range(60)), DISK, PATH)
    assert len(target.got) <= 2 + 120 / BETWEEN_S
    assert sum(map(len, target.got)) == 62


def test_of_a_thousand_alarms_none_is_told_again_and_again_and_a_critical_one_is_told_all_the_same(
    target: Listener,
) -> None:
    many = [Alarm(f"x{number}@a", f"x{number}", "a", "warning", "x") for number in range(MOST_SAID + 100)]
    assert sum(map(len, target.run(300, *many))) <= MOST_SAID
    assert target.run(300, *many) == []
    assert target.run(60, *many, DEAD) == [["raised peer"]]
    assert any("raised" in one for sent in target.run(60, *many[200:], DEAD) for one in sent), "what is over makes room"


def test_one_that_comes_and_goes_is_told_again_only_after_the_stated_time(target: Listener) -> None:
    for _ in range(20):
        target.run(30, PATH)
        target.run(30)
    assert [message for message in target.got if "raised path_sync" in message] == [["raised path_sync"]]
    said = target.run(1800)
    assert said == [["passed path_sync"]] and target.run(7200) == [], "what was not told is not lost, and ends"


def test_one_that_is_there_when_the_stated_time_is_over_is_told(target: Listener) -> None:
    target.run(60, PATH)
    target.run(60)
    assert target.run(600, PATH) == []
    assert target.run(1800, PATH) == [["raised path_sync"]]


def test_a_reminder_comes_while_it_lasts_unless_none_is_wanted(target: Listener) -> None:
    target.run(60, DISK)
    assert target.run(86400 * 2 + 600, DISK) == [["reminder disk"]] * 2
    assert Listener().run(86400 * 2, DISK, limits=Limits("warning", 1800.0, 0.0)) == [["raised disk"]]


def test_one_that_becomes_critical_is_told_at_once(target: Listener) -> None:
    target.run(60, DISK)
    worse = Alarm(DISK.ident, "disk", "gateway-a", "critical", "The disk is full.")
    assert target.run(60, worse) == [["raised disk"]]


def test_one_that_is_over_before_it_was_told_is_told_as_such(target: Listener) -> None:
    target.voice.hear({DEAD.ident: DEAD}, target.now, "2030-01-02T03:04:05.000+00:00", LIMITS)
    assert target.run(60) == [["passed peer"]]


def test_only_what_is_severe_enough_is_told(target: Listener) -> None:
    limits = Limits("critical", 1800.0, 0.0)
    assert target.run(60, DISK, DEAD, limits=limits) == [["raised peer"]]
    target.voice.tell([News("event", "e1", "active", "a", "warning", "x")], target.now, limits)
    assert target.run(60, DEAD, limits=limits) == []


def test_a_target_that_does_not_answer_is_asked_less_and_less_and_nothing_is_lost(target: Listener) -> None:
    target.answers = False
    target.run(6, DISK)
    waits = []
    for _ in range(12):
        target.voice.failed("refused", target.now)
        waits.append(target.voice.next_at - target.now)
    assert waits == sorted(waits) and waits[0] < waits[1] and waits[-1] == RETRY_S[1]
    target.run(10, DISK, PATH)
    target.answers = True
    assert target.run(2 * RETRY_S[1], DISK, PATH) == [["raised disk", "raised path_sync"]]
    assert target.voice.failures == 0


def test_the_queue_is_bounded_and_keeps_the_most_severe(target: Listener) -> None:
    target.answers = False
    target.run(5, DEAD)
    for count in range(3 * MOST_WAITING):
        target.voice.tell([News("event", f"e{count}", "x", "a", "warning", "x")], target.now, LIMITS)
    assert len(target.voice.waiting) == MOST_WAITING and target.voice.dropped == 2 * MOST_WAITING + 1
    assert any(one.key == "peer" for one in target.voice.waiting)


def test_nothing_is_over_because_the_agent_has_just_started(target: Listener) -> None:
    target.run(60, DISK)
    kept = json.loads(json.dumps(target.voice.to_dict(target.now)))
    later = Listener(Voice.from_dict(kept, 5.0, 100.0), now=5.0)
    assert later.run(40, grace=True) == []
    assert later.run(40, DISK) == [], "it was told before the start"
    assert later.run(40) == [["over disk"]]


def test_what_waited_is_told_after_a_restart(target: Listener) -> None:
    target.answers = False
    target.run(60, DEAD)
    kept = json.loads(json.dumps(target.voice.to_dict(target.now)))
    assert Listener(Voice.from_dict(kept, 0.0, 9.0), now=0.0).run(60, DEAD, grace=True) == [["raised peer"]]


def test_an_alarm_of_a_gateway_that_is_silent_is_not_over_and_of_one_that_left_nobody_hears(target: Listener) -> None:
    target.run(60, DISK)
    assert target.run(600, unseen={"a"}) == []
    assert target.run(600, gone={"a"}) == []
    assert target.run(600) == []


def test_the_gateway_that_goes_on_tells_nothing_twice(target: Listener) -> None:
    target.run(60, DISK, PATH)
    target.answers = False
    target.run(10, DISK, PATH, DEAD)  # this did not reach anybody any more
    heir = Listener(now=50.0)
    heir.voice.adopt(json.loads(json.dumps(target.voice.ledger(target.now))), heir.now)
    assert heir.run(60, DISK, PATH, DEAD) == [["raised peer"]]
    assert heir.run(60, DEAD) == [["over disk", "over path_sync"]]


def test_what_lasts_is_not_handed_over_but_what_is_past(target: Listener) -> None:
    target.answers = False
    target.run(60, DISK, PATH)
    target.voice.tell([News("event", "e1", "passive", "a", "warning", "x").named()], target.now, LIMITS)
    target.run(1, DISK)
    handed = target.voice.hand_over()
    assert [f"{one.kind} {one.key}" for one in handed] == ["passed path_sync", "event passive"]
    target.voice.forget_waiting({one.id for one in handed})
    assert target.voice.waiting == []


@pytest.mark.parametrize("ledger", [[1], [{}], [{"news": {}, "age_s": 1, "open": True, "again": 0}], "x", 7])
def test_a_broken_ledger_is_refused(ledger: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Voice().adopt(ledger, 0.0)  # type: ignore[arg-type]


def test_the_subject_says_the_worst_first_and_the_body_what_to_do() -> None:
    at = "2030-01-02T03:04:05.000+00:00"
    news = tuple(
        News("raised", one.ident, one.key, one.gateway, one.severity, one.text, one.remedy, at) for one in (DISK, DEAD)
    )
    message = Message("gateway-a", "c", "2030-01-02T03:04:09.000+00:00", news)
    assert texts.subject(message) == "[gateway-a] ALARM: gateway-b is not heard. (+1)"
    assert "What to do: Is it powered on?" in texts.body(message) and "03:04:05 UTC" in texts.body(message)
    assert len(texts.subject(Message("g" * 64, "c", "", (News("raised", "", "", "", "critical", "x" * 600),)))) <= 150


def test_news_from_outside_are_one_short_line() -> None:
    data = News("event", "i", "k", "g", "info", "a\r\nBcc: all@example.com" + "x" * 5000, at="t").as_dict()
    text = News.from_dict(data).text
    assert "\n" not in text and "\r" not in text and len(text) <= 600
    for changes in ({"severity": "worst"}, {"kind": "x"}, {"text": 7}, {"times": 0}):
        with pytest.raises((ValueError, TypeError)):
            News.from_dict({**data, **changes})


def test_it_waits_a_moment_for_what_belongs_together(target: Listener) -> None:
    target.voice.hear({DISK.ident: DISK}, 0.0, "2030-01-02T03:04:05.000+00:00", LIMITS)
    assert not target.voice.due(SETTLE_S - 0.1) and target.voice.due(SETTLE_S)
