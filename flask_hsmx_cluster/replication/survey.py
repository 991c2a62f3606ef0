"""What a gateway tells of its database before it forms a cluster; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import catalogue, requirements
from .access import checked_addresses
from .database import Connection, failures, one
from .scope import Scope

#: More are not told: what is told travels in one message of the pairing.
MOST_FINDINGS = 60


def survey(connection: Connection, scope: Scope, listen: Sequence[str]) -> dict[str, Any]:
    """Return what this gateway's database is, what it shares, and what keeps it from being half of two.

    :param listen: own addresses on the links.
    """
    if findings := list(requirements.check_server(connection)):
        return {**_identity(connection), "tables": {}, "shared_bytes": 0, "free_bytes": None,
                "findings": [finding.as_dict() for finding in findings]}
    with failures("The shared tables cannot be looked at"):
        layouts = catalogue.layouts(connection, catalogue.of_scope(scope))
        tables = {
            name: [declared, layouts[name].digest() if name in layouts else ""]
            for name, declared in scope.digests().items()
        }
        size, free = catalogue.shared_bytes(connection, scope), catalogue.free_bytes(connection)
    names = [(each.schema, each.table) for each in scope.shared()]
    findings = requirements.check(connection, names, checked_addresses(listen))
    return {
        **_identity(connection), "tables": tables, "shared_bytes": size, "free_bytes": free,
        "findings": [finding.as_dict() for finding in findings[:MOST_FINDINGS]],
    }  # fmt: skip


def _identity(connection: Connection) -> dict[str, Any]:
    with failures("PostgreSQL cannot be asked what it is"):
        system = one(connection, "SELECT system_identifier::text FROM pg_control_system()")
        return {"port": int(one(connection, "SHOW port")), "version": connection.info.server_version, "system": system}
