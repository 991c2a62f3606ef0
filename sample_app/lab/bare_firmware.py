"""The least firmware that can carry the extension: it starts fast, for tests and measurements."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from flask import Flask

from flask_hsmx_cluster import HSMXCluster


def create_app(register: Callable[[HSMXCluster], None] = lambda cluster: None) -> Flask:
    """Return an app whose ``HSMX_CLUSTER_*`` keys come from the environment.

    :param register: registers hooks and the like.
    """
    app = Flask(__name__)
    app.secret_key = "a lab keeps no secrets"
    for key, value in os.environ.items():
        if key.startswith("HSMX_CLUSTER_"):
            # Numbers and lists as JSON; a version such as 5.2 stays a text.
            app.config[key] = json.loads(value) if value.isdigit() or value.startswith("[") else value
    cluster = HSMXCluster(app, allow_unprotected=True)
    register(cluster)
    return app
