"""The clocks of a simulated machine, and how the shipped code comes to read these instead of the real ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from flask_hsmx_cluster.agent.heartbeat import standing as standing_module
from flask_hsmx_cluster.network import clock as clock_module

#: What the wall clocks show when a world begins.
WALL = datetime(2030, 1, 1, tzinfo=UTC)


class Clocks:
    """A boot clock that drifts, and a wall clock that may step. Within ``with`` the shipped code reads them.

    :param world: has the true time, s.
    """

    def __init__(self, world: SimpleNamespace) -> None:
        self._world = world
        self._epoch, self._base, self.rate = 0.0, 0.0, 1.0
        self.wall_offset_s = 0.0
        self.reading_s = 0.0  #: what the shipped code reads; time stands still while it works
        self._outer: list[tuple[object, ...]] = []
        self._module = SimpleNamespace(clock_gettime=lambda _which: self.reading_s, CLOCK_BOOTTIME=time.CLOCK_BOOTTIME)
        self._datetime = SimpleNamespace(
            now=lambda _zone=None: WALL + timedelta(seconds=self._world.now + self.wall_offset_s),
            fromisoformat=datetime.fromisoformat,
        )

    def boot_s(self) -> float:
        """Return this machine's boot time at the present true time."""
        return self._base + (self._world.now - self._epoch) * self.rate

    def true_s(self, boot_s: float) -> float:
        """Return the true time at which the boot clock shows ``boot_s``."""
        return self._epoch + (boot_s - self._base) / self.rate

    def boot(self, shows_s: float) -> None:
        """The machine has booted: its clock begins anew."""
        self._epoch, self._base = self._world.now, shows_s

    def read(self) -> float:
        """Read the clock, for all who ask until it is read again."""
        self.reading_s = self.boot_s()
        return self.reading_s

    def stood(self, seconds: float) -> None:
        """The machine stood still, and its clock with it."""
        self._epoch += seconds

    def wall_s(self) -> float:
        return WALL.timestamp() + self._world.now + self.wall_offset_s

    def __enter__(self) -> None:
        self._outer.append((clock_module.time, standing_module.datetime, time.time))
        self.read()
        clock_module.time = self._module  # type: ignore[assignment]
        standing_module.datetime = self._datetime  # type: ignore[assignment, misc]
        time.time = self.wall_s

    def __exit__(self, *_error: object) -> None:
        clock_module.time, standing_module.datetime, time.time = self._outer.pop()  # type: ignore[assignment, misc]
