"""``flask cluster ...``: everything that the pages can do, for scripts and for a shell at night.

Each command prints text, or with ``--json`` the agent's answer as it is. An error is a sentence and its remedy on
the error output, or with ``--json`` also ``{"error": {...}}`` on the output; the exit code is then 1.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from flask.cli import AppGroup

from . import data_words, fields, rules, settings, words
from .errors import ChecksFailed, ClusterError, Finding, RequestRefused
from .extension import agent_config, state
from .translate import gettext as _

#: Environment variable that tells the agent on which inherited descriptor its configuration is.
CONFIG_FD = "HSMX_CLUSTER_CONFIG_FD"

Json = dict[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

_NUMBERS = ("heartbeat_ms", "ping_pongs", "lease_s", "boot_hold_s", "announce_refresh_s")

#: How often the state of a comparison is asked for, s.
VERIFY_LOOK_EVERY_S = 0.5

cluster = AppGroup("cluster", help="Run this gateway in a high-availability cluster.")


class _Command(click.Command):
    """A command whose errors are told to people, not thrown at them."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ClusterError as error:
            if ctx.params.get("as_json"):
                _print_json({"error": error.as_dict()})
            _complain(error)
            ctx.exit(1)


def _command(function: Callable[..., Any], group: click.Group = cluster) -> click.Command:
    """Make a command with the option ``--json`` out of a function."""
    name = function.__name__.strip("_").replace("_", "-")
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return group.command(name, cls=_Command)(option(function))


def _complain(error: ClusterError) -> None:
    click.echo(f"Error: {error.message}", err=True)
    if isinstance(error, ChecksFailed):
        for finding in error.findings:
            _print_finding(finding, err=True)
    elif error.remedy:
        click.echo(error.remedy, err=True)


def _print_finding(finding: Finding, *, err: bool = False) -> None:
    where = f" [{finding.field}]" if finding.field else ""
    click.echo(f"  {'✕' if finding.blocking else '!'} {finding.text}{where}", err=err)
    if finding.remedy:
        click.echo(f"    {finding.remedy}", err=err)


def _print_json(data: Json) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _call(verb: str, **arguments: Any) -> Json:
    return state().call(verb, **arguments)


