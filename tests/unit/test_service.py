"""The verbs of a formed pair: settings in two phases, absence, conflicts, leaving, handing over."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flask_hsmx_cluster.agent import service as service_module
from flask_hsmx_cluster.agent.peer.sealed import Refusal
from flask_hsmx_cluster.agent.preflight import network_managers
from flask_hsmx_cluster.errors import ChecksFailed, ClusterError, PeerUnavailable, RequestRefused
from flask_hsmx_cluster.network.managers import Manager

from .gateways import FakeHot, Gateway, World, settings_of_one


def deliver(gateway: Gateway) -> str | None:
    return gateway.service.periodic_jobs()["deliver settings"][1]()


def hold_s(gateway: Gateway) -> int:
    """What the hot side has in force; also says that store and hot side agree."""
    membership, heads = gateway.hot.membership, gateway.store.heads()
    assert membership is not None and heads is not None
    assert membership.settings == heads.applied.settings and membership.digest == heads.applied.digest
    return membership.settings.advanced.boot_hold_s


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("author", ["A", "B"])
def test_a_change_is_in_force_on_both(world: World, author: str) -> None:
    assert world.edited(author, boot_hold_s=7) == {"revision": 3, "delivered": True, "unprobed": 0}
    assert (hold_s(world.a), hold_s(world.b)) == (7, 7)
    for gateway in (world.a, world.b):
        settings = gateway.service.settings()
        assert (settings["revision"], settings["author"], settings["pending"]) == (3, author, False)
        assert gateway.store.heads().prepared is None


def test_the_other_gateway_is_told_of_a_change_before_it_is_in_force_anywhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the former addresses still: that these are silent must not look like a death."""
    there = world.b.hot
    seen: list[int] = []
    apply = world.a.hot.apply
    monkeypatch.setattr(world.a.hot, "apply", lambda membership: (seen.append(there.expected), apply(membership)))
    world.edited("A", boot_hold_s=7)
    assert seen and seen[0] == 1


def test_what_was_edited_from_an_older_revision_is_refused(world: World) -> None:
    settings = world.a.service.settings()["settings"]
    world.edited("B", boot_hold_s=7)
    with pytest.raises(RequestRefused, match="changed meanwhile: revision 3"):
        world.a.service.propose(settings, 2)


def test_no_change_is_no_revision(world: World) -> None:
    assert world.edited("A") == {"revision": 2, "delivered": True, "unprobed": 0}


def test_nonsense_is_refused_with_the_field(world: World) -> None:
    with pytest.raises(ChecksFailed) as failed:
        world.edited("A", lease_s=1)
    assert {finding.field for finding in failed.value.findings} == {"advanced.lease_s"}
    assert world.a.store.heads().applied.number == 2


def test_members_do_not_come_and_go_by_editing(world: World) -> None:
    settings = world.a.service.settings()["settings"]
    del settings["nodes"][1]
    with pytest.raises(ChecksFailed, match="by pairing"):
        world.a.service.propose(settings, 2)


def test_a_new_virtual_ip_that_somebody_has_is_refused(world: World) -> None:
    settings = world.a.service.settings()["settings"]
    settings["virtual_ips"][0]["address"] = "10.0.0.101/24"
    world.a.hot.stranger = "02:66:66:66:66:66"
    with pytest.raises(ChecksFailed) as failed:
        world.a.service.propose(settings, 2)
    assert failed.value.findings[0].key == "virtual_ip_in_use"
    world.a.hot.stranger = ""
    assert world.a.service.propose(settings, 2)["delivered"]


def test_what_does_not_fit_the_other_gateway_is_refused_on_both(world: World) -> None:
    world.b.hot.own_ports = [port for port in world.b.hot.own_ports if port["name"] != "backup0"]
    with pytest.raises(ChecksFailed, match="no network port backup0"):
        world.edited("A", boot_hold_s=7)
    assert (hold_s(world.a), hold_s(world.b)) == (3, 3)


@pytest.mark.parametrize("name", ["A", "B"])
def test_a_kernel_that_refuses_leaves_the_former_settings(world: World, name: str) -> None:
    gateway = world.gateways[name]
    gateway.hot.refuse = "No buffer space"
    real = gateway.hot.apply

    def refuse_new_only(membership: Any) -> None:
        gateway.hot.refuse = "No buffer space" if membership.revision == 3 else ""
        real(membership)

    gateway.hot.apply = refuse_new_only  # type: ignore[method-assign]
    with pytest.raises(ClusterError, match="No buffer space"):
        world.gateways[name].service.propose(
            {**world.a.service.settings()["settings"], "advanced": {"boot_hold_s": 7}}, 2
        )
    assert (hold_s(world.a), hold_s(world.b)) == (3, 3)
    assert world.a.store.heads().prepared is None and world.b.store.heads().prepared is None


