"""Everything in this directory needs network namespaces, hence root."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sample_app.lab import Gateway, Lab

_HERE = Path(__file__).parent
_PROGRAMS = ("ip", "bridge", "nft", "setpriv", "ss")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a failure what both gateways knew and wrote: a lab that failed once may not fail again."""
    report: Any = yield
    if report.failed:
        lab = getattr(item, "funcargs", {}).get("lab")
        if isinstance(lab, Lab):
            report.sections += [(f"{gateway!r} at the end", _seen_at(gateway)) for gateway in lab.gateways]
    return report


def _seen_at(gateway: Gateway) -> str:
    """Return status, events, free disk and the ends of the logs, whatever of it can be had."""
    parts = []
    for verb in ("status", "events"):
        try:
            parts.append(json.dumps(gateway.call(verb), indent=1)[:20_000])
        except Exception as error:  # the agent may be dead: that is what is to be seen
            parts.append(f"{verb}: {error}")
    parts.append(f"agent:\n{gateway.log('agent')[-6_000:]}")
    if gateway.postgres is not None:
        parts.append(f"{shutil.disk_usage(gateway.postgres.data)}\npostgres:\n{gateway.postgres.log()[-6_000:]}")
    return "\n".join(parts)


def _missing() -> str:
    if os.geteuid():
        return "the lab needs root, for its network namespaces"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""
