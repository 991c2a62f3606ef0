"""A slow and uneven cable: ``python -m tests.chaos.delay_line SWITCH CABLE LEAST_MS MOST_MS``.

The lab's kernel may lack netem, so frames are delayed by hand: packet sockets at both of the cable's ports see each
frame that a gateway sends before the switch drops it (which :meth:`Faults.cut` makes it do), and this program sends it
on to the other port after a random time. Frames overtake each other, as they do where a path has several queues.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import select
import socket
import sys
import time

from sample_app.lab import Namespace

_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_OUTGOING = 263, 15, 4
_ETH_P_ALL = 3
#: Longest frame: segments leave a gateway uncut, with their checksums left to be filled in, as their header says.
_LONGEST = 70_000
#: Frames that may wait; more are lost, as in any queue.
_QUEUE = 20_000


def _port(switch: Namespace, name: str) -> socket.socket:
    with switch.entered():
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        port.bind((name, _ETH_P_ALL))
    port.setblocking(False)
    return port


def main(switch: str, cable: str, least_ms: str, most_ms: str) -> None:
    """Delay until standard input is closed."""
    here, there = (_port(Namespace(switch), f"{cable}-{gateway}") for gateway in ("a", "b"))
    far = {here.fileno(): (here, there), there.fileno(): (there, here)}
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    numbers = itertools.count()
    print("ready", flush=True)
    while True:
        wait_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([*far, 0], [], [], wait_s)
        if 0 in ready:
            return
        for descriptor in ready:
            port, other = far[descriptor]
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, (_, _, kind, *_) = port.recvfrom(_LONGEST)
                    if kind != _PACKET_OUTGOING and len(waiting) < _QUEUE:
                        due = time.monotonic() + random.uniform(float(least_ms), float(most_ms)) / 1000
                        heapq.heappush(waiting, (due, next(numbers), other, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, port, frame = heapq.heappop(waiting)
            with contextlib.suppress(OSError):  # no carrier, or its queue is full: the frame is lost
                port.send(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
