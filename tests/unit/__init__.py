"""Unit tests: no root, no network, no database but SQLite."""
