"""The form of a PPPoE connection."""

from __future__ import annotations

from typing import Any

from wtforms import BooleanField, Field, Form, HiddenField, PasswordField, StringField
from wtforms.validators import StopValidation

from ..settings import pppoe
from ..translate import gettext as _
from .form_fields import PortField, Ports, clean, number
from .forms import ClusterForm


def _text(text: str | None) -> str:
    """Keep one character more than fits, so that what is too long is refused and not cut."""
    return (text or "").strip()[: pppoe.LONGEST + 1]


class _Words:
    """Checks a text that goes to pppd. What was typed is not repeated: it may be a password."""

    def __call__(self, form: Form, field: Field) -> None:
        text = field.data or ""
        if len(text.encode()) > pppoe.LONGEST or not text.isprintable():
            raise StopValidation(_("At most %(n)s bytes, of signs that can be printed.", n=pppoe.LONGEST))


class PPPoEForm(ClusterForm):
    """Add or change one. A password that was typed is never sent back; an empty one leaves what is stored."""

    base_revision = HiddenField(default="0")
    name = StringField(filters=[clean])
    port = PortField()
    user = StringField(filters=[_text], validators=[_Words()])
    password = PasswordField(validators=[_Words()])
    service = StringField(filters=[_text], validators=[_Words()])
    concentrator = StringField(filters=[_text], validators=[_Words()])
    mtu = number(pppoe.MTU)
    default_route = BooleanField(default=True)
    enabled = BooleanField(default=True)

    def offer(self, ports: Ports) -> None:
        """Say which ports there are. One that only the other gateway has is taken, too."""
        self.port.suggest(ports)

    def row(self, name: str | None = None) -> dict[str, Any]:
        """Return what was typed as it stands in settings.

        :param name: of the connection that is changed; None: a new one, whose name was typed.
        """
        return {
            **{key: self[key].data or "" for key in ("port", "user", "password", "service", "concentrator")},
            **{key: self[key].data for key in ("mtu", "default_route", "enabled")},
            "name": self.name.data if name is None else name,
        }

    def _field(self, path: list[str]) -> Field | None:
        name = path[-1]
        return self[name] if name in self else None  # noqa: SIM401 - a form has no get


class PPPoEActionForm(ClusterForm):
    """A button beside a connection."""

    base_revision = HiddenField(default="0")


def wishes() -> dict[str, str]:
    """Return what an operator can want of a connection, and how it was done, in words."""
    return {"connect": _("%(name)s is dialled now."), "disconnect": _("%(name)s is disconnected until the role moves.")}
