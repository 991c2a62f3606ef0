"""A list of the settings whose entries have names of their own: add one, change one in its place, remove one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ChecksFailed, Finding, RequestRefused
from ..translate import gettext as _

Json = dict[str, Any]


@dataclass(frozen=True)
class NamedRows:
    """Pure: settings in their dict form, without passwords, go in, changed ones come out.

    :param key: of the list in the settings.
    :param most: entries that there can be.
    :param missing: says that there is none of a name; ``taken``: that there is one already.
    """

    key: str
    most: int
    missing: Callable[[str], str]
    taken: Callable[[str], str]

    def rows(self, settings: Mapping[str, Any]) -> list[Json]:
        """Return the entries of settings."""
        found: list[Json] = settings.get(self.key, [])
        return found

    def named(self, settings: Mapping[str, Any], name: str) -> Json:
        """Return an entry.

        :raises RequestRefused: there is none of that name.
        """
        for row in self.rows(settings):
            if row["name"] == name:
                return row
        raise RequestRefused(self.missing(name[:40]), _("Look at the list again."))

    def position(self, settings: Mapping[str, Any], name: str) -> int:
        """Return where an entry stands in the settings, or would if it were added."""
        names = [row["name"] for row in self.rows(settings)]
        return names.index(name) if name in names else len(names)

    def saved(self, settings: Json, row: Json, *, new: bool) -> Json:
        """Return settings with an entry added, or changed in its place.

        :param row: all of it; an empty password leaves the stored one.
        :raises ChecksFailed: a new one has the name of another, or there would be too many.
        :raises RequestRefused: the one to change is not there.
        """
        rows = list(self.rows(settings))
        if not new:
            self.named(settings, row["name"])
            rows[self.position(settings, row["name"])] = row
        elif any(one["name"] == row["name"] for one in rows):
            raise ChecksFailed([Finding(
                "duplicate", self.taken(row["name"]), _("Choose another name."), f"{self.key}.{len(rows)}.name")])
        elif len(rows) >= self.most:
            raise ChecksFailed([Finding(
                "count", _("There can be %(n)s at most.", n=self.most), _("Remove one first."))])
        else:
            rows.append(row)
        return {**settings, self.key: rows}

    def removed(self, settings: Json, name: str) -> Json:
        """Return settings without an entry.

        :raises RequestRefused: there is none of that name.
        """
        self.named(settings, name)
        return {**settings, self.key: [row for row in self.rows(settings) if row["name"] != name]}
