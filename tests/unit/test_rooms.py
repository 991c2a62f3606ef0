"""The rooms of the package: imports run downwards only, and each heavy library is used in its own place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "flask_hsmx_cluster"
#: For each room what it may import of ours, beside itself.
ALLOWED = {
    "decision": set(),
    "network": {"errors"},
    "settings": {"errors", "decision"},
    "firewall": {"errors", "settings", "files"},
    "editing": {"errors", "settings", "translate"},
    "words": {"errors", "decision", "settings", "firewall", "translate"},
    "replication": {"errors", "agent_line"},
    "services": {"errors", "agent_line", "network"},
    "notify": {"errors", "settings", "network"},
    "files": {"errors", "agent_line", "network"},
    "renewal": {"errors"},
    "arbiter": {"errors", "agent_line", "network"},
    "agent": {"decision", "network", "settings", "firewall", "replication", "services", "files", "notify", "renewal",
              "arbiter", "errors",
              "models", "version", "control", "agent_line"},
    "web": {"decision", "settings", "editing", "words", "firewall", "replication", "errors", "control", "config",
            "signals", "version", "translate", "extension"},
}  # fmt: skip
#: Modules of the room ``replication`` that touch no database: all that the others may import.
DESCRIBING = {"credentials", "coverage", "declare", "layout", "rules", "scope"}
#: The same of the room ``services``: what is to follow the role, as the host states it.
STATING = {"declare"}
#: The same of the room ``notify``: when what is told, in which words. The others speak TLS, which the agent lacks.
SAYING = {"news", "policy", "texts"}
#: The same of the room ``files``: statements, limits, texts.
PLAIN = {"declare", "exclude", "paths", "plan", "ssh", "way"}
#: The same of the room ``renewal``: what is known of a certificate, and the guide. The others speak TLS.
KNOWING = {"certificate", "guide"}
#: The same of the room ``arbiter``: what a gateway is told of it. The others speak TLS.
TOLD = {"declare"}
#: What the brain may import at all.
PURE = {"__future__", "collections", "dataclasses", "enum", "functools", "typing"}


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, absolute."""
    base = ("flask_hsmx_cluster", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = base[: len(base) - node.level + 1] if node.level else ()
            module = ".".join((*up, node.module or "")).strip(".")
            yield module
            if not node.module:
                yield from (f"{module}.{alias.name}" for alias in node.names)


def modules(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_downwards_only(room: str) -> None:
    assert modules(room)
    for path in modules(room):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster."):
                other = name.split(".")[1]
                assert other == room or other in ALLOWED[room], f"{path.name} of {room} imports {name}"


def test_only_the_replicator_touches_the_hosts_database() -> None:
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "replication"):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster.replication."):
                assert name.split(".")[2] in DESCRIBING, f"{path.name} imports {name}"
    for name in DESCRIBING:
        path = PACKAGE / "replication" / f"{name}.py"
        heavy = {"flask", "psycopg"} if name != "scope" else {"flask", "psycopg", "sqlalchemy"}
        assert not {found.split(".")[0] for found in imports(path)} & heavy, path.name


def test_what_follows_the_role_runs_in_a_process_of_its_own() -> None:
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "services"):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster.services."):
                assert name.split(".")[2] in STATING, f"{path.name} imports {name}"
    for path in modules("services"):
        ours = {name for name in imports(path) if name.startswith("flask_hsmx_cluster.network.")}
        assert {name.split(".")[2] for name in ours} <= {"clock", "nftables"}, path.name


def test_what_is_sent_to_people_is_sent_by_a_process_of_its_own() -> None:
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "notify"):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster.notify."):
                assert name.split(".")[2] in SAYING, f"{path.name} imports {name}"
    for name in SAYING:
        heavy = {"ssl", "socket", "smtplib", "email", "http", "flask"}
        assert not {found.split(".")[0] for found in imports(PACKAGE / "notify" / f"{name}.py")} & heavy, name


def test_certificates_are_looked_at_by_a_process_of_its_own() -> None:
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "renewal"):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster.renewal."):
                assert name.split(".")[2] in KNOWING, f"{path.name} imports {name}"
    for name in KNOWING:
        heavy = {"ssl", "socket", "cryptography", "flask"}
        assert not {found.split(".")[0] for found in imports(PACKAGE / "renewal" / f"{name}.py")} & heavy, name


def test_the_arbiter_is_asked_by_a_process_of_its_own() -> None:
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "arbiter"):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster.arbiter."):
                assert name.split(".")[2] in TOLD, f"{path.name} imports {name}"
    for path in modules("arbiter"):
        ours = {name for name in imports(path) if name.startswith("flask_hsmx_cluster.network.")}
        assert {name.split(".")[2] for name in ours} <= {"clock", "http_body"}, path.name
    for name in TOLD:
        heavy = {"ssl", "socket", "http", "flask"}
        assert not {found.split(".")[0] for found in imports(PACKAGE / "arbiter" / f"{name}.py")} & heavy, name


def test_files_are_watched_and_pulled_in_a_process_of_its_own() -> None:
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "files"):
        for name in imports(path):
            if name.startswith("flask_hsmx_cluster.files."):
                assert name.split(".")[2] in PLAIN, f"{path.name} imports {name}"
    for path in modules("files"):
        ours = {name for name in imports(path) if name.startswith("flask_hsmx_cluster.network.")}
        assert ours <= {"flask_hsmx_cluster.network.clock"}, path.name
    for name in PLAIN:
        heavy = {"ctypes", "subprocess", "threading", "flask"}
        assert not {found.split(".")[0] for found in imports(PACKAGE / "files" / f"{name}.py")} & heavy, name


def test_the_brain_knows_nothing_of_the_world() -> None:
    for path in modules("decision"):
        for name in imports(path):
            assert name.split(".")[0] in PURE | {"flask_hsmx_cluster"}, f"{path.name} imports {name}"


def test_scapy_is_imported_in_one_module() -> None:
    users = [path for path in PACKAGE.rglob("*.py") if any(name.startswith("scapy") for name in imports(path))]
    assert users == [PACKAGE / "network" / "announce.py"]


def test_the_agent_loads_neither_flask_nor_scapy_nor_all_of_pyroute2() -> None:
    code = (
        "import sys, flask_hsmx_cluster.agent.process; "
        "print([name for name in ('flask', 'scapy', 'psycopg', 'pyroute2.ndb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