def test_the_absent_gateway_gets_the_change_later(world: World) -> None:
    world.cut = True
    assert world.edited("A", boot_hold_s=7) == {"revision": 3, "delivered": False, "unprobed": 0}
    assert world.edited("A", boot_hold_s=8) == {"revision": 4, "delivered": False, "unprobed": 0}
    assert world.a.service.settings()["pending"] and world.a.service.status()["cluster"]["pending"]
    assert "absent" in str(deliver(world.a))
    world.cut = False
    assert deliver(world.a) == "same"
    assert (hold_s(world.a), hold_s(world.b)) == (8, 8)
    assert not world.a.service.settings()["pending"] and not world.b.service.settings()["pending"]
    assert deliver(world.a) == "nothing to deliver"


def test_a_returning_gateway_fetches_by_itself(world: World) -> None:
    world.cut = True
    world.edited("A", boot_hold_s=7)
    world.cut = False
    world.restart("B")
    world.b.service.on_peer_revision(3)
    assert deliver(world.b) == "adopted"
    assert hold_s(world.b) == 7


@pytest.mark.parametrize("asker", ["A", "B"])
@pytest.mark.parametrize("keep", ["mine", "theirs"])
def test_both_edited_while_apart(world: World, asker: str, keep: str) -> None:
    world.cut = True
    world.edited("A", boot_hold_s=7)
    world.edited("B", boot_hold_s=9)
    world.cut = False
    deliver(world.gateways[asker])
    deliver(world.b if asker == "A" else world.a)
    assert (hold_s(world.a), hold_s(world.b)) == (7, 7)  # A is the active one
    for gateway in (world.a, world.b):
        settings = gateway.service.settings()
        assert settings["author"] == "A" and settings["conflict"]["author"] == "B"
        assert settings["conflict"]["settings"]["advanced"]["boot_hold_s"] == 9
        assert [alarm["key"] for alarm in gateway.service.status()["alarms"]] == ["settings_conflict"]
        assert gateway.event_kinds().count("settings_conflict") == 1
        with pytest.raises(RequestRefused, match="Both gateways"):
            gateway.service.propose(settings["settings"], settings["revision"])
    assert world.b.service.resolve_conflict(keep) == {"revision": 4}
    wanted = 9 if keep == "mine" else 7
    assert (hold_s(world.a), hold_s(world.b)) == (wanted, wanted)
    assert not world.a.service.settings()["conflict"] and not world.b.service.settings()["conflict"]
    with pytest.raises(ClusterError, match="nothing to choose"):
        world.b.service.resolve_conflict("mine")


class Stop:
    """The author's agent dies at its n-th message of a change."""

    class Died(BaseException):
        pass

    def __init__(self, at: int, delivered: bool) -> None:
        self.at, self.delivered, self.seen = at, delivered, 0

    def __call__(self, to: str, path: str, deliver: Callable[[], bytes]) -> bytes:
        self.seen += 1
        if self.seen > self.at or (self.seen == self.at and not self.delivered):
            raise self.Died
        answer = deliver()
        if self.seen == self.at:
            raise self.Died
        return answer


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("author", ["A", "B"])
def test_a_crash_after_each_message_heals(world: World, author: str, at: int, delivered: bool) -> None:
    world.tap = Stop(at, delivered)
    with pytest.raises(Stop.Died):
        for _ in range(2):
            world.edited(author, boot_hold_s=7)
            world.edited(author, boot_hold_s=6)
    world.tap = lambda _to, _path, deliver: deliver()
    world.restart(author)
    for gateway in (world.a, world.b, world.a, world.b):
        gateway.service.on_peer_revision(0)
        deliver(gateway)
    assert hold_s(world.a) == hold_s(world.b)
    for gateway in (world.a, world.b):
        assert gateway.store.heads().conflict is None and not gateway.service.settings()["pending"]
    other = world.gateways["B" if author == "A" else "A"]
    other.service._revisions._prepared_at = float("-inf")  # what the dead author prepared has aged
    assert world.edited("A", boot_hold_s=11)["delivered"] and hold_s(world.b) == 11


# -- leaving ------------------------------------------------------------------------------------------------------


