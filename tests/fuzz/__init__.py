"""Hostile input: each way in, fuzzed behind its locks too."""
