"""Forming, settings and leaving over real links: real ARP, real firewalls, real web apps in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ChecksFailed, PairingFailed, RequestRefused
from sample_app.lab import Gateway, Lab, form, roles, wait_for_roles

WRONG_CODE = "0000-0000-0000-0000-0000"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch") as lab:
        lab.start()
        form(lab)
        yield lab


def ends_of(gateway: Gateway) -> dict[str, Any]:
    found = gateway.call("settings")
    return {link["kind"]: link["ends"][found["node_id"]] for link in found["settings"]["links"]}


def edited(gateway: Gateway, **advanced: int) -> dict[str, Any]:
    found = gateway.call("settings")
    found["settings"]["advanced"].update(advanced)
    return dict(gateway.call("propose", settings=found["settings"], base_revision=found["revision"]))


def hold_s(gateway: Gateway) -> int:
    return int(gateway.call("settings")["settings"]["advanced"]["boot_hold_s"])


def test_settings_entered_on_either_are_in_force_on_both(lab: Lab) -> None:
    for gateway, value in ((lab.a, 4), (lab.b, 5)):
        assert edited(gateway, boot_hold_s=value)["delivered"]
        assert (hold_s(lab.a), hold_s(lab.b)) == (value, value)
    assert wait_for_roles(lab) is lab.a


def test_settings_reach_a_gateway_that_was_off(lab: Lab) -> None:
    lab.faults.power_off(lab.b)
    assert not edited(lab.a, boot_hold_s=3)["delivered"]
    assert lab.a.call("settings")["pending"]
    lab.faults.power_on(lab.b)
    end = time.monotonic() + 20
    while lab.a.call("settings")["pending"] and time.monotonic() < end:
        time.sleep(0.2)
    assert hold_s(lab.b) == 3 and not lab.a.call("settings")["pending"]
    wait_for_roles(lab, lab.a)


def test_an_address_that_a_machine_has_is_refused(lab: Lab) -> None:
    found = lab.a.call("settings")
    router = lab.virtual_ip.rsplit(".", 1)[0] + ".254"
    found["settings"]["virtual_ips"][0]["address"] = f"{router}/24"
    with pytest.raises(ChecksFailed) as failed:
        lab.a.call("propose", settings=found["settings"], base_revision=found["revision"])
    assert [finding.key for finding in failed.value.findings] == ["virtual_ip_in_use"]


def test_leaving_and_joining_again(lab: Lab) -> None:
    ends, address = ends_of(lab.b), ends_of(lab.a)["sync"]["address"].split("/")[0]
    assert lab.b.call("leave") == {"left": True, "peer_informed": True}
    assert roles(lab) == {"a": "active", "b": "standalone"}
    code = lab.a.call("pairing_code")["code"]
    with pytest.raises(PairingFailed):
        lab.b.call("join", address=address, code=WRONG_CODE, ends=ends)
    assert lab.a.call("status")["pairing"]["attempts_left"] == 4

    lab.a.namespace.run(
        "nft", "add table inet shut; add chain inet shut i { type filter hook input priority 0; };"
        "add rule inet shut i udp dport 5555 drop",
    )  # fmt: skip
    with pytest.raises(ChecksFailed) as failed:
        lab.b.call("join", address=address, code=code, ends=ends)
    lab.a.namespace.run("nft", "delete table inet shut")
    assert {finding.key for finding in failed.value.findings} == {"heartbeat_unreachable"}
    assert all("from gateway-b to gateway-a" in finding.text for finding in failed.value.findings)
    assert roles(lab) == {"a": "active", "b": "standalone"}

    lab.b.call("join", address=address, code=code, ends=ends)
    assert wait_for_roles(lab) is lab.a
    with pytest.raises(RequestRefused):
        lab.a.call("pairing_code")


def test_the_active_hands_over_before_it_leaves(lab: Lab) -> None:
    wait_for_roles(lab, lab.a)
    assert lab.a.call("leave")["peer_informed"]
    assert roles(lab) == {"a": "standalone", "b": "active"}
    assert not lab.a.holds(lab.virtual_ip) and lab.b.holds(lab.virtual_ip)
