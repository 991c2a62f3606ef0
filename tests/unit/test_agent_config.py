"""The agent's configuration, and that the agent's slow half stays small."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flask_hsmx_cluster.agent.config import AgentConfig
from flask_hsmx_cluster.errors import ConfigError

GOOD = AgentConfig("/state", "/state/agent.sock", "5.3", allowed_uids=(33, 1000), node_name="A")


def test_travels_unchanged() -> None:
    assert AgentConfig.from_json(GOOD.to_json()) == GOOD
    assert AgentConfig.from_json(GOOD.to_json().encode()) == GOOD


def test_the_host_name_is_the_default_name() -> None:
    assert AgentConfig("/s", "/s/a", "1").node_name


@pytest.mark.parametrize(
    "change",
    [
        {"state_dir": "relative"}, {"http_port": 0}, {"heartbeat_port": 65536}, {"http_port": "80"},
        {"http_port": True}, {"allowed_uids": ["root"]}, {"allowed_uids": 7}, {"log_level": "LOUD"},
        {"synchronous": "no"}, {"unknown": 1},
        {"firmware_version": None},
    ],
)  # fmt: skip
def test_malformed_configurations_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as failed:
        AgentConfig.from_json(json.dumps({**json.loads(GOOD.to_json()), **change}))
    assert failed.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "{}"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        AgentConfig.from_json(text)


def test_the_slow_half_loads_neither_the_web_nor_the_database_driver() -> None:
    """The agent has 70 MB; scapy alone takes half of it."""
    script = (
        "import re, sys; import flask_hsmx_cluster.agent.control_server\n"
        "big = {'flask', 'werkzeug', 'jinja2', 'wtforms', 'psycopg', 'scapy', 'click'} & set(sys.modules)\n"
        "print(sorted(big), int(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    modules, megabytes = out.rsplit(" ", 1)
    assert modules == "[]"
    assert int(megabytes) < 65