class _Typed(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """An option whose text is read by a function of ``fields``."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_END = _Typed("ADDRESS/PREFIX@PORT", fields.end)


def _ends(function: Function) -> Function:
    """Add the options that name this gateway's own ends."""
    for name, required, text in (
        ("--service", False, "Own address in the guests' network."),
        ("--backup", False, "Own address on the backup interface."),
        ("--sync", True, "Own address on the cable between the gateways."),
    ):
        function = click.option(name, type=_END, required=required, help=text)(function)
    return function


# ---- forming ----


@_command
@click.option("--virtual-ip", "virtual_ips", multiple=True, required=True,
              type=_Typed("ADDRESS/PREFIX@PORT[,off-subnet][,virtual-mac]", fields.virtual_ip),
              help="Address that is always on the active gateway. Once or twice.")
@_ends
@click.option("--heartbeat-ms", type=int, default=settings.HEARTBEAT_MS[1], show_default=True)
@click.option("--ping-pongs", type=int, default=settings.PING_PONGS[1], show_default=True,
              help="Unanswered probes on each path before a fail-over.")
@click.option("--lease-s", type=int, default=settings.LEASE_S[1], show_default=True)
@click.option("--boot-hold-s", type=int, default=settings.BOOT_HOLD_S[1], show_default=True)
@click.option("--announce-refresh-s", type=int, default=settings.ANNOUNCE_REFRESH_S[1], show_default=True)
@click.option("--reference", "references", multiple=True,
              type=_Typed("ADDRESS", lambda text: str(fields.reference(text))),
              help="Address that a healthy gateway can reach. Up to 4 times.")
def create(
    virtual_ips: tuple[Json, ...], sync: Json, backup: Json | None, service: Json | None,
    references: tuple[str, ...], as_json: bool, **numbers: int,
) -> None:
    """Create a cluster on this gateway, and print the pairing code for the other one."""
    node = _call("status")["node"]
    ends = {"sync": sync, "backup": backup, "service": service}
    wanted = {
        "cluster_id": "",
        "nodes": [{"node_id": node["id"], "name": node["name"]}],
        "virtual_ips": list(virtual_ips),
        "links": [{"kind": kind, "ends": {node["id"]: end}} for kind, end in ends.items() if end],
        "advanced": {**numbers, "references": list(references)},
    }
    _checked(wanted, node["id"])
    answer = _call("create", settings=wanted)
    if as_json:
        return _print_json(answer)
    click.echo(_("The cluster is created and this gateway is active."))
    _print_code(answer, words.bare(sync["address"]))


@_command
def pairing_code(as_json: bool) -> None:
    """Print a new pairing code for the other gateway."""
    answer = _call("pairing_code")
    if as_json:
        return _print_json(answer)
    _print_code(answer, _("ADDRESS"))


def _print_code(answer: Json, address: str) -> None:
    click.echo(_("Pairing code: %(code)s  (good for %(time)s, for one gateway)",
                 code=answer["code"], time=words.duration(answer["expires_in_s"])))
    click.echo(_("On the other gateway: flask cluster join %(address)s --sync ADDRESS/PREFIX@PORT",
                 address=address))


@_command
@click.argument("address", type=_Typed("ADDRESS[:PORT]", fields.peer))
@click.argument("code", default="-")
@_ends
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
    answer = _call("join", address=address, code=code, ends={kind: end for kind, end in ends.items() if end})
    if as_json:
        return _print_json(answer)
    click.echo(_("This gateway has joined the cluster of %(peer)s.", peer=answer["peer"]))


@_command
@click.option("--force", is_flag=True, help="Leave even if the other gateway cannot be told.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def leave(force: bool, yes: bool, as_json: bool) -> None:
    """Leave the cluster."""
    before = _call("status")
    if not yes and not as_json and sys.stdin.isatty():
        for line in words.leave_plan(before):
            click.echo(f"- {line}")
        click.confirm(_("Leave the cluster?"), abort=True)
    answer = _call("leave", force=force)
    if as_json:
        return _print_json(answer)
    click.echo(words.left(before, answer["peer_informed"]))


@_command
def preflight(as_json: bool) -> None:
    """Check whether this gateway is fit for a cluster. Nothing is changed."""
    answer = _call("preflight", settings=_call("settings")["settings"])
    findings = [Finding(**finding) for finding in answer["findings"]]
    if as_json:
        _print_json(answer)
    else:
        for item in answer["checked"]:
            click.echo(f"{'✓' if item['ok'] else '✕'} {item['text']}")
        for finding in findings:
            _print_finding(finding)
    if any(finding.blocking for finding in findings):
        sys.exit(1)


# ---- looking ----


@_command
def status(as_json: bool) -> None:
    """Say what this gateway does, and whether a fail-over would work now."""
    found = _call("status")
    if as_json:
        return _print_json(found)
    here = found["node"]
    click.echo(f"{here['name']}: {words.role(here['role'])}. {words.because(found)}".rstrip())
    for line in filter(None, (words.headline(found), words.other(found))):
        click.echo(line)
    if found["cluster"] is not None:
        _print_cluster(found)
    _print_data(data_words.describe(found))
    for alarm in found["alarms"]:
        click.echo(f"{'✕' if alarm['severity'] == 'critical' else '!'} {alarm['text']} {alarm['remedy']}".rstrip())
    click.echo(words.notice(found))


def _print_cluster(found: Json) -> None:
    ready = found["readiness"]
    click.echo(_("Would a fail-over work now?") + " " + " ".join(
        [_("Yes.") if ready["ready"] else _("No."), *ready["reasons"]]))
    for vip in found["virtual_ips"]:
        click.echo(f"  {vip['address']} on {vip['port']}: {vip['text'] or words.reading(vip['reading'])}")
    for path in found["paths"]:
        details = ", ".join(filter(None, (
            _("heard %(time)s ago", time=words.milliseconds(path["heard_ms"])),
            _("round trip %(time)s", time=words.milliseconds(path["rtt_ms"])),
            _("loss %(n)s %%", n=f"{path['loss_percent']:.0f}"), path["why"])))
        click.echo(f"  {path['name']}: {words.path_state(path['state'])} ({details})")


def _print_data(said: data_words.DataWords | None) -> None:
    if said is None:
        return
    click.echo(_("Data:") + f" {said.sign} {said.text} {said.remedy}".rstrip())
    if said.progress:
        click.echo(f"  {said.progress}")
    for label, value in said.facts:
        click.echo(f"  {label}: {value}")


@_command
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--before", type=int, help="Only events older than this id.")
def events(limit: int, before: int | None, as_json: bool) -> None:
    """List what happened, newest first, with the evidence."""
    found = _call("events", limit=limit, before=before)
    if as_json:
        return _print_json(found)
    for event in found["events"]:
        sign = {"critical": "✕", "warning": "!"}.get(event["severity"], " ")
        click.echo(f"{event['at'][:19].replace('T', ' ')} {sign} {event['node']}: {event['text']}")
        for line in event["evidence"]:
            click.echo(f"{'':22}- {line}")


@_command
def coverage(as_json: bool) -> None:
    """Say what of the database is shared with the other gateway, and why. The agent need not run."""
    found = state().coverage()
    if as_json:
        return _print_json(found.as_dict())
    for table in found.tables:
        rows = _(" – rows: %(rows)s", rows=table.rows) if table.rows else ""
        click.echo(f"{words.SHARED[table.kind][0]} {table.name}: {words.shared(table.kind)}{rows} ({_(table.why)})")
        for field in table.fields:
            why = f" ({_(field.why)})" if field.why else ""
            key = _(", key") if field.key else ""
            click.echo(f"    {words.SHARED[field.kind][0]} {field.name}: {words.shared(field.kind)}{key}{why}")
    for warning in found.warnings:
        _print_finding(warning)
    click.echo(words.table_count(found.counts))
    if not found.replicable:
        click.echo(_(words.NOT_POSTGRESQL))
    return None


# ---- acting ----


@_command
def failover(as_json: bool) -> None:
    """Hand the virtual IPs over to the gateway that stands by."""
    answer = _call("failover")
    if as_json:
        return _print_json(answer)
    click.echo(_("%(name)s is active now. It took %(time)s.", name=answer["to"],
                 time=words.milliseconds(answer["took_ms"])))


@_command
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.option("--duration-s", type=click.IntRange(60, 7 * 86400), default=3600, show_default=True)
def maintenance(switch: str, duration_s: int, as_json: bool) -> None:
    """Keep this gateway from taking over while somebody works on it."""
    answer = _call("maintenance", on=True, duration_s=duration_s) if switch == "on" else _call("maintenance", on=False)
    if as_json:
        return _print_json(answer)
    click.echo(_("Maintenance is on for %(time)s.", time=words.duration(answer["left_s"])) if answer["on"]
               else _("Maintenance is off."))


@_command
@click.option("--set", "edits", multiple=True, metavar="KEY=VALUE",
              help="heartbeat_ms, ping_pongs, lease_s, boot_hold_s, announce_refresh_s, references, virtual_ip.1, "
                   "virtual_ip.2, or sync., backup., service. with a gateway's name. May be repeated.")
def _settings(edits: tuple[str, ...], as_json: bool) -> None:
    """Show the cluster's settings, or change some of them."""
    held = _call("settings")
    if edits:
        if not held["formed"]:
            raise RequestRefused("This gateway is not in a cluster.", "Create one, or join one.")
        wanted = copy.deepcopy(held["settings"])
        for edit in edits:
            apply_edit(wanted, edit)
        _checked(wanted, held["node_id"])
        answer = _call("propose", settings=wanted, base_revision=held["revision"])
        if as_json:
            return _print_json(answer)
        click.echo(_("Saved as revision %(n)s.", n=answer["revision"]))
        if not answer["delivered"] and len(wanted["nodes"]) > 1:
            click.echo(_("The other gateway is not reachable: it gets this as soon as it is."))
        return None
    if as_json:
        return _print_json(held)
    if not held["formed"]:
        return click.echo(_("This gateway is not in a cluster."))
    for label, text in words.rows(held["settings"]).items():
        click.echo(f"{label + ':':32} {text}")
    click.echo(_("Revision %(n)s, saved on %(name)s.", n=held["revision"], name=held["author"]))
    return None


def apply_edit(wanted: Json, edit: str) -> None:
    """Change settings, given in dict form, as ``KEY=VALUE`` says.

    :raises ChecksFailed: the key does not exist, or the value does not fit it.
    """
    key, equals, value = edit.partition("=")
    key, value = key.strip(), value.strip()
    group, _dot, part = key.partition(".")
    try:
        if not equals:
            raise ValueError(_("Write KEY=VALUE."))
        if key in _NUMBERS:
            wanted["advanced"][key] = int(value)
        elif key == "references":
            wanted["advanced"][key] = [str(fields.reference(item)) for item in value.replace(",", " ").split()]
        elif key in ("virtual_ip.1", "virtual_ip.2"):
            kept = wanted["virtual_ips"]
            kept[int(part) - 1: int(part)] = [fields.virtual_ip(value)] if value else []
        elif group in ("sync", "backup", "service"):
            _set_end(wanted, group, part, value)
        else:
            raise ValueError(_("There is no such setting."))
    except ValueError as error:
        raise ChecksFailed([Finding("malformed", f"{edit[:80]}: {error}")]) from None


def _set_end(wanted: Json, kind: str, name: str, value: str) -> None:
    node_id = next((node["node_id"] for node in wanted["nodes"] if node["name"] == name), None)
    if node_id is None:
        raise ValueError(_("No gateway is called %(name)s.", name=name))
    link: Json = next((link for link in wanted["links"] if link["kind"] == kind), {"kind": kind, "ends": {}})
    link["ends"].pop(node_id, None)
    if value:
        link["ends"][node_id] = fields.end(value)
    others = [link for link in wanted["links"] if link["kind"] != kind]
    wanted["links"] = [*others, link] if link["ends"] else others


def _checked(wanted: Json, node_id: str) -> None:
    """Raise if the settings make no sense; the agent checks them again."""
    findings = rules.check(settings.from_dict(wanted), {node_id: _call("ports")["ports"]})
    if any(finding.blocking for finding in findings):
        raise ChecksFailed(findings)


# ---- the database ----


@cluster.group("database")
def database() -> None:
    """Look after this gateway's PostgreSQL."""


@partial(_command, group=database)
@click.option("--dsn", help="How a superuser reaches the host's database. "
              "Default: the Unix socket, as the system's user postgres.")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="Own address on the sync or the backup link.")
@click.option("--credentials", type=click.Path(path_type=Path), help="Where the agent finds its password. "
              "Default: database.json in the state directory.")
@click.option("--check", is_flag=True, help="Only say what is missing.")
def prepare(
    dsn: str | None, listen: tuple[str, ...], credentials: Path | None, check: bool, as_json: bool
) -> None:
    """Make PostgreSQL ready for two gateways, once on each, and say what was changed."""
    from .replication import commands

    url = agent_config().database_url
    if check:
        findings = commands.check(dsn, url, listen)
        if as_json:
            _print_json({"findings": [finding.as_dict() for finding in findings]})
        elif not findings:
            click.echo(_("PostgreSQL is ready."))
        else:
            for finding in findings:
                _print_finding(finding)
        if any(finding.blocking for finding in findings):
            sys.exit(1)
        return
    done = commands.prepare(dsn, url, listen, credentials or state().config.state_dir / "database.json")
    if as_json:
        return _print_json(done.as_dict())
    for change in done.changes:
        before = _(" (before: %(value)s)", value=change.before) if change.before else ""
        click.echo(f"{change.what}: {change.after}{before}")
    if not done.changes:
        click.echo(_("Nothing to change."))
    if done.restart:
        click.echo(_("Now restart PostgreSQL, for example: systemctl restart postgresql"))


@partial(_command, group=database)
def _status(as_json: bool) -> None:
    """Say how this gateway's data and the other one's are kept as one."""
    found = _call("status")
    if as_json:
        return _print_json(found["data"])
    if found["cluster"] is None:
        return click.echo(_("This gateway is not in a cluster."))
    if found["data"] is None:
        return click.echo(_("The database is not shared. Make it ready: flask cluster database prepare"))
    return _print_data(data_words.describe(found))


@_command
def verify(as_json: bool) -> None:
    """Compare the shared tables of both gateways, while writes go on. Ends with 1 if they differ."""
    found = _call("verify")
    while found["under_way"]:
        if found["progress"] and not as_json:
            step = found["progress"]
            click.echo(f"{step['tables_done'] + 1}/{step['tables']} {step['table']}: {step['rows']}", err=True)
        time.sleep(VERIFY_LOOK_EVERY_S)
        found = _call("verified")
    if found["error"]:
        raise RequestRefused(found["error"], _("See whether both databases run."))
    result = found["result"]
    if as_json:
        _print_json(result)
    else:
        for one in result["tables"]:
            keys = "; ".join(",".join(key) for key in one["differing"])
            click.echo(f"{'=' if one['equal'] else '≠'} {one['table']}: {one['rows']} {keys}".rstrip())
        click.echo(_("Both gateways have the same data.") if result["equal"] else _("The data differs."))
    if not result["equal"]:
        sys.exit(1)


@partial(_command, group=database)
@click.option("--after", type=int, default=0, help="Begin after this row.")
def quarantine(after: int, as_json: bool) -> None:
    """List what this gateway wrote and the other one never had."""
    found = _call("quarantine", after=after)
    if as_json:
        return _print_json(found)
    for row in found["rows"]:
        click.echo(f"{row['id']}: {row['text']}")
    click.echo(_("%(n)s rows wait.", n=found["total"]) if found["total"] else _("Nothing is in quarantine."))


@partial(_command, group=database)
@click.argument("row_id", type=click.IntRange(min=1))
@click.option("--overwrite", is_flag=True, help="Also where the row has been changed meanwhile.")
def reapply(row_id: int, overwrite: bool, as_json: bool) -> None:
    """Make one change of the quarantine on the active gateway."""
    found = _call("reapply", row_id=row_id, overwrite=overwrite)
    if as_json:
        return _print_json(found)
    click.echo(_("It is made."))


@partial(_command, group=database)
@click.argument("row_ids", type=click.IntRange(min=1), nargs=-1, required=True)
def discard(row_ids: tuple[int, ...], as_json: bool) -> None:
    """Take rows of the quarantine off the list; they stay in the table, marked."""
    found = _call("discard", ids=list(row_ids))
    if as_json:
        return _print_json(found)
    click.echo(_("%(n)s rows are discarded.", n=found["discarded"]))


# ---- the agent ----


@cluster.command("agent", cls=_Command)
def _agent() -> None:
    """Run this gateway's agent in the place of this process."""
    run_agent()


def run_agent() -> NoReturn:
    """Replace this process by the agent, so that the firmware's web app is not in the agent's memory.

    The configuration may hold the database's password. It is handed over in an anonymous file that only the
    agent's process has, never in an argument or a variable that others could read.
    """
    text = agent_config().to_json().encode()
    descriptor = os.memfd_create("hsmx-cluster-config", 0)
    with os.fdopen(descriptor, "wb", closefd=False) as config:
        config.write(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    command = [sys.executable, "-m", "flask_hsmx_cluster.agent"]
    os.execve(command[0], command, {**os.environ, CONFIG_FD: str(descriptor)})
