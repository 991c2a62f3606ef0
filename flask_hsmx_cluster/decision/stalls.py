"""When silence is a death: not while the machine may only stand still, or has other addresses than those asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import NEVER

if TYPE_CHECKING:
    from .core import Core

#: The dead time is longer than the longest stall seen by this factor.
STALL_MARGIN = 1.25
#: A stall is remembered this long, s: a short cut of every wire looks the same, and must not slow fail-overs for ever.
STALL_REMEMBERED_S = 3600.0
#: Settings that are about to come have come by then, s: the other gateway has 12 s for its side of a change.
SETTINGS_EXPECTED_S = 15.0


class Stalls:
    """For how long the other gateway's whole machine has stood still.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.longest_s = 0.0
        self.at = -NEVER  #: when one was seen last, boot time in s
        self._expects_settings_until = -NEVER

    def dead_time_s(self) -> float:
        """Return how long the peer must be silent at least: longer than any stall of its machine seen (rule 11).

        A lease where it has, or may have, other addresses than those that are asked for: their silence proves nothing.
        """
        core = self.core
        if core.now < self._expects_settings_until:
            return core.plan.timing.lease_s
        if core.now - self.at > STALL_REMEMBERED_S:
            self.longest_s = 0.0
        if core.peer is not None and core.peer.revision not in core.alike:
            return core.plan.timing.lease_s
        return min(self.longest_s * STALL_MARGIN, core.plan.timing.lease_s)

    def expect_settings(self) -> None:
        """The other gateway may change its addresses from now on."""
        self._expects_settings_until = self.core.now + SETTINGS_EXPECTED_S

    def settings_are_here(self) -> None:
        """From now on this gateway asks for those addresses, too."""
        self._expects_settings_until = -NEVER

    def watch(self, silent_s: float) -> None:
        """The peer goes on with the same reign after a silence: if its kernel was silent too, its machine stood still.

        :param silent_s: how long nothing was heard of it.
        """
        core = self.core
        timing = core.plan.timing
        stood_still = timing.suspect_s < silent_s < timing.lease_s and any(
            port.carrier and port.unanswered >= timing.burst_probes for port in core.ports.values()
        )
        if not stood_still:
            return
        self.at = core.now
        if silent_s > self.longest_s:
            self.longest_s = silent_s
            core.note(
                "stall",
                "warning",
                f"{core.plan.peer_name}'s machine stood still for {silent_s * 1000:.0f} ms",
                (f"from now on it must be silent for {self.dead_time_s() * 1000:.0f} ms before it counts as gone",),
            )
