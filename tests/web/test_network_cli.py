"""flask cluster network ..."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from flask_hsmx_cluster.settings.networks import MAX_ALIASES

from .fake_agent import FakeAgent


def run(app: Flask, *arguments: str, text: str = "") -> Result:
    return app.test_cli_runner().invoke(args=["cluster", "network", *arguments], input=text)


def held(agent: FakeAgent) -> dict[str, Any]:
    assert agent.settings is not None
    return agent.settings


def test_add_and_list(app: Flask, formed: FakeAgent) -> None:
    for arguments in (
        ("add", "10.20.0.1/16", "lan0", "--name", "guests"),
        ("add-alias", "10.0.0.7", "lan0", "--note", "printers"),
        ("add-route", "10.77.0.0/16", "10.20.0.9"),
    ):
        result = run(app, *arguments)
        assert result.exit_code == 0 and result.stdout.startswith("Saved as revision"), result.output
    assert held(formed)["networks"] == [{"address": "10.20.0.1/16", "port": "lan0", "name": "guests"}]
    assert held(formed)["aliases"] == [{"address": "10.0.0.7/32", "port": "lan0", "note": "printers"}]
    assert held(formed)["routes"] == [{"destination": "10.77.0.0/16", "via": "10.20.0.9", "port": None}]
    assert run(app, "list").stdout.splitlines() == [
        "network  10.20.0.1/16                 lan0            guests",
        "alias    10.0.0.7/32                  lan0            printers",
        "route    10.77.0.0/16                                 via 10.20.0.9",
    ]
    assert run(app, "list", "--filter", "PRINT").stdout.split() == ["alias", "10.0.0.7/32", "lan0", "printers"]
    (row,) = json.loads(run(app, "list", "--filter", "10.77", "--json").stdout)["entries"]
    assert (row["key"], row["name"]) == ("routes", "10.77.0.0/16")


def test_router_advertisements(app: Flask, formed: FakeAgent) -> None:
    told = ("--advertise", "slaac", "--dns", "2001:db8:20::1")
    assert run(app, "add", "2001:db8:20::1/64", "lan0", *told).exit_code == 0
    row = {"address": "2001:db8:20::1/64", "port": "lan0", "name": ""}
    assert held(formed)["networks"] == [{**row, "advertise": "slaac", "dns": "2001:db8:20::1"}]
    assert run(app, "list").stdout.splitlines()[1].strip() == (
        "router advertisements: guests make their own addresses; sent for 2 h, the last one 1 min 4 s ago")
    assert json.loads(run(app, "list", "--json").stdout)["entries"][0]["advertise"] == "slaac"
    assert run(app, "advertise", "2001:db8:20::1", "stateless-dhcp").exit_code == 0
    assert held(formed)["networks"] == [{**row, "advertise": "stateless-dhcp"}]
    assert run(app, "advertise", "2001:db8:20::1", "none").exit_code == 0
    assert held(formed)["networks"] == [row] and len(run(app, "list").stdout.splitlines()) == 1
    refused = run(app, "advertise", "2001:db8:20::2", "slaac")
    assert refused.exit_code == 1 and "There is no network with the address 2001:db8:20::2" in refused.stderr


def test_a_list_is_imported_and_some_are_removed(app: Flask, formed: FakeAgent, tmp_path: Path) -> None:
    text = "# printers\n10.0.0.7 third floor\n\n10.0.0.8/24@lan0\n2001:db8::7\n"
    assert run(app, "import-aliases", "-", "--port", "lan0", text=text).exit_code == 0
    assert [one["address"] for one in held(formed)["aliases"]] == ["10.0.0.7/32", "10.0.0.8/24", "2001:db8::7/128"]
    assert held(formed)["aliases"][0]["note"] == "third floor"
    assert run(app, "remove", "10.0.0.8", "2001:db8::7").exit_code == 0
    assert [one["address"] for one in held(formed)["aliases"]] == ["10.0.0.7/32"]


def test_two_thousand_at_once(app: Flask, formed: FakeAgent) -> None:
    text = "\n".join(f"10.50.{at // 250}.{at % 250 + 1}" for at in range(MAX_ALIASES))
    assert run(app, "import-aliases", "-", "--port", "lan0", text=text).exit_code == 0
    assert len(held(formed)["aliases"]) == MAX_ALIASES
    more = run(app, "add-alias", "10.60.0.1", "lan0")
    assert more.exit_code == 1 and "There can be 2000 at most" in more.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "10.20.0.1", "lan0"), "prefix length"),
        (("add", "10.0.0.1/24", "lan0"), "own address"),
        (("add-alias", "10.0.0.255/24", "lan0"), "broadcast"),
        (("add-alias", "10.0.0.7", "lan0", "--note", "x" * 65), "At most 64"),
        (("add-alias", "10.0.0.100", "lan0"), "entered twice"),
        (("add-route", "10.77.0.1/16", "10.0.0.9"), "with its prefix length"),
        (("add-route", "10.77.0.0/16", "10.99.0.9"), "none of the shared networks"),
        (("remove", "10.0.0.7"), "no network, alias or route 10.0.0.7"),
        (("import-aliases", "-"), "There is no address"),
    ],
)
def test_what_makes_no_sense_is_refused(
    app: Flask, formed: FakeAgent, arguments: tuple[str, ...], message: str
) -> None:
    result = run(app, *arguments)
    assert result.exit_code == 1 and message in result.stderr, result.output
    assert "propose" not in [verb for verb, _arguments in formed.calls]


def test_each_wrong_line_is_named(app: Flask, formed: FakeAgent) -> None:
    text = "10.0.0.7\n10.0.0.999\n10.0.0.8 fine\n" + "junk\n" * 50
    result = run(app, "import-aliases", "-", "--port", "lan0", text=text)
    assert result.exit_code == 1
    assert "Line 2, 10.0.0.999: This is not an IP address." in result.stderr and "41 more lines" in result.stderr


def test_a_file_that_is_no_text_is_refused_in_words(app: Flask, formed: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"10.0.0.9 caf\xe9\n")
    result = run(app, "import-aliases", str(file), "--port", "lan0")
    assert result.exit_code == 1 and "as text in UTF-8" in result.output and held(formed).get("aliases") is None


def test_outside_of_a_cluster(app: Flask, agent: FakeAgent) -> None:
    assert "not in a cluster" in run(app, "list").stderr


def test_the_settings_tell_of_them(app: Flask, formed: FakeAgent) -> None:
    held(formed)["networks"] = [{"address": "10.20.0.1/16", "port": "lan0", "name": "guests"}]
    held(formed)["aliases"] = [{"address": "10.0.0.7/32", "port": "lan0", "note": ""}]
    told = app.test_cli_runner().invoke(args=["cluster", "settings"]).stdout
    assert "Network guests:" in told and "IP aliases:" in told
    assert app.test_cli_runner().invoke(args=["cluster", "settings", "--set", "lease_s=4"]).exit_code == 0
    assert held(formed)["aliases"], "what is not edited stays"
