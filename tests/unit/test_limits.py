"""The figures of docs/limits.md are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_hsmx_cluster import control, models
from flask_hsmx_cluster.agent import clerk, control_server, node_store, service
from flask_hsmx_cluster.agent.heartbeat import advertiser, datagram, session, transport
from flask_hsmx_cluster.agent.notify import collect, side
from flask_hsmx_cluster.agent.peer import pairing, sealed
from flask_hsmx_cluster.agent.preflight import checks, ports
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent_line import LONGEST_LINE
from flask_hsmx_cluster.editing import networks as editing
from flask_hsmx_cluster.files import paths, places, plan
from flask_hsmx_cluster.network import router_advertisement, wire
from flask_hsmx_cluster.notify import news, policy
from flask_hsmx_cluster.replication import pgoutput, scope
from flask_hsmx_cluster.settings import interfaces, model, networks, notify, pppoe
from flask_hsmx_cluster.web import access, api, monitor, schemas

ROWS = [line for line in (Path(__file__).parents[2] / "docs" / "limits.md").read_text().splitlines() if "|" in line]
KI, MI = 1024, 1024 * 1024


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("heartbeat datagrams", f"{datagram.LONGEST} bytes; {datagram.MOST_CAUSES} causes, "
                                f"{datagram.MOST_PORTS} ports; {transport.DATAGRAMS_PER_TURN} taken"),
        ("frames on a virtual-IP port", f"{wire.FRAMES_PER_TURN} in one turn"),
        ("neighbours remembered", f"{session.NEIGHBOURS_KEPT} on each port"),
        ("router solicitations", f"{router_advertisement.MESSAGES_PER_TURN} in one turn; "
                                 f"{advertiser.OTHERS_KEPT} other"),
        ("`/pair`, `/peer`: a message", f"{control.MAX_MESSAGE // KI} KiB"),
        ("the same, how often", f"{control_server.RATE_PER_S:.0f} a second, {control_server.BURST:.0f} at once, "
                                f"{control_server.MAX_RELAYED} at the same time"),
        ("sealed requests remembered", f"{sealed.MAX_REMEMBERED}, then"),
        ("pairing code", f"{pairing.LIFETIME_S // 60} min, {pairing.ATTEMPTS} wrong codes"),
        ("pairing by who knows", f"{pairing.MAX_SESSIONS} joiners, {pairing.MAX_REQUESTS} requests"),
        ("`/health`", f"every {monitor.FRESH_S} s"),
        ("settings revision, and offer", f"{revisions.MAX_LINEAGE} forebears"),
        ("news for people", f"{side.EVENTS_MOST} events, {collect.MOST_TOLD} alarms, {news.LONGEST} characters "
                            f"of text, {side.TAKEN_MOST} ids"),
        ("PPPoE sessions", f" {pppoe.MAX_CONNECTIONS} "),
        ("its ports", f"{checks.MOST_PORTS}, {checks.MOST_ADDRESSES} addresses; {ports.MOST_SERVICES} services"),
        ("tables of its database", f"{scope.MAX_TABLES}, {scope.MAX_COLUMNS} columns"),
        ("changed files", f"{paths.PATHS_MOST} paths of {paths.PATH_MOST} characters"),
        ("files |", f"{plan.ROOM_LEFT // MI} MiB of the disk stay free; more than {plan.DELETIONS_MOST} deletions"),
        ("answers of its databases", f"columns {pgoutput.MOST_COLUMNS}, names {pgoutput.MOST_NAME} bytes"),
        ("a line, either way", f"{control.MAX_LINE // MI} MiB, within {control_server.READ_TIMEOUT_S:.0f} s"),
        ("how many", f"{control_server.MAX_CONCURRENT} at once ({control_server.MAX_RELAYED} relayed, "
                     f"{control_server.MAX_PATIENT} that may wait long), {control_server.MAX_WAITING} wait; "
                     f"{control_server.MAX_SLOW} slow"),
        ("lines of the agent's own processes", f"{LONGEST_LINE // MI} MiB"),
        ("form of a page", f"{access.MAX_FORM // MI} MiB"),
        ("REST body", f"{api.MAX_BODY // KI} KiB"),
        ("pasted list", f"{editing.MAX_LIST // KI} Ki characters"),
        ("events asked for", f"{service.MAX_EVENTS_SIZE:,} characters"),
        ("rows of quarantine", f"{schemas.MOST_ROWS} in a page"),
        ("settings |", f"{model.MAX_SIZE // KI} KiB as JSON; {model.MAX_VIRTUAL_IPS} virtual IPs"),
        ("settings |", f"{networks.MAX_NETWORKS} networks, {networks.MAX_ALIASES} aliases "
                       f"({networks.MAX_ALIASES6} of IPv6), {networks.MAX_ROUTES} routes"),
        ("settings |", f"{interfaces.MAX_INTERFACES} interfaces with {interfaces.MAX_ADDRESSES} addresses, "
                       f"{notify.MAX_TARGETS} notification targets with {notify.MAX_RECIPIENTS} recipients"),
        ("events |", f"{models.MAX_EVENTS}, text of {node_store.MAX_TEXT} characters, {node_store.MAX_EVIDENCE} lines"),
        ("settings revisions", f"{node_store.MAX_REVISIONS} beside"),
        ("jobs of the clerk", f" {clerk.MOST_WAITING} "),
        ("notifications that wait", f"{policy.MOST_WAITING} of a target, {side.MOST_SENDING} are sent"),
        ("files put aside", f"{places.ASIDES_MOST} sets"),
    ],
)  # fmt: skip
def test_the_limits_are_those_of_the_code(row: str, says: str) -> None:
    found = [line for line in ROWS if line.startswith(f"| {row}")]
    assert any(says in line for line in found), (found, says)
