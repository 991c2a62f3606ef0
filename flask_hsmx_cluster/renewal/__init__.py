"""Renewing one gateway after the other: certificates, firmware, the extension itself. The passive one goes first."""
