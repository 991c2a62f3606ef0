"""What the agent's own children say to the heartbeat loop: should one be broken or taken, addresses must stay kept."""

from __future__ import annotations

from flask_hsmx_cluster.agent.arbiter.hand import ArbiterHand, ArbiterLink
from flask_hsmx_cluster.agent.child import Child
from flask_hsmx_cluster.agent.data.replicator import ReplicatorLink
from flask_hsmx_cluster.agent.heartbeat.database_hand import DatabaseHand
from flask_hsmx_cluster.agent.heartbeat.services_hand import ServicesHand, ServicesLink
from flask_hsmx_cluster.agent_line import LONGEST_LINE

from ..target import Broken, Target, line
from .heartbeats import Heartbeats, Socket


class _Prompt(Socket):
    def close(self) -> None: ...

    def fileno(self) -> int:
        return -1


class Fuzzed(Target):
    name = "child_line"
    longest = 64 * 1024
    is_json = True
    words = (b"event", b"verb", b"ok", b"result", b"error", b"promote", b"renew", b"yield", b"set_synchronous", b"\n")

    def __init__(self) -> None:
        self._of = Heartbeats()
        self._of.greet()
        self._events: list[tuple[object, ...]] = []
        self._links: list[Child] = [object.__new__(kind) for kind in (ReplicatorLink, ServicesLink, ArbiterLink)]
        for link in self._links:
            Child.__init__(link)
        self._hands = (
            DatabaseHand(self._links[0], True),  # type: ignore[arg-type]
            ServicesHand(self._links[1], lambda *told: self._events.append(told)),  # type: ignore[arg-type]
            ArbiterHand(self._links[2], required=True),  # type: ignore[arg-type]
        )

    def seeds(self) -> list[bytes]:
        error = {"code": "refused", "message": "m", "remedy": "r"}
        return [
            line(one) for one in (
                {"event": "follower", "streaming": True, "caught_up": True},
                {"id": 1, "verb": "promote", "term": 0, "ok": True, "result": {"synchronous": True}},
                {"id": 1, "verb": "renew", "term": 0, "ok": True, "result": {"renewed": False}},
                {"id": 1, "verb": "renew", "term": 0, "ok": False, "error": error},
                {"id": 1, "verb": "yield", "ok": True, "result": {"confirmed": True}},
                {"id": 1, "verb": "set_synchronous", "ok": True, "result": {"on": True}},
                {"event": "stage", "turn": 0, "stage": "before_active"}, {"event": "failed", "error": error},
                {"event": "seen", "answers": True, "text": ""},
                {"event": "answer", "turn": 0, "word": "granted", "at": 1.0},
            )
        ]  # fmt: skip

    def take(self, data: bytes) -> bool:
        self._events.clear()
        with self._of.clock():
            for link, hand in zip(self._links, self._hands, strict=True):
                prompt = _Prompt()
                prompt.waiting = [data + b"\n"]
                link._prompt, link._lines = prompt, b""  # type: ignore[assignment]
                for event in hand.receive() or ():
                    self._of.session.tell(event)
                if len(link._lines) > LONGEST_LINE:
                    raise Broken("a line without end fills the memory")
            self._of.now += 0.01
            self._of.session.turn()
        return True
