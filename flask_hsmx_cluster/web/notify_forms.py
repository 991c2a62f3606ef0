"""The forms of notification targets: one for each kind, with the fields that it has."""

from __future__ import annotations

from typing import Any

from wtforms import BooleanField, Field, HiddenField, PasswordField, StringField

from ..editing import notify as edits
from ..settings import notify
from ..translate import gettext as _
from .form_fields import ChoiceField, clean, number
from .forms import ClusterForm


def _text(text: str | None) -> str:
    """Keep one character more than fits, so that what is too long is refused and not cut."""
    return (text or "").strip()[: notify.LONGEST + 1]


def _long(text: str | None) -> str:
    return (text or "").strip()[: (notify.LONGEST + 1) * (notify.MAX_RECIPIENTS + 1)]


class TargetForm(ClusterForm):
    """What every target has. A password that was typed is never sent back; an empty one leaves what is stored."""

    kind = ""
    base_revision = HiddenField(default="0")
    name = StringField(filters=[clean])
    address = StringField(filters=[_text])
    least = ChoiceField(default="warning")
    repeat_min = number(notify.REPEAT_MIN)
    remind_h = number(notify.REMIND_H)
    enabled = BooleanField(default=True)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field in self:
            field.id = f"{self.kind}-{field.id}"  # the three forms stand on one page
        self.least.choices = [
            ("warning", _("Warnings and critical ones")), ("critical", _("Critical ones only")),
            ("info", _("Everything, information too")),
        ]  # fmt: skip

    def row(self, name: str | None = None) -> dict[str, Any]:
        """Return what was typed as it stands in settings.

        :param name: of the target that is changed; None: a new one, whose name was typed.
        """
        row = notify.Target("", self.kind, "").as_dict()
        typed = {key: self[key].data for key in row if key in self and key != "kind"}
        row |= {key: value for key, value in typed.items() if value is not None}
        if "recipients" in typed:
            row["recipients"] = edits.recipients(typed["recipients"] or "")
        if "fingerprint" in typed:
            row["fingerprint"] = edits.fingerprint(typed["fingerprint"] or "")
        return {**row, "name": self.name.data if name is None else name}

    @classmethod
    def shown(cls, row: dict[str, Any], revision: int) -> TargetForm:
        """Return the form of a target that is to be changed."""
        data = {**row, "recipients": ", ".join(row["recipients"]), "base_revision": str(revision)}
        return cls(formdata=None, data=data)

    def _field(self, path: list[str]) -> Field | None:
        name = path[-1]
        return self[name] if name in self else None  # noqa: SIM401 - a form has no get


class MailForm(TargetForm):
    """E-mail."""

    kind = "mail"
    security = ChoiceField(default="starttls")
    user = StringField(filters=[_text])
    password = PasswordField()
    sender = StringField(filters=[_text])
    recipients = StringField(filters=[_long])
    fingerprint = StringField(filters=[_text])

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.security.choices = [
            ("starttls", _("STARTTLS, usually port 587")), ("tls", _("TLS from the start, usually port 465")),
            ("none", _("None, usually port 25; without a password")),
        ]  # fmt: skip


class WebhookForm(TargetForm):
    """An HTTP POST."""

    kind = "webhook"
    password = PasswordField()
    fingerprint = StringField(filters=[_text])


class SyslogForm(TargetForm):
    """Syslog."""

    kind = "syslog"


FORMS: dict[str, type[TargetForm]] = {form.kind: form for form in (MailForm, WebhookForm, SyslogForm)}


class TargetActionForm(ClusterForm):
    """A button beside a target."""

    base_revision = HiddenField(default="0")
