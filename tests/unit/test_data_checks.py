"""What the data's checks become: alarms that are told once, with their reason, on both gateways."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.data import checks as data_checks
from flask_hsmx_cluster.agent.data import side as data
from flask_hsmx_cluster.agent.data import told
from flask_hsmx_cluster.agent.data.checks import CALM_S, FOLLOW_ALARM_S, GONE_S, PROBLEM_ALARM_S, ApplyWatch
from flask_hsmx_cluster.agent.data.side import CREDENTIALS, FACTS_EVERY_S, DataSide
from flask_hsmx_cluster.errors import ClusterError, PeerUnavailable, RequestRefused
from flask_hsmx_cluster.replication.scope import Scope, TableScope

SCOPE = Scope((TableScope("public", "voucher", "shared"),))
MISSING = {
    "key": "schema_column_missing", "text": "The table voucher has no column colour on gw-b; gw-a has.",
    "remedy": "Run the firmware's migration on gw-b.", "field": "", "blocking": True,
}  # fmt: skip
TOLD: dict[str, Any] = {
    "port": 5432, "database": "hsmx", "version": 150012, "system": "7", "certificate": "",
    "scope": SCOPE.digests(), "alarms": [],
}  # fmt: skip


def stream(errors: int = 0, pid: int | None = 7, enabled: bool = True) -> dict[str, Any]:
    return {"name": "hsmx_cluster", "enabled": enabled, "worker_pid": pid, "error_count": errors}


# -- a worker that has stopped ---------------------------------------------------------------------------------------


def test_errors_that_rise_again_and_again_are_a_stopped_worker() -> None:
    watch = ApplyWatch()
    assert [watch.look([stream(errors)], at, True) for at, errors in enumerate((3, 5, 9, 12))] == [
        False, False, True, True,
    ], "at the second rise"  # fmt: skip
    for at in range(4, 4 + int(CALM_S) + 1):
        watch.look([stream(12)], at, True)
    assert not watch.stopped


def test_one_error_is_a_lost_connection() -> None:
    watch = ApplyWatch()
    for at, errors in enumerate((0, 1, 1, 1, 1, 2, 2)):
        watch.look([stream(errors)], at, True)
        assert not watch.stopped


def test_a_worker_that_does_not_come_back() -> None:
    watch = ApplyWatch()
    watch.look([stream()], 0, True)
    watch.look([stream(pid=None)], GONE_S - 0.5, True)
    assert not watch.stopped
    assert watch.look([stream(pid=None)], GONE_S, True)
    watch.look([stream()], GONE_S + 1, True)
    assert not watch.stopped


@pytest.mark.parametrize("expected", [False, True])
def test_nothing_is_expected_of_a_worker_while_the_other_gateway_is_gone(expected: bool) -> None:
    watch = ApplyWatch()
    for at in range(10):
        watch.look([stream(errors=at, pid=None)], at, expected)
    assert watch.stopped is expected


def test_a_subscription_that_is_disabled_has_no_worker() -> None:
    watch = ApplyWatch()
    for at in range(10):
        watch.look([stream(pid=None, enabled=False)], at, True)
    assert not watch.stopped


# -- alarms ----------------------------------------------------------------------------------------------------------


class Replicator:
    """A replicator that shows what a test wants."""

    shared = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refusal: ClusterError | None = None
        self.checks: dict[str, Any] = {"number": 0, "findings": [], "done": [], "renew": False, "error": ""}
        self.following: dict[str, Any] = {"under_way": False, "error": "", "step": ""}
        self.streams = [stream()]

    def alive(self) -> bool:
        return True

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((verb, arguments))
        if verb == "check":
            self.checks = {**self.checks, "number": self.checks["number"] + 1}
            return {"number": self.checks["number"]}
        if verb == "facts":
            return {key: TOLD[key] for key in ("port", "database", "version", "system", "certificate")}
        return {"checks": self.checks, "following": self.following, "streams": self.streams, "synchronous_standby": ""}

    def verbs(self) -> list[str]:
        return [verb for verb, _arguments in self.asked]


class Gateway:
    """gw-b, passive, and what its clock and the other gateway say."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (directory / CREDENTIALS).write_text(json.dumps({"dsn": "dbname=hsmx", "certificate": ""}))
        self.now, self.role, self.told = 1000.0, "passive", dict(TOLD)
        self.firmware = {"own": "5.9", "peer": "5.10"}
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.recorded: list[tuple[str, str]] = []
        self.link = Replicator()
        for module in (data, data_checks):
            monkeypatch.setattr(module, "boot_time_s", lambda: self.now)
        peer = SimpleNamespace(node_id="b" * 32, name="gw-a")
        heads = SimpleNamespace(applied=SimpleNamespace(settings=SimpleNamespace(peer_of=lambda _: peer, links=())),
                                there=None)  # fmt: skip
        cluster: Any = SimpleNamespace(
            node_id="a" * 32, role=lambda: self.role, heads=lambda: heads, require_heads=lambda: heads,
            hot=SimpleNamespace(snapshot=lambda: {"peer": {"role": "active"}}),
            config=SimpleNamespace(
                state_dir=str(directory), scope=SCOPE.to_json(), node_name="gw-b", synchronous=True,
                firmware_version=self.firmware["own"]),
            store=SimpleNamespace(
                record=lambda kind, severity, text: self.recorded.append((kind, severity)),
                peer=lambda: SimpleNamespace(firmware=self.firmware["peer"])),
            signing_key=lambda: SimpleNamespace(secret=b"s" * 32),
        )  # fmt: skip
        self.handlers: dict[str, Any] = {}
        exchange: Any = SimpleNamespace(
            handle=lambda verb, handler: self.handlers.update({verb: handler}),
            ask=self.ask_peer,
        )
        link: Any = self.link
        self.side = DataSide(cluster, exchange, link)
        self.side.set_up()

    def ask_peer(self, verb: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        self.sent.append((verb, arguments))
        if not self.told:
            raise PeerUnavailable("It did not answer.")
        return self.told

    def tend(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.now += 1
            self.side.tend()

    def alarms(self) -> dict[str, dict[str, Any]]:
        return {alarm["key"]: alarm for alarm in self.side.alarms()}


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    return Gateway(tmp_path, monkeypatch)


def test_all_in_order_is_no_alarm(gateway: Gateway) -> None:
    gateway.tend(10)
    assert gateway.side.check() == "in order" and gateway.side.compare() == "compared"
    gateway.tend()
    assert gateway.alarms() == {} and gateway.recorded == []


def test_a_stopped_worker_is_looked_into_at_once_and_told_with_its_reason(gateway: Gateway) -> None:
    gateway.tend()
    before = gateway.link.verbs().count("check")
    for errors in (4, 8):
        gateway.link.streams = [stream(errors)]
        gateway.tend()
    assert gateway.link.verbs().count("check") == before + 1
    alarm = gateway.alarms()["apply_stopped"]
    assert alarm["severity"] == "critical" and "gw-b cannot store what comes from gw-a" in alarm["text"]
    gateway.link.checks |= {"findings": [MISSING], "failure": "logical replication target relation is missing"}
    gateway.link.streams = [stream(12)]
    gateway.tend()
    alarm = gateway.alarms()["apply_stopped"]
    assert "no column colour" in alarm["text"] and "PostgreSQL says: logical replication" in alarm["text"]
    assert alarm["remedy"] == MISSING["remedy"]
    gateway.link.checks |= {"findings": []}
    gateway.tend(int(CALM_S) + 1)
    assert gateway.alarms() == {}
    assert gateway.recorded.count(("alarm_apply_stopped", "critical")) == 1
    assert gateway.recorded.count(("alarm_apply_stopped", "info")) == 1


def test_a_worker_that_is_gone_is_no_difference_of_tables(gateway: Gateway) -> None:
    gateway.link.checks["findings"] = [{**MISSING, "key": "table_identity"}]
    gateway.link.streams = [stream(pid=None)]
    gateway.tend(int(GONE_S) + 1)
    alarm = gateway.alarms()["apply_stopped"]
    assert "gets no changes from gw-a" in alarm["text"] and "PostgreSQL runs on gw-a" in alarm["remedy"]


def test_a_gateway_that_cannot_begin_to_follow_says_why(gateway: Gateway) -> None:
    gateway.link.following = {"under_way": False, "error": MISSING["text"], "remedy": MISSING["remedy"], "step": ""}
    gateway.tend()
    assert "not_following" not in gateway.alarms()
    for at in range(int(FOLLOW_ALARM_S) + 1):  # it tries again and again
        gateway.link.following["under_way"] = bool(at % 2)
        gateway.tend()
    alarm = gateway.alarms()["not_following"]
    assert MISSING["text"] in alarm["text"] and alarm["remedy"] == MISSING["remedy"]
    gateway.role = "active"
    gateway.tend()
    assert gateway.alarms() == {}, "it has taken over: it follows nobody"
    gateway.role = "passive"
    gateway.link.following = {"under_way": False, "error": "", "step": ""}
    gateway.tend()
    assert gateway.alarms() == {}


def test_findings_of_one_kind_are_one_alarm(gateway: Gateway) -> None:
    gateway.link.checks["findings"] = [
        {"key": "table_identity", "text": f"{name} has no key.", "remedy": "Add one.", "blocking": blocking}
        for name, blocking in (("a", False), ("b", True))
    ]
    assert gateway.side.check() == "2 findings"
    gateway.tend()
    alarm = gateway.alarms()["table_identity"]
    assert alarm["text"] == "gw-b: a has no key. And 1 more of this kind." and alarm["severity"] == "critical"


def test_differences_of_the_schema_are_the_passive_gateways_matter(gateway: Gateway) -> None:
    gateway.link.checks["findings"] = [MISSING]
    gateway.tend()
    assert MISSING["key"] in gateway.alarms()
    gateway.role = "active"
    gateway.tend()
    assert gateway.alarms() == {}


def test_tables_that_were_made_are_published_and_guarded(gateway: Gateway) -> None:
    gateway.link.checks |= {"renew": True, "done": ["the guard is put on public.part_2"]}
    before = gateway.link.verbs().count("configure")
    assert gateway.side.check() == "the guard is put on public.part_2"
    verb, arguments = gateway.link.asked[-1]
    assert verb == "configure" and gateway.link.verbs().count("configure") == before + 1
    assert arguments["keep_lease"] is True, "whoever may write at this moment may go on"


def test_a_check_that_failed_is_the_jobs_result(gateway: Gateway) -> None:
    gateway.link.checks["error"] = "PostgreSQL has gone"
    with pytest.raises(RequestRefused, match="has gone"):
        gateway.side.check()


@pytest.mark.parametrize(
    ("own", "peer", "says"),
    [("5.9", "5.10", "Upgrade gw-b:"), ("5.10", "5.9", "Upgrade gw-a:"), ("5.9", "5.9", "Both run firmware 5.9:")],
)
def test_declarations_that_differ_name_tables_and_the_gateway_to_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, peer: str, says: str
) -> None:
    gateway = Gateway(tmp_path, monkeypatch)
    gateway.side._cluster.config.firmware_version = own  # type: ignore[misc]
    gateway.firmware["peer"] = peer
    gateway.told["scope"] = {**SCOPE.digests(), "public.bill": "1" * 12}
    gateway.side.compare()
    gateway.tend()
    alarm = gateway.alarms()["scopes_differ"]
    assert "only gw-a shares bill" in alarm["text"] and alarm["remedy"].startswith(says)
    assert gateway.handlers["data_facts"]("", {})["alarms"] == [], "the other gateway sees that by itself"
    gateway.told["scope"] = SCOPE.digests()
    gateway.tend(int(FACTS_EVERY_S))
    gateway.side.compare()
    gateway.tend()
    assert gateway.alarms() == {}


def test_what_troubles_the_other_gateway_is_shown_here_too_but_not_sent_back(gateway: Gateway) -> None:
    told = {"key": "apply_stopped", "severity": "critical", "text": "It fell behind.", "remedy": "x"}
    gateway.told["alarms"] = [told]
    gateway.side.compare()
    gateway.tend()
    assert gateway.alarms()["peer_apply_stopped"]["text"] == "gw-a tells: It fell behind."
    assert gateway.handlers["data_facts"]("", {})["alarms"] == []
    gateway.told = {}
    gateway.now += FACTS_EVERY_S
    assert gateway.side.compare() == "not yet: It did not answer."
    gateway.tend()
    assert gateway.alarms() == {}, "that it is not heard is an alarm of its own"


def test_an_alarm_is_told_to_the_other_gateway_at_once_and_once(gateway: Gateway) -> None:
    gateway.side.compare()
    gateway.link.checks["findings"] = [MISSING]
    gateway.tend()
    for _ in range(3):
        gateway.side.compare()
    (told,) = [arguments["alarms"] for verb, arguments in gateway.sent if verb == "data_alarms"]
    assert [alarm["key"] for alarm in told] == [MISSING["key"]]
    gateway.handlers["data_alarms"]("", {"alarms": told})
    gateway.tend()
    assert "gw-a tells:" in gateway.alarms()[f"peer_{MISSING['key']}"]["text"]
    with pytest.raises(RequestRefused):
        gateway.handlers["data_alarms"]("", {"alarms": 7})


def test_a_reason_that_changes_while_the_worker_stands_is_looked_for(gateway: Gateway) -> None:
    before = gateway.link.verbs().count("check")
    for errors in range(0, 4 * 12, 4):
        gateway.link.streams = [stream(errors)]
        gateway.tend()
    assert gateway.link.verbs().count("check") - before >= 3


def test_what_is_told_can_be_read_by_the_other_gateway(gateway: Gateway) -> None:
    gateway.link.checks["findings"] = [MISSING]
    gateway.tend()
    facts = told.facts(json.loads(json.dumps(gateway.handlers["data_facts"]("", {}))))
    assert facts["scope"] == SCOPE.digests()
    assert facts["alarms"] == [{**{key: MISSING[key] for key in ("key", "text", "remedy")}, "severity": "critical"}]


def test_a_database_that_does_not_answer_is_an_alarm_if_that_lasts(gateway: Gateway) -> None:
    gateway.tend()
    gateway.link.refusal = RequestRefused("PostgreSQL does not answer.", "Start it.")
    for at in range(int(PROBLEM_ALARM_S) + 1):
        assert "data_problem" not in gateway.alarms(), at
        with pytest.raises(RequestRefused):
            gateway.tend()
    alarm = gateway.alarms()["data_problem"]
    assert "PostgreSQL does not answer" in alarm["text"] and alarm["remedy"] == "Start it."
    gateway.link.refusal = None
    gateway.tend()
    assert gateway.alarms() == {}


def test_a_server_that_was_replaced_is_taken_over_into_the_set_up(gateway: Gateway) -> None:
    gateway.told |= {"system": "8", "certificate": "new"}
    gateway.side.compare()
    gateway.side.set_up()
    _verb, arguments = [one for one in gateway.link.asked if one[0] == "configure"][-1]
    assert (arguments["setup"]["peer"]["system"], arguments["setup"]["peer"]["certificate"]) == ("8", "new")


_JUNK = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.none() | st.text())


@given(st.dictionaries(
    st.sampled_from(list(TOLD)),
    _JUNK | st.dictionaries(st.text(), st.text() | st.none()) | st.lists(st.dictionaries(
        st.sampled_from(["key", "severity", "text", "remedy"]), _JUNK, min_size=4)),
))
def test_hostile_facts_are_refused_or_harmless(changes: dict[str, Any]) -> None:
    try:
        facts = told.facts({**TOLD, **changes})
    except RequestRefused:
        return
    assert all(alarm["severity"] in ("critical", "warning") for alarm in facts["alarms"])
    assert all(text.isprintable() for alarm in facts["alarms"] for text in alarm.values())
    assert all(isinstance(text, str) for pair in facts["scope"].items() for text in pair)
