"""A pair that most scenarios begin with."""

from __future__ import annotations

import pytest

from .world import World, active


@pytest.fixture
def world() -> World:
    world = World(seed=1)
    world.form()
    assert world.holders() == ["a"] and active(world) == ["a"], world.log
    world.forget_figures()
    return world
