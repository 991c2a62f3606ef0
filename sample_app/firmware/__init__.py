"""A small hotel gateway firmware, with the cluster extension registered as any firmware would do it."""

from .app import create_app

__all__ = ["create_app"]
