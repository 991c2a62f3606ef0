"""Hands on Linux, against real kernels: leases, announcements, probes, packet filter, port settings."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface

import pytest

from flask_hsmx_cluster.errors import NetworkError
from flask_hsmx_cluster.network.addresses import AddressLease, placed
from flask_hsmx_cluster.network.announce import FrameRequest, build_frames
from flask_hsmx_cluster.network.netlink import MonitorSocket, RequestSocket
from flask_hsmx_cluster.network.ports import Port, prepare_port, read_ports
from flask_hsmx_cluster.network.wire import AddressClaim, HeartbeatFrame, OtherFrame, PortSocket
from sample_app.lab import Gateway, Lab, Pinger, neighbour

V4, V6 = "10.0.0.100", "fd00:0:0:1::100"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@contextmanager
def inside(gateway: Gateway) -> Iterator[tuple[RequestSocket, dict[str, Port]]]:
    """Work in a gateway's namespace."""
    with gateway.namespace.entered():
        requests = RequestSocket()
        try:
            for port in ("lan0", "sync0"):
                prepare_port(port)
            yield requests, {port.name: port for port in read_ports(requests)}
        finally:
            requests.close()


def lease_of(requests: RequestSocket, ports: dict[str, Port], lease_s: int = 2) -> AddressLease:
    wanted = [ip_interface(f"{V4}/24"), ip_interface(f"{V6}/64")]
    return AddressLease(requests, [placed(one, ports["lan0"]) for one in wanted], lease_s)


def wire_of(port: Port) -> PortSocket:
    return PortSocket(port.name, port.index, bytes.fromhex(port.mac.replace(":", "")))


