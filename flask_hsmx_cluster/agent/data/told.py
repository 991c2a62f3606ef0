"""What the other gateway tells of its data: taken only in the form in which it is used and shown.

Each function raises :class:`~flask_hsmx_cluster.errors.RequestRefused` for anything else: a broken gateway, or one of
another version, must not break the pages of this one.
"""

from __future__ import annotations

from typing import Any

from ...errors import RequestRefused
from ...replication.scope import MAX_TABLES
from ...settings import values

Json = dict[str, Any]

_ROW: Json = {
    "id": int, "text": str, "batch": str, "source_node": str, "term": int, "end_lsn": str, "committed_at": str,
    "kept_at": str, "schema_name": str, "table_name": str, "operation": str, "state": str, "note": str,
    "shortened": bool, "key": (dict, None), "new_row": (dict, None), "old_row": (dict, None),
}  # fmt: skip
_PAGE: Json = {"rows": list, "after": (int, None)}
_COUNTS: Json = {"total": int, "waiting": int, "tables": list, "batches": list, "newest": int}
_TABLE: Json = {"table": str, "rows": int}
_BATCH: Json = {"batch": str, "kept_at": str, "rows": int}
_SWEEP: Json = {
    "action": str, "table": str, "batch": str, "chosen": int, "under_way": bool, "began_at": str, "ended_at": str,
    "error": str, "remedy": str, "stopped": bool, "total": int, "done": int, "unfit": int, "reasons": list,
    "left_s": (float, int, None),
}  # fmt: skip
_REASON: Json = {"kind": str, "rows": int, "example": str, "id": int}
_UNFIT: Json = {"id": int, "kind": str, "text": str}
_ASIDE: Json = {"sets": list, "database": str}
_SET: Json = {"name": str, "kept_at": str, "tables": int, "rows": int, "bytes": int, "listed": list, "current": bool}
_SET_TABLE: Json = {"table": str, "copy": str, "rows": int, "bytes": int}
_STATE: Json = {"under_way": bool, "error": str, "began_at": str, "ended_at": str, "progress": (dict, None),
                "result": (dict, None)}  # fmt: skip
_PROGRESS: Json = {"table": str, "tables_done": int, "tables": int, "all_rows": int, "all_expected": int}
_RESULT: Json = {"equal": bool, "seconds": (float, int), "tables": list}
_COMPARED: Json = {"table": str, "rows": int, "equal": bool, "differing": list, "unsettled": int, "incomplete": bool}


def page(told: Any, whole: bool) -> Json:
    """Return a page of its quarantine.

    :param whole: without counts.
    """
    found = _formed(told, _PAGE if whole else {**_PAGE, **_COUNTS})
    for each in found["rows"]:
        row(each)
    for each in () if whole else found["tables"]:
        _formed(each, _TABLE)
    for each in () if whole else found["batches"]:
        _formed(each, _BATCH)
    return found


def sweep(told: Any) -> Json:
    """Return how far it is with many rows of its quarantine."""
    found = _formed(told, _SWEEP)
    for each in found["reasons"]:
        _formed(each, _REASON)
    return found


def made(told: Any, asked: list[int]) -> Json:
    """Return which of the rows that it was asked for it has made, and why others do not fit."""
    found = _formed(told, {"made": list, "unfit": list})
    ids = [*found["made"], *(_formed(each, _UNFIT)["id"] for each in found["unfit"])]
    if not all(type(one) is int for one in ids) or not set(ids) <= set(asked):
        raise _unreadable()
    return found


def aside(told: Any) -> Json:
    """Return what it has put aside."""
    found = _formed(told, _ASIDE)
    for each in found["sets"]:
        aside_set(each)
    return found


def aside_set(told: Any) -> Json:
    """Return one set of that."""
    found = _formed(told, _SET)
    for each in found["listed"]:
        _formed(each, _SET_TABLE)
    return found


def row(told: Any) -> Json:
    """Return a row of its quarantine."""
    found = _formed(told, _ROW)
    for name in ("key", "new_row", "old_row"):
        if not all(value is None or isinstance(value, str) for value in (found[name] or {}).values()):
            raise _unreadable()
    return found


def value(told: Any) -> Json:
    """Return a part of one value of a row."""
    return _formed(told, {"text": str, "length": int})


def comparison(told: Any) -> Json:
    """Return how far its comparison is."""
    found = _formed(told, _STATE)
    if (progress := found["progress"]) is not None:
        left_s = _formed(progress, _PROGRESS).get("left_s")
        _formed({"left_s": left_s}, {"left_s": (float, int, None)})
    if found["result"] is not None:
        for table in _formed(found["result"], _RESULT)["tables"]:
            keys = _formed(table, _COMPARED)["differing"]
            count = table.get("differing_rows", 0)
            if type(count) is not int or not all(
                isinstance(key, list) and all(isinstance(part, str) for part in key) for key in keys
            ):
                raise _unreadable()
    return found


def count(told: Any, name: str) -> Json:
    """Return an answer that has a number of that name."""
    return _formed(told, {name: int})


def facts(told: Any) -> Json:
    """Return what it tells of its database."""
    try:
        found = {
            "port": values.whole(told["port"], 1, 65535),
            "database": values.text(told["database"], 63),
            "version": values.whole(told["version"]),
            "system": told["system"],
            "certificate": told["certificate"],
            "scope": {values.text(table, 140): values.text(declared, 140) for table, declared in told["scope"].items()},
            "alarms": [alarm(one) for one in told["alarms"][:8]],
        }
        fits = (
            bool(found["database"])
            and str(found["system"]).isdigit()
            and isinstance(found["certificate"], str)
            and len(found["certificate"]) < 16384
            and len(found["scope"]) <= MAX_TABLES
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise _unreadable()
    return found


def fork(told: Any) -> Json:
    """Return where it says that its data parted from ours."""
    try:
        fits = type(told["term"]) is int and isinstance(told["role"], str) and str(told["system"]).isdigit()
        for key in ("lsn", "bulk_lsn", "own_lsn"):
            high, low = told[key].split("/")
            fits = fits and len(high) <= 8 and len(low) <= 8 and int(high, 16) >= 0 and int(low, 16) >= 0
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise _unreadable()
    return dict(told)


def alarm(told: Any) -> dict[str, str]:
    """Return an alarm that it tells, reduced to what is expected.

    :raises KeyError, TypeError: it is none.
    """
    found = {key: str(told[key])[:600] for key in ("key", "text", "remedy")}
    found = {key: "".join(filter(str.isprintable, words)) for key, words in found.items()}
    return {**found, "severity": "critical" if told["severity"] == "critical" else "warning"}


def _formed(told: Any, form: Json) -> Json:
    """Return an object that has these keys, each of its type or of one of them; None stands for itself."""
    if not isinstance(told, dict):
        raise _unreadable()
    for name, wanted in form.items():
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        value = told.get(name, _unreadable)
        if (None if value is None else type(value)) not in kinds:
            raise _unreadable()
    return told


def _unreadable() -> RequestRefused:
    return RequestRefused("What the other gateway says of its data cannot be read.", "Are both gateways up to date?")
