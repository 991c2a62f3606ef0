"""What an operator does: form a cluster, look, act."""

from __future__ import annotations

import getpass
import os
import sys

import click

from ..control import MAX_MAINTENANCE_S
from ..editing import fields
from ..errors import Finding, RequestRefused
from ..extension import state
from ..settings import model as settings
from ..translate import gettext as _
from ..words import arbiter as arbiter_words
from ..words import cluster as words
from ..words import data as data_words
from ..words import files as files_words
from ..words import preference
from ..words import services as services_words
from ..words import take_over as take_over_words
from .base import Json, Typed, call, checked, command, ends, print_finding, print_json, say
from .data import print_data
from .files import print_files
from .services import print_services

# ---- forming ----


@command
@click.option("--virtual-ip", "virtual_ips", multiple=True, required=True,
              type=Typed("ADDRESS/PREFIX@PORT[,off-subnet][,virtual-mac]", fields.virtual_ip),
              help="Address that is always on the active gateway. Once or twice.")
@ends
@click.option("--heartbeat-ms", type=int, default=settings.HEARTBEAT_MS[1], show_default=True)
@click.option("--ping-pongs", type=int, default=settings.PING_PONGS[1], show_default=True,
              help="Unanswered probes on each path before a fail-over.")
@click.option("--lease-s", type=int, default=settings.LEASE_S[1], show_default=True)
@click.option("--boot-hold-s", type=int, default=settings.BOOT_HOLD_S[1], show_default=True)
@click.option("--announce-refresh-s", type=int, default=settings.ANNOUNCE_REFRESH_S[1], show_default=True)
@click.option("--stale-wait", type=Typed("SECONDS|never", fields.stale_wait), default=str(settings.STALE_WAIT_S[1]),
              show_default=True, help="How much longer a gateway that starts alone waits if its data may be older.")
@click.option("--reference", "references", multiple=True,
              type=Typed("ADDRESS", lambda text: str(fields.reference(text))),
              help="Address that a healthy gateway can reach. Up to 4 times.")
def create(
    virtual_ips: tuple[Json, ...], sync: Json, backup: Json | None, service: Json | None,
    references: tuple[str, ...], stale_wait: int | None, as_json: bool, **numbers: int,
) -> None:
    """Create a cluster on this gateway, and print the pairing code for the other one."""
    node = call("status")["node"]
    ends = {"sync": sync, "backup": backup, "service": service}
    wanted = {
        "cluster_id": "",
        "nodes": [{"node_id": node["id"], "name": node["name"]}],
        "virtual_ips": list(virtual_ips),
        "links": [{"kind": kind, "ends": {node["id"]: end}} for kind, end in ends.items() if end],
        "advanced": {**numbers, "stale_wait_s": stale_wait, "references": list(references)},
    }
    checked(wanted, node["id"])
    answer = call("create", settings=wanted)
    if as_json:
        return print_json(answer)
    say(_("The cluster is created and this gateway is active."))
    _print_code(answer, words.bare(sync["address"]))


@command
def pairing_code(as_json: bool) -> None:
    """Print a new pairing code for the other gateway."""
    answer = call("pairing_code")
    if as_json:
        return print_json(answer)
    _print_code(answer, _("ADDRESS"))


def _print_code(answer: Json, address: str) -> None:
    say(_("Pairing code: %(code)s  (good for %(time)s, for one gateway)",
                 code=answer["code"], time=words.duration(answer["expires_in_s"])))
    say(_("On the other gateway: flask cluster join %(address)s --sync ADDRESS/PREFIX@PORT",
                 address=address))


@command
@click.argument("address", type=Typed("ADDRESS[:PORT]", fields.peer))
@click.argument("code", default="-")
@ends
def join(
    address: str, code: str, sync: Json, backup: Json | None, service: Json | None, as_json: bool
) -> None:
    """Join the cluster of the gateway at ADDRESS with its pairing CODE.

    Without CODE it is asked for, or read from the input: the process list shows it to nobody.
    """
    if code == "-":
        if sys.stdin.isatty():
            click.echo(_("Pairing code: "), nl=False, err=True)
        code = sys.stdin.readline().strip()
    ends = {"sync": sync, "backup": backup, "service": service}
    answer = call("join", address=address, code=code, ends={kind: end for kind, end in ends.items() if end})
    if as_json:
        return print_json(answer)
    say(_("This gateway has joined the cluster of %(peer)s.", peer=answer["peer"]))


