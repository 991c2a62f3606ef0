"""One module for each way in; its class ``Fuzzed`` is the target."""

from __future__ import annotations

from importlib import import_module

from ..target import Target

#: From the outside in: whose bytes nobody has checked yet, then what lies behind each lock, then this machine's own.
NAMES = (
    "datagram", "frame", "router_message", "signed_datagram",
    "peer_message", "peer_request", "peer_answer",
    "pairing_message", "pairing_request", "pairing_answer",
    "settings", "control_line", "child_line", "relay", "change_stream",
)  # fmt: skip


def load(name: str) -> Target:
    """Return a target, ready."""
    target: Target = import_module(f"{__name__}.{name}").Fuzzed()
    return target
