"""The forms. Each checks its fields; what was found across fields is attached to them afterwards.

A form keeps whatever was typed, however wrong: nothing is lost when it is shown again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask_wtf import FlaskForm
from markupsafe import Markup
from wtforms import (
    BooleanField,
    Field,
    Form,
    FormField,
    HiddenField,
    IntegerField,
    StringField,
    TextAreaField,
)
from wtforms.validators import AnyOf, InputRequired, Optional, StopValidation, ValidationError
from wtforms.widgets import html_params

from .. import fields, settings
from ..errors import Finding
from ..translate import gettext as _

#: Longest text that is shown again in a form, characters.
ECHO_MAX = 128

LINK_KINDS = ("sync", "backup", "service")
NUMBERS = ("heartbeat_ms", "ping_pongs", "lease_s", "boot_hold_s", "announce_refresh_s")

Ports = Sequence[Mapping[str, Any]]


def _clean(text: str | None) -> str:
    return (text or "").strip()[:ECHO_MAX]


def reference_list(text: str | None) -> list[str]:
    """Return the addresses in a text in which commas, spaces or line ends separate them."""
    return (text or "")[:1024].replace(",", " ").split()


def port_label(port: Mapping[str, Any]) -> str:
    """Return a port as it is offered: its name, its addresses, and what is missing."""
    own = ", ".join(port["addresses"]) or _("no address")
    return f"{port['name']} · {own}" + ("" if port["carrier"] else " · " + _("no cable"))


class _Address:
    """Checks one address with its prefix length."""

    def __call__(self, form: Form, field: Field) -> None:
        try:
            fields.interface(field.data)
        except ValueError as error:
            raise StopValidation(str(error)) from None


class _References:
    """Checks a few addresses without prefix length."""

    def __call__(self, form: Form, field: Field) -> None:
        items = reference_list(field.data)
        if len(items) > settings.MAX_REFERENCES:
            raise StopValidation(_("At most %(n)s addresses.", n=settings.MAX_REFERENCES))
        for item in items:
            try:
                fields.reference(item)
            except ValueError as error:
                raise StopValidation(f"{item[:40]}: {error}") from None


class _Peer:
    """Checks the address of the other gateway."""

    def __call__(self, form: Form, field: Field) -> None:
        try:
            fields.peer(field.data)
        except ValueError as error:
            raise StopValidation(str(error)) from None


class _StaleWait:
    """Checks how long a gateway with older data waits; what the command line has set is offered, too."""

    def __call__(self, form: Form, field: ChoiceField) -> None:
        low, _default, high = settings.STALE_WAIT_S
        try:
            value = fields.stale_wait(field.data or "")
        except ValueError as error:
            raise StopValidation(str(error)) from None
        if value is not None and not low <= value <= high:
            raise StopValidation(_("A whole number from %(low)s to %(high)s.", low=low, high=high))


class _Within:
    """Checks a whole number."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.field_flags = {"required": True, "min": low, "max": high}

    def __call__(self, form: Form, field: Field) -> None:
        if field.data is None or not self.low <= field.data <= self.high:
            field.errors = []  # one message is enough, whatever the field itself has found
            raise StopValidation(_("A whole number from %(low)s to %(high)s.", low=self.low, high=self.high))


def _number(bounds: tuple[int, int, int]) -> IntegerField:
    low, default, high = bounds
    return IntegerField(default=default, validators=[_Within(low, high)])


class _Select:
    """Draws a choice."""

    def __call__(self, field: ChoiceField, **attributes: Any) -> Markup:
        kept = [] if not field.data or field.data in dict(field.choices) else [(field.data, field.data)]
        options = Markup().join(
            Markup("<option {}>{}</option>").format(_attributes(value=value, selected=value == field.data), label)
            for value, label in (*field.choices, *kept)
        )
        own = _attributes(**{"id": field.id, "name": field.name, **attributes})
        return Markup("<select {}>{}</select>").format(own, options)


def _attributes(**values: Any) -> Markup:
    return Markup(html_params(**values))  # escaped by html_params


class ChoiceField(StringField):
    """A choice of texts. What was sent stays chosen, whether it was offered or not."""

    widget = _Select()

    def __init__(self, label: str = "", validators: Any = None, choices: Any = (), **options: Any) -> None:
        super().__init__(label, validators, filters=[_clean], **options)
        self.choices: list[tuple[str, str]] = list(choices)


class PortField(ChoiceField):
    """A choice of network ports."""

    _known: set[str] | None = None

    def offer(self, ports: Ports) -> None:
        """Offer ports, and refuse any other."""
        self._known = {port["name"] for port in ports}
        self._choose_from([(port["name"], port_label(port)) for port in ports], _("%(port)s (not found)"))

    def suggest(self, ports: Ports) -> None:
        """Suggest the names of another gateway's ports, and take any."""
        self._known = None
        self._choose_from([(port["name"], port["name"]) for port in ports], "%(port)s")

    def _choose_from(self, offered: list[tuple[str, str]], unknown: str) -> None:
        if self.data and self.data not in dict(offered):
            offered.append((self.data, unknown % {"port": self.data}))
        self.choices = [("", _("Choose a port")), *offered]

    def pre_validate(self, form: Form) -> None:
        if self.data and self._known is not None and self.data not in self._known:
            raise ValidationError(_("This gateway has no port named %(port)s.", port=self.data))


class EndForm(Form):
    """A port and an address there: both or neither."""

    port = PortField()
    address = StringField(filters=[_clean], validators=[Optional(), _Address()])

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
    heartbeat_ms = _number(settings.HEARTBEAT_MS)
    ping_pongs = _number(settings.PING_PONGS)
    lease_s = _number(settings.LEASE_S)
    boot_hold_s = _number(settings.BOOT_HOLD_S)
    announce_refresh_s = _number(settings.ANNOUNCE_REFRESH_S)
    stale_wait = ChoiceField(default=str(settings.STALE_WAIT_S[1]), validators=[_StaleWait()], choices=[
        ("0", _("none: serve at once")), ("60", "1 min"), ("300", "5 min"), ("900", "15 min"), ("3600", "1 h"),
        ("never", _("for ever: until somebody says so")),
    ])
    references = TextAreaField(validators=[_References()])

    #: This gateway's node id, and the other one's; empty where there is none.
    own_id = ""
    peer_id = ""

    def offer(self, ports: Ports, peer_ports: Ports | None = None, *, own_id: str, peer_id: str = "") -> None:
        """Say which gateways and ports exist.

        :param peer_ports: the other gateway's, or None if they are not known now.
        """
        self.own_id, self.peer_id = own_id, peer_id
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
            },
        }

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
            case ["advanced", "stale_wait_s"]:
                return self.stale_wait
            case ["advanced", name, *_rest] if name in NUMBERS or name == "references":
                return self[name]
        return None


class JoinForm(ClusterForm):
    """Join the cluster of another gateway."""

    address = StringField(filters=[_clean], validators=[InputRequired(), _Peer()])
    code = StringField(filters=[_clean], validators=[InputRequired()])
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
