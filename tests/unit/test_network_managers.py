"""What else configures the network, told from trees of files; whatever stands in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.preflight import network_managers
from flask_hsmx_cluster.agent.preflight.network_managers import ManagersWatch, check_forwarding, check_managers
from flask_hsmx_cluster.network.managers import MOST_BYTES, MOST_SEARCHED, Manager, find_managers
from flask_hsmx_cluster.settings.model import from_dict

from .gateways import settings_of_one

PORTS = {"lan0": 3, "lan1": 4}
ADDRESSES = ["10.0.0.100", "fd00::100"]
_DEV = "Inter-| Receive\n face |bytes\n    lo: 1 2\n  lan0: 3 4\n  lan1: 5 6\n"


def tree(root: Path, **files: str) -> Path:
    """Make files; ``__`` in a name stands for a slash."""
    for name, text in {"proc__1__net__dev": _DEV, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def networkd(root: Path, network: str, state: str = "configured") -> Path:
    return tree(root, **{
        "proc__77__comm": "systemd-network\n",
        "run__systemd__netif__links__3": f"# private\nADMIN_STATE={state}\n"
                                         "NETWORK_FILE=/etc/systemd/network/20-lan.network\n",
        "run__systemd__netif__links__4": "ADMIN_STATE=unmanaged\n",
        "etc__systemd__network__20-lan.network": network,
    })  # fmt: skip


def test_nothing_else_is_there(tmp_path: Path) -> None:
    assert find_managers(PORTS, ADDRESSES, tree(tmp_path)) == []
    assert find_managers(PORTS, ADDRESSES, tmp_path / "nowhere") == []


def test_networkd_removes_foreign_addresses_unless_told_to_keep_them(tmp_path: Path) -> None:
    root = networkd(tmp_path, "[Match]\nName=lan0\n[Network]\nAddress=10.0.0.1/24\n")
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("systemd-networkd", ("lan0",), ("lan0",), True)]
    for word, removes in (("yes", ()), ("static", ("lan0",)), ("no", ("lan0",)), ("true", ())):
        networkd(tmp_path, f"[Network]\nKeepConfiguration = {word}\n")
        (found,) = find_managers(PORTS, ADDRESSES, root)
        assert found.removes == removes, word


def test_networkds_drop_ins_count_the_last_one_most(tmp_path: Path) -> None:
    root = networkd(tmp_path, "[Network]\nKeepConfiguration=no\n")
    tree(root, **{"run__systemd__network__20-lan.network.d__50.conf": "[Network]\nKeepConfiguration=yes\n"})
    assert find_managers(PORTS, ADDRESSES, root)[0].removes == ()
    tree(root, **{"etc__systemd__network__20-lan.network.d__60.conf": "[Network]\nKeepConfiguration=no\n"})
    assert find_managers(PORTS, ADDRESSES, root)[0].removes == ("lan0",)
    tree(root, **{"etc__systemd__networkd.conf.d__cluster.conf": "[Network]\nManageForeignRoutes=no\n"})
    assert not find_managers(PORTS, ADDRESSES, root)[0].removes_routes


@pytest.mark.parametrize("state", ["unmanaged", "pending", "initialized", "linger", ""])
def test_a_port_that_networkd_leaves_alone(tmp_path: Path, state: str) -> None:
    root = networkd(tmp_path, "[Network]\n", state)
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("systemd-networkd")]


def test_what_a_daemon_that_has_ended_left_behind_says_nothing(tmp_path: Path) -> None:
    root = networkd(tmp_path, "[Network]\n")
    (root / "proc/77/comm").write_text("cat\n")
    assert find_managers(PORTS, ADDRESSES, root) == []
    tree(root, **{"sys__fs__cgroup__system.slice__systemd-networkd.service__cgroup.procs": "77\n"})
    assert find_managers(PORTS, ADDRESSES, root)[0].managed == ("lan0",), "/proc may hide it"


def test_ports_of_another_network_namespace_are_not_theirs(tmp_path: Path) -> None:
    root = networkd(tmp_path, "[Network]\n")
    (root / "proc/1/net/dev").write_text("head\n  eth0: 1\n")
    assert find_managers(PORTS, ADDRESSES, root)[0].managed == ()


def test_network_manager(tmp_path: Path) -> None:
    root = tree(tmp_path, **{
        "proc__9__comm": "NetworkManager\n",
        "run__NetworkManager__devices__3": "[device]\nmanaged=true\nconnection-uuid=1\n",
        "run__NetworkManager__devices__4": "[device]\nmanaged=false\n",
    })  # fmt: skip
    (found,) = find_managers(PORTS, ADDRESSES, root)
    assert (found.managed, found.removes) == (("lan0",), ("lan0",))


def test_shared_addresses_in_others_files(tmp_path: Path) -> None:
    root = tree(tmp_path, **{
        "etc__netplan__01.yaml": "network:\n  ethernets:\n    lan0: {addresses: [10.0.0.100/24, 'fd00:0:0::100/64']}\n",
        "etc__network__interfaces": "iface lan0 inet static\n  # address 10.0.0.100\n  address 10.0.0.10\n",
    })  # fmt: skip
    (found,) = find_managers(PORTS, ADDRESSES, root)
    assert found == Manager("netplan", lists=("10.0.0.100", "fd00::100"))
    (root / "etc/netplan/01.yaml").write_text("network: {renderer: networkd}\n")
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("netplan")]


def test_pipes_links_and_long_files_hold_nobody_up(tmp_path: Path) -> None:
    root = networkd(tmp_path, "[Network]\n")
    for name in ("run/systemd/netif/links/3", "etc/netplan/a.yaml", "proc/77/comm"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)
    (root / "etc/netplan/b.yaml").symlink_to("b.yaml")
    (root / "etc/netplan/c.yaml").write_text("x" * MOST_BYTES + " 10.0.0.100")
    (root / "etc/netplan/d.yaml").mkdir()
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("netplan")]


@given(st.binary(max_size=300), st.sampled_from(["NETWORK_FILE=", "ADMIN_STATE=configured\nNETWORK_FILE=/etc/", ""]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_content_survives(tmp_path: Path, content: bytes, head: str) -> None:
    root = networkd(tmp_path, "[Network]\n")
    tree(root, proc__9__comm="NetworkManager", etc__netplan__a="")
    for name in ("run/systemd/netif/links/3", "run/NetworkManager/devices/3", "etc/netplan/a.yaml",
                 "etc/systemd/network/20-lan.network", "etc/systemd/networkd.conf"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(head.encode() + content)
    names = {one.name for one in find_managers(PORTS, ADDRESSES, root)}
    assert names == {"systemd-networkd", "NetworkManager", "netplan"}


def test_no_more_is_searched_than_a_moment_allows(tmp_path: Path) -> None:
    files = {f"etc__netplan__{at:02}.yaml": "x" * MOST_BYTES for at in range(MOST_SEARCHED // MOST_BYTES)}
    root = tree(tmp_path, **files, **{"etc__netplan__98.yaml": "fd00::100"})
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("netplan")]
    (tmp_path / "etc/netplan/00.yaml").write_text("10.0.0.100")
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("netplan", lists=("10.0.0.100", "fd00::100"))]


def test_a_file_whose_name_can_be_none_is_passed_over(tmp_path: Path) -> None:
    root = networkd(tmp_path, "")
    links = tmp_path / "run/systemd/netif/links/3"
    links.write_text("ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/\0x.network\n")
    assert find_managers(PORTS, ADDRESSES, root) == [Manager("systemd-networkd", ("lan0",), ("lan0",), True)]


def test_what_is_found_is_told_with_a_remedy_and_blocks_nothing() -> None:
    found = list(check_managers([
        Manager("systemd-networkd", ("lan0",), ("lan0",), True), Manager("netplan", lists=("10.0.0.100",)),
        Manager("NetworkManager"),
    ], routes=True))  # fmt: skip
    assert [(one.key, one.blocking) for one in found] == [("port_managed", False), ("address_listed", False)]
    assert "addresses and routes" in found[0].text and "KeepConfiguration=yes" in found[0].remedy


def test_the_watch_tells_since_when_and_forgets_what_was_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [Manager("NetworkManager", ("lan0",), ("lan0",))]
    monkeypatch.setattr(network_managers, "managers_of", lambda _settings: there)
    watch, wanted = ManagersWatch(), from_dict(settings_of_one())
    assert "manages lan0" in watch.look(wanted)
    before = watch.alarms()
    watch.look(wanted)
    assert watch.alarms() == before and before[0][0].key == "port_managed"
    there.clear()
    assert watch.look(wanted) == "nothing else configures the network" and watch.alarms() == []
    assert watch.look(None) == "not in a cluster"


def test_a_port_that_is_advertised_and_does_not_forward_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    forwards = {"lan0": False, "lan1": True, "lan2": None}
    monkeypatch.setattr(network_managers, "forwards_ipv6", lambda name: forwards[name])
    rows = [{"address": f"fd00:0:0:{at}::1/64", "port": f"lan{at}", "advertise": "slaac"} for at in range(3)]
    findings = list(check_forwarding(from_dict(settings_of_one(networks=rows))))
    assert [(one.key, one.text.split()[0], one.blocking) for one in findings] == [("not_forwarding", "lan0", False)]
