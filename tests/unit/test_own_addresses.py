"""What one gateway's agent does to the kernel for its own addresses."""

from __future__ import annotations

import json
import os
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.agent.interfaces import FILE, OwnAddresses
from flask_hsmx_cluster.errors import ConfigError, NetworkError

from .gateways import FakeHand, FakeHot, port


class Machine:
    """A machine with a port, and what keeps its own addresses."""

    def __init__(self, directory: Path, *addresses: str, by_host: bool = False) -> None:
        self.directory, self.by_host = directory, by_host
        self.events: list[tuple[str, list[str]]] = []
        hot = FakeHot(1)
        hot.own_ports = [port("wan0", "", *addresses)]
        self.hand = FakeHand(hot)
        self.start()

    def start(self) -> None:
        def record(kind: str, _severity: str, _text: str, evidence: list[str]) -> None:
            self.events.append((kind, evidence))

        self.own = OwnAddresses(str(self.directory), record, self.by_host, self.hand)

    @property
    def addresses(self) -> list[str]:
        return self.hand.ports[0]["addresses"]  # type: ignore[no-any-return]

    def change(self, *addresses: str) -> None:
        with self.own.change(stated(*addresses)):
            pass


def stated(*addresses: str) -> dict[str, tuple[Any, ...]]:
    return {"wan0": tuple(map(ip_interface, addresses))} if addresses else {}


def test_the_new_one_comes_before_the_old_one_goes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    with machine.own.change(stated("203.0.113.3/29")):
        assert machine.addresses == ["203.0.113.9/29", "203.0.113.3/29"], "what binds to either works meanwhile"
    assert machine.addresses == ["203.0.113.3/29"]
    assert machine.events == [("own_addresses", ["wan0: 203.0.113.3/29"])]


