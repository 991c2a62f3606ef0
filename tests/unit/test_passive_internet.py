"""A passive gateway's way out: which packets may go it, and that it ends with the role."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.services import packet_rules, passive_internet
from flask_hsmx_cluster.services.passive_internet import PassiveInternet, Setup, rules

LINK = {"port": "sync0", "own": "10.99.0.1", "peer": "10.99.0.2"}


def setup(directory: Path, target: str = "127.0.0.1:1", **link: Any) -> dict[str, Any]:
    return {"marker": str(directory / "marker"), "target": target, "link": {**LINK, **link}}


class Kernel:
    """In place of nft and ip: what would be in the kernel, and nothing of this machine."""

    def __init__(self) -> None:
        self.table = self.route = ""
        self.way = "dev sync0 "

    def run(self, *argv: str, stdin: str = "", timeout_s: float = 5.0) -> str:
        if argv[0] == "nft":
            self.table = stdin.partition("delete table inet hsmx_passive_internet\n")[2]
        elif argv[2:4] == ("route", "replace"):
            self.route = " ".join(argv[4:])
        elif argv[2:4] == ("route", "flush"):
            assert argv[4:] == ("proto", "73")
            self.route = ""
        else:
            assert argv[:3] == ("ip", "route", "get")
            return f"{argv[3]} {self.way}"
        return ""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel()
    monkeypatch.setattr(packet_rules, "run", found.run)
    monkeypatch.setattr(passive_internet, "run", found.run)
    return found


@pytest.mark.parametrize(
    "hostile", [{"port": "sync0; drop"}, {"own": "10.99.0.1 }"}, {"peer": "10.99.0.0/24"}, {"peer": ""}]
)
def test_nothing_else_gets_into_the_packet_rules(tmp_path: Path, hostile: dict[str, str]) -> None:
    with pytest.raises(ClusterError):
        Setup.parsed(setup(tmp_path, **hostile))


def test_only_the_other_gateways_own_packets_go_this_way(tmp_path: Path) -> None:
    active = [line.strip() for line in rules(Setup.parsed(setup(tmp_path)), active=True).splitlines()]
    assert [line for line in active if line.endswith("accept")] == [
        'iifname "sync0" oifname != "sync0" ip saddr 10.99.0.2 accept',
        'oifname "sync0" iifname != "sync0" ip daddr 10.99.0.2 ct state established,related accept',
    ]
    assert 'oifname "sync0" drop' in active and 'iifname "sync0" drop' in active
    assert [line for line in active if "masquerade" in line] == ['oifname != "sync0" ip saddr 10.99.0.2 masquerade']
    passive = rules(Setup.parsed(setup(tmp_path)), active=False)
    assert "masquerade" not in passive and "accept\n" not in passive.replace("policy accept;\n", "")


def test_the_way_out_follows_the_role(tmp_path: Path, kernel: Kernel) -> None:
    way = PassiveInternet()
    way.configure(setup(tmp_path))
    assert not kernel.route and not kernel.table and (tmp_path / "marker").exists()
    way.after_passive()
    assert kernel.route == "default via 10.99.0.2 dev sync0 src 10.99.0.1 metric 20000 proto 73"
    assert "masquerade" not in kernel.table
    way.before_active()
    assert not kernel.route and not kernel.table
    way.after_active()
    assert not kernel.route and "masquerade" in kernel.table
    way.before_passive()
    way.after_passive()
    assert kernel.route and "masquerade" not in kernel.table


def test_it_ends_at_once_and_no_late_step_brings_it_back(tmp_path: Path, kernel: Kernel) -> None:
    way = PassiveInternet()
    way.configure(setup(tmp_path))
    way.before_active()
    way.after_active()
    way.stop_now()
    assert not kernel.table and not kernel.route
    way.after_active()
    way.tick(1000)
    assert not kernel.table and not kernel.route
    way.after_passive()
    assert kernel.route


def test_what_somebody_removes_comes_back(tmp_path: Path, kernel: Kernel) -> None:
    way = PassiveInternet()
    way.configure(setup(tmp_path))
    way.after_passive()
    kernel.route = kernel.table = ""
    way.tick(1000)
    assert kernel.route and kernel.table


def test_switched_off_nothing_is_left(tmp_path: Path, kernel: Kernel) -> None:
    way = PassiveInternet()
    way.configure(setup(tmp_path))
    way.after_passive()
    kernel.table = "left by an agent that was killed"
    another = PassiveInternet()
    another.configure({"marker": str(tmp_path / "marker")})
    assert not kernel.route and not kernel.table and not (tmp_path / "marker").exists()
    assert another.status()["state"] == "off"


def test_whether_the_outside_answers_is_said_(tmp_path: Path, kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        way = PassiveInternet()
        way.configure(setup(tmp_path, target=f"127.0.0.1:{port}"))
        way.after_passive()
        assert look(way, 0) == "reachable"
        assert way.status()["through_peer"] is True
        kernel.way = "dev lo "
        assert look(way, 100) == "reachable"
        assert way.status()["through_peer"] is False
    assert look(way, 200) == "unreachable"
    shown = way.status()
    assert (shown["host"], shown["port"]) == ("127.0.0.1", port) and shown["problem"]
    way.before_active()
    way.after_active()
    assert way.status()["state"] == "lending"


def look(way: PassiveInternet, at_s: float) -> str:
    """Let it look at the outside, and return the state that it then shows."""
    way._seen = {}
    way.tick(at_s)
    deadline = time.monotonic() + 10
    while way.status()["state"] == "unknown":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return str(way.status()["state"])