def test_the_passive_leaves_and_the_active_goes_on_with_a_new_key(world: World) -> None:
    key = world.a.store.keys()[0]
    assert world.b.service.leave() == {"left": True, "peer_informed": True}
    assert world.b.hot.membership is None and not world.b.service.settings()["formed"]
    assert [node["name"] for node in world.a.service.settings()["settings"]["nodes"]] == ["A"]
    assert world.a.store.keys()[0].secret != key.secret and world.a.hot.role == "active"
    assert not world.a.service.settings()["pending"] and deliver(world.a) == "no other gateway"
    code = world.a.service.pairing_code()["code"]
    ends = {
        "sync": {"port": "sync0", "address": "10.9.0.2/24"},
        "backup": {"port": "backup0", "address": "10.8.0.2/24"},
    }
    world.b.service.join("10.9.0.1", code, ends)
    assert hold_s(world.b) == 3


def test_the_active_hands_over_before_it_leaves(world: World) -> None:
    assert world.a.service.leave()["peer_informed"]
    assert world.a.hot.requests == [("failover", {})]
    assert world.b.hot.role == "active"


def test_leaving_an_absent_gateway_needs_force(world: World) -> None:
    world.cut = True
    with pytest.raises(PeerUnavailable, match="would not know"):
        world.b.service.leave()
    assert world.b.service.settings()["formed"]
    assert world.b.service.leave(force=True) == {"left": True, "peer_informed": False}
    assert not world.b.store.keys()


def test_an_active_that_cannot_hand_over_stays_unless_forced(world: World) -> None:
    world.b.hot.role = "standalone"
    with pytest.raises(RequestRefused, match="cannot take over"):
        world.a.service.leave()
    assert world.a.service.settings()["formed"]
    assert world.a.service.leave(force=True)["left"]


def test_who_has_left_is_a_stranger(world: World) -> None:
    old_keys = world.b.store.keys()
    heads = world.b.store.heads()
    world.b.service.leave()
    world.b.store.save_heads(heads, old_keys)  # a backup of its disk, put back
    with pytest.raises(PeerUnavailable):
        world.b.service.peer_ports()


# -- the rest -----------------------------------------------------------------------------------------------------


def test_failover_from_either_side(world: World) -> None:
    assert world.b.service.failover()["took_ms"] == 1.0  # relayed to the active
    assert (world.a.hot.role, world.b.hot.role) == ("passive", "active")
    world.b.service.failover()
    assert (world.a.hot.role, world.b.hot.role) == ("active", "passive")
    world.b.hot.role = "standalone"
    with pytest.raises(RequestRefused, match="not ready"):
        world.a.service.failover()


def test_settings_that_a_late_port_kept_out_of_force_come_into_force_with_it(world: World) -> None:
    """At boot a port may come up later than the agent: the gateway must not stay out of its cluster for that."""
    hot, job = world.b.hot, world.b.service.periodic_jobs()["put settings in force"][1]
    assert job() == "in force"
    hot.membership, hot.refuse = None, "There is no port lan0 on this gateway."
    world.b.service.start()
    assert "no port lan0" in (job() or "") and hot.membership is None
    hot.refuse = ""
    assert job() == "in force" and hot.membership == world.b.service.membership()
    applied = len(hot.applied)
    assert job() == "in force" and len(hot.applied) == applied, "once"


def test_settings_that_are_not_in_force_are_told_with_the_reason(world: World) -> None:
    service, hot = world.b.service, world.b.hot

    def alarms() -> list[str]:
        return [alarm["key"] for alarm in service.status()["alarms"]]

    assert "settings_not_in_force" not in alarms()
    hot.membership, hot.role, hot.refuse = None, "standalone", "There is no port lan0 on this gateway."
    service.start()
    found = service.status()
    assert found["node"]["role"] == "standalone" and found["node"]["phase"] == "out_of_force"
    assert "not in force: There is no port lan0" in found["node"]["why"] and found["cluster"]["revision"] == 2
    assert not found["readiness"]["ready"] and "not in force" in found["readiness"]["reasons"][0]
    (alarm,) = found["alarms"]
    assert alarm["severity"] == "critical" and "no port lan0" in alarm["text"] and "Mend it." in alarm["remedy"]
    hot.refuse = "No buffer space"
    job = service.periodic_jobs()["put settings in force"][1]
    job()
    assert "No buffer space" in service.status()["node"]["why"], "the present reason, not the first one"
    hot.refuse = ""
    job()
    assert alarms() == [] and service.status()["node"]["role"] == "passive"


