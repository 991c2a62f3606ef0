"""The intervals that the decision core goes by, as an operator's settings give them."""

from __future__ import annotations

from ..decision.model import NEVER, Timing
from .model import Advanced


def timing_of(advanced: Advanced) -> Timing:
    """Return the core's intervals."""
    return Timing(
        interval_s=advanced.heartbeat_ms / 1000,
        burst_probes=advanced.ping_pongs,
        lease_s=float(advanced.lease_s),
        boot_hold_s=float(advanced.boot_hold_s),
        stale_wait_s=NEVER if advanced.stale_wait_s is None else float(advanced.stale_wait_s),
        refresh_s=float(advanced.announce_refresh_s),
    )
