"""What both agents see, tell and remember of certificates and of a renewal, over a wire that can be cut."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from flask_hsmx_cluster.errors import PeerUnavailable, RequestRefused
from flask_hsmx_cluster.renewal.certificate import DAY_S, Certificate

from .gateways import FakeHot, Gateway, World, in_memory, without_real_links


def certificate(number: int, days: float = 365) -> Certificate:
    end = int(time.time() + days * DAY_S)
    return Certificate(f"{number:064x}", ("wifi.example",), "CN=CA", min(end, int(time.time())) - DAY_S, end)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    without_real_links(monkeypatch)
    with in_memory() as root:
        world = World(root)
        for number, gateway in enumerate((world.a, world.b), 1):
            shows(gateway, certificate(number))
            hears(gateway.hot)
        world.form()
        yield world
        world.close()


def hears(hot: FakeHot) -> None:
    """Let a gateway know the other one's role, as by its heartbeats."""
    snapshot = hot.snapshot

    def with_role() -> dict[str, Any]:
        found = snapshot()
        if found["peer"] is not None and hot.other is not None:
            found["peer"]["role"] = hot.other.role
        return found

    hot.snapshot = with_role  # type: ignore[method-assign]


def shows(gateway: Gateway, seen: Certificate | None, boot: str = "first") -> None:
    """Let a gateway's HTTPS port show a certificate, or nothing, after a boot of that name."""

    def see(_where: str) -> Certificate:
        if seen is None:
            raise RequestRefused("nothing answers on 127.0.0.1:443")
        return seen

    object.__setattr__(gateway.config, "https", "127.0.0.1:443")
    side = gateway.service._renewal
    side._see, side._boot, side._certificate = see, boot, None


def guide_of(gateway: Gateway) -> Any:
    return gateway.service._renewal.under_way()


def run_job(gateway: Gateway) -> str:
    return str(gateway.service.periodic_jobs()["certificates"][1]())


def keys(gateway: Gateway) -> dict[str, tuple[str, str]]:
    return {key: (severity, text) for key, severity, text, _remedy in gateway.service._renewal.alarms()}


def test_a_renewal_is_gone_through_from_begin_to_end(world: World) -> None:
    a, b = world.a.service, world.b.service
    told = b.renewal_begin("certificate")  # begun on the passive one, for a change
    assert told["first"] == "B" and told["by"] == "B" and guide_of(world.a) == guide_of(world.b) is not None
    assert [step["state"] for step in told["steps"]][:3] == ["now", "now", "next"] and not told["may_fail_over"]
    shows(world.b, certificate(7), boot="second")
    assert run_job(world.b).startswith("sees 0000")
    assert a.renewal()["may_fail_over"], "the other gateway has told it by itself"
    assert a.failover()["to"] == "B"
    shows(world.a, certificate(8), boot="second")
    told = a.renewal_look()
    assert told["finished"] and {one["certificate"]["fingerprint"] for one in told["gateways"]} == {
        f"{7:064x}", f"{8:064x}"
    }  # fmt: skip
    a.renewal_end()
    assert guide_of(world.a) is guide_of(world.b) is None
    for gateway in (world.a, world.b):
        assert {"renewal_begun", "renewal_ended"} <= set(gateway.event_kinds())


@pytest.mark.parametrize("seen", [None, certificate(7, days=-1)])
def test_no_fail_over_to_a_gateway_without_a_valid_certificate(world: World, seen: Certificate | None) -> None:
    world.a.service.renewal_begin("certificate")
    shows(world.b, seen, boot="second")
    for gateway in (world.a, world.b):
        with pytest.raises(RequestRefused, match="certificate") as refused:
            gateway.service.failover()
        assert "Nothing was changed" in refused.value.message
    with pytest.raises(RequestRefused):
        world.a.service.maintenance(on=True)
    assert world.a.hot.role == "active" and not world.a.hot.requests
    world.a.service.renewal_end()
    assert world.a.service.failover()["to"] == "B", "without a renewal it is the operator's business"


def test_what_cannot_be_found_out_counts_as_unfit(world: World) -> None:
    world.a.service.renewal_begin("certificate")
    world.cut = True
    with pytest.raises(RequestRefused, match="Nothing is known of the other gateway"):
        world.a.service.failover()


def test_the_other_gateway_is_looked_at_right_before_the_fail_over(world: World) -> None:
    world.a.service.renewal_begin("certificate")
    shows(world.b, certificate(7), boot="second")
    assert world.a.service.renewal_look()["may_fail_over"]
    shows(world.b, None, boot="second")  # its web server has died a moment ago
    assert world.a.service.renewal()["may_fail_over"]
    with pytest.raises(RequestRefused, match="shows no certificate"):
        world.a.service.failover()


def test_a_renewal_outlives_agents_and_a_gateway_that_was_away(world: World) -> None:
    world.a.service.renewal_begin("certificate")
    begun = guide_of(world.a)
    world.cut = True
    world.restart("A")
    assert guide_of(world.a) == begun
    shows(world.a, certificate(1))
    world.a.service.renewal_end()
    assert guide_of(world.b) == begun, "it could not be told"
    world.cut = False
    run_job(world.b)
    assert guide_of(world.b) is None
    world.a.hot.role, world.b.hot.role = "active", "passive"
    assert world.b.service.renewal_begin("firmware")["steps"][0]["name"] == "B"
    assert guide_of(world.a).number == begun.number + 1


