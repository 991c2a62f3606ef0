"""Hands on Linux: addresses and their leases, announcements and probes, ports, and what the wire says."""
