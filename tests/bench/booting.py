"""Two gateways that get their power back at the same moment: exactly one becomes active, and how soon.

*Booting together*: 1 if anything was wrong: both held the address at some time, it moved after it was first held, or
there were not one active and one passive gateway in the end. *Seconds*: from the start of both gateways' processes
until the first answer to a ping.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from sample_app.lab import AddressWatch, Gateway, Lab, LabError, Pinger, roles

from .pairs import Ours
from .results import Results

UNITS = {"booting_together": "count", "booting_together_s": "s", "booting_together_two": "ms"}
#: Most seconds between the two starts; how long the pair is watched after the first answer, s; how long it may take.
APART_S, WATCHED_S, WITHIN_S = 0.3, 3.0, 60.0
#: How often in a row a lab is made anew.
_TRIES = 3


def measure(results: Results, runs: int) -> None:
    """Run what is missing."""
    tries_left = _TRIES
    while (missing := runs - results.count("booting_together")) > 0:
        try:
            with Lab(sync="switch", backup="switch") as lab:
                Ours(lab, 100).ready()
                for _ in range(missing):
                    figures, why = _boot(lab)
                    tries_left = _TRIES
                    results.add(figures)
                    print(", ".join(f"{case} {value:.2f} {UNITS[case]}" for case, value in figures.items()), why,
                          file=sys.stderr, flush=True)
                    if why:
                        results.add_failure("booting_together", why)
        except (LabError, subprocess.SubprocessError) as error:  # a machine that is busy may be too slow for it
            print(f"booting_together: FAILED: {error}", file=sys.stderr)
            if not (tries_left := tries_left - 1):
                results.add_failure("booting_together", str(error))
                return


def _boot(lab: Lab) -> tuple[dict[str, float], str]:
    for gateway in lab.gateways:
        lab.faults.power_off(gateway)
    for gateway in lab.gateways:
        lab.faults.power_on(gateway, start=False)
    namespaces = [gateway.namespace for gateway in lab.gateways]
    with AddressWatch(*namespaces) as held, Pinger(lab.client, lab.virtual_ip) as pinger:
        at = time.monotonic()
        with _starting(lab.gateways):
            answered = _answered(pinger, at)
        deadline = time.monotonic() + WITHIN_S
        while sorted(roles(lab).values()) != ["active", "passive"] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(WATCHED_S)
        found = roles(lab)
        a, b = namespaces
        two_ms = max(held.overlap_ms(a, b, address, at) for address in (lab.virtual_ip, lab.virtual_ip6))
        moves = held.moves(lab.virtual_ip, at, *namespaces)
    wrong = [] if answered < at + WITHIN_S else ["nobody answered"]
    wrong += [f"two gateways held an address for {two_ms:.1f} ms"] if two_ms else []
    wrong += [f"the address came to a gateway {moves} times"] if moves != 1 else []
    wrong += [f"roles are {found}"] if sorted(found.values()) != ["active", "passive"] else []
    figures = {"booting_together": float(bool(wrong)), "booting_together_s": answered - at,
               "booting_together_two": two_ms}
    return figures, "; ".join(wrong)


def _answered(pinger: Pinger, at: float) -> float:
    """Return when the first echo was answered; the end of the time for it if none was."""
    try:
        return pinger.wait_for_reply(at, WITHIN_S)
    except LabError:
        return at + WITHIN_S


@contextlib.contextmanager
def _starting(gateways: tuple[Gateway, ...]) -> Iterator[None]:
    """Start all that runs on each gateway, in threads: neither waits for the other."""

    def start(gateway: Gateway, after_s: float) -> None:
        time.sleep(after_s)
        gateway.start()

    threads = [threading.Thread(target=start, args=(each, random.uniform(0, APART_S))) for each in gateways]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
