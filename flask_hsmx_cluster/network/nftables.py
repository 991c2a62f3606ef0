"""Packet rules by Debian's ``nft``: a table of our own that is replaced as a whole, and a look at all others."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from ..errors import ClusterError

#: What ``nft`` and ``ip`` may take, s. They take milliseconds.
_TIMEOUT_S = 5.0


class ToolFailed(ClusterError):
    """A program that is needed is not there, or refused."""

    code = "tool"


def run(*argv: str, stdin: str = "", timeout_s: float = _TIMEOUT_S) -> str:
    """Run a program to its end and return what it printed.

    :raises ToolFailed: it is not installed, refused, or took too long.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace",
                              timeout=timeout_s)
    except FileNotFoundError:
        raise ToolFailed(f"{argv[0]} is not installed.", "Install it (Debian: nftables, iproute2).") from None
    except subprocess.TimeoutExpired:
        raise ToolFailed(f"{argv[0]} did not end within {timeout_s:g} s.") from None
    except OSError as error:
        raise ToolFailed(f"{argv[0]} cannot be run: {error.strerror}.") from None
    if done.returncode:
        why = (done.stderr.strip() or done.stdout.strip() or f"it ended with {done.returncode}").splitlines()[0]
        raise ToolFailed(f"{argv[0]}: {why[:200]}")
    return done.stdout


def replacement(name: str, body: str) -> str:
    """Return what puts a table of the family ``inet`` in place of the one of that name, in one transaction.

    :param body: its chains; empty: the table is removed.
    """
    table = f"table inet {name}"
    # Declared first, so that there is always one to delete.
    return f"{table} {{ }}\ndelete {table}\n" + (f"{table} {{\n{body}\n}}\n" if body else "")


def replace_table(name: str, body: str) -> None:
    """Put a table in place, or remove it (see :func:`replacement`).

    :raises ToolFailed: the kernel refused; then all is as before.
    """
    run("nft", "-f", "-", stdin=replacement(name, body))


def listed(name: str) -> str:
    """Return a table of the family ``inet`` as the kernel has it; empty if it is not there.

    :raises ToolFailed: it is not known.
    """
    tables = run("nft", "list", "tables", "inet").split("\n")
    return run("nft", "list", "table", "inet", name) if f"table inet {name}" in tables else ""


def ruleset() -> Any:
    """Return all tables of the kernel as ``nft -j`` tells them.

    :raises ToolFailed: they cannot be read.
    """
    try:
        return json.loads(run("nft", "-j", "list", "ruleset") or "{}", strict=False)
    except (ValueError, RecursionError):
        raise ToolFailed("What nft says of the packet rules cannot be read.", "Update it (Debian: nftables).") from None
