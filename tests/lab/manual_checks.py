"""What the tests of the manual page ask of the pair more than once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sample_app.lab import Gateway

from .hotel import wait_until
from .manual_pair import ENDS, FIREWALL, Pair, address, kernel_rules, rows
from .pages import Visitor


def name(gateway: Gateway) -> str:
    return f"Gateway {gateway.name.upper()}"


def sells(desk: Visitor, gateway: Gateway, note: str) -> bool:
    """Return whether a gateway has answered at the virtual IP that it has sold a voucher."""
    page = desk.open("/vouchers")
    if page.status == 200:
        page = page.press("Create vouchers", count="1", note=note)
    return "1 vouchers created." in page.text and f"Served by {name(gateway)}" in page.text


def copied(pair: Pair, title: str) -> str:
    """Change the portal on its page; return how the page that guests get came to the passive gateway."""
    active, passive = pair.both()
    page = pair.open(active, "/portal").press("Save", title=title)
    assert "The portal text is saved." in page.text
    copy = passive.files / "portal" / "en.html"
    wait_until(lambda: copy.exists() and title in copy.read_text(), lambda: f"{passive.call('status')['files']}")
    return str(passive.call("status")["files"]["way"])


def never_sent(pair: Pair, path: str) -> None:
    """Demand that such a file is not copied, even from a directory that both gateways have."""
    active, passive = pair.both()
    for gateway in (active, passive):
        file = gateway.files / "portal" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"of {gateway.name}")
    copied(pair, f"Foyer beside {path}")
    for gateway in (active, passive):
        assert (gateway.files / "portal" / path).read_text() == f"of {gateway.name}"


def let_in(pair: Pair, protocol: str, port: int, links: tuple[str, ...]) -> None:
    """Demand that each gateway lets the other one in on a port, on its page and in its kernel."""
    for gateway in pair.both():
        sources = {address(pair.lab.other(gateway), ENDS[link]) for link in links}
        shown = {row[3] for row in pair.open(gateway, FIREWALL).rows() if row[:3] == ["allow", protocol, str(port)]}
        assert {f"{source}/32" for source in sources} <= shown
        rules = kernel_rules(gateway)
        assert all(f"ip saddr {source} {protocol} dport {port} accept" in rules for source in sources), rules
        assert "policy drop" in rules


@contextlib.contextmanager
def shut(gateway: Gateway, interface: str, match: str) -> Iterator[None]:
    """Refuse packets to a port of a gateway for a while."""
    gateway.namespace.run("nft", (
        "add table inet shut; add chain inet shut i { type filter hook input priority 0; };"
        f"add rule inet shut i iifname {interface} {match} reject with icmpx admin-prohibited"))
    try:
        yield
    finally:
        gateway.namespace.run("nft", "delete", "table", "inet", "shut")


def missed(pair: Pair, interface: str, match: str, port: str) -> None:
    """Demand that the pages of both name a port of the passive gateway that is shut."""
    active, passive = pair.both()
    words = f"{name(active)} does not reach {name(passive)} at {address(passive, interface)}, {port}"
    if "udp" in match:
        words = (f"Heartbeats from {name(active)} to {name(passive)} do not arrive at {address(passive, interface)}, "
                 f"{port}")  # fmt: skip
    with shut(passive, interface, match):
        for gateway in (active, passive):
            wait_until(lambda: words in pair.check(gateway), lambda: pair.check(gateway))  # noqa: B023
    pair.both()


def states(gateway: Gateway) -> dict[str, str]:
    return {path["name"]: path["state"] for path in gateway.call("status")["paths"] if path["name"] in ENDS}


def followers(gateway: Gateway) -> set[str]:
    """Return the addresses from which a gateway's database is followed."""
    with gateway.postgres_in_place().connect() as connection:
        found = connection.execute("SELECT host(client_addr) FROM pg_stat_replication").fetchall()
    return {str(row[0]) for row in found}


def dialled(gateway: Gateway) -> bool:
    return "peer 10.60.0.1" in gateway.namespace.run("ip", "-4", "addr")


def backups(gateway: Gateway) -> set[str]:
    return {path.name for path in Path(gateway.environment["FIRMWARE_STATE_DIR"], "backups").glob("*")}


def keeps_its_own(
    pair: Pair, path: str, table: str, typed: Sequence[dict[str, str]], button: str = "Save"
) -> None:
    """Change a page on the active and on the passive gateway; demand that neither change comes to the other one.

    :param typed: by field what is entered, on the active and on the passive gateway.
    """
    active, passive = pair.both()

    def shown(gateway: Gateway) -> dict[str, str]:
        page = pair.open(gateway, path)
        return {field: page.value(field) for field in typed[0]}

    for gateway, other, entered in ((active, passive, typed[0]), (passive, active, typed[1])):
        before = shown(other), own_rows(other, table)
        assert before[0] != entered, "the other one would not show a change"
        page = pair.open(gateway, path).press(button, **entered)
        assert page.status == 200 and "Saved" in page.text, page.text
        assert shown(gateway) == entered
        pair.settle()
        assert (shown(other), own_rows(other, table)) == before, f"{path} of {gateway} came to {other}"


def own_rows(gateway: Gateway, table: str) -> list[tuple[object, ...]]:
    found = rows(gateway, table) if table else []
    return [row for row in found if table != "interface" or row[0] in ("lan", "wan")]


def with_the_other_reading(pair: Pair) -> None:
    """Let the passive gateway leave, restart both with the other reading, and let it join again."""
    active, passive = pair.both()
    assert "This gateway has left the cluster." in pair.open(passive).press("Leave the cluster").text
    for gateway in (passive, active):
        pair.restart(gateway, HSMX_CLUSTER_LOCAL_INTERFACES="lan")
    wait_until(lambda: active.role() == "active")
    code = pair.code(pair.open(active).press("Show a new pairing code"))
    assert "This gateway has joined" in pair.join(passive, code).text
    assert pair.both() == (active, passive)
