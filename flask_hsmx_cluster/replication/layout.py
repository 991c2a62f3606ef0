"""How shared tables look in a database, and whether what one gateway writes can be stored on the other one.

Pure: :mod:`.catalogue` reads layouts from a database. The active gateway's rows go to the passive one. So the passive
gateway may have more than the active one, never less: it is migrated first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import Finding
from .scope import MAX_COLUMNS, digest

#: Types whose values all fit into those after them.
_WIDER = (("smallint", "integer", "bigint", "numeric"), ("character varying", "text"), ("real", "double precision"))
#: Longest text in a layout that another gateway tells, and most constraints of a table.
_MAX_TEXT, _MAX_CONSTRAINTS = 2000, 200


@dataclass(frozen=True)
class Column:
    """One column.

    :param type: as PostgreSQL writes it, with its length.
    :param travels: the other gateway gets it.
    :param required: it may not be empty.
    :param filled: the database fills it where a row comes without it.
    :param generated: it is computed.
    """

    name: str
    type: str
    travels: bool = True
    required: bool = False
    filled: bool = False
    generated: bool = False


@dataclass(frozen=True)
class Layout:
    """One shared table as a database has it.

    :param name: schema and table with a dot between them.
    :param key: columns that identify a row for the replication; () if the whole row does, or nothing.
    :param constraints: definitions of unique indexes and checks, without their names.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return what stands for all that must agree: columns that each gateway keeps for itself do not count."""
        told = self.to_dict()
        return digest({**told, "columns": sorted((one for one in told["columns"] if one["travels"]), key=_name)})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Layout:
        """Return a layout from its dict form.

        :raises ValueError: it is malformed.
        """
        try:
            columns = tuple(Column(**one) for one in data["columns"][: MAX_COLUMNS + 1])
            found = cls(data["name"], columns, tuple(data["key"]), tuple(data["constraints"][: _MAX_CONSTRAINTS + 1]))
            texts = [found.name, *found.key, *found.constraints]
            texts += [text for one in columns for text in (one.name, one.type)]
            flags = [flag for one in columns for flag in (one.travels, one.required, one.filled, one.generated)]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a layout is malformed: {error!r:.80}") from None
        if len(columns) > MAX_COLUMNS or len(found.constraints) > _MAX_CONSTRAINTS:
            raise ValueError("a layout is malformed: too long")
        if not all(isinstance(text, str) and len(text) <= _MAX_TEXT and text.isprintable() for text in texts):
            raise ValueError("a layout is malformed: text")
        if not all(type(flag) is bool for flag in flags):
            raise ValueError("a layout is malformed: flag")
        return found


def differences(
    active: Mapping[str, Layout], passive: Mapping[str, Layout], active_name: str, passive_name: str
) -> list[Finding]:
    """Return what keeps the active gateway's rows from being stored on the passive one, or may do so.

    :param active: what the active gateway publishes, by name.
    :param passive: the same tables on the passive one, as far as it has them.
    :param active_name: what people call it.
    """
    found: list[Finding] = []
    for name, layout in sorted(active.items()):
        if name in passive:
            found += _Pair(layout, passive[name], active_name, passive_name).findings()
        else:
            found.append(Finding(
                "schema_table_missing", f"{active_name} shares the table {name}, and {passive_name} does not have it.",
                migrate(passive_name)))
    return found


def migrate(name: str) -> str:
    """Return the remedy where a gateway's tables are older than the other one's."""
    return f"Run the firmware's migration on {name} (for example: flask db upgrade)."


class _Pair:
    """One table on both gateways."""

    def __init__(self, active: Layout, passive: Layout, active_name: str, passive_name: str) -> None:
        self._active, self._passive = active, passive
        self._a, self._p = active_name, passive_name
        self._sent = {one.name: one for one in active.columns if one.travels and not one.generated}
        self._here = {one.name: one for one in passive.columns}

    def findings(self) -> Iterator[Finding]:
        yield from self._missing()
        for name, sent in self._sent.items():
            if name in self._here:
                yield from self._column(sent, self._here[name])
        for name, here in self._here.items():
            if name not in self._sent:
                yield from self._more(here)
        yield from self._identity()
        yield from self._constraints()

    def _missing(self) -> Iterator[Finding]:
        if missing := [name for name in self._sent if name not in self._here]:
            yield Finding(
                "schema_column_missing",
                f"The table {self._active.name} has no column {', '.join(missing)} on {self._p}; {self._a} has.",
                migrate(self._p))

    def _column(self, sent: Column, here: Column) -> Iterator[Finding]:
        name = f"{self._active.name}.{sent.name}"
        if here.generated:
            yield Finding(
                "schema_column_differs", f"The column {name} is computed on {self._p} and stored on {self._a}.",
                f"Bring both to the same firmware; {self._p} is migrated first.")
        elif sent.type != here.type:
            fits = fits_into(sent.type, here.type)
            yield Finding(
                "schema_column_differs", f"The column {name} is {here.type} on {self._p} and {sent.type} on {self._a}.",
                f"Migrate {self._a} too: after a fail-over it could not follow." if fits else migrate(self._p),
                blocking=not fits)
        if here.required and not sent.required:
            yield Finding(
                "schema_column_required",
                f"The column {name} may be empty on {self._a} and not on {self._p}: the first empty one stops it.",
                f"Migrate {self._a} too, soon.", blocking=False)

    def _more(self, here: Column) -> Iterator[Finding]:
        name = f"{self._active.name}.{here.name}"
        if here.required and not here.filled and not here.generated:
            yield Finding(
                "schema_column_required",
                f"The column {name} of {self._p} may not be empty and has no default; {self._a} does not send it.",
                "Give it a default in the database (server_default), or let it be empty.")
        elif here.travels and not here.generated:
            yield Finding(
                "schema_column_more", f"The column {name} exists on {self._p} only.",
                f"Migrate {self._a} too: after a fail-over it could not follow.", blocking=False)

    def _identity(self) -> Iterator[Finding]:
        # An active gateway without a key sends whole rows; that it has none is told elsewhere.
        if self._active.key and set(self._active.key) != set(self._passive.key):
            keys = [", ".join(key) or "nothing" for key in (self._active.key, self._passive.key)]
            yield Finding(
                "schema_key_differs",
                f"A row of {self._active.name} is known by {keys[0]} on {self._a} and by {keys[1]} on {self._p}.",
                f"Give both the same key; {migrate(self._p)}")

    def _constraints(self) -> Iterator[Finding]:
        if more := [one for one in self._passive.constraints if one not in self._active.constraints]:
            yield Finding(
                "schema_constraint_more",
                f"{self._p} demands more of {self._active.name} than {self._a}: {more[0]:.120}. A row that does not "
                "fit would stop it.", f"Migrate {self._a} too, soon.", blocking=False)


def fits_into(narrow: str, wide: str) -> bool:
    """Return whether a column of the second type takes every value of one of the first."""
    (narrow, narrow_length), (wide, wide_length) = _split(narrow), _split(wide)
    for family in _WIDER:
        if narrow in family and wide in family:
            if family.index(narrow) < family.index(wide):
                return not wide_length
            return narrow == wide and (not wide_length or _shorter(narrow_length, wide_length))
    return False


def _shorter(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(one) <= int(other)


def _split(type_name: str) -> tuple[str, str]:
    name, _, length = type_name.partition("(")
    return name, length.rstrip(")")


def _name(column: Mapping[str, Any]) -> str:
    return str(column["name"])