@command
@click.option("--force", is_flag=True, help="Leave even if the other gateway cannot be told.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def leave(force: bool, yes: bool, as_json: bool) -> None:
    """Leave the cluster."""
    before = call("status")
    if not yes and not as_json and sys.stdin.isatty():
        for line in words.leave_plan(before):
            say(f"- {line}")
        click.confirm(_("Leave the cluster?"), abort=True)
    answer = call("leave", force=force)
    if as_json:
        return print_json(answer)
    say(words.left(before, answer["peer_informed"]))


@command
@click.option("--yes", is_flag=True, help="Do not ask.")
def replace(yes: bool, as_json: bool) -> None:
    """Forget the other gateway, which is gone for good, and print the pairing code for a new one."""
    before = call("status")
    if not yes and not as_json and sys.stdin.isatty() and before["peer"] is not None:
        for line in words.replace_plan(before):
            say(f"- {line}")
        click.confirm(_("Replace %(name)s?", name=before["peer"]["name"]), abort=True)
    answer = call("replace")
    if as_json:
        return print_json(answer)
    say(_("%(name)s is forgotten. This gateway goes on alone.", name=answer["replaced"]))
    return _print_code(answer, _("ADDRESS"))


@command
def preflight(as_json: bool) -> None:
    """Check whether this gateway is fit for a cluster. Nothing is changed."""
    answer = call("preflight", settings=call("settings")["settings"])
    findings = [Finding(**finding) for finding in answer["findings"]]
    if as_json:
        print_json(answer)
    else:
        for item in answer["checked"]:
            say(f"{'✓' if item['ok'] else '✕'} {item['text']}")
        for finding in findings:
            print_finding(finding)
    if any(finding.blocking for finding in findings):
        sys.exit(1)


# ---- looking ----


@command
def status(as_json: bool) -> None:
    """Say what this gateway does, and whether a fail-over would work now."""
    found = call("status")
    if as_json:
        return print_json(found)
    here = found["node"]
    say(f"{here['name']}: {words.role(here['role'])}. {words.because(found)}".rstrip())
    for line in filter(None, (words.headline(found), words.other(found), preference.describe(found))):
        say(line)
    if found["cluster"] is not None:
        _print_cluster(found)
    print_data(data_words.describe(found))
    print_files(files_words.describe(found))
    print_services(services_words.describe(found))
    for alarm in found["alarms"]:
        say(f"{'✕' if alarm['severity'] == 'critical' else '!'} {alarm['text']} {alarm['remedy']}".rstrip())
    say(words.notice(found))


def _print_cluster(found: Json) -> None:
    ready = found["readiness"]
    say(_("Would a fail-over work now?") + " " + " ".join(
        [_("Yes.") if ready["ready"] else _("No."), *ready["reasons"]]))
    for vip in found["virtual_ips"]:
        say(f"  {vip['address']} on {vip['port']}: {vip['text'] or words.reading(vip['reading'])}")
    for path in found["paths"]:
        details = ", ".join(filter(None, (
            _("heard %(time)s ago", time=words.milliseconds(path["heard_ms"])),
            _("round trip %(time)s", time=words.milliseconds(path["rtt_ms"])),
            _("loss %(n)s %%", n=f"{path['loss_percent']:.0f}"), path["why"])))
        say(f"  {path['name']}: {words.path_state(path['state'])} ({details})")
    if (arbiter := arbiter_words.describe(found)) is not None:
        say(f"{arbiter.sign} {arbiter.name}: {arbiter.text}")


@command
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--before", type=int, help="Only events older than this id.")
def events(limit: int, before: int | None, as_json: bool) -> None:
    """List what happened, newest first, with the evidence."""
    found = call("events", limit=limit, before=before)
    if as_json:
        return print_json(found)
    for event in found["events"]:
        sign = {"critical": "✕", "warning": "!"}.get(event["severity"], " ")
        say(f"{event['at'][:19].replace('T', ' ')} {sign} {event['node']}: {event['text']}")
        for line in event["evidence"]:
            say(f"{'':22}- {line}")


@command
def coverage(as_json: bool) -> None:
    """Say what of the database is shared with the other gateway, and why. The agent need not run."""
    found = state().coverage()
    if as_json:
        return print_json(found.as_dict())
    for table in found.tables:
        rows = _(" – rows: %(rows)s", rows=table.rows) if table.rows else ""
        say(f"{words.SHARED[table.kind][0]} {table.name}: {words.shared(table.kind)}{rows} ({_(table.why)})")
        for field in table.fields:
            why = f" ({_(field.why)})" if field.why else ""
            key = _(", key") if field.key else ""
            say(f"    {words.SHARED[field.kind][0]} {field.name}: {words.shared(field.kind)}{key}{why}")
    for warning in found.warnings:
        print_finding(warning)
    say(words.table_count(found.counts))
    if not found.replicable:
        say(_(words.NOT_POSTGRESQL))
    return None


# ---- acting ----


@command
def failover(as_json: bool) -> None:
    """Hand the virtual IPs over to the gateway that stands by."""
    answer = call("failover")
    if as_json:
        return print_json(answer)
    say(_("%(name)s is active now. It took %(time)s.", name=answer["to"],
                 time=words.milliseconds(answer["took_ms"])))


@command
@click.option("--by", default=lambda: os.environ.get("SUDO_USER") or getpass.getuser(), help="Who decides: recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def take_over(by: str, yes: bool, as_json: bool) -> None:
    """Take over although the other gateway may still serve: only where this one waits for it."""
    before = call("status")
    if not yes and take_over_words.possible(before):
        for line in take_over_words.plan(before):
            say(f"- {line}", err=as_json)
        name = before["peer"]["name"]
        if click.prompt(_("Type the other gateway's name to take over all the same"), err=as_json) != name:
            raise RequestRefused(_("That is not %(name)s: nothing was done.", name=name))
    answer = call("take_over", by=by)
    if as_json:
        return print_json(answer)
    say(_("This gateway takes the virtual IPs now. See `flask cluster status`."))
    return None


@command
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.option("--duration-s", type=click.IntRange(60, MAX_MAINTENANCE_S), default=3600, show_default=True)
def maintenance(switch: str, duration_s: int, as_json: bool) -> None:
    """Keep this gateway from taking over while somebody works on it."""
    answer = call("maintenance", on=True, duration_s=duration_s) if switch == "on" else call("maintenance", on=False)
    if as_json:
        return print_json(answer)
    say(_("Maintenance is on for %(time)s.", time=words.duration(answer["left_s"])) if answer["on"]
               else _("Maintenance is off."))
