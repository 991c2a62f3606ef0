"""Which gateway tells people what there is to tell.

One voice: the active gateway speaks for both. A passive one hands it what it has to say, and learns what was told, so
that nothing is told twice if the role moves. One that hears no active gateway, or cannot hand over, speaks for itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ...errors import ClusterError, RequestRefused
from ...network.clock import boot_time_s
from ...notify import policy
from ...notify.news import News
from ...notify.policy import Alarm, Limits, Voice
from ...notify.texts import Message
from ...settings.notify import Target
from ..cluster import Cluster
from ..jobs import Periodic
from ..peer.exchange import Exchange
from . import collect
from .memory import Memory
from .sender import Sending

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3.0
#: ... where there is no target.
IDLE_EVERY_S = 10.0
#: A passive gateway tells the active one at the latest after this time that nothing is new, s.
HAND_OVER_EVERY_S = 30.0
#: What it told counts this long, s.
TOLD_LASTS_S = 90.0
#: A passive gateway that could not hand over for so long speaks for itself, s.
ALONE_AFTER_S = 15.0
#: Messages that are on their way at once.
MOST_SENDING = 3
#: Events that are looked at after a restart.
EVENTS_MOST = 100
#: Ids of news of the other gateway that are remembered.
TAKEN_MOST = 1000
#: Failures in a row after which that is an alarm of its own.
FAILURES_SHOWN = 3

Json = dict[str, Any]


class Notifier:
    """Collects, decides and sends. Its job never waits for a server.

    :param status: returns node, peer, readiness and alarms as the verb ``status`` has them.
    :param send: starts to send a message; replaced in tests.
    """

    def __init__(
        self, cluster: Cluster, exchange: Exchange, status: Callable[[], Json],
        send: Callable[[Target, Message], Sending] = Sending,
    ) -> None:  # fmt: skip
        self._cluster, self._exchange, self._status, self._send = cluster, exchange, status, send
        self._lock = threading.RLock()
        self._memory = Memory.load(cluster.config.state_dir)
        self._sending: dict[str, Sending] = {}
        self._events: list[News] = []
        self._recorded = -1
        self._taken: dict[str, None] = {}
        self._told: tuple[float, str, dict[str, Alarm]] | None = None
        self._handed: tuple[float, list[Alarm]] = (0.0, [])
        self._started_at = self._in_step_at = boot_time_s()
        self._not_ready_since: float | None = None
        self.speaks = False
        exchange.handle("news", self._on_news)

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of each job, by name."""
        return {"notifications": (lambda: LOOK_EVERY_S if self.targets() else IDLE_EVERY_S, self.look)}

    def targets(self) -> dict[str, Target]:
        """Return the targets in force that are switched on, by name."""
        heads = self._cluster.heads()
        return {one.name: one for one in heads.applied.settings.notify if one.enabled} if heads else {}

    # -- the job ----------------------------------------------------------------------------------------------

    def look(self) -> str:
        """Collect what there is, tell it or hand it over, and see how what is being sent fares."""
        targets = self.targets()
        with self._lock:
            self._match(targets)
            self._gather_results()
        if not targets:
            self._skip_events()
            return "nobody is to be told"
        status = self._status()
        own = self._own_alarms(status)
        self._take_up_events()
        if self._follows(status) and self._hand_over(own):
            self.speaks = False
            return "told the active gateway"
        now = boot_time_s()
        self.speaks = status["node"]["role"] == "active" or now - self._in_step_at >= ALONE_AFTER_S
        if not self.speaks:
            return "waits for the active gateway"
        with self._lock:
            self._speak(targets, own, status, now)
            self._memory.save()
            return f"{len(self._sending)} under way, {sum(len(one.waiting) for one in self._voices().values())} to tell"

    def _voices(self) -> dict[str, Voice]:
        return self._memory.voices

    def _match(self, targets: dict[str, Target]) -> None:
        """Have a voice for each target, and none for those that are gone."""
        voices = self._voices()
        for name in [name for name in voices if name not in targets]:
            del voices[name]
            if name in self._sending:
                self._sending.pop(name).end()
        for name in targets:
            voices.setdefault(name, Voice())

    def _own_alarms(self, status: Json) -> dict[str, Alarm]:
        now, rows = boot_time_s(), list(status["alarms"])
        unready = collect.not_ready(status)
        if unready is None:
            self._not_ready_since = None
        else:
            self._not_ready_since = now if self._not_ready_since is None else self._not_ready_since
            if now - self._not_ready_since >= collect.NOT_READY_S:
                rows.append(unready)
        other = status["peer"]["id"] if status["peer"] else ""
        return collect.alarms(rows, self._cluster.node_id, other, self._cluster.config.node_name)

    def _take_up_events(self) -> None:
        memory, recorded = self._memory, self._cluster.store.recorded
        if recorded == self._recorded:
            return
        self._recorded, rows = recorded, self._cluster.store.events(EVENTS_MOST)
        newest = rows[0]["id"] if rows else 0
        if memory.seen is not None and newest > memory.seen:
            fresh = [row for row in reversed(rows) if row["id"] > (memory.seen or 0)]
            self._events = [*self._events, *collect.events(fresh, self._cluster.config.node_name)][-EVENTS_MOST:]
        memory.seen = newest

    def _skip_events(self) -> None:
        if self._memory.seen is not None:  # whoever is entered as a target later is not told of old ones
            self._memory.seen, self._events, self._recorded = None, [], -1
            self._memory.save()

    # -- the active one ---------------------------------------------------------------------------------------

    def _speak(self, targets: dict[str, Target], own: dict[str, Alarm], status: Json, now: float) -> None:
        told, unseen = self._others_alarms(status, now)
        heard, wall = {**told, **own}, datetime.now(UTC).isoformat(timespec="milliseconds")
        grace = now - self._started_at < policy.GRACE_S
        known = {self._cluster.node_id, *unseen, *([status["peer"]["id"]] if status["peer"] else [])}
        for name, target in targets.items():
            voice, limits = self._voices()[name], limits_of(target)
            nodes = {ident.rpartition("@")[2] for ident in voice.said if "@" in ident}
            voice.tell(self._events, now, limits)
            others = {ident: one for ident, one in heard.items() if one.key != f"notify_{name}"}
            voice.hear(others, now, wall, limits, unseen=unseen, gone=nodes - known, grace=grace)
            due = voice.due(now)
            if due and name not in self._sending and len(self._sending) < MOST_SENDING:
                self._begin(name, target, due, wall)
        self._events = []

    def _others_alarms(self, status: Json, now: float) -> tuple[dict[str, Alarm], set[str]]:
        """Return what the other gateway has told, and its id if nothing is known of its alarms at present."""
        peer = status["peer"]["id"] if status["peer"] else ""
        if self._told is not None and self._told[1] == peer and now - self._told[0] < TOLD_LASTS_S:
            return self._told[2], set()
        return {}, {peer} if peer else set()

    def _begin(self, name: str, target: Target, news: tuple[News, ...], wall: str) -> None:
        try:
            self._sending[name] = self._send(target, self._message(news, wall, self._voices()[name].dropped))
        except OSError as error:
            self._voices()[name].failed(f"The process that sends cannot be started: {error.strerror}.", boot_time_s())

    def _message(self, news: tuple[News, ...], wall: str, dropped: int = 0) -> Message:
        heads = self._cluster.require_heads()
        return Message(self._cluster.config.node_name, heads.applied.settings.cluster_id, wall, news, dropped)

    def _gather_results(self) -> None:
        now = boot_time_s()
        for name, sending in list(self._sending.items()):
            if (result := sending.result()) is None:
                continue
            del self._sending[name]
            arrived, answer = result
            if arrived:
                self._voices()[name].delivered(sending.message.news, now)
            else:
                self._voices()[name].failed(answer, now)
                log.warning("Notification target %s was not reached: %s", name, answer)

    # -- the passive one --------------------------------------------------------------------------------------

    @staticmethod
    def _follows(status: Json) -> bool:
        peer = status["peer"]
        return status["node"]["role"] != "active" and peer is not None and peer["role"] == "active"

    def _hand_over(self, own: dict[str, Alarm]) -> bool:
        """Tell the active gateway what there is, and learn what it has told; False if it cannot be told."""
        now, alarms = boot_time_s(), list(own.values())
        with self._lock:
            waiting = {name: voice.hand_over() for name, voice in self._voices().items()}
            events, (handed_at, handed) = list(self._events), self._handed
        if alarms == handed and not events and not any(waiting.values()) and now - handed_at < HAND_OVER_EVERY_S:
            self._in_step_at = now
            return True
        try:
            answer = self._exchange.ask(
                "news", timeout_s=3.0, alarms=[vars(one) for one in alarms], events=[one.as_dict() for one in events],
                waiting={name: [one.as_dict() for one in news] for name, news in waiting.items()},
            )  # fmt: skip
            ledgers = dict(answer["told"])
            with self._lock:
                self._events = [one for one in self._events if one not in events]
                for name, voice in self._voices().items():
                    voice.forget_waiting({one.id for one in waiting.get(name, ())})
                    voice.adopt(ledgers.get(name, []), now)
                self._memory.save()
        except (ClusterError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.debug("The active gateway was not told the news: %s", error)
            return False
        self._handed, self._in_step_at, self._told = (now, alarms), now, None
        return True

    def _on_news(self, sender: str, told: Json) -> Json:
        """Take what the passive gateway has to say, and return what was told already."""
        now, targets = boot_time_s(), self.targets()
        if self._cluster.role() != "active":
            raise RequestRefused("This gateway is not the active one.", "Tell people yourself.")
        try:
            other = self._cluster.node_id
            peer = self._cluster.require_heads().applied.settings.peer_of(other)
            alarms = collect.alarms(told["alarms"], sender, other, peer.name if peer else "")
            events = [News.from_dict(one) for one in list(told["events"])[:EVENTS_MOST]]
            waiting = {str(name): [News.from_dict(one) for one in list(news)[:EVENTS_MOST]]
                       for name, news in list(dict(told["waiting"]).items())[:EVENTS_MOST]}  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RequestRefused("This is no news.") from None
        with self._lock:
            self._match(targets)
            self._told = now, sender, alarms
            told_now = [one.id for one in (*events, *(one for news in waiting.values() for one in news))]
            new = {one for one in told_now if one not in self._taken}  # an answer that was lost: they come again
            self._taken = dict.fromkeys([*self._taken, *new][-TAKEN_MOST:])
            for name, target in targets.items():
                fresh = [one for one in (*events, *waiting.get(name, ())) if one.id in new]
                self._voices()[name].tell(fresh, now, limits_of(target))
            self._memory.save()
            return {"told": {name: self._voices()[name].ledger(now) for name in targets}}

    # -- for people -------------------------------------------------------------------------------------------

    def test(self, name: str) -> Json:
        """Send a test message from this gateway, and return what the server said.

        :raises RequestRefused: there is no such target, or nothing can be sent at all.
        """
        heads = self._cluster.require_heads()
        target = next((one for one in heads.applied.settings.notify if one.name == name), None)
        if target is None:
            raise RequestRefused(f"There is no notification target {name:.40}.", "Look at the list again.")
        wall, gateway = datetime.now(UTC).isoformat(timespec="milliseconds"), self._cluster.config.node_name
        news = News("test", "test", "test", gateway, "info", "This is a test. Nothing is wrong.", at=wall).named()
        began = boot_time_s()
        try:
            arrived, answer = self._send(target, self._message((news,), wall)).wait()
        except OSError as error:
            raise RequestRefused(f"The process that sends cannot be started: {error.strerror}.") from None
        if arrived:
            with self._lock:  # it is reachable again: what waits need not wait any longer
                if (voice := self._voices().get(name)) is not None:
                    voice.next_at = 0.0
        return {"delivered": arrived, "answer": answer, "took_ms": round((boot_time_s() - began) * 1000),
                "gateway": gateway}  # fmt: skip

    def status(self) -> list[Json]:
        """Return how the targets are, as seen from this gateway."""
        now = boot_time_s()
        with self._lock:
            return [
                {
                    "name": name,
                    "waiting": len(voice.waiting),
                    "failures": voice.failures,
                    "error": voice.error,
                    "delivered_s": None if voice.delivered_at is None else round(now - voice.delivered_at, 1),
                    "next_s": max(0.0, round(voice.next_at - now, 1)) if voice.failures else None,
                    "speaks": self.speaks,
                }
                for name, voice in self._voices().items()
            ]

    def alarms(self) -> list[tuple[str, str, str, str]]:
        """Return which targets are not reached: key, severity, text, remedy."""
        return [
            (f"notify_{one['name']}", "warning", f"{one['name']} is not told of alarms: {one['error']}",
             "Test it on the page Notifications.")
            for one in self.status() if one["failures"] >= FAILURES_SHOWN
        ]  # fmt: skip

    def stop(self) -> None:
        """End what is being sent; it is sent again by the next agent."""
        with self._lock:
            for sending in self._sending.values():
                sending.end()
            self._sending = {}
            self._memory.save()


def limits_of(target: Target) -> Limits:
    """Return how much a target is told."""
    return Limits(target.least, target.repeat_min * 60.0, target.remind_h * 3600.0)
