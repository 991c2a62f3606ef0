"""The forms of *IP aliases and networks*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wtforms import Field, HiddenField, StringField, TextAreaField

from ..editing import networks as network_lists
from ..errors import ChecksFailed, Finding
from ..settings.networks import ADVERTISE
from ..translate import gettext as _
from ..words import advertising
from .form_fields import ChoiceField, PortField, clean
from .forms import ClusterForm


class _NetworkForm(ClusterForm):
    """Base: the revision that the page showed, and a port."""

    base_revision = HiddenField(default="0")
    port = PortField()

    #: Returns what was typed as rows of the settings. It raises :class:`ValueError`, which says in words what is wrong,
    #: or :class:`ChecksFailed`, the same for many lines.
    rows: Callable[[], list[dict[str, Any]]]
    #: Key of the settings that it adds to.
    key = ""
    #: Name of the field that a finding without a better one is shown beside.
    first = "address"
    #: Address, without prefix length, of the entry that is changed; "": some are added.
    entry = ""

    def changed(self, held: dict[str, Any]) -> dict[str, Any]:
        """Return the settings with what was typed; it raises what :attr:`rows` does."""
        if self.entry:
            return network_lists.replaced(held, self.key, self.entry, self.rows()[0])
        return network_lists.added(held, self.key, self.rows())

    def typed(self, held: dict[str, Any]) -> dict[str, Any] | None:
        """Return the changed settings, or None with what is wrong attached."""
        try:
            return self.changed(held)
        except ChecksFailed as error:
            self.attach(error.findings)
        except ValueError as error:
            self.attach([Finding("malformed", str(error), _("Correct it, and try again."), self.first)])
        return None

    def _field(self, path: list[str]) -> Field | None:
        if path[0] in self:
            return self[path[0]]
        if path[0] == self.key:
            return self[path[-1]] if path[-1] in self else self[self.first]
        return None


class NetworkForm(_NetworkForm):
    """Add or change a subscriber network."""

    address = StringField(filters=[clean])
    name = StringField(filters=[clean])
    advertise = ChoiceField(choices=[(word, advertising.kind(word)) for word in ADVERTISE])
    dns = StringField(filters=[clean])
    key = "networks"

    def rows(self) -> list[dict[str, Any]]:
        return [network_lists.network(
            self.address.data, self.port.data, self.name.data, self.advertise.data, self.dns.data)]


class AliasForm(_NetworkForm):
    """Add or change an IP alias."""

    address = StringField(filters=[clean])
    note = StringField(filters=[clean])
    key = "aliases"

    def rows(self) -> list[dict[str, Any]]:
        return [network_lists.alias(self.address.data, self.port.data, self.note.data)]


class AliasListForm(_NetworkForm):
    """Add many IP aliases."""

    lines = TextAreaField()
    key, first = "aliases", "lines"

    def rows(self) -> list[dict[str, Any]]:
        return network_lists.aliases(self.lines.data or "", self.port.data or "")


class RouteForm(_NetworkForm):
    """Add a route."""

    destination = StringField(filters=[clean])
    via = StringField(filters=[clean])
    key, first = "routes", "destination"

    def rows(self) -> list[dict[str, Any]]:
        return [network_lists.route(self.destination.data, self.via.data, self.port.data or "")]


class RemoveForm(ClusterForm):
    """Remove what is ticked."""

    base_revision = HiddenField(default="0")


def title(key: str) -> str:
    """Return what people call a kind of entry."""
    return {"networks": _("Network"), "aliases": _("IP alias"), "routes": _("Route")}[key]
