"""Write ``docs/promise.md`` and its drawing."""

from __future__ import annotations

from pathlib import Path

from flask_hsmx_cluster.decision.model import Timing

from .drawing import drawing
from .page import page

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    (DOCS / "promise.md").write_text(page())
    (DOCS / "promise.svg").write_text(drawing(Timing()))


if __name__ == "__main__":
    main()
