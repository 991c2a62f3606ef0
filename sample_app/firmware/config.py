"""The firmware's configuration, all of it from environment variables.

``FIRMWARE_STATE_DIR``
    where the firmware keeps its database, its secret key, its network settings and its backups.
``FIRMWARE_NAME``
    what people call this gateway ("gateway A"); default: the host name.
``FIRMWARE_VERSION``
    what the firmware calls itself; default ``5.2.03``.
``FIRMWARE_SECRET_KEY``
    the same on both gateways of a cluster: a login then holds on either, so that it survives a fail-over. Default:
    made at the first request and kept in the state directory, so that logins hold on this gateway only.
``FIRMWARE_DEMO_DATE``
    day on which the demo data ends (``2026-05-31``), so that two gateways are seeded alike; default: today.
``FIRMWARE_NETWORK_RESULT``
    the file in which the network daemon reports; default ``<state directory>/network-result.json``.
``FIRMWARE_OTHER_GATEWAY``
    addresses of the other gateway (``sync=10.99.0.2,backup=10.98.0.2``) for which a new gateway's firewall has the
    cluster's rules from the beginning; default: none.
``FIRMWARE_PORTAL_DIR``
    where the portal's pages are written for guests, a directory that both gateways have; default: nowhere.
``FIRMWARE_SERVICES``
    any text: the stand-ins for services follow the cluster's role, and a hook is called (see :mod:`.services`).
``FIRMWARE_HTTPS_PORT``
    the port of :mod:`sample_app.https`; default: there is no HTTPS.
``SQLALCHEMY_DATABASE_URI``
    default: SQLite in the state directory.
``HSMX_CLUSTER_*``
    handed to the extension as they are.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_VERSION = "5.2.03"


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the Flask configuration that the environment asks for. Touches no file."""
    state = Path(environ.get("FIRMWARE_STATE_DIR", "firmware-state")).absolute()
    name = environ.get("FIRMWARE_NAME") or environ.get("HSMX_CLUSTER_NODE_NAME") or socket.gethostname()
    version = environ.get("FIRMWARE_VERSION", DEFAULT_VERSION)
    config: dict[str, Any] = {
        "FIRMWARE_STATE_DIR": state,
        "FIRMWARE_NAME": name,
        "FIRMWARE_VERSION": version,
        "FIRMWARE_DEMO_DATE": environ.get("FIRMWARE_DEMO_DATE", ""),
        "FIRMWARE_NETWORK_RESULT": environ.get("FIRMWARE_NETWORK_RESULT", ""),
        "FIRMWARE_OTHER_GATEWAY": environ.get("FIRMWARE_OTHER_GATEWAY", ""),
        "FIRMWARE_PORTAL_DIR": environ.get("FIRMWARE_PORTAL_DIR", ""),
        "FIRMWARE_HTTPS_PORT": int(environ.get("FIRMWARE_HTTPS_PORT") or 0),
        "FIRMWARE_SERVICES": bool(environ.get("FIRMWARE_SERVICES")),
        "SECRET_KEY": environ.get("FIRMWARE_SECRET_KEY"),
        "SQLALCHEMY_DATABASE_URI": environ.get("SQLALCHEMY_DATABASE_URI", f"sqlite:///{state / 'firmware.sqlite'}"),
        # Connections that a restart of PostgreSQL, or a change of role, has ended are replaced unnoticed.
        "SQLALCHEMY_ENGINE_OPTIONS": {"pool_pre_ping": True},
        "HSMX_CLUSTER_NODE_NAME": name,
        "HSMX_CLUSTER_FIRMWARE_VERSION": version,
        "HSMX_CLUSTER_NETWORK_SETTINGS_URL": "/network/settings",
        "HSMX_CLUSTER_FIREWALL_URL": "/system/firewall",
        "HSMX_CLUSTER_BASE_TEMPLATE": "firmware/base.html",
        "HSMX_CLUSTER_OWN_ADDRESSES": "host",  # the network daemon sets them
        "HSMX_CLUSTER_STATE_DIR": "/var/lib/hsmx-cluster",
        "SESSION_COOKIE_NAME": _cookie_name(name, shared=bool(environ.get("FIRMWARE_SECRET_KEY"))),
        "SESSION_COOKIE_SAMESITE": "Lax",
        "MAX_CONTENT_LENGTH": 1024 * 1024,
    }
    if config["FIRMWARE_PORTAL_DIR"]:
        config["HSMX_CLUSTER_FILES"] = [{"name": "portal", "path": config["FIRMWARE_PORTAL_DIR"]}]
    config |= {key: value for key, value in environ.items() if key.startswith("HSMX_CLUSTER_")}
    # A list of numbers may also come in JSON's brackets.
    config["HSMX_CLUSTER_ALLOWED_UIDS"] = environ.get("HSMX_CLUSTER_ALLOWED_UIDS", "").strip("[]")
    return config


def _cookie_name(gateway: str, shared: bool) -> str:
    """Return the name of the session's cookie: one for both gateways only if both can read it.

    One browser looks at both gateways, often through ports of one host; cookies know no ports.
    """
    return "firmware" if shared else "firmware_" + "".join(c if c.isalnum() else "_" for c in gateway.lower())
