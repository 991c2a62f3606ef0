"""What all unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from .gateways import World, in_memory, without_real_links

# Properties are checked for what they say, not for how fast a noisy machine draws their input.
settings.register_profile("noisy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy machine")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two whole agents in one process, formed into a cluster; nothing of theirs touches the network."""
    without_real_links(monkeypatch)
    with in_memory() as root:
        world = World(root)
        world.form()
        yield world
        world.close()
