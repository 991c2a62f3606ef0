"""The forms. Each checks its fields; what was found across fields is attached to them afterwards.

A form keeps whatever was typed, however wrong: nothing is lost when it is shown again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import request
from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    Field,
    Form,
    FormField,
    HiddenField,
    StringField,
    TextAreaField,
)
from wtforms.validators import AnyOf, InputRequired, Length, Optional, StopValidation

from ..editing import fields
from ..errors import Finding
from ..settings import interfaces
from ..settings import model as settings
from ..translate import gettext as _
from . import interface_forms
from .form_fields import (
    AddressText,
    ChoiceField,
    PeerAddress,
    PortField,
    Ports,
    ReferenceList,
    StaleWait,
    clean,
    number,
    reference_list,
)

LINK_KINDS = ("sync", "backup", "service")
NUMBERS = ("heartbeat_ms", "ping_pongs", "lease_s", "boot_hold_s", "announce_refresh_s")


class EndForm(Form):
    """A port and an address there: both or neither."""

    port = PortField()
    address = StringField(filters=[clean], validators=[Optional(), AddressText()])

    @property
    def typed(self) -> bool:
        return bool(self.port.data or self.address.data)

    def validate(self, extra_validators: Any = None) -> bool:
        valid = bool(super().validate(extra_validators))
        if self.port.data and not self.address.data:
            self.address.errors = [_("Enter the address on %(port)s.", port=self.port.data)]
        elif self.address.data and not self.port.data:
            self.port.errors = [_("Choose the port of this address.")]
        else:
            return valid
        return False

    def end(self) -> dict[str, Any]:
        """Return the end as it stands in settings."""
        return {"port": self.port.data, "address": str(fields.interface(self.address.data))}


class VirtualIPForm(EndForm):
    """A shared address and its port."""

    off_subnet = BooleanField()
    virtual_mac = BooleanField()

    def end(self) -> dict[str, Any]:
        return {**super().end(), "off_subnet": self.off_subnet.data, "virtual_mac": self.virtual_mac.data}


class LinkForm(Form):
    """A link's two ends: this gateway's and the other one's."""

    mine = FormField(EndForm)
    other = FormField(EndForm)


class _Form(FlaskForm):
    """Base of all forms. Hidden fields have no id: several forms stand on one page."""

    class Meta(FlaskForm.Meta):
        """As Flask-WTF's, but no body is read as JSON: of a form's fields all are texts."""

        def wrap_formdata(self, form: Form, formdata: Any) -> Any:
            return request.form if request.is_json else super().wrap_formdata(form, formdata)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field in self:
            if isinstance(field, HiddenField):
                field.render_kw = {"id": False}


class ClusterForm(_Form):
    """Base of the forms that hold settings: it knows which field a finding is about."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Findings by field name; those without a field are under the empty name.
        self.findings: dict[str, list[Finding]] = {}

    def attach(self, findings: Iterable[Finding]) -> bool:
        """Show findings beside the fields that they are about. Return True if one of them is blocking."""
        blocking = False
        for finding in findings:
            field = self._field(finding.field.split("."))
            known = self.findings.setdefault(field.name if field is not None else "", [])
            if finding not in known:
                known.append(finding)
            blocking = blocking or finding.blocking
        return blocking

    def expired(self) -> bool:
        """Tell whether the form was refused because it lacked a fresh token, as after a long pause."""
        return "csrf_token" in self.errors

    def _field(self, path: list[str]) -> Field | None:
        """Return the field that a finding's path names; what has none is shown above the form."""
        return None

    def _require(self, end: EndForm, text: str) -> bool:
        if end.typed:
            return True
        end.address.errors = [text]
        return False


