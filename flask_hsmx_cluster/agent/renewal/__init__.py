"""The agent's part in renewing one gateway after the other."""
