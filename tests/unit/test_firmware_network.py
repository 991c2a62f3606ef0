"""What the firmware's network daemon adds and removes, and how it reads the kernel's ports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sample_app.firmware import network
from sample_app.firmware.network import Port
from sample_app.firmware.network_daemon import Daemon, plan

LAN = Port("lan0", "02:00:00:00:00:01", True, 1500, ("10.0.0.1/24", "10.0.0.9/24"), ("10.0.0.100/32",))


def test_only_addresses_that_were_set_before_are_removed() -> None:
    add, remove = plan([("lan0", "10.0.0.2/24")], [LAN], managed=[("lan0", "10.0.0.1/24")])
    assert add == [("lan0", "10.0.0.2/24")]
    assert remove == [("lan0", "10.0.0.1/24")]


def test_a_leased_address_is_nobodys_but_the_agents() -> None:
    add, remove = plan([], [LAN], managed=[("lan0", "10.0.0.100/32")])
    assert (add, remove) == ([], [])


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert plan([("lan0", "10.0.0.1/24")], [LAN], managed=[("lan0", "10.0.0.1/24")]) == ([], [])


def test_ports_are_read_without_loopback_macvlan_and_link_local() -> None:
    def port(name: str, kind: str, *addresses: tuple[str, int, str, int]) -> dict[str, object]:
        return {
            "ifname": name, "link_type": "ether", "address": "02:00:00:00:00:01", "mtu": 1500,
            "flags": ["UP", "LOWER_UP"], "linkinfo": {"info_kind": kind},
            "addr_info": [{"local": local, "prefixlen": length, "scope": scope, "valid_life_time": life}
                          for local, length, scope, life in addresses],
        }

    forever = network.FOREVER
    ports = network.ports_from_ip([
        {"ifname": "lo", "link_type": "loopback"},
        port("vip0", "macvlan", ("10.0.0.101", 32, "global", 2)),
        port("lan0", "veth", ("10.0.0.1", 24, "global", forever), ("10.0.0.100", 32, "global", 2),
             ("fe80::1", 64, "link", forever)),
    ])
    assert ports == [Port("lan0", "02:00:00:00:00:01", True, 1500, ("10.0.0.1/24",), ("10.0.0.100/32",))]


def test_the_daemon_reports_damage_once_and_remembers_the_factory_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "read_ports", lambda: [LAN])
    daemon = Daemon(tmp_path, tmp_path / "result.json")
    assert not daemon.turn()
    (tmp_path / network.SETTINGS_FILE).write_text("[]")
    assert daemon.turn()
    assert not daemon.turn()
    result = network.load_result(tmp_path / "result.json")
    assert result is not None
    assert "damaged" in result.errors[0]
    assert ("lan0", "10.0.0.1/24") in result.managed
    assert ("lan0", "10.0.0.100/32") not in result.managed


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"revision": 1, "ports": {}}))
    (tmp_path / network.SETTINGS_FILE).symlink_to(secret)
    with pytest.raises(network.NetworkSettingsError):
        network.load_settings(tmp_path)
    network.write_whole(tmp_path / network.SETTINGS_FILE, {"revision": 2, "ports": {}})
    assert json.loads(secret.read_text())["revision"] == 1


def state(path: Path, written_s: float, **data: object) -> None:
    """Write a file as if at a time."""
    path.write_text(json.dumps(data))
    os.utime(path, (written_s, written_s))


def applied(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]] | None:
    """Return the addresses that a turn of the daemon sets, by port."""
    seen: list[network.Settings] = []
    monkeypatch.setattr(daemon, "apply", lambda settings: seen.append(settings) or [])
    daemon.turn()
    return dict(seen[0].ports) if seen else None


def test_what_the_cluster_settings_state_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "read_ports", lambda: [LAN])
    daemon, stated = Daemon(tmp_path, tmp_path / "result.json"), tmp_path / network.STATED_FILE
    wan = {"wan0": ["203.0.113.3/29"]}
    assert applied(daemon, monkeypatch) is None
    state(stated, 100, in_cluster=True, ports=wan, replaced={})
    assert applied(daemon, monkeypatch) == {"lan0": LAN.own, "wan0": ("203.0.113.3/29",)}, "the others keep theirs"
    assert applied(daemon, monkeypatch) is None, "once"
    own = {"lan0": ["10.0.0.2/24"], "wan0": ["198.51.100.1/24"]}
    state(tmp_path / network.SETTINGS_FILE, 200, revision=1, ports=own)
    assert applied(daemon, monkeypatch) == {"lan0": ("10.0.0.2/24",), "wan0": ("203.0.113.3/29",)}
    state(stated, 300, in_cluster=False, ports=wan, replaced={})
    assert (applied(daemon, monkeypatch) or {})["wan0"] == ("203.0.113.3/29",), "who leaves keeps them"
    state(tmp_path / network.SETTINGS_FILE, 400, revision=2, ports=own)
    assert (applied(daemon, monkeypatch) or {})["wan0"] == ("198.51.100.1/24",), "until somebody saves others"
    for damage in ("", "[]", '{"in_cluster": true}', '{"in_cluster": true, "ports": {"wan0": ["junk"]}}'):
        stated.write_text(damage)
        assert (applied(daemon, monkeypatch) or {})["wan0"] == ("198.51.100.1/24",)
