"""Broken cores: the shipped decision code with one thing wrong, to see that the checks can fail."""
