"""The renewal of both certificates on a running pair, as the manual orders it, with real HTTPS and real reboots."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from flask_hsmx_cluster.errors import RequestRefused
from sample_app import https
from sample_app.lab import Gateway, Lab, form, wait_for_roles
from sample_app.lab.gateway import CommandFailed
from sample_app.lab.privileges import GROUP, WEB_UID

from .hotel import wait_until
from .wire import Visitor, fingerprint, read


def install(gateway: Gateway, content: bytes) -> str:
    """Install a certificate as the firmware's page does; return its fingerprint."""
    state = Path(gateway.environment["FIRMWARE_STATE_DIR"])
    https.install(state, content)
    os.chown(state / https.INSTALLED, WEB_UID, GROUP)
    return fingerprint(x509.load_pem_x509_certificate(content))


def steps(gateway: Gateway) -> list[str]:
    return [f"{step['key']} {step['state']} {step['note']}".strip() for step in gateway.call("renewal")["steps"]]


def test_both_certificates_are_renewed_and_guests_never_see_a_bad_one() -> None:
    with Lab(sync="switch", backup="switch") as lab:
        for gateway in lab.gateways:
            gateway.serve_https()
        lab.start()
        form(lab, "--boot-hold-s", "1")
        a, b, addresses = lab.a, lab.b, {lab.a: "10.0.0.1", lab.b: "10.0.0.2"}

        def shown(gateway: Gateway) -> str:
            return fingerprint(read(lab.client, addresses[gateway]))

        wait_until(lambda: all(one.call("renewal_look") for one in lab.gateways))
        old = {gateway: shown(gateway) for gateway in lab.gateways}
        with Visitor(lab.client, lab.virtual_ip) as visitor:
            assert a.cli("renewal", "begin", "certificate")["first"] == b.node_name

            # One that has expired: seen after the reboot, and the role does not move.
            install(b, https.make(["wifi.example"], 1, datetime(2020, 1, 1, tzinfo=UTC)))
            assert shown(b) == old[b], "in force after a reboot only"
            lab.faults.reboot(b)
            wait_for_roles(lab, active=a)
            wait_until(lambda: "seen now expired" in steps(a), lambda: f"{a.call('renewal')}")
            assert read(lab.client, addresses[b]).not_valid_after_utc < datetime.now(UTC)
            with pytest.raises(RequestRefused, match="has expired"):
                a.call("failover")
            with pytest.raises(CommandFailed, match="has expired"):
                b.cli("failover")

            # A good one: seen, and the role moves.
            new = {b: install(b, https.make(["wifi.seeblick.example"], 365))}
            lab.faults.reboot(b)
            wait_for_roles(lab, active=a)
            wait_until(lambda: a.call("renewal")["may_fail_over"], lambda: f"{a.call('renewal')}")
            assert shown(b) == new[b] and shown(a) == old[a]
            a.call("failover")
            wait_for_roles(lab, active=b)

            # The other one.
            new[a] = install(a, https.make(["wifi.seeblick.example"], 365))
            lab.faults.reboot(a)
            wait_for_roles(lab, active=b)
            for gateway in lab.gateways:
                wait_until(lambda: gateway.call("renewal")["finished"], lambda: f"{gateway.call('renewal')}")  # noqa: B023
            assert {gateway: shown(gateway) for gateway in lab.gateways} == new
            told = {one["name"]: one["certificate"]["fingerprint"] for one in a.call("renewal")["gateways"]}
            assert told == {gateway.node_name: new[gateway] for gateway in lab.gateways}
            a.call("renewal_end")
            assert b.call("renewal")["kind"] is None
    assert visitor.seen and all(valid for _, valid in visitor.seen)
    assert list(dict.fromkeys(shown for shown, _ in visitor.seen)) == [old[a], new[b]], "one move, to the new one"
