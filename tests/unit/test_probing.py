"""New shared addresses are looked for on the wire before they are saved: how many, how fast, and what is said."""

from __future__ import annotations

import os
from ipaddress import ip_interface

import pytest

from flask_hsmx_cluster.agent.heartbeat import devices
from flask_hsmx_cluster.agent.heartbeat.devices import ask_for_many
from flask_hsmx_cluster.agent.preflight import probing
from flask_hsmx_cluster.errors import ChecksFailed, NetworkError
from flask_hsmx_cluster.network.wire import AddressClaim, Frame
from flask_hsmx_cluster.settings.networks import Alias

from .gateways import World

GUEST = "02:00:00:00:00:66"


class Wire:
    """A port on which some addresses answer: a pipe that can be waited for, and what lies in it."""

    def __init__(self, answers: dict[bytes, AddressClaim]) -> None:
        self.answers, self.sent, self.waiting = answers, [], []
        self._reader, self._writer = os.pipe()

    def fileno(self) -> int:
        return self._reader

    def send(self, frame: bytes) -> bool:
        self.sent.append(frame)
        if frame in self.answers:
            self.waiting.append(self.answers[frame])
            os.write(self._writer, b"x")
        return True

    def receive(self) -> list[Frame]:
        os.read(self._reader, 4096)
        found, self.waiting = self.waiting, []
        return found

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


def test_all_ports_at_once_and_each_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "PROBES_PER_S", 1000)
    monkeypatch.setattr(devices, "LAST_ANSWER_S", 0.01)
    mac = bytes.fromhex(GUEST.replace(":", ""))
    lan = Wire({b"ask 2": AddressClaim(mac, "10.0.0.2"), b"ask 3": AddressClaim(mac, "10.0.0.99")})
    wan = Wire({b"ask 8": AddressClaim(mac, "10.0.0.8")})
    probes = {"lan0": [(f"10.0.0.{n}", f"ask {n}".encode()) for n in range(1, 5)], "lan1": [("10.0.0.8", b"ask 8")]}
    found = ask_for_many({"lan0": lan, "lan1": wan}, probes)  # type: ignore[dict-item]
    assert found == {("lan0", "10.0.0.2"): {GUEST}, ("lan1", "10.0.0.8"): {GUEST}}, "only what was asked for"
    assert lan.sent == [b"ask 1", b"ask 2", b"ask 3", b"ask 4"] and wan.sent == [b"ask 8"]
    lan.close()
    wan.close()


def test_a_switch_with_arp_inspection_minds_neither_these_nor_the_agents_own_questions() -> None:
    assert devices.PROBES_PER_S + 4 < 15, "two virtual IPs are asked for twice a second"


def aliases(count: int, port: str = "lan0") -> list[tuple[str, Alias]]:
    return [(f"aliases.{n}", Alias(ip_interface(f"10.1.{n // 200}.{n % 200 + 1}/32"), port)) for n in range(count)]


def test_of_many_on_a_port_the_first_are_looked_for() -> None:
    asked: list[dict[str, int]] = []

    def probe(wanted: dict[str, list[str]]) -> dict[tuple[str, str], list[str]]:
        asked.append({port: len(some) for port, some in wanted.items()})
        return {("lan1", "10.1.0.1"): [GUEST]}

    new = [*aliases(probing.MOST_PROBED + 7), *aliases(3, "lan1")]
    (found,) = probing.check_shared(new, probe)  # type: ignore[arg-type]
    assert asked == [{"lan0": probing.MOST_PROBED, "lan1": 3}] and probing.unprobed(new) == 7
    assert found.key == "address_in_use" and found.field == "aliases.0.address" and GUEST in found.text


def test_a_port_that_cannot_be_probed_is_told_and_nothing_new_asks_for_nothing() -> None:
    def probe(_wanted: object) -> dict[tuple[str, str], list[str]]:
        raise NetworkError("no", "Mend it.")

    assert [one.key for one in probing.check_shared(aliases(1), probe)] == ["probe_failed"]
    assert list(probing.check_shared([], probe)) == []


def test_only_what_is_new_is_looked_for_when_settings_are_saved(world: World) -> None:
    service, hot = world.a.service, world.a.hot

    def save(*addresses: str) -> dict[str, object]:
        held = service.settings()
        rows = [{"address": address, "port": "lan0"} for address in addresses]
        return service.propose({**held["settings"], "aliases": rows}, held["revision"])

    assert save("10.0.0.7/32")["unprobed"] == 0
    hot.guests = {"10.0.0.7": GUEST, "10.0.0.8": GUEST, "10.0.0.9": world.b.hot.mac}
    with pytest.raises(ChecksFailed) as failed:
        save("10.0.0.7/32", "10.0.0.8/32")
    assert [(one.key, one.field) for one in failed.value.findings] == [("address_in_use", "aliases.1.address")]
    save("10.0.0.7/32", "10.0.0.9/32")  # the other gateway answers for what moves
    assert hot.probed[0] == {"lan0": ["10.0.0.7"]} and hot.probed[-1] == {"lan0": ["10.0.0.9"]}
