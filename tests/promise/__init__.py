"""The generator of ``docs/promise.md``: ``python -m tests.promise`` writes it, a test compares it."""
