"""A real etcd as arbiter: exactly one gateway serves where two of them alone cannot tell, and nothing else changes."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from sample_app.lab import Gateway, Lab, form, wait_for_roles
from sample_app.lab.forming import roles

from ..etcd import Authority, command
from ..waiting import within
from .hotel import wait_until

KEYS = {
    "ARBITER": "https://{address}:2379", "ARBITER_CA": "{ca}", "ARBITER_CERTIFICATE": "{certificate}",
    "ARBITER_KEY": "{key}",
}  # fmt: skip


class ArbiterLab(Lab):
    """Two gateways that know of an arbiter on the router."""

    def __init__(self, directory: Path) -> None:
        super().__init__(sync="switch", backup="switch")
        self.directory_of_etcd = directory
        self.authority = Authority(directory)
        self.etcd: subprocess.Popen[bytes] | None = None

    def state_arbiter(self, gateway: Gateway, **more: str) -> None:
        certificate, key = self.authority.certify(gateway.node_name)
        found = {"address": self.router_address, "ca": self.authority.ca, "certificate": certificate, "key": key}
        gateway.environment |= {f"HSMX_CLUSTER_{name}": text.format(**found) for name, text in KEYS.items()} | more

    def start_etcd(self) -> None:
        with (self.directory_of_etcd / "log").open("ab") as log:
            data = self.directory_of_etcd / "data"
            self.etcd = self.router.popen(*command(data, self.authority, self.router_address), output=log)

    def kill_etcd(self) -> None:
        assert self.etcd is not None
        self.etcd.kill()
        self.etcd.wait()

    def separate(self, on: bool = True) -> None:
        """Let nothing pass between the two gateways; both reach everybody else."""
        for cable in ("sync", "backup"):
            (self.faults.pull if on else self.faults.plug)(self.a, cable)
        self.faults.isolate(on)

    def keep_from_etcd(self, gateway: Gateway, on: bool = True) -> None:
        address = gateway.address("lan0").partition("/")[0]
        self.router.ip(f"route {'add' if on else 'del'} blackhole {address}/32")


@pytest.fixture(scope="module")
def formed() -> Iterator[ArbiterLab]:
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        directory = Path(text)
        directory.chmod(0o755)
        lab = stack.enter_context(ArbiterLab(directory))
        lab.start_etcd()
        stack.callback(lab.kill_etcd)
        for gateway in lab.gateways:
            lab.state_arbiter(gateway)
        lab.start()
        form(lab)
        yield lab


@pytest.fixture
def lab(formed: ArbiterLab) -> ArbiterLab:
    """The pair, healed: gateway a active, both sure that the arbiter answers."""
    formed.separate(False)
    for gateway in formed.gateways:
        if gateway.agent is None:
            gateway.start_agent()
            gateway.wait_until_ready()
    if formed.etcd is None or formed.etcd.poll() is not None:
        formed.start_etcd()
    wait_until(lambda: all(arbiter(gateway)["answers"] for gateway in formed.gateways), lambda: str(seen(formed)))
    if wait_for_roles(formed) is formed.b:
        formed.b.call("failover")
        wait_for_roles(formed, formed.a)
    return formed


def arbiter(gateway: Gateway) -> dict[str, Any]:
    return dict(gateway.call("status")["arbiter"])


def seen(lab: Lab) -> list[Any]:
    return [(gateway.name, gateway.role(), arbiter(gateway)) for gateway in lab.gateways]


def claims(gateway: Gateway) -> int:
    return sum(event["kind"] == "active" for event in gateway.call("events", limit=200)["events"])


def holders(lab: Lab) -> list[str]:
    return [gateway.name for gateway in lab.gateways if gateway.holds(lab.virtual_ip)]


def test_cut_off_from_each_other_one_serves_and_is_followed_when_it_dies(lab: ArbiterLab) -> None:
    before = claims(lab.b)
    lab.separate()
    wait_until(lambda: arbiter(lab.b)["word"] == "denied", lambda: str(seen(lab)))
    assert roles(lab) == {"a": "active", "b": "passive"}
    assert arbiter(lab.a)["word"] == "granted"
    assert holders(lab) == ["a"]
    assert claims(lab.b) == before
    assert "the arbiter lets gateway-a serve" in lab.b.call("status")["node"]["phase_text"]
    lab.faults.kill_agent(lab.a)
    assert within(20, lambda: lab.b.role() == "active"), seen(lab)
    assert holders(lab) == ["b"]
    assert "the arbiter has granted it" in str(lab.b.call("events", limit=20))


def test_while_it_is_away_nothing_moves_and_those_that_are_cut_off_decide_as_without_it(lab: ArbiterLab) -> None:
    before = [claims(gateway) for gateway in lab.gateways]
    lab.kill_etcd()
    wait_until(lambda: not any(arbiter(gateway)["answers"] for gateway in lab.gateways))
    assert "cannot be reached" in arbiter(lab.a)["text"]
    assert "arbiter" in [finding["key"] for finding in lab.a.call("preflight")["findings"]]
    assert roles(lab) == {"a": "active", "b": "passive"}
    assert [claims(gateway) for gateway in lab.gateways] == before
    lab.separate()
    assert within(10, lambda: roles(lab) == {"a": "active", "b": "active"}), seen(lab)
    lab.separate(False)
    assert within(5, lambda: sorted(roles(lab).values()) == ["active", "passive"]), seen(lab)


def test_where_it_is_required_the_one_that_it_does_not_hear_lets_go_first(lab: ArbiterLab) -> None:
    for gateway in (lab.b, lab.a):
        lab.state_arbiter(gateway, HSMX_CLUSTER_ARBITER_REQUIRED="true")
        gateway.signal_agent(SIGTERM)
        gateway.start_agent()
        gateway.wait_until_ready()
        wait_until(lambda gateway=gateway: bool(arbiter(gateway)["answers"]))  # type: ignore[misc]
        wait_for_roles(lab)
    active = wait_for_roles(lab)
    other = lab.other(active)
    lab.keep_from_etcd(active)
    lab.separate()
    both = []

    def moved() -> bool:
        both.append(holders(lab) == ["a", "b"])
        return bool(other.role() == "active")

    assert within(15, moved), seen(lab)
    assert not any(both)
    assert holders(lab) == [other.name]
    assert "neither the other gateway nor the arbiter" in str(active.call("events", limit=20))
    lab.keep_from_etcd(active, False)
