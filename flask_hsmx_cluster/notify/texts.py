"""The words of a message. They are read at night, on a phone, by somebody who does not know the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .news import SEVERITIES, News

#: Longest subject, characters.
SUBJECT_MOST = 150
_SIGNS = {
    "raised": "ALARM", "reminder": "STILL", "over": "OVER", "passed": "CAME AND WENT", "event": "EVENT", "test": "TEST",
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    """Everything that is told at once.

    :param gateway: name of the gateway that sends it.
    :param cluster: id of the cluster.
    :param at: when it is sent, ISO wall time.
    :param dropped: news that waited too long and are not among these.
    """

    gateway: str
    cluster: str
    at: str
    news: tuple[News, ...]
    dropped: int = 0

    @property
    def severity(self) -> str:
        """The most severe of what is new; what is over counts as info."""
        present = [one.severity for one in self.news if one.kind != "over"]
        return max(present, key=SEVERITIES.index, default="info")

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "news": [one.as_dict() for one in self.news]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Message:
        return cls(**{**data, "news": tuple(News.from_dict(one) for one in data["news"])})


def subject(message: Message) -> str:
    """Return one line that says the worst first."""
    first = _by_urgency(message.news)[0]
    more = f" (+{len(message.news) - 1})" if len(message.news) > 1 else ""
    text = f"[{message.gateway}] {_SIGNS[first.kind]}: {first.text}"
    room = SUBJECT_MOST - len(more)
    return (text if len(text) <= room else text[: room - 1] + "…") + more


def body(message: Message) -> str:
    """Return the whole text, each alarm with what to do about it."""
    parts = [_paragraph(one) for one in _by_urgency(message.news)]
    if message.dropped:
        parts.append(f"{message.dropped} more could not be kept while this message could not be delivered: see the "
                     "events on the page Network / Cluster settings.")  # fmt: skip
    parts.append(f"Sent by {message.gateway} at {_clock(message.at)}.")
    return "\n\n".join(parts) + "\n"


def line(news: News) -> str:
    """Return one news on one line, as a log keeps it."""
    times = f" ({news.times} times)" if news.times > 1 else ""
    remedy = f" {news.remedy}" if news.kind in ("raised", "reminder") and news.remedy else ""
    return f"{_SIGNS[news.kind]}: {news.gateway}: {news.text}{times}{remedy}"


def _paragraph(news: News) -> str:
    times = f" It came {news.times} times." if news.times > 1 else ""
    lines = [f"{_SIGNS[news.kind]} ({news.severity}), {news.gateway}, {_clock(news.at)}", f"{news.text}{times}"]
    if news.remedy and news.kind in ("raised", "reminder"):
        lines.append(f"What to do: {news.remedy}")
    return "\n".join(lines)


def _by_urgency(news: Sequence[News]) -> list[News]:
    kinds = list(_SIGNS)
    return sorted(news, key=lambda one: (
        one.kind == "over", -SEVERITIES.index(one.severity), kinds.index(one.kind), one.at))  # fmt: skip


def _clock(iso: str) -> str:
    return f"{iso[:10]} {iso[11:19]} UTC"
