"""The settings as numbered, signed revisions that both gateways hold: prepared on both, then applied."""
