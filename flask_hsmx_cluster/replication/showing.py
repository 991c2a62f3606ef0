"""Quarantine as it is told to people: in pages, each of them, and each row in it, of bounded size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from ..errors import RequestRefused
from . import quarantine
from .database import Connection
from .names import SCHEMA
from .quarantine import Filter, QuarantinedRow

#: Bytes of JSON of one page: it must fit into one message between the agents, sealed.
PAGE_BYTES: Final = 120_000
#: Bytes of JSON of the values of one row of a list, and of one that is looked at by itself.
BRIEF_BYTES: Final = 2_000
WHOLE_BYTES: Final = 100_000
#: Tables that a list can be narrowed down to.
MOST_TABLES: Final = 200
#: What is wider is told as JSON escapes, six bytes for each character.
_WIDEST: Final = 6

#: Rejoins that a list can be narrowed down to, the last ones.
MOST_BATCHES: Final = 50
_BATCHES = f"""
SELECT batch::text, min(kept_at), count(*) FROM hsmx_cluster.quarantine
WHERE schema_name <> '{SCHEMA}' AND (%s = '' OR state = %s) GROUP BY 1 ORDER BY 2 DESC LIMIT {MOST_BATCHES}
"""
_TABLES = f"""
SELECT schema_name || '.' || table_name, count(*) FROM hsmx_cluster.quarantine
WHERE schema_name <> '{SCHEMA}' AND (%s = '' OR state = %s) GROUP BY 1 ORDER BY 1 LIMIT {MOST_TABLES}
"""


def page(
    own: Connection, only: Filter, *, after: int, limit: int, names: Mapping[str, str], whole: bool = False
) -> dict[str, Any]:
    """Return a page of rows, each also in words, and which tables have any.

    :param after: the last page's ``after``.
    :param names: what gateways are called, by node id.
    :param whole: with long values, and without any counts, as an export needs them.
    """
    rows: list[dict[str, Any]] = []
    size, following = 0, None
    most = WHOLE_BYTES if whole else BRIEF_BYTES
    # A value that was cut is still longer than a row may be: it is seen to have been shortened.
    with closing(quarantine.stream(own, only, after=after, limit=limit + 1, longest=most + 1)) as found:
        for each in found:
            told = tell(each, names, most)
            size += len(json.dumps(told))
            if rows and (size > PAGE_BYTES or len(rows) == limit):
                following = int(rows[-1]["id"])
                break
            rows.append(told)
    page = {"after": following, "rows": rows}
    if whole:
        return page
    tables = [{"table": name, "rows": count} for name, count in own.execute(_TABLES, (only.state, only.state))]
    batches = [{"batch": batch, "kept_at": at.isoformat(), "rows": count}
               for batch, at, count in own.execute(_BATCHES, (only.state, only.state))]  # fmt: skip
    return {**page, "total": quarantine.count(own, only), "waiting": quarantine.waiting(own), "tables": tables,
            "batches": batches, "newest": quarantine.newest(own)}  # fmt: skip


def single(own: Connection, row_id: int, names: Mapping[str, str]) -> dict[str, Any]:
    """Return one row with its values.

    :raises RequestRefused: there is none.
    """
    found = quarantine.row(own, row_id, WHOLE_BYTES + 1)
    if found is None or found.schema_name == SCHEMA:
        raise RequestRefused(f"There is no row {row_id} in quarantine.", "Look at the list again.")
    return tell(found, names, WHOLE_BYTES)


def tell(row: QuarantinedRow, names: Mapping[str, str], most: int) -> dict[str, Any]:
    """Return a row for people; ``shortened`` if values had to be.

    :param most: bytes of JSON that its values may take.
    """
    told = row.as_dict()
    values = {name: told[name] for name in ("key", "new_row", "old_row")}
    count = sum(len(each) for each in (row.key, row.new_row, row.old_row) if each)
    shortened = len(json.dumps(values)) > most
    if shortened:
        longest = max(16, most // (_WIDEST * count))
        values = {name: each and {column: clip(value, longest) for column, value in each.items()}
                  for name, each in ((name, getattr(row, name)) for name in values)}  # fmt: skip
    return {**told, **values, "shortened": shortened, "text": quarantine.describe(row, names)}


def clip(value: str | None, longest: int) -> str | None:
    """Return a text of at most that many characters, with ``…`` where it was cut."""
    return value if value is None or len(value) <= longest else f"{value[: longest - 1]}…"
