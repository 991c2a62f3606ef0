"""Whether notification targets make sense: a part of :mod:`flask_hsmx_cluster.settings.rules`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import Finding
from . import notify
from .model import Settings
from .notify import KEY, Target

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
#: An address as it stands between the angle brackets of a mail's header: nothing that could end it.
MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_EXAMPLES = {
    "mail": "For example mail.example.com, or mail.example.com:587.",
    "webhook": "For example https://monitor.example.com/alarms.",
    "syslog": "For example udp://192.0.2.7:514, tcp://192.0.2.7:601 or unix:/dev/log.",
}


def check(settings: Settings) -> list[Finding]:
    """Return what is wrong with the targets, whether their passwords are there or masked."""
    return [
        finding
        for at, one in enumerate(settings.notify)
        for finding in (*_check_one(f"{KEY}.{at}", one), *_check_name(at, settings))
    ]


def check_passwords(settings: Settings) -> list[Finding]:
    """Return which targets need a password and have none; for the agent, which knows the stored ones."""
    return [
        Finding("password", f"The password for {one.name} is missing.",
                "Type it; also when server, user name, protection or fingerprint were changed.", f"{KEY}.{at}.password")
        for at, one in enumerate(settings.notify) if one.kind == "mail" and one.user and not one.password
    ]  # fmt: skip


def _check_name(at: int, settings: Settings) -> Iterator[Finding]:
    one, where = settings.notify[at], f"{KEY}.{at}.name"
    if not NAME.fullmatch(one.name):
        yield Finding("name", f"{one.name!r:.40} is no name for a notification target.",
                      "Use 1 to 32 letters, digits, dots, dashes and underscores.", where)
    elif any(other.name == one.name for other in settings.notify[:at]):
        yield Finding("duplicate", f"There are two notification targets named {one.name}.", "Choose another name.",
                      where)  # fmt: skip


def _check_one(where: str, one: Target) -> Iterator[Finding]:
    if one.kind not in notify.KINDS:
        yield Finding("kind", f"{one.kind!r:.40} is no kind of notification.", "It is mail, webhook or syslog.",
                      f"{where}.kind")  # fmt: skip
        return
    if one.security not in notify.SECURITY:
        yield Finding("security", f"{one.security!r:.40} is no protection.", "It is starttls, tls or none.",
                      f"{where}.security")  # fmt: skip
        return
    if not _has_server(one):
        yield Finding("address", f"{one.address!r:.80} cannot be used as the server of {one.name}.",
                      _EXAMPLES[one.kind], f"{where}.address")  # fmt: skip
    if one.fingerprint and not FINGERPRINT.fullmatch(one.fingerprint):
        yield Finding("fingerprint", "The fingerprint is not that of a certificate.",
                      "It is SHA-256: 64 hexadecimal digits. The test of the target shows the server's.",
                      f"{where}.fingerprint")  # fmt: skip
    if one.least not in notify.SEVERITIES:
        yield Finding("least", f"{one.least!r:.40} is no severity.", "It is info, warning or critical.",
                      f"{where}.least")  # fmt: skip
    for key, (low, _usual, high) in (("repeat_min", notify.REPEAT_MIN), ("remind_h", notify.REMIND_H)):
        if not low <= getattr(one, key) <= high:
            yield Finding(key, f"A whole number from {low} to {high}.", "Correct it.", f"{where}.{key}")
    if one.kind == "mail":
        yield from _check_mail(where, one)


def _check_mail(where: str, one: Target) -> Iterator[Finding]:
    if not MAILBOX.fullmatch(one.sender):
        yield Finding("sender", f"{one.sender!r:.80} is no e-mail address.", "For example gateway@example.com.",
                      f"{where}.sender")  # fmt: skip
    if not one.recipients:
        yield Finding("recipients", f"Nobody gets the mails of {one.name}.", "Enter an e-mail address.",
                      f"{where}.recipients")  # fmt: skip
    for recipient in one.recipients:
        if not MAILBOX.fullmatch(recipient):
            yield Finding("recipients", f"{recipient!r:.80} is no e-mail address.",
                          "For example night@example.com; several are separated by commas.",
                          f"{where}.recipients")  # fmt: skip
    if one.user and one.security == "none":
        yield Finding("security", "The password would cross the network for everybody to read.",
                      "Choose STARTTLS or TLS, or leave the user name empty.", f"{where}.security")


def _has_server(one: Target) -> bool:
    try:
        {"mail": notify.mail_server, "webhook": notify.webhook, "syslog": notify.syslog_server}[one.kind](one)
    except ValueError:
        return False
    return True
