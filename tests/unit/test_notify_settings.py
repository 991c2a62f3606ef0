"""Notification targets in the settings: form, rules, storage, and that no password is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster import ChecksFailed, models
from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads
from flask_hsmx_cluster.settings import notify, passwords, rules
from flask_hsmx_cluster.settings.model import from_dict, to_dict
from flask_hsmx_cluster.settings.notify import Target
from flask_hsmx_cluster.words import cluster as words

from .gateways import BEFORE_7, changed
from .test_rules import GOOD, PORTS, A

KEY = Key(1, b"k" * 32)
SECRET = "topsecret"
MAIL = Target("night", "mail", "mail.example.com:2525", "user", SECRET, "tls", "g@example.com", ("a@example.com",))
HOOK = Target("noc", "webhook", "https://monitor.example.com/a?b=1", password=SECRET, fingerprint="ab" * 32)
LOG = Target("log", "syslog", "udp://[2001:db8::7]", enabled=False)
FULL = replace(GOOD, notify=(MAIL, HOOK, LOG))


def found(*targets: Target) -> dict[str, str]:
    return {one.field: one.key for one in rules.check(replace(GOOD, notify=targets), PORTS)}


def test_they_survive_their_dict_form_and_settings_without_them_are_what_they_were() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(FULL)))) == FULL
    assert "notify" not in to_dict(GOOD) and (GOOD.protocol, FULL.protocol) == (1, 4)


def test_good_ones_are_taken() -> None:
    assert found(MAIL, HOOK, LOG) == {}
    for address in ("unix:/dev/log", "tcp://192.0.2.7:601"):
        assert found(replace(LOG, address=address)) == {}
    assert notify.mail_server(replace(MAIL, address="mail", security="starttls")) == ("mail", 587)
    assert notify.syslog_server(LOG) == ("udp", "2001:db8::7", 514)


@pytest.mark.parametrize(
    ("target", "changes", "field"),
    [
        (MAIL, {"name": "../x"}, "name"),
        (MAIL, {"kind": "pigeon"}, "kind"),
        (MAIL, {"security": "rot13"}, "security"),
        (MAIL, {"security": "none"}, "security"),
        *((MAIL, {"address": bad}, "address") for bad in (
            "", "a b", "x:0", "x:99999", "http://x", "-x", "x/y", "u@x", "x?y")),
        *((MAIL, {"sender": bad}, "sender") for bad in ("", "x", "a@b>", "a@b c", "a,b@c", "<a@b>", "ä@b")),
        (MAIL, {"recipients": ()}, "recipients"),
        (MAIL, {"recipients": ("a@b", "b")}, "recipients"),
        (MAIL, {"least": "worst"}, "least"),
        (MAIL, {"repeat_min": 0}, "repeat_min"),
        (MAIL, {"remind_h": 9999}, "remind_h"),
        *((HOOK, {"address": bad}, "address") for bad in (
            "", "ftp://x/", "file:///etc/passwd", "https://", "https://u:p@x/", "https://x/#y", "https://x/ y", "//x/",
            "https://x:0/", "https://ä/")),
        (HOOK, {"fingerprint": "abc"}, "fingerprint"),
        *((LOG, {"address": bad}, "address") for bad in (
            "", "x:514", "http://x", "unix:", "unix:log", "unix://x/log", "udp://x/y", "udp://", "unix:/" + "x" * 110)),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_its_field(target: Target, changes: dict[str, Any], field: str) -> None:
    assert set(found(replace(target, **changes))) == {f"notify.0.{field}"}


def test_two_of_a_name_are_refused() -> None:
    assert found(MAIL, replace(HOOK, name="night")) == {"notify.1.name": "duplicate"}


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "topsecret\n"}, {"password": ["topsecret"]}, {"repeat_min": "topsecret"}, {"more": "topsecret"},
        {"recipients": "topsecret"}, {"recipients": ["topsecret\n"]}, {"enabled": "topsecret"},
        {"password": "topsecret" * 50}, {"recipients": ["a@b"] * 99},
    ],
)  # fmt: skip
def test_malformed_ones_are_refused_and_no_password_is_repeated(changes: dict[str, Any]) -> None:
    data = to_dict(FULL)
    data["notify"][0] |= changes
    with pytest.raises(ChecksFailed) as refused:
        from_dict(data)
    assert "secret" not in json.dumps(refused.value.as_dict())


def test_no_password_is_in_what_people_see() -> None:
    shown = passwords.masked(to_dict(FULL))
    assert SECRET not in json.dumps(shown) and SECRET not in repr(FULL)
    assert any("monitor.example.com" in text for text in words.rows(shown).values())


def test_a_stored_password_goes_nowhere_else() -> None:
    shown = passwords.masked(to_dict(FULL))
    assert from_dict(passwords.filled(shown, FULL)) == FULL
    for change in ({"address": "evil.example"}, {"user": "x"}, {"security": "none"}, {"kind": "webhook"},
                   {"fingerprint": "00" * 32}):  # fmt: skip
        moved = {**shown, "notify": [{**shown["notify"][0], **change}]}
        assert passwords.filled(moved, FULL)["notify"][0]["password"] == "", change
    assert [one.field for one in passwords.missing(from_dict(shown))] == ["notify.0.password"]


def test_the_store_keeps_them_and_takes_over_one_of_a_former_version(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    store = NodeStore(path)
    heads = Heads(revisions.draft(None, GOOD, A, "A", "now", KEY))
    store.save_heads(heads, [KEY])
    store.close()
    changed(path, *BEFORE_7, "DROP TABLE revision_notify", "PRAGMA user_version = 3")
    store = NodeStore(path)
    assert store.heads() == heads
    full = Heads(revisions.draft(heads, FULL, A, "A", "now", KEY))
    store.save_heads(full)
    store.close()
    store = NodeStore(path)
    assert store.heads() == full
    store.close()
    assert changed(path, "PRAGMA user_version") == (models.SCHEMA_VERSION,)