class SettingsForm(ClusterForm):
    """*Network / Cluster settings*: this gateway's column and, once it has joined, the other one's."""

    base_revision = HiddenField(default="0")
    #: The node whose column is the first one.
    node = HiddenField(default="")
    enabled = BooleanField(default=True)
    vip0 = FormField(VirtualIPForm)
    vip1 = FormField(VirtualIPForm)
    sync = FormField(LinkForm)
    backup = FormField(LinkForm)
    service = FormField(LinkForm)
    interfaces = interface_forms.Rows(FormField(interface_forms.InterfaceForm), max_entries=interfaces.MAX_INTERFACES)
    heartbeat_ms = number(settings.HEARTBEAT_MS)
    ping_pongs = number(settings.PING_PONGS)
    lease_s = number(settings.LEASE_S)
    boot_hold_s = number(settings.BOOT_HOLD_S)
    announce_refresh_s = number(settings.ANNOUNCE_REFRESH_S)
    stale_wait = ChoiceField(default=str(settings.STALE_WAIT_S[1]), validators=[StaleWait()], choices=[
        ("0", _("none: serve at once")), ("60", "1 min"), ("300", "5 min"), ("900", "15 min"), ("3600", "1 h"),
        ("never", _("for ever: until somebody says so")),
    ])
    preferred = ChoiceField(choices=[("", _("none"))])
    preferred_delay_min = number(settings.PREFERRED_DELAY_MIN)
    references = TextAreaField(validators=[ReferenceList()])

    #: This gateway's node id, and the other one's; empty where there is none.
    own_id = ""
    peer_id = ""

    def offer(self, ports: Ports, peer_ports: Ports | None = None, *, own_id: str, peer_id: str = "") -> None:
        """Say which gateways and ports exist.

        :param peer_ports: the other gateway's, or None if they are not known now.
        """
        self.own_id, self.peer_id = own_id, peer_id
        if peer_id:
            self.preferred.choices = [("", _("none")), (own_id, _("This gateway")), (peer_id, _("The other gateway"))]
        for vip in (self.vip0, self.vip1):
            vip.form.port.offer(ports)
        for link in self._links():
            link.mine.form.port.offer(ports)
            if peer_ports is None:
                link.other.form.port.suggest(ports)
            else:
                link.other.form.port.offer(peer_ports)

    def turn_to(self, node_id: str) -> bool:
        """Swap the columns if the page was made by the other gateway; return whether it was.

        That happens where a virtual IP has moved between showing the page and saving it.
        """
        if self.node.data in ("", node_id):
            return False
        self.node.data = node_id
        for link in self._links():
            mine, other = link.mine.form, link.other.form
            for name in ("port", "address"):
                mine[name].data, other[name].data = other[name].data, mine[name].data
        interface_forms.turn(self.interfaces)
        return True

    def validate(self, extra_validators: Any = None) -> bool:
        valid = [bool(super().validate(extra_validators))]
        valid.append(self._require(self.vip0.form, _("Enter the address that both gateways share.")))
        valid.append(self._require(
            self.sync.mine.form, _("Enter the address over which this gateway talks to the other one.")))
        if self.peer_id:
            valid.append(self._require(
                self.sync.other.form, _("Enter the other gateway's address on the same cable.")))
            valid += [self._paired(link) for link in (self.backup, self.service)]
        return all(valid)

    def fill_other(self, ports: Ports, peer_ports: Ports) -> list[str]:
        """Fill the other column from the other gateway's ports of the same names.

        Return the ports of this column that the other gateway does not have, or whose address there is not
        clear: nothing is guessed.
        """
        mine = [link.mine.form for link in self._links()]
        proposals = match_ports(ports, peer_ports, {end.port.data: end.address.data for end in mine})
        unmatched = []
        for link in self._links():
            name = link.mine.form.port.data
            if name and proposals.get(name):
                link.other.form.port.data = name
                link.other.form.address.data = proposals[name]
            elif name:
                unmatched.append(name)
        return unmatched

    def to_settings(self, cluster_id: str, nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the settings that the form says. Call it on a valid form only."""
        columns = [("mine", self.own_id), ("other", self.peer_id)][: 2 if self.peer_id else 1]
        links = []
        for kind, link in zip(LINK_KINDS, self._links(), strict=True):
            ends = {node: link[column].form.end() for column, node in columns if link[column].form.typed}
            if ends:
                links.append({"kind": kind, "ends": ends})
        return {
            "cluster_id": cluster_id,
            "nodes": list(nodes),
            "virtual_ips": [vip.form.end() for vip in self._virtual_ips()],
            "links": links,
            "advanced": {
                **{name: self[name].data for name in NUMBERS},
                "stale_wait_s": fields.stale_wait(self.stale_wait.data),
                "references": [str(fields.reference(item)) for item in reference_list(self.references.data)],
                **self._preference(),
            },
        }

    def _preference(self) -> dict[str, Any]:
        if not self.preferred.data:
            return {}
        return {"preferred": self.preferred.data, "preferred_delay_min": self.preferred_delay_min.data}

    def _links(self) -> tuple[FormField, ...]:
        return self.sync, self.backup, self.service

    def _virtual_ips(self) -> list[FormField]:
        return [vip for vip in (self.vip0, self.vip1) if vip.form.typed]

    def _paired(self, link: FormField) -> bool:
        """Require both ends of a link, or none."""
        mine, other = link.mine.form, link.other.form
        if mine.typed == other.typed:
            return True
        (other if mine.typed else mine).address.errors = [_("Enter both ends, or neither.")]
        return False

    def _field(self, path: list[str]) -> Field | None:
        match path:
            case ["virtual_ips", number, *rest] if number in ("0", "1"):
                filled = [*self._virtual_ips(), self.vip0, self.vip1]
                return _part(filled[int(number)].form, rest)
            case ["links", kind, *rest] if kind in LINK_KINDS:
                column = "mine" if not rest or rest[0] in ("", "self", self.own_id) else "other"
                return _part(self[kind][column].form, rest[1:])
            case ["interfaces", _, *_rest]:
                return interface_forms.field_of(self.interfaces, path[1:], self.own_id)
            case ["advanced", "stale_wait_s"]:
                return self.stale_wait
            case ["advanced", name, *_rest] if name in (*NUMBERS, "references", "preferred", "preferred_delay_min"):
                return self[name]
        return None


class JoinForm(ClusterForm):
    """Join the cluster of another gateway."""

    address = StringField(filters=[clean], validators=[InputRequired(), PeerAddress()])
    code = StringField(filters=[clean], validators=[InputRequired()])
    sync = FormField(EndForm)
    backup = FormField(EndForm)
    service = FormField(EndForm)

    def offer(self, ports: Ports) -> None:
        """Say which ports this gateway has."""
        for kind in LINK_KINDS:
            self[kind].form.port.offer(ports)

    def validate(self, extra_validators: Any = None) -> bool:
        valid = bool(super().validate(extra_validators))
        needed = self._require(
            self.sync.form, _("Enter the address over which this gateway talks to the other one."))
        return valid and needed

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return this gateway's ends by kind of link. Call it on a valid form only."""
        return {kind: self[kind].form.end() for kind in LINK_KINDS if self[kind].form.typed}

    def _field(self, path: list[str]) -> Field | None:
        match path:
            case ["address" | "code" as name]:
                return self[name]
            case ["links", kind, _node, *rest] if kind in LINK_KINDS:
                return _part(self[kind].form, rest)
            case ["ends", kind, *rest] if kind in LINK_KINDS:
                return _part(self[kind].form, rest)
        return None


class ActionForm(_Form):
    """A button."""


class MaintenanceForm(_Form):
    """Switch maintenance on for a while, or off."""

    on = HiddenField(default="1")
    duration_s = ChoiceField(default="3600", choices=[
        ("900", "15 min"), ("3600", "1 h"), ("14400", "4 h"), ("43200", "12 h"),
    ])

    def validate_duration_s(self, field: Field) -> None:
        if field.data not in dict(field.choices):
            raise StopValidation(_("Choose one of these times."))


class ReplaceForm(_Form):
    """Forget the other gateway."""

    sure = BooleanField(validators=[InputRequired(_("Tick this if it is gone for good."))])


class TakeOverForm(_Form):
    """Take over although the other gateway may still serve."""

    by = StringField(filters=[clean], validators=[
        InputRequired(_("Enter your name: it is recorded.")), Length(max=64)])
    sure = BooleanField(validators=[InputRequired(_("Tick this if you have made sure, or accept what may happen."))])


class AsideForm(_Form):
    """Delete what was put aside."""

    sure = BooleanField(validators=[InputRequired(_("Tick this if nobody needs it any more."))])


class ReapplyForm(_Form):
    """Make a change of the quarantine again; to overwrite a present row is a decision of its own."""

    row_id = HiddenField()
    node = HiddenField()
    overwrite = HiddenField(default="")
    seen = HiddenField(default="")
    sure = BooleanField()


class LeaveForm(_Form):
    """Leave the cluster, even if the other gateway cannot be told."""

    force = BooleanField()


class ConflictForm(_Form):
    """Choose between two revisions."""

    keep = StringField(validators=[AnyOf(("mine", "theirs"))])


def form_data(current: Mapping[str, Any], node_id: str, revision: int) -> dict[str, Any]:
    """Return settings as data of a :class:`SettingsForm`."""
    data: dict[str, Any] = {"base_revision": str(revision), "node": node_id, **current["advanced"]}
    wait = current["advanced"].get("stale_wait_s", settings.STALE_WAIT_S[1])
    data["stale_wait"] = "never" if wait is None else str(wait)
    data["references"] = "\n".join(current["advanced"]["references"])
    data |= {f"vip{number}": vip for number, vip in enumerate(current["virtual_ips"][:2])}
    for link in current["links"]:
        columns = {("mine" if node == node_id else "other"): end for node, end in link["ends"].items()}
        data[link["kind"]] = columns
    return data


def match_ports(ports: Ports, peer_ports: Ports, beside: Mapping[str, str]) -> dict[str, str | None]:
    """Return, for each port of this gateway, the other gateway's address on its port of the same name.

    None where it has no such port, no address there, or several of which no single one is in the same subnet.

    :param beside: this gateway's address by port, as it stands in the form; without it any of the port's own counts.
    """
    theirs = {port["name"]: port["addresses"] for port in peer_ports}
    found: dict[str, str | None] = {}
    for port in ports:
        candidates = _readable(theirs.get(port["name"], []))
        own = _readable([beside.get(port["name"], "")]) or _readable(port["addresses"])
        subnets = [fields.interface(address).network for address in own]
        near = [item for item in candidates if fields.interface(item).network in subnets]
        one = near or candidates
        found[port["name"]] = one[0] if len(one) == 1 else None
    return found


def _readable(items: Sequence[str]) -> list[str]:
    """Return the addresses that a settings field would take; a port may have others, such as link-local ones."""
    good = []
    for item in items:
        try:
            fields.interface(item)
        except ValueError:
            continue
        good.append(item)
    return good


def _part(form: Form, rest: Sequence[str]) -> Field:
    name = rest[0] if rest and rest[0] in form else "address"
    return form[name]
