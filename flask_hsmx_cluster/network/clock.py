"""The one clock by which the agent measures: boot time, which no wall-clock step moves and which counts suspends."""

from __future__ import annotations

import time
from pathlib import Path


def boot_time_s() -> float:
    """Return CLOCK_BOOTTIME, s."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine_boot_id() -> str:
    """Return the kernel's random id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
