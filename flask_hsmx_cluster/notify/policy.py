"""When a target is told what: once, again, that it is over; how much in one message; and what if it does not answer.

Pure: alarms, events and the time go in, news that is due comes out. Times are boot time in s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .news import News, at_least

#: What comes within this time, s, is told in one message.
SETTLE_S = 3.0
#: From one message to the next, s: a storm is told in few.
BETWEEN_S = 30.0
#: After a failure: the first wait, and the longest, s.
RETRY_S = (10.0, 3600.0)
#: News that may wait; of more the least severe, oldest first, are dropped and counted.
MOST_WAITING = 100
#: Alarms of which is remembered what was said. More are told when others are over: none is told again and again.
MOST_SAID = 300
#: After a start an alarm that is not seen is not over yet: it may just not have been looked at, s.
GRACE_S = 45.0


@dataclass(frozen=True)
class Alarm:
    """An alarm as it is at present.

    :param ident: which one it is, alike on both gateways; that of one gateway ends with ``@`` and its id.
    """

    ident: str
    key: str
    gateway: str
    severity: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Limits:
    """What a target is told.

    :param least: the least severity.
    :param repeat_s: the same alarm again at the earliest after, s.
    :param remind_s: a reminder while it lasts after, s; 0: none.
    """

    least: str
    repeat_s: float
    remind_s: float


@dataclass
class Said:
    """What was said of an alarm.

    :param at: when, the last time.
    :param open: the last word was that it is there.
    :param again: how often it has come since without a word.
    """

    news: News
    at: float
    open: bool = True
    again: int = 0


@dataclass
class Voice:
    """One target's part: what it was told, what waits for it, and how it answers."""

    said: dict[str, Said] = field(default_factory=dict)
    waiting: list[News] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    dropped: int = 0
    failures: int = 0
    error: str = ""
    waits_since: float = 0.0
    next_at: float = 0.0
    delivered_at: float | None = None

    # -- listening --------------------------------------------------------------------------------------------

    def hear(
        self, alarms: Mapping[str, Alarm], now: float, wall: str, limits: Limits, *,
        unseen: Collection[str] = (), gone: Collection[str] = (), grace: bool = False,
    ) -> None:  # fmt: skip
        """Take note of the alarms that there are.

        :param wall: the present wall time, ISO.
        :param unseen: ids of gateways of whose alarms nothing is known at present: they are not over.
        :param gone: ids of gateways that have left: nobody is told of their alarms any more.
        :param grace: this gateway has just started: nothing is over yet.
        """
        heard = {ident: one for ident, one in alarms.items() if at_least(one.severity, limits.least)}
        for ident, alarm in heard.items():
            self._there(alarm, now, wall, limits)
            self.present.add(ident)
        for ident in [ident for ident, said in self.said.items() if said.open] + list(self.present):
            node = ident.rpartition("@")[2] if "@" in ident else ""
            if ident in heard or node in unseen or (grace and node not in gone):
                continue
            self.present.discard(ident)
            self._over(ident, now, wall, silently=node in gone)
        self._after_the_quiet(now, wall, limits)
        self._bound(now)

    def tell(self, events: Iterable[News], now: float, limits: Limits) -> None:
        """Have events told that are severe enough."""
        for one in events:
            if at_least(one.severity, limits.least):
                self._wait(one, now)
        self._bound(now)

    def _there(self, alarm: Alarm, now: float, wall: str, limits: Limits) -> None:
        said, ident = self.said.get(alarm.ident), alarm.ident
        if said is None:
            return self._say("raised", alarm, now, wall) if self._has_room(alarm) else None
        worse = said.open and alarm.severity == "critical" != said.news.severity
        quiet = now - said.at < limits.repeat_s
        if ident not in self.present and not said.open:
            said.again += 1
        if worse or (not said.open and not quiet):
            return self._say("raised", alarm, now, wall, times=max(1, said.again))
        if said.open and limits.remind_s and now - said.at >= limits.remind_s:
            return self._say("reminder", alarm, now, wall)
        return None

    def _over(self, ident: str, now: float, wall: str, silently: bool) -> None:
        said = self.said.get(ident)
        if said is None or not said.open:
            return
        said.open = False
        for at, one in enumerate(self.waiting):
            if one.ident == ident and one.kind in ("raised", "reminder"):
                if one.kind == "raised":  # nobody knows yet that it was there
                    self.waiting[at] = replace(one, kind="passed", text=f"{one.text} It was over at {wall[11:19]} UTC.")
                else:
                    self.waiting[at] = replace(one, kind="over", at=wall)
                return
        if not silently:
            self._wait(replace(said.news, kind="over", at=wall, times=1, id=""), now)

    def _after_the_quiet(self, now: float, wall: str, limits: Limits) -> None:
        """Say how often an alarm came and went meanwhile, and forget those that nobody needs to know of any more."""
        for ident, said in list(self.said.items()):
            if said.open or ident in self.present or now - said.at < limits.repeat_s:
                continue
            if said.again:
                self._wait(replace(said.news, kind="passed", at=wall, times=said.again, id=""), now)
                said.again, said.at = 0, now
            else:
                del self.said[ident]

    def _say(self, kind: str, alarm: Alarm, now: float, wall: str, times: int = 1) -> None:
        news = News(kind, alarm.ident, alarm.key, alarm.gateway, alarm.severity, alarm.text, alarm.remedy, wall, times)
        self.said[alarm.ident] = Said(news, now)
        if not any(one.ident == alarm.ident and one.kind == "raised" for one in self.waiting):
            self._wait(news, now)

    def _wait(self, news: News, now: float) -> None:
        if not self.waiting:
            self.waits_since = now
        self.waiting.append(news.named())

    def _bound(self, now: float) -> None:
        while len(self.waiting) > MOST_WAITING:
            least = min(self.waiting, key=lambda one: ("info", "warning", "critical").index(one.severity))
            self.waiting.remove(least)
            self.dropped += 1

    def _has_room(self, alarm: Alarm) -> bool:
        """Return whether one more alarm can be remembered; the first that is over makes room, a critical one has it."""
        if len(self.said) >= MOST_SAID and alarm.severity != "critical":
            past = next((ident for ident, said in self.said.items() if not said.open and ident not in self.present), "")
            if not past:
                return False
            del self.said[past]
        return True

    # -- sending ----------------------------------------------------------------------------------------------

    def due(self, now: float) -> tuple[News, ...]:
        """Return what is to be sent now, in one message; empty: nothing."""
        ripe = self.waiting and now >= self.next_at and now - self.waits_since >= SETTLE_S
        return tuple(self.waiting) if ripe else ()

    def delivered(self, sent: Sequence[News], now: float) -> None:
        """Take note that a message has arrived."""
        ids = {one.id for one in sent}
        self.waiting = [one for one in self.waiting if one.id not in ids]
        self.failures, self.error, self.dropped = 0, "", 0
        self.delivered_at, self.next_at, self.waits_since = now, now + BETWEEN_S, now

    def failed(self, why: str, now: float) -> None:
        """Take note that it has not: the next attempt comes later each time."""
        self.failures += 1
        self.error = why
        first, longest = RETRY_S
        self.next_at = now + min(longest, first * 2.0 ** min(self.failures - 1, 20))

    # -- the other gateway ------------------------------------------------------------------------------------

    def ledger(self, now: float) -> list[dict[str, Any]]:
        """Return what the target was told and has got, for the gateway that may go on with it."""
        unsent = {one.ident for one in self.waiting}
        return [
            {"news": said.news.as_dict(), "age_s": now - said.at, "open": said.open, "again": said.again}
            for ident, said in self.said.items() if ident not in unsent
        ]  # fmt: skip

    def adopt(self, ledger: Iterable[Mapping[str, Any]], now: float) -> None:
        """Take over what the target was told by the other gateway, in place of what is known here.

        :raises KeyError, TypeError, ValueError, AttributeError: it is no ledger.
        """
        self.said = dict(map(lambda row: _said(row, now), list(ledger)[:MOST_SAID]))
        self.present = {ident for ident, said in self.said.items() if said.open}

    def hand_over(self) -> list[News]:
        """Return what the other gateway is to tell instead of this one; what lasts it sees for itself."""
        return [one for one in self.waiting if one.kind not in ("raised", "reminder")]

    def forget_waiting(self, handed: Collection[str]) -> None:
        """Drop what the other gateway has taken over, and what it sees for itself. It sends from now on.

        :param handed: ids.
        """
        self.waiting = [
            one for one in self.waiting if one.id not in handed and one.kind not in ("raised", "reminder")
        ]  # fmt: skip
        self.failures, self.error, self.next_at = 0, "", 0.0

    # -- on disk ----------------------------------------------------------------------------------------------

    def to_dict(self, now: float) -> dict[str, Any]:
        """Return the form in which it survives the agent. Times become ages: after a boot the clock begins anew."""
        return {
            "said": [
                {"news": said.news.as_dict(), "age_s": now - said.at, "open": said.open, "again": said.again}
                for said in self.said.values()
            ],
            "waiting": [one.as_dict() for one in self.waiting],
            "dropped": self.dropped,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], now: float, passed_s: float) -> Voice:
        """Return what was kept.

        :param passed_s: since then, s.
        :raises KeyError, TypeError, ValueError, AttributeError: it cannot be read.
        """
        voice = cls(waiting=[News.from_dict(one) for one in data["waiting"]][:MOST_WAITING], waits_since=now)
        voice.dropped = int(data["dropped"])
        voice.adopt(data["said"], now - passed_s)
        return voice


def _said(row: Mapping[str, Any], now: float) -> tuple[str, Said]:
    news, age_s, again = News.from_dict(row["news"]), float(row["age_s"]), int(row["again"])
    if not 0 <= age_s < 1e9 or not 0 <= again < 10**6:
        raise ValueError("no ledger")
    return news.ident, Said(news, now - age_s, row["open"] is True, again)
