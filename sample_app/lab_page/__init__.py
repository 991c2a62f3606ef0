"""The lab page: draws the lab, lets people break it, and shows what the client sees meanwhile."""

from .server import LabPage

__all__ = ["LabPage"]
