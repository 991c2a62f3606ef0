"""Which gateway tells people what: two whole agents, a target that only notes, and a wire that can be cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from flask_hsmx_cluster.agent.notify import memory, side
from flask_hsmx_cluster.agent.notify.collect import events, identity, not_ready
from flask_hsmx_cluster.agent.notify.side import Notifier
from flask_hsmx_cluster.errors import RequestRefused
from flask_hsmx_cluster.notify.policy import GRACE_S
from flask_hsmx_cluster.notify.texts import Message
from flask_hsmx_cluster.settings.notify import Target

from .gateways import World

TARGET = Target("noc", "webhook", "https://x.example/", password="geheim")


@dataclass
class Clock:
    now: float = 5000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Post:
    """Notes what was sent, by which gateway."""

    got: list[str] = field(default_factory=list)
    refuses: str = ""

    def by(self, gateway: str) -> Any:
        def send(_target: Target, message: Message) -> _Sent:
            if not self.refuses:
                self.got.extend(f"{gateway}: {one.kind} {one.key}" for one in message.news)
            return _Sent(message, self.refuses)

        return send


@dataclass
class _Sent:
    message: Message
    refused: str

    def result(self) -> tuple[bool, str]:
        return not self.refused, self.refused or "200 OK"

    def wait(self) -> tuple[bool, str]:
        return self.result()

    def end(self) -> None: ...


@dataclass
class Pair:
    """Both notifiers, with alarms that the tests set and time that they let pass."""

    world: World
    clock: Clock
    post: Post = field(default_factory=Post)
    alarms: dict[str, list[str]] = field(default_factory=lambda: {"A": [], "B": []})
    dead: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.notifiers = {name: self.start(name) for name in "AB"}

    def start(self, name: str) -> Notifier:
        service = self.world.gateways[name].service
        notifier = service._notifier
        notifier._send = self.post.by(name)
        notifier._status = lambda: self.status(name)
        return notifier

    def status(self, name: str) -> dict[str, Any]:
        found = self.world.gateways[name].service.status()
        other = "B" if name == "A" else "A"
        deaf = self.world.cut or other in self.dead
        found["peer"] |= {"role": "unknown" if deaf else self.world.gateways[other].hot.role}
        found["alarms"] = [
            {"key": key, "severity": "critical", "text": f"{key} is wrong.", "remedy": "", "since_s": 0.0}
            for key in self.alarms[name]
        ]
        found["readiness"] = {"ready": True, "reasons": []}
        return found

    def run(self, seconds: float) -> list[str]:
        """Let time pass; return what was sent meanwhile."""
        before, end = len(self.post.got), self.clock.now + seconds
        while self.clock.now < end:
            for name in "AB":
                if name not in self.dead:
                    self.notifiers[name].look()
            self.clock.now += side.LOOK_EVERY_S
        return self.post.got[before:]


@pytest.fixture
def pair(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    clock = Clock()
    for module in (side, memory):
        monkeypatch.setattr(module, "boot_time_s", clock)
    held = world.a.service.settings()
    world.a.service.propose({**held["settings"], "notify": [TARGET.as_dict()]}, held["revision"])
    pair = Pair(world, clock)
    for notifier in pair.notifiers.values():
        notifier._started_at = notifier._in_step_at = clock.now
    pair.run(GRACE_S + 10)
    pair.post.got.clear()
    yield pair


def test_the_target_and_its_secret_reach_both_gateways_and_nobody_else(world: World, pair: Pair) -> None:
    assert pair.notifiers["B"].targets() == {"noc": TARGET}
    for gateway in (world.a, world.b):
        shown = json.dumps([gateway.service.settings(), gateway.service.status()])
        assert "https://x.example/" in shown and "geheim" not in shown
    held = world.b.service.settings()
    world.b.service.propose(held["settings"], held["revision"])  # as a page does that has no password to give
    assert pair.notifiers["A"].targets() == {"noc": TARGET}


def test_the_active_gateway_tells_for_both(pair: Pair) -> None:
    pair.alarms = {"A": ["path_sync", "disk"], "B": ["path_sync", "disk"]}
    assert sorted(pair.run(30)) == ["A: raised disk", "A: raised disk", "A: raised path_sync"]
    pair.alarms = {"A": [], "B": ["disk"]}
    assert sorted(pair.run(60)) == ["A: over disk", "A: over path_sync"]


def test_what_was_told_is_not_told_again_when_the_role_moves(pair: Pair) -> None:
    pair.alarms = {"A": ["path_sync"], "B": ["path_sync", "carrier_lan0"]}
    assert len(pair.run(60)) == 2
    pair.run(40)  # the passive gateway learns what was told
    pair.world.a.service.failover()
    pair.world.b.store.record("active", "info", "Became active in term 2: a request")
    assert pair.run(120) == ["B: event active"]


def test_the_survivor_of_a_dead_gateway_tells_what_has_happened(pair: Pair) -> None:
    pair.alarms["A"] = ["carrier_lan0"]
    assert pair.run(60) == ["A: raised carrier_lan0"]
    pair.run(40)
    pair.dead.add("A")
    pair.world.cut = True
    pair.world.b.hot.role = "active"
    pair.world.b.store.record("active", "info", "Became active in term 2: A is silent")
    pair.alarms["B"] = ["peer"]
    assert sorted(pair.run(60)) == ["B: event active", "B: raised peer"], "A's alarm is not over: nobody can know"


def test_a_passive_gateway_that_cannot_reach_the_active_one_tells_it_itself(pair: Pair) -> None:
    pair.world.cut = True
    pair.alarms["B"] = ["hold"]
    assert pair.run(60) == ["B: raised hold"]
    pair.world.cut = False
    pair.alarms["B"] = []
    assert pair.run(60) == []


def test_what_the_passive_gateway_could_not_say_is_said_by_the_active_one(pair: Pair) -> None:
    pair.world.b.store.record("verify_differs", "critical", "This gateway's data differs from A's")
    assert pair.run(30) == ["A: event verify_differs"]


def test_an_answer_that_was_lost_tells_nothing_twice(pair: Pair) -> None:
    lost = []

    def tap(to: str, path: str, deliver: Any) -> bytes:
        answer: bytes = deliver()
        if to == "A" and not lost:
            lost.append(path)
            from flask_hsmx_cluster.errors import PeerUnavailable

            raise PeerUnavailable("The answer was lost.")
        return answer

    pair.world.tap = tap
    pair.world.b.store.record("verify_differs", "critical", "This gateway's data differs from A's")
    assert pair.run(60) == ["A: event verify_differs"] and lost


def test_nothing_is_lost_or_told_twice_over_a_restart(pair: Pair) -> None:
    pair.alarms["A"] = ["disk"]
    assert pair.run(30) == ["A: raised disk"]
    pair.post.refuses = "refused"
    pair.alarms["A"] = ["disk", "database"]
    pair.run(60)
    pair.world.a.store.record("handover_failed", "warning", "x")
    pair.world.restart("A").hot.role = "active"
    pair.world.a.hot.membership = pair.world.a.service.membership()
    pair.notifiers["A"] = pair.start("A")
    pair.post.refuses = ""
    assert sorted(pair.run(120)) == ["A: event handover_failed", "A: raised database"]


def test_a_target_that_is_not_reached_is_an_alarm_on_the_page(pair: Pair) -> None:
    pair.post.refuses = "x.example refuses the connection."
    pair.alarms["A"] = ["disk"]
    pair.run(300)
    (alarm,) = pair.notifiers["A"].alarms()
    assert alarm[0] == "notify_noc" and "refuses the connection" in alarm[2]
    (shown,) = pair.world.a.service.status()["notify"]
    assert shown["waiting"] == 1 and shown["failures"] >= 3 and shown["next_s"] > 0
    assert pair.notifiers["A"].test("noc")["delivered"] is False
    pair.post.refuses = ""
    assert pair.notifiers["A"].test("noc")["answer"] == "200 OK"
    assert "A: raised disk" in pair.run(10), "it is reachable again, so nothing waits any longer"


def test_who_does_not_send_any_more_has_no_alarm_of_it(pair: Pair) -> None:
    pair.post.refuses = "x.example refuses the connection."
    pair.alarms["A"] = ["disk"]
    pair.run(120)
    assert pair.notifiers["A"].alarms()
    pair.world.a.service.failover()
    pair.run(10)
    assert not pair.notifiers["A"].alarms() and not pair.notifiers["A"].speaks


@pytest.mark.parametrize(
    "told",
    [{}, {"alarms": [{}], "events": [], "waiting": {}}, {"alarms": [], "events": [1], "waiting": {}},
     {"alarms": [], "events": [], "waiting": [1]}, {"alarms": 7, "events": [], "waiting": {}},
     {"alarms": [], "events": [], "waiting": {"noc": [{"kind": "x"}]}}],
)  # fmt: skip
def test_broken_news_are_refused(pair: Pair, told: dict[str, Any]) -> None:
    from flask_hsmx_cluster.errors import RequestRefused

    with pytest.raises(RequestRefused, match="no news"):
        pair.notifiers["A"]._on_news(pair.world.b.store.node_id, told)


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"boot_id": "x", "voices": 7, "seen": 1}', "\x00" * 100])
def test_a_broken_file_costs_a_repetition_and_no_more(world: World, content: str) -> None:
    path = world.root / "A" / memory.FILE_NAME
    path.write_text(content)
    assert memory.Memory.load(str(world.root / "A")).voices == {}


def test_which_alarms_are_one_on_both_gateways() -> None:
    assert identity("path_sync", "a", "b") == identity("path_sync", "b", "a")
    assert identity("disk", "a", "b") != identity("disk", "b", "a")
    assert identity("peer_apply", "a", "b") == identity("apply", "b", "a")
    assert identity("peer", "a", "b") != identity("peer", "b", "a")


def test_which_events_are_told() -> None:
    def rows(*kinds: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"id": at, "kind": kind, "severity": severity, "text": "x", "at": "t"}
                for at, (kind, severity) in enumerate(kinds)]  # fmt: skip

    told = events(rows(("active", "info"), ("settings", "info"), ("alarm_disk", "warning"), ("degraded", "critical"),
                       ("both_active", "critical"), ("own_addresses_failed", "warning")), "A")  # fmt: skip
    assert [(one.key, one.severity) for one in told] == [
        ("active", "warning"), ("both_active", "critical"), ("own_addresses_failed", "warning"),
    ]  # fmt: skip


def test_a_passive_gateway_that_is_not_ready_is_an_alarm_unless_another_says_so() -> None:
    status: dict[str, Any] = {
        "node": {"role": "active", "maintenance_left_s": None}, "peer": {"maintenance": False}, "alarms": [],
        "readiness": {"ready": False, "reasons": ["The passive gateway is not healthy."]},
    }  # fmt: skip
    found = not_ready(status)
    assert found is not None and "The passive gateway is not healthy." in found["text"]
    assert not_ready({**status, "alarms": [{"severity": "critical"}]}) is None
    assert not_ready({**status, "node": {"role": "passive", "maintenance_left_s": None}}) is None
    assert not_ready({**status, "peer": {"maintenance": True}}) is None


def test_to_look_asks_no_store_and_sees_what_a_status_shows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    service = world.a.service
    service._out_of_force, world.a.hot.role = RequestRefused("No port lan0.", "Plug it in."), "standalone"
    shown = service.status()
    for name in ("peer", "pairing", "joining", "events"):
        monkeypatch.delattr(type(service._store), name)
    seen = service.situation()
    assert [one["key"] for one in seen["alarms"]] == [one["key"] for one in shown["alarms"]]
    assert "settings_not_in_force" in {one["key"] for one in seen["alarms"]}
    assert seen["readiness"] == shown["readiness"] and seen["node"]["why"] == shown["node"]["why"]
    assert seen["peer"]["id"] == shown["peer"]["id"]
    assert service._notifier._status == service.situation