def test_who_has_left_meanwhile_has_no_settings_to_be_in_force(world: World) -> None:
    service, hot = world.b.service, world.b.hot
    hot.membership, hot.role, hot.refuse = None, "standalone", "There is no port lan0 on this gateway."
    service.start()
    service.leave(force=True)
    found = service.status()
    assert found["alarms"] == [] and found["cluster"] is None and found["node"].get("phase") != "out_of_force"


def test_maintenance_survives_a_restart_and_expires(world: World) -> None:
    assert world.b.service.maintenance(True, 600) == {"on": True, "left_s": 600}
    world.restart("B")
    assert 590 < world.b.hot.maintenance_left_s <= 600
    past = datetime.now(UTC) - timedelta(seconds=5)
    world.b.store.set_maintenance_until(past.isoformat())
    world.restart("B")
    assert world.b.hot.maintenance_left_s == 0
    world.b.service.periodic_jobs()["housekeeping"][1]()
    assert world.b.store.maintenance_until() is None
    world.b.service.maintenance(True, 600)
    assert world.b.service.maintenance(False, 600)["on"] is False
    assert world.b.store.maintenance_until() is None


def test_a_clock_that_went_back_does_not_prolong_maintenance_for_ever(world: World) -> None:
    world.b.store.set_maintenance_until((datetime.now(UTC) + timedelta(days=4000)).isoformat())
    world.restart("B")
    assert world.b.hot.maintenance_left_s <= 24 * 3600


def test_status_has_the_documented_keys(world: World) -> None:
    status = world.a.service.status()
    assert set(status) == {
        "node", "peer", "cluster", "paths", "virtual_ips", "alarms", "readiness", "jobs", "counters", "pairing",
        "data", "services", "pppoe", "files", "notify", "renewal", "arbiter",
    }  # fmt: skip
    assert {"id", "name", "role", "firmware", "version", "protocol"} <= set(status["node"])
    assert status["peer"]["firmware"] == "5.3" and status["cluster"]["revision"] == 2


def test_ports_of_both(world: World) -> None:
    assert world.a.service.ports() == {"ports": world.a.hot.own_ports}
    assert world.a.service.peer_ports() == {"ports": world.b.hot.own_ports, "node_name": "B"}
    world.cut = True
    with pytest.raises(PeerUnavailable):
        world.a.service.peer_ports()


def test_living_links_go_first_from_own_addresses(world: World) -> None:
    world.a.hot.path_states = {"sync": "down", "backup": "up"}
    world.posted.clear()
    world.a.service.peer_ports()
    routes = world.posted[0][0]
    assert [(route.local, route.remote) for route in routes] == [("10.8.0.1", "10.8.0.2"), ("10.9.0.1", "10.9.0.2")]


def test_preflight_of_a_formed_and_an_unformed_gateway(world: World) -> None:
    for gateway in (world.a, world.b):
        gateway.hot.path_states = {"sync": "up", "backup": "up"}
    report = world.a.service.preflight()
    assert report["findings"] == [] and all(check["ok"] for check in report["checked"])
    assert {"settings", "carrier", "virtual_ip", "disk"} <= {check["key"] for check in report["checked"]}
    world.b.service.leave()
    assert [check["key"] for check in world.b.service.preflight()["checked"]] == ["disk", "files"]
    world.b.hot.own_ports[0]["carrier"] = False
    entered = settings_of_one(
        virtual_ips=[{"address": "10.0.0.150/24", "port": "lan0"}],
        links=[{"kind": "sync", "ends": {"": {"port": "sync0", "address": "10.9.0.2/24"}}}],
    )
    report = world.b.service.preflight(entered)
    assert [finding["key"] for finding in report["findings"]] == ["no_carrier"]
    assert {check["key"]: check["ok"] for check in report["checked"]}["carrier"] is False


def test_events_fit_into_one_answer(world: World) -> None:
    for _ in range(40):
        world.a.store.record("x", "info", "t" * 500, ["e" * 500] * 20)
    first = world.a.service.events(1000)["events"]
    assert 10 < len(first) < 40
    rest = world.a.service.events(1000, before=first[-1]["id"])["events"]
    assert rest[0]["id"] == first[-1]["id"] - 1


