"""What is said of the data that a gateway has put aside, for the page and for the CLI alike."""

from __future__ import annotations

from typing import Any

from ..translate import gettext as _
from ..translate import ngettext
from .cluster import size
from .quarantine import moment


def title(kept: dict[str, Any]) -> str:
    """Return since when a set is kept."""
    if kept["kept_at"]:
        return _("Kept since %(at)s", at=moment(kept["kept_at"]))
    return _("Kept since a moment that is not known")


def amount(kept: dict[str, Any]) -> str:
    """Return how large it is: ``2 tables, about 52 rows, 32 kB``."""
    tables = ngettext("1 table", "%(n)s tables", kept["tables"])
    return ", ".join((tables, ngettext("about 1 row", "about %(n)s rows", kept["rows"]), size(kept["bytes"])))


def look_command(database: str, name: str, copy: str) -> str:
    """Return what prints a table that was put aside; as root on that gateway."""
    whole = ".".join(_quoted(part) for part in (name, copy))
    return f"sudo -u postgres psql {_shell(database)} -c {_shell(f'TABLE {whole}')}"


def dump_command(database: str, name: str) -> str:
    """Return what writes a whole set into a file; as root on that gateway."""
    return f"sudo -u postgres pg_dump --schema={_shell(name)} {_shell(database)} > aside.sql"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
