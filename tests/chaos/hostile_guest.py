"""A guest who means ill: ``python -m tests.chaos.hostile_guest CLIENT GATEWAY GATEWAY ADDRESS``, by their namespaces.

Hears what heartbeats both gateways send on the guests' network, and sends them on from a MAC of its own: whole, cut and
changed, with noise among them. To the gateways, and to them alone, it also says that the address is its own: whom a
guest deceives besides no gateway can help. Its frames have no gateway's MAC: a switch would believe that, too.
"""

from __future__ import annotations

import itertools
import random
import socket
import struct
import sys
import time

from sample_app.lab import Namespace

MAC = bytes.fromhex("02eeeeeeeeee")
PORT = "lan0"
#: It hears this many of each gateway's heartbeats first, at most so long, s.
HEARD, HEARS_S = 10, 2.0
#: Between two frames, and in all if nobody ends it before, s.
PAUSE_S, MOST_S = 0.002, 60.0
_ETH_P_ALL, _ETHERNET, _IPV4, _ARP = 3, b"\x88\xb5", b"\x08\x00", b"\x08\x06"


def wire(namespace: Namespace, protocol: int) -> socket.socket:
    """Open a socket that sends whole frames on the guests' network, and hears them if there is a protocol."""
    with namespace.entered():
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        found.bind((PORT, protocol))
    found.settimeout(0.1)
    return found


def heartbeats(gateway: Namespace) -> list[bytes]:
    """Return heartbeats that a gateway has just sent: whole frames."""
    found: list[bytes] = []
    until = time.monotonic() + HEARS_S
    with wire(gateway, _ETH_P_ALL) as port:
        while len(found) < HEARD and time.monotonic() < until:
            try:
                frame, (_, _, kind, *_) = port.recvfrom(2048)
            except TimeoutError:
                continue
            if kind == socket.PACKET_OUTGOING and b"HX\x01" in (frame[16:19], frame[42:45]):
                found.append(frame)
    return found


def hostile(frame: bytes, dice: random.Random) -> bytes:
    """Return a heartbeat as its own: a recording, or what it has made of it."""
    start = 16 if frame[12:14] == _ETHERNET else 42
    payload = bytearray(frame[start:])
    match dice.randrange(4):
        case 0:
            payload[dice.randrange(len(payload))] ^= 1 << dice.randrange(8)
        case 1:
            payload[4:] = dice.randbytes(len(payload) - 4)
        case 2:
            del payload[dice.randrange(1, len(payload)) :]
    head = bytearray(frame[:start])
    head[6:12] = MAC
    if head[12:14] == _IPV4:
        head[40:42] = b"\0\0"  # no checksum over the data
    return bytes(head + payload)


def claim(gateway: bytes, address: str) -> bytes:
    """Return an ARP answer to a gateway, by its MAC: the address is this guest's."""
    ip = socket.inet_aton(address)
    return gateway + MAC + _ARP + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + MAC + ip + gateway + ip


def main(client: str, first: str, second: str, address: str) -> None:
    """Go on until it is killed."""
    heard = [frame for gateway in (first, second) for frame in heartbeats(Namespace(gateway))]
    claims = [claim(mac, address) for mac in {frame[6:12] for frame in heard}]
    dice = random.Random(len(heard))
    until = time.monotonic() + MOST_S
    with wire(Namespace(client), 0) as port:
        print("ready", flush=True)
        for number in itertools.cycle(range(10)):
            if not heard or time.monotonic() > until:
                return
            port.send(dice.choice(claims) if number == 0 else hostile(dice.choice(heard), dice))
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