def wait(condition: object, within_s: float = 2.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_the_kernel_drops_an_address_that_is_not_renewed_and_nothing_else(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        lease = lease_of(requests, ports)
        began = time.monotonic()
        lease.hold()
        assert lab.a.holds(V4) and lab.a.holds(V6)
        time.sleep(1.0)
        lease.hold()
        time.sleep(1.4)
        assert lab.a.holds(V4) and lab.a.holds(V6), "a renewed lease lasts longer than the first"
        assert wait(lambda: not lab.a.holds(V4) and not lab.a.holds(V6)), "the kernel ends it by itself"
        assert 2.9 < time.monotonic() - began < 3.6
        assert lab.a.holds("10.0.0.1") and lab.a.holds("fd00:0:0:1::1"), "own addresses stay (rule 9)"
        assert "10.0.0.0/24 dev lan0" in lab.a.namespace.run("ip", "route")
        assert "default via" in lab.a.namespace.run("ip", "route")


def test_a_shared_address_is_a_host_address_beside_an_own_one(lab: Lab) -> None:
    with inside(lab.a) as (_requests, ports):
        assert str(placed(ip_interface(f"{V4}/24"), ports["lan0"]).interface) == f"{V4}/32"
        assert str(placed(ip_interface(f"{V6}/64"), ports["lan0"]).interface) == f"{V6}/128"
        assert str(placed(ip_interface("192.0.2.7/24"), ports["lan0"]).interface) == "192.0.2.7/24"


def test_releasing_twice_is_no_failure(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        lease = lease_of(requests, ports)
        lease.hold()
        lease.release()
        lease.release()
        assert not lab.a.holds(V4) and not lab.a.holds(V6)


def test_an_address_on_a_port_that_is_gone_says_so(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        ghost = Port("ghost0", 9999, ports["lan0"].mac, "ethernet", 1500, True, ())
        with pytest.raises(NetworkError, match="No such device"):
            AddressLease(requests, [placed(ip_interface(f"{V4}/24"), ghost)], 2).hold()


def test_a_port_that_is_gone_does_not_keep_the_other_addresses_off(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        ghost = Port("ghost0", 9999, ports["lan0"].mac, "ethernet", 1500, True, ())
        wanted = [placed(ip_interface("192.0.2.1/24"), ghost), placed(ip_interface(f"{V4}/24"), ports["lan0"])]
        lease = AddressLease(requests, wanted, 2)
        lease.hold()
        assert lab.a.holds(V4)
        lease.release()


def test_an_ipv6_shared_address_is_usable_at_once(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        lease = lease_of(requests, ports)
        lease.hold()
        flags = lab.a.namespace.run("ip", "-6", "addr", "show", "to", V6)
        assert "nodad" in flags and "tentative" not in flags, "no duplicate-address detection for a second"
        assert "deprecated" in flags, "never chosen as the source of what the gateway itself sends"
        with Pinger(lab.client, V6) as pinger:
            pinger.wait_for_reply(0, 2)
        lease.release()


def test_announcements_move_the_clients_neighbour_cache(lab: Lab) -> None:
    macs = {}
    for gateway in (lab.a, lab.b):
        with inside(gateway) as (requests, ports):
            port = ports["lan0"]
            macs[gateway.name] = port.mac
            lease = lease_of(requests, ports)
            lease.hold()
            frames = build_frames([FrameRequest(V4, port.mac), FrameRequest(V6, port.mac, router=True)])
            wire = wire_of(port)
            if gateway is lab.a:
                for address in (V4, V6):
                    lab.client.run("ping", "-c1", "-W1", address)
            for each in frames:
                for frame in each.announcements:
                    assert wire.send(frame)
            for address in (V4, V6):
                assert wait(lambda address=address, port=port: neighbour(lab.client, address) == port.mac), address  # type: ignore[misc]
            wire.close()
            lease.release()
    assert macs["a"] != macs["b"]


def test_a_probe_is_answered_by_the_holder_alone_and_claims_nothing(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports_a):
        lease = lease_of(requests, ports_a)
        lease.hold()
        announcer = wire_of(ports_a["lan0"])
        for frames in build_frames([FrameRequest(address, ports_a["lan0"].mac) for address in (V4, V6)]):
            for frame in frames.announcements:
                announcer.send(frame)
        announcer.close()
        with inside(lab.b) as (_requests, ports_b):
            port = ports_b["lan0"]
            wire = wire_of(port)
            for address, frames in zip(
                (V4, V6), build_frames([FrameRequest(V4, port.mac), FrameRequest(V6, port.mac)]), strict=True
            ):
                wire.send(frames.probe)
                heard: list[object] = []
                assert wait(lambda heard=heard, wire=wire, address=address: heard.extend(wire.receive()) or any(  # type: ignore[misc]
                    isinstance(frame, AddressClaim) and frame.address == address for frame in heard)), address
                claims = {frame.mac.hex(":") for frame in heard
                          if isinstance(frame, AddressClaim) and frame.address == address}
                assert claims == {ports_a["lan0"].mac}
                assert neighbour(lab.client, address) == ports_a["lan0"].mac
            wire.close()
        lease.release()


def test_ethernet_heartbeats_arrive_and_other_traffic_does_not_come_up(lab: Lab) -> None:
    with inside(lab.a) as (_requests, ports_a), inside(lab.b) as (_requests_b, ports_b):
        pass
    with inside(lab.a):
        sender = wire_of(ports_a["lan0"])
    with inside(lab.b):
        receiver = wire_of(ports_b["lan0"])
    receiver.receive()
    sender.send_heartbeat(b"to the group", None)
    sender.send_heartbeat(b"to one", bytes.fromhex(ports_b["lan0"].mac.replace(":", "")))
    lab.client.run("ping", "-c2", "-i0.01", "10.0.0.2")
    heard = []
    assert wait(lambda: heard.extend(receiver.receive()) or len(heard) >= 2)
    payloads = [frame.payload for frame in heard if isinstance(frame, HeartbeatFrame)]
    assert payloads == [b"to the group", b"to one"]
    assert all(isinstance(frame, HeartbeatFrame | AddressClaim | OtherFrame) for frame in heard)
    sender.close()
    receiver.close()


def test_malformed_frames_are_left_out(lab: Lab) -> None:
    with inside(lab.a) as (_requests, ports_a):
        sender = wire_of(ports_a["lan0"])
    with inside(lab.b) as (_requests, ports_b):
        receiver = wire_of(ports_b["lan0"])
    head = b"\xff" * 6 + sender.mac
    for rest in (b"\x88\xb5", b"\x88\xb5\xff\xff1", b"\x88\xb5\0\0" + b"x" * 50, b"\x08\x06" + b"\0" * 28,
                 b"\x08\x06" + b"\xff" * 60, b"\x86\xdd" + b"\0" * 6 + b"\x3a" + b"\xff" * 60):
        sender.send(head + rest)
    sender.send_heartbeat(b"last", None)
    heard: list[object] = []
    assert wait(lambda: heard.extend(receiver.receive()) or any(isinstance(f, HeartbeatFrame) for f in heard))  # type: ignore[func-returns-value]
    assert [frame.payload for frame in heard if isinstance(frame, HeartbeatFrame)] == [b"last"]
    assert not any(isinstance(frame, AddressClaim) for frame in heard)
    sender.close()
    receiver.close()


def test_port_settings_are_made(lab: Lab) -> None:
    with inside(lab.a):
        assert lab.a.namespace.run("sysctl", "-n", "net.ipv4.conf.lan0.arp_ignore").strip() == "1"
        assert lab.a.namespace.run("sysctl", "-n", "net.ipv4.conf.lan0.arp_announce").strip() == "2"
        assert lab.a.namespace.run("sysctl", "-n", "net.ipv4.conf.lan0.promote_secondaries").strip() == "1"
        with pytest.raises(NetworkError, match="ghost0"):
            prepare_port("ghost0")


def test_carrier_and_address_events_are_heard(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        monitor = MonitorSocket()
        lease = lease_of(requests, ports)
        kinds: list[int] = []

        def heard(kind: int) -> bool:
            kinds.extend(found for found, _sequence, _body in monitor.receive())
            return kinds.count(kind) >= 2

        lease.hold()
        assert wait(lambda: heard(20)), "the kernel tells of an IPv6 address a little later; gone by then, not at all"
        lease.release()
        assert wait(lambda: heard(21))
        lab.faults.pull(lab.a, "lan")
        assert wait(lambda: any(kind == 16 for kind, _sequence, _body in monitor.receive()))
        assert not {port.name: port for port in read_ports(requests)}["lan0"].carrier
        lab.faults.plug(lab.a, "lan")
        monitor.close()


def test_who_renews_need_not_hear_himself(lab: Lab) -> None:
    with inside(lab.a) as (requests, ports):
        monitor = MonitorSocket()
        lease = lease_of(requests, ports)
        monitor.hear_additions(False)
        lease.hold()
        lease.renew()
        lease.release()
        kinds = [kind for kind, _sequence, _body in monitor.receive()]
        assert 20 not in kinds and kinds.count(21) >= 2, "what is taken away is heard all the same"
        monitor.hear_additions(True)
        monitor.hear_additions(True)
        lease.hold()
        assert 20 in [kind for kind, _sequence, _body in monitor.receive()]
        lease.release()
        monitor.close()


def test_a_socket_of_no_port_says_so(lab: Lab) -> None:
    with lab.a.namespace.entered(), pytest.raises(NetworkError, match="ghost0"):
        PortSocket("ghost0", 9999, b"\0" * 6)
    assert socket.if_nameindex()