def test_peer_messages_that_are_none_are_counted(world: World) -> None:
    for message in (b"junk", b"HSMs" + bytes(200)):
        with pytest.raises(RequestRefused, match="not accepted"):
            world.a.service.peer(base64.b64encode(message).decode(), "127.0.0.1")
    assert world.a.service._exchange.refused[Refusal.MALFORMED] == 1
    assert world.a.service.status()["counters"]["peer_refused_malformed"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        b'{"ok": true, "result": []}',
        b'{"ok": true, "result": null}',
        b'{"ok": true, "result": {"text": "half of a \\ud83d"}}',
        b'{"ok": false, "error": {"code": "refused", "message": "half of a \\ud83d"}}',
        b'{"ok": true, "result": ' + b"[" * 100_000,
    ],
)
def test_an_answer_of_the_other_gateway_that_nobody_could_show_is_none(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.agent.peer.exchange.open_answer", lambda _sealed, _request: answer)
    with pytest.raises(PeerUnavailable, match="cannot be read"):
        world.a.service._exchange.ask("hello")


STRANGE = ["192.0.2.9", "10.9.0.1", "", "nonsense", "10.9.0.2, 192.0.2.9", "::ffff:192.0.2.9"]


@pytest.mark.parametrize("address", STRANGE)
def test_a_gateway_asks_from_its_link_addresses_only(world: World, address: str) -> None:
    assert not world.a.service._cluster.is_peer_address(address)
    world.tap = lambda to, path, deliver: world.answer_from(address) if path.endswith("/peer") else deliver()
    with pytest.raises(ClusterError, match="address that is not"):
        world.b.service.failover()
    assert world.a.hot.role == "active"


@pytest.mark.parametrize("address", ["10.9.0.2", "::ffff:10.9.0.2", "127.0.0.1", "::1"])
def test_link_addresses_and_a_web_server_in_front_are_fine(world: World, address: str) -> None:
    assert world.a.service._cluster.is_peer_address(address)


def test_replayed_peer_messages_are_refused(world: World) -> None:
    world.posted.clear()
    world.b.service.failover()
    relayed = world.posted[-1][2]
    world.b.service.failover()
    with pytest.raises(RequestRefused, match="not accepted"):
        world.a.service.peer(base64.b64encode(relayed).decode(), "127.0.0.1")
    assert world.a.hot.role == "active"


def test_a_cloned_disk_stays_out_with_an_alarm(world: World) -> None:
    node_id = world.b.store.node_id
    world.b.store.close()
    hot = FakeHot(2)
    hot.own_ports = [{**port, "mac": port["mac"].replace("02:00", "02:99")} for port in hot.own_ports]
    clone = world.start("B", hot)
    assert hot.membership is None and not clone.service.settings()["formed"]
    assert [alarm["key"] for alarm in clone.service.status()["alarms"]] == ["foreign_machine"]
    assert "foreign_machine" in clone.event_kinds()
    with pytest.raises(RequestRefused):
        clone.service.peer_ports()
    with pytest.raises(PeerUnavailable):
        world.a.service.peer_ports()  # it answers nothing with the keys that it was cloned with
    clone.service.create(
        settings_of_one(
            virtual_ips=[{"address": "10.0.0.150/24", "port": "lan0"}],
            links=[{"kind": "sync", "ends": {"self": {"port": "sync0", "address": "10.9.0.2/24"}}}],
        )
    )
    assert clone.store.node_id != node_id and hot.membership is not None


def test_a_store_that_cannot_be_put_in_force_at_start_is_told(world: World) -> None:
    world.b.hot.membership = None
    world.b.hot.refuse = "No such device"
    world.b.store.close()
    world.start("B", world.b.hot)
    assert "apply_failed" in world.b.event_kinds()


def test_what_else_configures_the_shared_ports_is_in_preflight_alarms_and_jobs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [Manager("systemd-networkd", ("lan0",), ("lan0",))]
    monkeypatch.setattr(network_managers, "managers_of", lambda _settings: there)
    monkeypatch.setattr(service_module, "managers_of", lambda _settings: there)
    report = world.a.service.preflight()
    assert {"key": "managers", "text": "Nothing else configures the shared ports", "ok": True} in report["checked"]
    assert "port_managed" in {finding["key"] for finding in report["findings"]}
    _period, look = world.a.service.periodic_jobs()["network managers"]
    assert "systemd-networkd manages lan0" in str(look())
    (alarm,) = [one for one in world.a.service.status()["alarms"] if one["key"] == "port_managed"]
    assert alarm["severity"] == "warning" and "KeepConfiguration=yes" in alarm["remedy"]
    there.clear()
    look()
    assert "port_managed" not in {one["key"] for one in world.a.service.status()["alarms"]}
