"""Properties are checked for what they say, not for how fast a noisy machine draws their input."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("noisy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy machine")