def test_only_what_can_be_followed_is_begun(world: World) -> None:
    object.__setattr__(world.b.config, "https", "")
    with pytest.raises(RequestRefused, match="Which certificate B shows is not known") as refused:
        world.a.service.renewal_begin("certificate")
    assert "HSMX_CLUSTER_HTTPS" in refused.value.remedy
    world.a.service.renewal_begin("extension")
    with pytest.raises(RequestRefused, match="under way already"):
        world.b.service.renewal_begin("firmware")
    world.b.service.renewal_end()
    with pytest.raises(RequestRefused, match="No renewal is under way"):
        world.a.service.renewal_end()
    world.cut = True
    with pytest.raises(PeerUnavailable):
        world.a.service.renewal_begin("firmware")
    assert guide_of(world.a) is None


def test_an_upgrade_heeds_alarms_about_tables(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = {"key": "peer_not_following", "severity": "critical", "text": "B lacks a column.", "remedy": "Migrate B."}
    monkeypatch.setattr(world.a.service._renewal, "_data_alarms", lambda: [alarm])
    world.a.service.renewal_begin("firmware")
    with pytest.raises(RequestRefused, match="B lacks a column") as refused:
        world.a.service.failover()
    assert "Migrate B." in refused.value.remedy
    alarm |= {"key": "peer_schema_column_more", "severity": "warning"}
    assert world.a.service.failover()["to"] == "B"


def test_an_upgrade_goes_the_same_way_and_each_protocol_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = world.a.service
    a.renewal_begin("firmware")
    shows(world.b, None, boot="second")  # certificates are another matter
    object.__setattr__(world.b.config, "firmware_version", "5.4")
    assert a.renewal_look()["may_fail_over"]
    monkeypatch.setattr("flask_hsmx_cluster.agent.renewal.side.PROTOCOL_LEAST", 99)  # of the next one to tell
    told = world.b.service._renewal.own()
    monkeypatch.undo()
    a._renewal._take({"facts": told.as_dict(), "guide": None})
    found = a.renewal()
    assert not found["may_fail_over"] and found["checks"][0]["key"] == "renewal_protocol"
    assert a.failover()["to"] == "B", "it is asked anew, and speaks what both understand"


def test_a_renewal_is_forgotten_with_the_cluster(world: World) -> None:
    world.a.service.renewal_begin("certificate")
    world.cut = True
    world.b.service.leave(force=True)
    assert world.b.store.guide() is None and guide_of(world.b) is None


def test_either_certificate_that_ends_is_an_alarm_on_both(world: World) -> None:
    shows(world.a, certificate(1, days=20.5))
    shows(world.b, certificate(2, days=2.5))
    run_job(world.a)
    run_job(world.b)
    assert keys(world.a) == {"certificate": ("warning", "The certificate of A expires in 20 days."),
                             "peer_certificate": ("critical", "The certificate of B expires in 2 days.")}  # fmt: skip
    assert {key: severity for key, (severity, _) in keys(world.b).items()} == {
        "certificate": "critical", "peer_certificate": "warning"
    }  # fmt: skip
    shows(world.b, certificate(2, days=-3))
    run_job(world.b)
    assert keys(world.a)["peer_certificate"][1] == "The certificate of B has expired: browsers warn of it."
    assert any(one["key"] == "certificate" for one in world.a.service.status()["alarms"])


def test_a_port_that_shows_nothing_is_an_alarm_once_it_lasts(world: World) -> None:
    shows(world.a, None)
    run_job(world.a)
    assert keys(world.a) == {}
    world.a.service._renewal._unseen_since -= 200
    run_job(world.a)
    assert "nothing answers on 127.0.0.1:443" in keys(world.a)["certificate_unseen"][1]
    shows(world.a, certificate(1))
    run_job(world.a)
    assert keys(world.a) == {}


def test_the_job_is_frequent_only_where_there_is_something_to_see(world: World) -> None:
    period: Any = world.a.service.periodic_jobs()["certificates"][0]
    run_job(world.a)
    assert period() == 3600
    shows(world.a, None)
    assert period() == 15
    world.a.service.renewal_begin("firmware")
    assert period() == 5


@pytest.mark.parametrize(
    "told",
    [{}, {"facts": None, "guide": None}, {"facts": {}, "guide": None}, {"facts": [1], "guide": {}}],
)
def test_nonsense_of_the_other_gateway_is_refused(world: World, told: dict[str, Any]) -> None:
    side = world.a.service._renewal
    with pytest.raises(RequestRefused):
        side._take(told)
    stranger = {**world.b.service._renewal.own().as_dict(), "node_id": "c" * 32}
    with pytest.raises(RequestRefused):
        side._take({"facts": stranger, "guide": None})
    assert side._guide() is None


def test_a_guide_of_other_gateways_is_not_taken(world: World) -> None:
    world.a.service.renewal_begin("certificate")
    begun = guide_of(world.a).as_dict()
    begun["before"][0]["node_id"], begun["number"] = "c" * 32, 99
    world.a.service._renewal._take({"facts": world.b.service._renewal.own().as_dict(), "guide": begun})
    assert guide_of(world.a).number == 1


def test_no_number_that_is_made_up_ends_the_counting(world: World) -> None:
    world.a.service.renewal_begin("certificate")
    told = {**guide_of(world.a).as_dict(), "number": 2**31 - 1, "ended_at": "2030-01-01T00:00:00+00:00"}
    world.a.service._renewal._take({"facts": world.b.service._renewal.own().as_dict(), "guide": told})
    assert guide_of(world.a).number == 1
    world.a.service.renewal_end()
    world.b.service.renewal_begin("certificate")
    assert guide_of(world.a).number == guide_of(world.b).number == 2
