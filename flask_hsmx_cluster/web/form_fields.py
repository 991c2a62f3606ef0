"""The fields of the forms, and what each takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from wtforms import Field, Form, IntegerField, StringField
from wtforms.validators import StopValidation, ValidationError
from wtforms.widgets import html_params

from ..editing import fields
from ..settings import model as settings
from ..translate import gettext as _

#: Longest text that is shown again in a form, characters.
ECHO_MAX = 128

Ports = Sequence[Mapping[str, Any]]


def clean(text: str | None) -> str:
    return (text or "").strip()[:ECHO_MAX]


def reference_list(text: str | None) -> list[str]:
    """Return the addresses in a text in which commas, spaces or line ends separate them."""
    return (text or "")[:1024].replace(",", " ").split()


def port_label(port: Mapping[str, Any]) -> str:
    """Return a port as it is offered: its name, its addresses, and what is missing."""
    own = ", ".join(port["addresses"]) or _("no address")
    return f"{port['name']} · {own}" + ("" if port["carrier"] else " · " + _("no cable"))


class AddressText:
    """Checks one address with its prefix length."""

    def __call__(self, form: Form, field: Field) -> None:
        try:
            fields.interface(field.data)
        except ValueError as error:
            raise StopValidation(str(error)) from None


class ReferenceList:
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


class PeerAddress:
    """Checks the address of the other gateway."""

    def __call__(self, form: Form, field: Field) -> None:
        try:
            fields.peer(field.data)
        except ValueError as error:
            raise StopValidation(str(error)) from None


class StaleWait:
    """Checks how long a gateway with older data waits; what the command line has set is offered, too."""

    def __call__(self, form: Form, field: ChoiceField) -> None:
        low, _default, high = settings.STALE_WAIT_S
        try:
            value = fields.stale_wait(field.data or "")
        except ValueError as error:
            raise StopValidation(str(error)) from None
        if value is not None and not low <= value <= high:
            raise StopValidation(_("A whole number from %(low)s to %(high)s.", low=low, high=high))


class Within:
    """Checks a whole number."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.field_flags = {"required": True, "min": low, "max": high}

    def __call__(self, form: Form, field: Field) -> None:
        if field.data is None or not self.low <= field.data <= self.high:
            field.errors = []  # one message is enough, whatever the field itself has found
            raise StopValidation(_("A whole number from %(low)s to %(high)s.", low=self.low, high=self.high))


def number(bounds: tuple[int, int, int]) -> IntegerField:
    low, default, high = bounds
    return IntegerField(default=default, validators=[Within(low, high)])


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
        super().__init__(label, validators, filters=[clean], **options)
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
