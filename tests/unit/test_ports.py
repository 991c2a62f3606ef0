"""Network ports as the kernel tells of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flask_hsmx_cluster.agent.preflight.checks import ports_from
from flask_hsmx_cluster.network.ports import read_ports
from flask_hsmx_cluster.settings.addressing import PORT_NAME


class Link(dict[str, Any]):
    """A message about a port, as pyroute2 reads it."""

    def get_attr(self, name: str) -> Any:
        return {"IFLA_IFNAME": self["name"], "IFLA_ADDRESS": "02:00:00:00:00:01", "IFLA_MTU": 1500}.get(name)


class Kernel:
    """Answers requests: one port of a name."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def addresses(self) -> list[Any]:
        return []

    def links(self) -> list[Link]:
        return [Link(index=2, flags=0, name=self.name)]


@pytest.mark.parametrize("name", [b"\xff\xfe", "a\x1b[2J", "\u202e0nal", "\ud800", "\x00"])
def test_a_name_of_any_bytes_can_be_told_and_is_none_of_the_settings(name: Any) -> None:
    [port] = read_ports(Kernel(name))  # type: ignore[arg-type]
    [told] = ports_from(json.loads(json.dumps([port.as_dict()]).encode()))
    assert told["name"] == port.name and port.name.isprintable() and not PORT_NAME.fullmatch(port.name)


@pytest.mark.parametrize("name", ["lan0", "lan0.100", "br-lan", "é", "<b>"])
def test_any_other_name_stays_what_it_is(name: str) -> None:
    assert read_ports(Kernel(name))[0].name == name  # type: ignore[arg-type]
