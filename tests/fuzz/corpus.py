"""The inputs that are kept with the tests: seeds that are worth more than the targets' own, and what was found."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[bytes]:
    """Return the inputs kept for a target."""
    return [path.read_bytes() for path in sorted((_HERE / name).glob("*"))]
