"""The demo: ``python -m sample_app.demo``. Starts the lab with the sample firmware and shows it on 127.0.0.1.

``--tour`` shows it unattended instead, and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys

from . import tour
from .forward import Forwarder, Target
from .lab import Lab, LabError
from .lab_page import LabPage
from .machines import APP, Machines

#: Ports are looked for from here, four in a row.
FIRST_PORT = 8080


def main() -> int:
    """Read the command line, and do what it asks."""
    parser = argparse.ArgumentParser(prog="sample_app/run", description="Two gateways in a lab on this machine.")
    parser.add_argument("--tour", action="store_true", help="show it unattended, print a table, and end")
    parser.add_argument("--json", action="store_true", help="with --tour: print JSON instead of the table")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help=f"first of four ports (default {FIRST_PORT})")
    options = parser.parse_args()
    if options.json and not options.tour:
        parser.error("--json needs --tour")
    if not 1 <= options.port <= 65000:
        parser.error("--port must be from 1 to 65000")
    if os.geteuid():
        print("The lab needs root, for its network namespaces: sudo sample_app/run", file=sys.stderr)
        return 2
    try:
        return tour.run(options.json) if options.tour else show(options.port)
    except LabError as error:
        print(f"The lab gave up: {error}", file=sys.stderr)
        return 1


def show(first_port: int) -> int:
    """Run the lab until SIGINT or SIGTERM."""
    print("Starting two gateways, a client and a router ...", flush=True)
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(app=APP, postgres=True))
        machines = stack.enter_context(contextlib.closing(Machines(lab)))
        machines.start()
        port = free_ports(first_port)
        if port != first_port:
            print(f"Port {first_port} is taken, perhaps by another demo; this one uses {port} to {port + 3}.")
        addresses = [gateway.address("lan0").split("/")[0] for gateway in lab.gateways]
        targets = {
            port + 1: Target("Gateway A", addresses[0]),
            port + 2: Target("Gateway B", addresses[1]),
            port + 3: Target(f"The virtual IP, {lab.virtual_ip},", lab.virtual_ip),
        }
        forwarder = Forwarder(lab.client, targets)
        forwarder.start()
        stack.callback(forwarder.close)
        links = {name: f"http://127.0.0.1:{port + number}" for number, name in enumerate(("a", "b", "virtual"), 1)}
        stack.enter_context(contextlib.closing(LabPage(lab, machines, links, port)))
        print(f"""
  The lab     http://127.0.0.1:{port}     pull cables, switch power, watch the client
  Gateway A   {links['a']}     log in as admin / admin
  Gateway B   {links['b']}     log in as admin / admin
  Virtual IP  {links['virtual']}     whoever is active answers (after forming the cluster)

Ctrl-C ends it all.""", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        print("\nTaking the lab down ...", flush=True)
    return 0


def free_ports(first: int) -> int:
    """Return the first of four free ports in a row, at or after ``first``."""
    for start in range(first, min(first + 200, 65530), 10):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(start, start + 4):
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return start
    raise SystemExit(f"No four free ports in a row from {first} on; give --port.")


if __name__ == "__main__":
    sys.exit(main())
