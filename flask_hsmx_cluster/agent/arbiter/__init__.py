"""The agent's part in asking an arbiter."""