def test_what_cannot_be_put_in_force_leaves_all_as_it_was(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    with pytest.raises(KeyError), machine.own.change(stated("203.0.113.3/29")):
        raise KeyError
    assert machine.addresses == ["203.0.113.9/29"] and not (tmp_path / FILE).exists()
    machine.hand.refuse = "203.0.113.4/29"
    with pytest.raises(NetworkError), machine.own.change(stated("203.0.113.3/29", "203.0.113.4/29")):
        pytest.fail("nothing is put in force")
    assert machine.addresses == ["203.0.113.9/29"] and machine.events == []


def test_an_ipv6_address_whose_prefix_length_was_to_change_is_there_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29", "2001:db8:9::2/64")
    with pytest.raises(KeyError), machine.own.change(stated("2001:db8:9::2/56")):
        assert machine.addresses == ["203.0.113.9/29", "2001:db8:9::2/56"], "the kernel has only one of the two"
        raise KeyError
    machine.hand.refuse = "203.0.113.4/29"
    with pytest.raises(NetworkError):
        machine.change("2001:db8:9::2/56", "203.0.113.4/29")
    assert sorted(machine.addresses) == ["2001:db8:9::2/64", "203.0.113.9/29"]


def test_what_could_not_be_entered_is_not_replaced(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29", "240.0.0.1/24")
    machine.change("203.0.113.3/29")
    assert machine.addresses == ["240.0.0.1/24", "203.0.113.3/29"]


def test_in_another_cluster_a_port_is_named_first_once_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.change("203.0.113.3/29")
    machine.own.leave()
    machine.addresses.append("203.0.113.9/29")
    machine.addresses.append("203.0.113.5/29")
    machine.change("203.0.113.4/29")
    assert machine.addresses == ["203.0.113.4/29"]


def test_it_is_set_again_after_a_boot_and_what_the_host_brings_back_goes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.change("203.0.113.3/29")
    machine.change("203.0.113.4/29")
    for back in ("203.0.113.9/29", "203.0.113.3/29"):
        machine.addresses[:] = [back]
        machine.start()
        assert machine.own.restore(stated("203.0.113.4/29")) == "set again"
        assert machine.addresses == ["203.0.113.4/29"]
    assert machine.own.restore(stated("203.0.113.4/29")) == "in place"


def test_what_it_neither_set_nor_replaced_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.change("203.0.113.3/29")
    machine.addresses.append("198.51.100.1/24")
    machine.change("203.0.113.4/29")
    assert machine.own.restore(stated("203.0.113.4/29")) == "in place"
    assert machine.addresses == ["198.51.100.1/24", "203.0.113.4/29"]


def test_a_port_that_is_left_to_the_host_again_keeps_what_it_has(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.change("203.0.113.3/29")
    machine.change()
    machine.addresses.append("203.0.113.9/29")
    machine.start()
    assert machine.own.restore({}) == "nothing to do"
    assert machine.addresses == ["203.0.113.3/29", "203.0.113.9/29"]
    assert machine.events[-1] == ("own_addresses", ["wan0: left to this gateway's own network settings"])


def test_a_change_that_a_crash_interrupted_is_finished_at_the_start(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.change("203.0.113.3/29")
    machine.addresses.append("203.0.113.4/29")  # set, and in force in the node store; then the power failed
    machine.start()
    machine.own.restore(stated("203.0.113.4/29"))
    assert machine.addresses == ["203.0.113.4/29"]


def test_a_full_disk_stops_nothing_that_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "203.0.113.9/29")

    def refuse(*_arguments: object) -> None:
        raise ConfigError("The own addresses cannot be written.")

    monkeypatch.setattr("flask_hsmx_cluster.agent.interfaces._write", refuse)
    machine.change("203.0.113.3/29")
    assert "203.0.113.3/29" in machine.addresses and machine.events[0][0] == "own_addresses_failed"
    assert machine.own.restore(stated("203.0.113.3/29")) == "set again"
    assert machine.addresses == ["203.0.113.3/29"]


def test_a_port_that_comes_later_gets_its_address_then(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.change("203.0.113.3/29")
    ports = [machine.hand.ports.pop()]
    assert machine.own.restore(stated("203.0.113.3/29")).startswith("waits: There is no port wan0")
    machine.own.restore(stated("203.0.113.3/29"))
    assert [kind for kind, _evidence in machine.events] == ["own_addresses", "own_addresses_failed"], "told once"
    ports[0]["addresses"].clear()
    machine.hand.ports += ports
    assert machine.own.restore(stated("203.0.113.3/29")) == "set again" and machine.addresses == ["203.0.113.3/29"]


def test_a_firmware_that_sets_them_itself_is_told_by_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.agent.interfaces.HOST_TIMEOUT_S", 0)
    machine = Machine(tmp_path, "203.0.113.9/29", by_host=True)
    machine.change("203.0.113.3/29")

    def read() -> Any:
        return json.loads((tmp_path / FILE).read_text())

    assert read()["ports"] == {"wan0": ["203.0.113.3/29"]} and read()["in_cluster"] is True
    assert machine.hand.acts == [] and machine.addresses == ["203.0.113.9/29"]
    with pytest.raises(KeyError), machine.own.change(stated("203.0.113.4/29")):
        assert read()["ports"] == {"wan0": ["203.0.113.4/29"]}
        raise KeyError
    assert read()["ports"] == {"wan0": ["203.0.113.3/29"]}
    machine.own.leave()
    assert read()["in_cluster"] is False and read()["ports"] == {"wan0": ["203.0.113.3/29"]}
    machine.change()
    assert read()["ports"] == {"wan0": ["203.0.113.3/29"]}, "another cluster that says nothing of it takes nothing back"


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "9" * 5000,
                                     '{"in_cluster": true, "ports": {"wan0": ["x"]}, "replaced": {}}'])
def test_a_damaged_file_stops_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.own.restore(stated("203.0.113.3/29"))
    assert machine.addresses == ["203.0.113.3/29"]


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    machine = Machine(tmp_path, "203.0.113.9/29")
    machine.own.restore(stated("203.0.113.3/29"))
    assert machine.addresses == ["203.0.113.3/29"]
