"""The least firmware, with hooks of its own that write down when they are called."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from flask import Flask, current_app

from flask_hsmx_cluster import HSMXCluster, RoleChange
from sample_app.lab import bare_firmware


def create_app() -> Flask:
    return bare_firmware.create_app(register)


def register(cluster: HSMXCluster) -> None:
    @cluster.hook("before_active", order=5)
    def python_first(change: RoleChange) -> None:
        note(change)

    @cluster.hook("after_passive", limit_s=0.2)
    def python_hangs(change: RoleChange) -> None:
        note(change)
        time.sleep(3600)

    @cluster.hook("after_active")
    def python_crashes(change: RoleChange) -> None:
        note(change)
        os.abort()

    @cluster.hook("after_active", order=9)
    def python_last(change: RoleChange) -> None:
        note(change)


    directory, name = Path(os.environ["LAB_RECORD"]).parent, os.environ["HSMX_CLUSTER_NODE_NAME"]
    command = ["/usr/bin/test", "!", "-e", str(directory / f"broken-{name}")]
    cluster.health_check("card", command, every_s=0.3, moves_role=True)


def note(change: RoleChange) -> None:
    """Write it down, with what only an app knows."""
    assert current_app.secret_key and change.reason
    lines = Path("/proc/self/status").read_text().splitlines()
    capabilities = next(line.split()[1] for line in lines if line.startswith("CapEff"))
    what = f"python:{change.step}:{change.role}:{change.term}:{int(capabilities, 16)}"
    subprocess.run([os.environ["LAB_RECORD"], what], check=True)
