"""The page *Certificates and upgrades*, its commands and its REST requests, over the real guide."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from click.testing import Result

from flask_hsmx_cluster.errors import RequestRefused

from .conftest import PREFIX
from .fake_agent import OWN_ID, PEER_ID, FakeAgent
from .renewing import certificate

PAGE = PREFIX + "/renewal"


def text(client: Any) -> str:
    return " ".join(re.sub("<[^>]*>", " ", unescape(client.get(PAGE).text)).split())


def states(client: Any) -> list[str]:
    return re.findall(r'data-step="([a-z-]+)"', client.get(PAGE + "/live").text)


def test_both_certificates_stand_side_by_side(client: Any, formed: FakeAgent) -> None:
    formed.renewing.facts[OWN_ID] = formed.renewing.facts[OWN_ID].__class__(
        **{**vars(formed.renewing.facts[OWN_ID]), "certificate": certificate(0xAB, -1)}
    )
    shown = text(client)
    assert "has expired" in shown and "19 days left" in shown and "wifi.hotel.example" in shown
    assert "00:AB" in shown and "CN=Example CA" in shown


def test_a_renewal_goes_through_by_the_page(client: Any, formed: FakeAgent) -> None:
    assert client.post(PAGE + "/begin", data={"kind": "certificate"}).status_code == 303
    assert ("renewal_begin", {"kind": "certificate"}) in formed.calls
    assert states(client) == ["install-now", "reboot-now", "seen-next", "failover-next", "install-next", "reboot-next",
                              "seen-next"]  # fmt: skip
    assert "Install the new certificate on gateway-b" in text(client) and "Fail over …" not in text(client)
    formed.renewing.renew(PEER_ID)
    assert states(client)[:4] == ["install-done", "reboot-done", "seen-done", "failover-now"]
    assert "Fail over …" in text(client)
    confirmation = client.get(PAGE + "/failover").text
    assert "gateway-b takes 10.0.0.100 over" in confirmation
    done = client.post(PAGE + "/failover")
    assert done.status_code == 303 and done.location.endswith("/renewal") and formed.role == "passive"
    assert states(client)[3:] == ["failover-done", "install-now", "reboot-now", "seen-next"]
    assert "gateway-b is done, gateway-a is left" in text(client)
    formed.renewing.renew(OWN_ID)
    assert set(states(client)) == {"install-done", "reboot-done", "seen-done", "failover-done"}
    assert "Done: both gateways show their new certificates." in text(client) and "Close it" in text(client)
    client.post(PAGE + "/end")
    assert states(client) == [] and "Begin" in text(client)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"certificate": certificate(2, 20)}, "was restarted, but shows the certificate that it had at the start"),
        ({"certificate": None, "problem": "port 443 refuses"}, "gateway-b shows no certificate: port 443 refuses."),
        ({"certificate": certificate(9, -1)}, "shows a certificate that has expired"),
    ],
)
def test_what_stands_in_the_way_is_said_and_no_fail_over_offered(
    client: Any, formed: FakeAgent, changes: dict[str, Any], said: str
) -> None:
    formed.renewing.begin("certificate")
    formed.renewing.renew(PEER_ID, **changes)
    assert said in text(client) and "Fail over …" not in text(client)


def test_no_fail_over_is_offered_while_the_other_one_is_not_ready(client: Any, formed: FakeAgent) -> None:
    formed.renewing.begin("certificate")
    formed.renewing.renew(PEER_ID)
    formed.alarms.append({"key": "x", "severity": "warning", "text": "x", "remedy": "", "since_s": 1})
    assert "Not yet: a fail-over would not work now." in text(client) and "Fail over …" not in text(client)


def test_an_upgrade_shows_versions_and_the_protocol_in_common(client: Any, formed: FakeAgent) -> None:
    formed.renewing.begin("firmware")
    formed.renewing.renew(PEER_ID, firmware="5.3.0", version="0.2.0", protocol=6)
    shown = text(client)
    assert "5.3.0 (at the start 5.2.03)" in shown and "The two speak protocol 4 meanwhile" in shown
    formed.renewing.facts[PEER_ID] = formed.renewing.facts[PEER_ID].__class__(
        **{**vars(formed.renewing.facts[PEER_ID]), "protocol_least": 5}
    )
    assert "do not understand each other" in text(client) and "Fail over …" not in text(client)


def test_a_viewer_may_look_only(make_app: Callable[..., Any], formed: FakeAgent) -> None:
    client = make_app(WTF_CSRF_ENABLED=False, permission=lambda action: action == "view").test_client()
    assert client.get(PAGE).status_code == 200 and client.post(PAGE + "/look").status_code == 303
    for path in ("begin", "end", "failover"):
        assert client.post(f"{PAGE}/{path}", data={"kind": "certificate"}).status_code == 403
    assert "Begin" not in text(client)


def test_a_refusal_of_the_agent_is_shown(client: Any, formed: FakeAgent) -> None:
    formed.refusals["renewal_begin"] = RequestRefused("The HTTPS port is not stated.", "Set HSMX_CLUSTER_HTTPS.")
    answer = client.post(PAGE + "/begin", data={"kind": "certificate"})
    assert answer.status_code == 409 and "Set HSMX_CLUSTER_HTTPS." in answer.text


def test_the_page_of_the_cluster_points_to_it(client: Any, formed: FakeAgent) -> None:
    assert "Renew the certificates" not in client.get(PREFIX + "/").text
    formed.renewing.begin("certificate")
    assert "Renew the certificates: Install the new certificate on gateway-b" in client.get(PREFIX + "/").text


def test_alone_there_is_nothing_to_begin(client: Any, agent: FakeAgent) -> None:
    assert "Begin" not in text(client) and "gateway-a" in text(client)


def test_the_command_line_does_the_same(run: Callable[..., Result], formed: FakeAgent) -> None:
    assert "▶ Install the new certificate on gateway-b" in run("renewal", "begin").output
    formed.renewing.renew(PEER_ID)
    said = run("renewal", "status", "--look").output
    assert "▶ Make gateway-b active" in said and "flask cluster failover" in said and "✓ 19 days left" not in said
    assert json.loads(run("renewal", "status", "--json").output)["may_fail_over"] is True
    assert "is ended" in run("renewal", "end").output
    run("renewal", "begin", "nonsense", code=2)


def test_rest(client: Any, formed: FakeAgent) -> None:
    api, headers = PREFIX + "/api/renewal", {"X-HSMX-Cluster": "1"}
    assert client.get(api).json["kind"] is None
    assert client.post(api + "/begin", json={"kind": "extension"}, headers=headers).json["kind"] == "extension"
    assert client.post(api + "/look", json={}, headers=headers).json["steps"][0]["key"] == "install"
    assert client.post(api + "/end", json={}, headers=headers).json["kind"] is None
    assert client.post(api + "/begin", json={"kind": 7}, headers=headers).status_code == 400
