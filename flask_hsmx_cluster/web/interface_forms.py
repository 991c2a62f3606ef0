"""The fields of the section *Network interface*: a row for each port, a column for each gateway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wtforms import BooleanField, Field, FieldList, Form, HiddenField, TextAreaField
from wtforms.validators import StopValidation

from ..editing import interfaces as interface_table
from ..editing.interfaces import Fetched, Row
from ..translate import gettext as _
from .form_fields import clean

#: Longest text of a field that is shown again, characters: room for all addresses that a port can have.
TYPED_MAX = 1024


def _typed(text: str | None) -> str:
    return (text or "").strip()[:TYPED_MAX]


class AddressList:
    """Checks a few addresses with their prefix lengths."""

    def __call__(self, form: Form, field: Field) -> None:
        try:
            interface_table.addresses(field.data)
        except ValueError as error:
            raise StopValidation(str(error)) from None


class Rows(FieldList):
    """Rows of a form. Names of fields that no page of ours makes are passed over."""

    def _extract_indices(self, prefix: str, formdata: Iterable[str]) -> Iterator[int]:
        wanted = re.compile(re.escape(prefix) + r"-([0-9]{1,4})-")
        for name in formdata:
            if found := wanted.match(name):
                yield int(found[1])


class InterfaceForm(Form):
    """The own addresses of both gateways on one port."""

    port = HiddenField(filters=[clean])
    mine = TextAreaField(filters=[_typed], validators=[AddressList()])
    other = TextAreaField(filters=[_typed], validators=[AddressList()])
    apart = BooleanField()

    def row(self) -> Row:
        """Return what was typed. Call it on a valid form only."""
        mine, other = (tuple(interface_table.addresses(field.data)) for field in (self.mine, self.other))
        return Row(self.port.data, mine, other, self.apart.data, False)


def data(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return rows as data of the fields."""
    return [{"port": row.port, "mine": "\n".join(row.mine), "other": "\n".join(row.other), "apart": row.apart}
            for row in rows]


def turn(rows: FieldList) -> None:
    """Swap the columns."""
    for row in rows:
        row.form.mine.data, row.form.other.data = row.form.other.data, row.form.mine.data


def field_of(rows: FieldList, path: Sequence[str], own_id: str) -> Field | None:
    """Return the field that a finding is about.

    :param path: port (which may have dots in it) and node id, in the parts of a finding's field.
    """
    *port, node = path
    for row in rows:
        if row.form.port.data == ".".join(port):
            return row.form.mine if node in ("", own_id) else row.form.other
    return None


def fill(rows: FieldList, told: Fetched) -> list[tuple[str, str]]:
    """Fill the other gateway's empty fields with what was fetched; return what became of it, as kind and words.

    What somebody typed is never replaced.
    """
    filled, notes = [], []
    for row in rows:
        port, field = row.form.port.data, row.form.other
        found = "\n".join(told.found.get(port, ()))
        if found and not field.data:
            field.data = found
            field.render_kw = {"class": "hsmx-fetched"}
            filled.append(port)
        elif found and found.split() != field.data.replace(",", " ").split():
            notes.append(("warn", _("%(port)s: what stands here was kept. The other gateway has %(addresses)s.",
                                    port=port, addresses=", ".join(found.split()))))
        elif found:
            notes.append(("ok", _("%(port)s: the other gateway has what stands here.", port=port)))
    if filled:
        notes.insert(0, ("ok", _("Filled in: %(ports)s. Nothing is saved yet.", ports=", ".join(filled))))
    return [*notes, *(("warn", text) for text in told.unmatched)]
