"""Forming a cluster: both agree or nothing has changed; a lost answer is recovered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from flask_hsmx_cluster.agent import cluster as cluster_module
from flask_hsmx_cluster.agent.preflight import checks as preflight
from flask_hsmx_cluster.errors import ChecksFailed, ClusterError, PairingFailed, PeerUnavailable, RequestRefused

from .gateways import ENDS_OF_B, HeardWindow, World, in_memory, port, settings_of_one, without_real_links

OTHER_CODE = "0000-0000-0000-0000-0000"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    without_real_links(monkeypatch)
    with in_memory() as root:
        world = World(root)
        yield world
        world.close()


def state_of(world: World) -> list[Any]:
    """Everything that forming may change."""
    found = []
    for gateway in world.gateways.values():
        store = gateway.store
        found.append((store.heads(), store.keys(), store.joining(), store.peer(), gateway.hot.membership))
    return found


def keys_of(error: ChecksFailed) -> set[str]:
    return {finding.key for finding in error.findings if finding.blocking}


def test_created_cluster_claims_at_once_and_shows_a_code(world: World) -> None:
    made = world.a.service.create(settings_of_one())
    assert made["revision"] == 1 and made["expires_in_s"] == 600
    assert len(made["code"].replace("-", "")) == 20
    membership = world.a.hot.membership
    assert membership is not None and membership.claim and len(membership.keys[0].secret) == 32
    settings = world.a.service.settings()
    assert settings["formed"] and settings["settings"]["nodes"] == [{"node_id": settings["node_id"], "name": "A"}]
    assert world.a.service.status()["pairing"] == {"expires_in_s": 599, "attempts_left": 5} or world.a.service.status()


def test_joined_both_hold_the_same_settings_and_keys(world: World) -> None:
    world.form()
    a, b = world.a, world.b
    assert a.store.heads().applied == b.store.heads().applied
    assert a.store.keys() == b.store.keys()
    assert [node.name for node in b.hot.membership.settings.nodes] == ["A", "B"]
    assert b.service.status()["peer"]["firmware"] == "5.3" and not b.hot.membership.claim
    assert {kind: set(link.ends) for kind in ("sync", "backup") if (link := b.hot.membership.settings.link(kind))} == {
        "sync": {a.store.node_id, b.store.node_id},
        "backup": {a.store.node_id, b.store.node_id},
    }
    assert a.service.status()["pairing"] is None
    assert not a.service.settings()["pending"] and not b.service.settings()["pending"]
    assert (a.hot.role, b.hot.role) == ("active", "passive")


def test_secrets_are_in_no_message_and_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    code = world.a.service.create(settings_of_one())["code"]
    world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    secret = world.a.store.keys()[0].secret
    plain = code.replace("-", "").encode()
    for _routes, _path, body in world.posted:
        assert secret not in body and secret.hex().encode() not in body and plain not in body
        assert b"sync0" not in body
    assert secret.hex() not in caplog.text and code not in caplog.text
    assert secret.hex() not in repr(world.a.hot.membership) and repr(secret) not in repr(world.a.hot.membership)


@pytest.mark.parametrize(
    ("code", "says"),
    [("ABC", "20 characters"), ("0000-0000-0000-0000-000U", "no character 'U'"), ("0" * 19 + "1", "typing error")],
)
def test_a_typo_is_told_before_anything_is_sent(world: World, code: str, says: str) -> None:
    world.a.service.create(settings_of_one())
    with pytest.raises(PairingFailed, match=says):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert not world.posted and world.a.store.pairing().attempts_left == 5


def test_five_wrong_codes_end_it_and_change_nothing(world: World) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(PairingFailed, match="does not accept"):
            world.b.service.join("10.9.0.1", OTHER_CODE, ENDS_OF_B)
        assert world.a.store.pairing().attempts_left == left
    with pytest.raises(PairingFailed, match="No pairing code is valid"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert state_of(world) == before
    assert world.a.event_kinds().count("pairing_attempt") == 5
    code = world.a.service.pairing_code()["code"]
    world.b.service.join("10.9.0.1", code, ENDS_OF_B)


def test_attempts_survive_a_restart(world: World) -> None:
    world.a.service.create(settings_of_one())
    with pytest.raises(PairingFailed):
        world.b.service.join("10.9.0.1", OTHER_CODE, ENDS_OF_B)
    world.restart("A")
    assert world.a.service.status()["pairing"]["attempts_left"] == 4


def test_a_code_of_an_earlier_boot_is_dead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    monkeypatch.setattr("flask_hsmx_cluster.agent.node_store.machine_boot_id", lambda: "another boot")
    with pytest.raises(PairingFailed, match="No pairing code"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)


def test_an_expired_code_is_dead_and_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    later = preflight.time.clock_gettime(preflight.time.CLOCK_BOOTTIME) + 601
    monkeypatch.setattr("flask_hsmx_cluster.agent.peer.forming.boot_time_s", lambda: later)
    with pytest.raises(PairingFailed, match="No pairing code"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    world.a.service.periodic_jobs()["housekeeping"][1]()
    assert world.a.store.pairing() is None


def test_a_used_code_serves_nobody_else(world: World) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    world.b.service.leave(force=True)
    world.b.store.start_anew("another machine", {})
    with pytest.raises(PairingFailed, match=r"No pairing code|has been used"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)


def test_garbage_at_the_public_endpoints_is_refused_and_costs_nothing(world: World) -> None:
    world.form()
    before = state_of(world)
    for message in ("", "AAAA", "not base64!", "QUJDRA==" * 50):
        with pytest.raises(RequestRefused):
            world.a.service.peer(message, "10.9.0.2")
        with suppress(RequestRefused):
            world.a.service.pair(message)
    assert state_of(world) == before


# -- every finding of the table: refused, nothing changed on either ---------------------------------------------


def _missing_port(world: World) -> None:
    world.b.hot.own_ports = [port for port in world.b.hot.own_ports if port["name"] != "sync0"]


def _missing_address(world: World) -> None:
    world.b.hot.own_ports[1]["addresses"] = []


def _no_carrier(world: World) -> None:
    world.b.hot.own_ports[2]["carrier"] = False


def _no_carrier_there(world: World) -> None:
    world.a.hot.own_ports[2]["carrier"] = False


def _renamed_port(world: World) -> None:
    world.b.hot.own_ports[0] = port("eth7", world.b.hot.mac, "10.0.0.2/24")


def _stranger(world: World) -> None:
    world.b.hot.stranger = "02:66:66:66:66:66"


def _other_network(world: World) -> None:
    world.b.hot.blind = True


def _same_name(world: World) -> None:
    world.b.service._cluster.config = replace(world.b.config, node_name="a")


def _deaf(world: World) -> None:
    HeardWindow.unheard = {"backup"}


FAULTS: list[tuple[str, Callable[[World], None]]] = [
    ("port_missing", _missing_port),
    ("address_missing", _missing_address),
    ("no_carrier", _no_carrier),
    ("no_carrier", _no_carrier_there),
    ("port_names_differ", _renamed_port),
    ("virtual_ip_in_use", _stranger),
    ("not_same_network", _other_network),
    ("node_name", _same_name),
    ("heartbeat_unreachable", _deaf),
]


@pytest.mark.parametrize(("key", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_each_finding_refuses_and_changes_nothing(world: World, key: str, fault: Callable[[World], None]) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    fault(world)
    with pytest.raises(ChecksFailed) as failed:
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert key in keys_of(failed.value)
    assert all(finding.remedy for finding in failed.value.findings)
    assert state_of(world) == before
    assert world.a.store.pairing().attempts_left == 5


def test_unreachable_web_app_refuses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    # from A to B only: the joiner's own tries succeed, the creator's does not
    monkeypatch.setattr(preflight, "reachable", lambda route, port: "refused" if route.remote.endswith(".2") else "")
    with pytest.raises(ChecksFailed) as failed:
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert keys_of(failed.value) == {"http_unreachable"} and "TCP port 80" in str(failed.value)
    assert state_of(world) == before


def test_incompatible_protocol_refuses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    real = cluster_module.Cluster.facts
    monkeypatch.setattr(
        cluster_module.Cluster,
        "facts",
        lambda self, ports: (
            replace(real(self, ports), protocol=9, protocol_least=9)
            if self.config.node_name == "B"
            else real(self, ports)
        ),
    )
    with pytest.raises(ChecksFailed) as failed:
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert "protocol_incompatible" in keys_of(failed.value)
    assert state_of(world) == before


def test_full_disk_and_taken_port_refuse(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(ChecksFailed) as failed:
        world.a.service.create(settings_of_one())
    assert keys_of(failed.value) == {"disk_space"}
    assert world.a.store.heads() is None and world.a.hot.membership is None


def test_gateway_of_a_cluster_joins_no_other(world: World) -> None:
    world.form()
    with pytest.raises(RequestRefused, match="already"):
        world.b.service.join("10.9.0.1", OTHER_CODE, ENDS_OF_B)
    with pytest.raises(RequestRefused, match="already"):
        world.a.service.create(settings_of_one())
    with pytest.raises(RequestRefused, match="two gateways"):
        world.a.service.pairing_code()


def test_backup_link_that_only_one_side_has_is_refused(world: World) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    with pytest.raises(ChecksFailed) as failed:
        world.b.service.join("10.9.0.1", code, {"sync": ENDS_OF_B["sync"]})
    assert keys_of(failed.value) == {"link_end_missing"}
    assert state_of(world) == before


def test_kernel_that_refuses_on_the_creator_changes_nothing(world: World) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    world.a.hot.refuse = "No such device"
    with pytest.raises(ClusterError, match="No such device"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    world.a.hot.refuse = ""
    assert state_of(world) == before


def test_kernel_that_refuses_on_the_joiner_leaves_a_cluster_of_one(world: World) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    world.b.hot.refuse = "No such device"
    with pytest.raises(ClusterError, match="No such device"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert world.b.store.heads() is None and not world.b.store.keys()
    assert [node["name"] for node in world.a.service.settings()["settings"]["nodes"]] == ["A"]


def test_kernel_that_refuses_creation_leaves_nothing(world: World) -> None:
    world.a.hot.refuse = "No such device"
    with pytest.raises(ClusterError, match="No such device"):
        world.a.service.create(settings_of_one())
    assert world.a.store.heads() is None and world.a.store.keys() == ()
    assert world.a.hot.applied[-1] is None


# -- lost messages ----------------------------------------------------------------------------------------------


class Loser:
    """Loses the answer (or the request) of the n-th message to A, once or from then on."""

    def __init__(self, at: int, request: bool, for_good: bool) -> None:
        self.at, self.request, self.for_good, self.seen = at, request, for_good, 0

    def __call__(self, to: str, path: str, deliver: Callable[[], bytes]) -> bytes:
        self.seen += 1
        lose = self.seen >= self.at if self.for_good else self.seen == self.at
        if lose and self.request:
            raise PeerUnavailable("lost")
        answer = deliver()
        if lose:
            raise PeerUnavailable("lost")
        return answer


@pytest.mark.parametrize("request_lost", [True, False])
@pytest.mark.parametrize("at", range(2, 9))
def test_one_lost_message_does_not_matter(world: World, at: int, request_lost: bool) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    world.tap = Loser(at, request_lost, for_good=False)
    world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert world.a.store.heads().applied == world.b.store.heads().applied
    assert world.a.store.heads().applied.number == 2


@pytest.mark.parametrize("restart", ["", "AB"])
@pytest.mark.parametrize("request_lost", [True, False])
@pytest.mark.parametrize("at", range(1, 10))
def test_connection_lost_for_good_ends_in_both_or_neither(
    world: World, at: int, request_lost: bool, restart: str
) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    world.tap = Loser(at, request_lost, for_good=True)
    with suppress(ClusterError):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    for name in restart:
        world.restart(name)
    assert "not yet" in str(finish(world)) or world.b.store.joining() is None
    world.tap = lambda _to, _path, deliver: deliver()
    finish(world)
    assert world.b.store.joining() is None
    formed = world.b.store.heads() is not None
    both = len(world.a.store.heads().applied.settings.nodes) == 2
    assert formed == both
    if formed:
        assert world.a.store.heads().applied == world.b.store.heads().applied
        assert world.b.hot.membership is not None
    else:
        assert world.a.store.heads().prepared is None or world.a.store.heads().applied.number == 1
        code = world.a.service.pairing_code()["code"]
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)


def finish(world: World) -> str | None:
    return world.b.service.periodic_jobs()["finish joining"][1]()


def test_operator_may_repeat_a_join_whose_last_answer_was_lost(world: World) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    world.tap = Loser(7, request=False, for_good=True)  # the answer to commit, and all after it
    with pytest.raises(PeerUnavailable, match="last answer is missing"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert [alarm["key"] for alarm in world.b.service.status()["alarms"]] == ["joining"]
    world.tap = lambda _to, _path, deliver: deliver()
    world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert world.a.store.heads().applied == world.b.store.heads().applied
    assert world.a.store.heads().applied.number == 2


def test_settings_that_cannot_work_are_refused_on_creation(world: World) -> None:
    for settings in (
        settings_of_one(links=[]),
        settings_of_one(nodes=[]),
        settings_of_one(virtual_ips=[{"address": "10.0.0.255/24", "port": "lan0"}]),
        {"nodes": 7},
        settings_of_one(links=[{"kind": "sync", "ends": 3}]),
    ):
        with pytest.raises(ChecksFailed):
            world.a.service.create(settings)
    assert world.a.store.heads() is None and world.a.hot.applied == []


def test_two_creations_at_once_make_one_cluster(world: World) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            world.a.service.create(settings_of_one())
            outcomes.append("created")
        except RequestRefused:
            outcomes.append("refused")

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created", "refused"]
