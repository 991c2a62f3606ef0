"""What people ask of the data of both gateways, wherever it lies; the databases are told what a test wants."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.data import sweep as sweeping
from flask_hsmx_cluster.agent.data.desk import DataDesk, sweep_choice
from flask_hsmx_cluster.agent.data.sweep import Hands, Sweep, event
from flask_hsmx_cluster.control import result_from_dict
from flask_hsmx_cluster.errors import ClusterError, DataConflict, PeerUnavailable, RequestRefused

from ..waiting import within

A, B = "a" * 32, "b" * 32
NODES = (SimpleNamespace(node_id=A, name="gw-a"), SimpleNamespace(node_id=B, name="gw-b"))
FOLLOWING = {"step": "", "done": 0, "total": 0, "error": "", "under_way": False, "rejoined": None}
COMPARED = {"under_way": False, "error": "", "began_at": "", "ended_at": "", "progress": None, "result": None}
ROW = {"id": 1, "text": "voucher 1 created", "batch": "", "source_node": B, "term": 1, "end_lsn": "0/1",
       "committed_at": "", "kept_at": "", "schema_name": "public", "table_name": "voucher", "operation": "insert",
       "state": "kept", "note": "", "shortened": False, "key": {"id": "1"}, "new_row": {"id": None}, "old_row": None}

ASIDE: dict[str, Any] = {"database": "hsmx", "sets": [{
    "name": "hsmx_cluster_aside", "kept_at": "2030-05-06T07:08:09+00:00", "tables": 2, "rows": 52, "bytes": 32768,
    "current": True, "listed": [{"table": "public.voucher", "copy": "public.voucher", "rows": 52, "bytes": 16384}]}]}


class Link:
    """A replicator that notes what it is asked."""

    shared = True

    def __init__(self, waiting: int) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.waiting = waiting
        self.marked: list[int] = []
        self.conflict: DataConflict | None = None

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        self.asked.append((verb, arguments))
        if verb == "mark":
            self.marked += arguments["ids"]
        if verb == "make" and self.conflict is not None:
            raise self.conflict
        return {
            "look": {"quarantined": self.waiting, "kept_last": self.waiting, "following": FOLLOWING,
                     "verify": {**COMPARED, "is": id(self)}},
            "quarantine": {"rows": [], "total": self.waiting, "waiting": self.waiting, "after": None, "tables": [],
                           "batches": [], "newest": self.waiting},
            "quarantine_row": {**ROW, "id": arguments.get("row_id")},
            "mark": {"marked": len(arguments.get("ids", ()))},
            "verify": {**COMPARED, "under_way": True},
            "quarantine_count": {"rows": self.waiting},
            "quarantine_ids": {"ids": [one for one in range(1, self.waiting + 1) if one not in self.marked
                                       and (verb != "quarantine_ids" or one > arguments["after"])]},
            "make_some": {"made": arguments.get("ids", [])[:1], "unfit": [
                {"id": one, "kind": "unique", "text": "no"} for one in arguments.get("ids", [])[1:]]},
            "aside": ASIDE,
            "drop_aside": ASIDE["sets"][0],
        }.get(verb, {"made": True})  # fmt: skip


SWEPT = Sweep(Hands(Link(0).ask, lambda ids: {}, lambda state: None)).state()


class Wire:
    """Joins two desks; cut, nobody answers."""

    def __init__(self) -> None:
        self.handlers: dict[str, dict[str, Any]] = {A: {}, B: {}}
        self.cut = False

    def end(self, own: str) -> Any:
        other = self.handlers[B if own == A else A]

        def ask(verb: str, timeout_s: float = 0.0, repeatable: bool = True, **arguments: Any) -> Any:
            if self.cut:
                raise PeerUnavailable("The other gateway does not answer.")
            return other[verb](own, arguments)

        def handle(verb: str, handler: Any) -> None:
            self.handlers[own][verb] = handler

        return SimpleNamespace(ask=ask, handle=handle)


class Two:
    def __init__(self, active: str = A) -> None:
        self.wire, self.events = Wire(), []
        self.link = {A: Link(0), B: Link(2)}
        self.desk = {node: self._desk(node, active) for node in (A, B)}

    def _desk(self, node: str, active: str) -> DataDesk:
        settings = SimpleNamespace(nodes=NODES, peer_of=lambda own: NODES[1] if own == A else NODES[0])
        heads = SimpleNamespace(applied=SimpleNamespace(settings=settings))
        cluster: Any = SimpleNamespace(
            node_id=node, heads=lambda: heads, role=lambda: "active" if node == active else "passive",
            store=SimpleNamespace(record=lambda *words: self.events.append((node, *words))),
        )  # fmt: skip
        link: Any = self.link[node]
        return DataDesk(cluster, self.wire.end(node), link, lambda: link.ask("look"))

    def done(self, node: str) -> list[str]:
        return [verb for verb, _arguments in self.link[node].asked if verb != "look"]


@pytest.fixture
def two() -> Two:
    return Two()


@pytest.mark.parametrize(("asked", "lies"), [(A, A), (A, B), (B, A), (B, B)])
def test_rows_are_read_where_they_lie(two: Two, asked: str, lies: str) -> None:
    page = two.desk[asked].quarantine(0, 50, lies, "public.voucher", "kept", "", False)
    assert page["node"] == lies and two.done(lies) == ["quarantine"] and two.done(B if lies == A else A) == []
    assert two.link[lies].asked[-1][1]["names"] == {A: "gw-a", B: "gw-b"}
    assert two.desk[asked].row(7, lies) == {**ROW, "id": 7}
    assert two.desk[asked].discard([1, 2], lies) == {"discarded": 2}
    assert two.events == [(lies, "discarded", "info", "2 changes in quarantine discarded")]


@pytest.mark.parametrize(("asked", "lies"), [(A, A), (A, B), (B, A), (B, B)])
def test_a_change_is_made_on_the_active_gateway_and_marked_where_it_lies(two: Two, asked: str, lies: str) -> None:
    two.desk[asked].reapply(7, False, lies, "")
    assert "make" in two.done(A) and "make" not in two.done(B)
    assert "mark" in two.done(lies) and [kind for _node, kind, *_rest in two.events] == ["reapplied"]


@pytest.mark.parametrize(("asked", "lies"), [(A, A), (A, B), (B, A), (B, B)])
def test_many_changes_are_made_on_the_active_gateway_and_marked_where_they_lie(two: Two, asked: str, lies: str) -> None:
    two.link[lies].waiting = 2
    desk = two.desk[asked]
    desk.sweep("reapply", sweep_choice("", "", [], 5), lies)
    assert within(10, lambda: not desk.swept(lies)["under_way"])
    assert {verb for verb in two.done(A) if "make" in verb} == {"make_some"} and "make_some" not in two.done(B)
    assert two.link[lies].marked == [1, 2], "the second one fitted in the second pass"
    assert two.events == [(lies, "reapplied", "info", "2 changes made again on the active gateway", ())]


@pytest.mark.parametrize("lies", [A, B])
def test_discarding_of_many_is_recorded_where_they_lie(
    two: Two, lies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PROMPT_S", 0.0)
    two.link[lies].waiting = 3
    two.desk[A].sweep("discard", sweep_choice("public.voucher", "", [], 5), lies)
    assert within(10, lambda: len(two.events) == 2)
    assert [words[1:4] for words in two.events] == [
        ("discarded", "info", "Discarding changes in quarantine has begun: 3 of public.voucher"),
        ("discarded", "info", "3 changes of public.voucher in quarantine discarded")]
    assert two.desk[A].sweep_stop(lies)["done"] == 3


def test_many_changes_wait_on_while_the_other_gateway_is_away(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "RETRY_S", 0.0)
    two.wire.cut = True
    two.desk[B].sweep("reapply", sweep_choice("", "", [], 5), B)
    assert within(10, lambda: not two.desk[B].swept(B)["under_way"])
    assert two.desk[B].swept(B)["error"] == "The other gateway does not answer." and two.link[B].marked == []
    assert two.events[-1][1:4] == ("reapplied", "warning", "0 changes made again on the active gateway; then it failed")


@pytest.mark.parametrize("answer", [{}, {"made": [9], "unfit": []}, {"made": ["1"], "unfit": []},
                                    {"made": [], "unfit": [{"id": 9, "kind": "x", "text": ""}]},
                                    {"made": [], "unfit": []}])
def test_an_active_gateway_that_makes_nothing_of_what_it_was_asked_ends_it(
    two: Two, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(sweeping, "RETRY_S", 0.0)
    two.wire.handlers[A]["data_make_some"] = lambda _sender, _told: answer
    two.desk[B].sweep("reapply", sweep_choice("", "", [], 5), B)
    assert within(10, lambda: not two.desk[B].swept(B)["under_way"])
    assert two.desk[B].swept(B)["error"] and two.link[B].marked == []


def test_nothing_is_chosen_by_naming_nothing() -> None:
    with pytest.raises(RequestRefused, match="No row was chosen"):
        sweep_choice("", "", [], 0)


def test_an_event_says_which_changes_were_meant_and_why_some_were_left() -> None:
    reasons = [{"kind": "unique", "rows": 2, "example": "voucher 7 has a value that another row has", "id": 7}]
    state = {**SWEPT, "action": "reapply", "table": "public.voucher", "batch": "0123456789abcdef", "total": 9,
             "done": 5, "unfit": 2, "stopped": True, "reasons": reasons}
    assert event(state)[2:] == (
        "5 changes of public.voucher, of the rejoin 01234567 made again on the active gateway; 2 changes did not fit "
        "and still wait; it was stopped", ("2 times, such as: voucher 7 has a value that another row has",))


@pytest.mark.parametrize("lies", [A, B])
def test_what_was_put_aside_is_deleted_where_it_lies_and_recorded(two: Two, lies: str) -> None:
    assert two.desk[A].aside(lies) == {**ASIDE, "node": lies}
    assert two.desk[A].aside_delete("hsmx_cluster_aside", lies)["rows"] == 52
    assert two.done(lies) == ["aside", "drop_aside"]
    assert two.events == [(lies, "aside_deleted", "info", "What this gateway had put aside was deleted: 2 tables, "
                           "52 rows, kept since 2030-05-06T07:08:09+00:00", ("schema hsmx_cluster_aside",))]


def test_a_conflict_comes_back_whole_and_marks_nothing(two: Two) -> None:
    two.link[A].conflict = DataConflict("It was changed.", kind="changed", present={"id": "1"}, seen="f" * 64)
    with pytest.raises(DataConflict) as caught:
        two.desk[A].reapply(7, False, B, "")
    assert caught.value.present == {"id": "1"} and "mark" not in two.done(B) and two.events == []


def test_overwriting_says_which_row_was_seen(two: Two) -> None:
    two.desk[A].reapply(7, True, B, "f" * 64)
    (made,) = [arguments for verb, arguments in two.link[A].asked if verb == "make"]
    assert (made["overwrite"], made["seen"]) == (True, "f" * 64)
    assert "in place of the present one" in two.events[0][3]


def test_another_gateway_than_the_two_is_refused(two: Two) -> None:
    for ask in (lambda: two.desk[A].row(1, "c" * 32), lambda: two.desk[A].discard([1], "'; DROP TABLE x")):
        with pytest.raises(RequestRefused, match="no such gateway"):
            ask()


def test_both_counts_are_shown_and_alarmed(two: Two) -> None:
    desk = two.desk[A]
    assert [one["waiting"] for one in desk.quarantine_status()] == [0, None], "not known yet"
    assert desk.alarms() == []
    desk.ask_peer()
    assert [(one["name"], one["waiting"]) for one in desk.quarantine_status()] == [("gw-a", 0), ("gw-b", 2)]
    ((key, severity, text, remedy),) = desk.alarms()
    assert severity == "warning" and text.startswith("2 changes that gw-b wrote") and remedy and B[:8] in key
    two.wire.cut = True
    assert desk.ask_peer().startswith("not known") and desk.alarms(), "what was seen last may be so still"


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("data_quarantine", {"after": -1, "limit": 1, "table": "", "state": "kept"}),
        ("data_quarantine", {"after": 0, "limit": 1, "table": "x" * 300, "state": "kept"}),
        ("data_quarantine", {"after": 0, "limit": 1, "table": "", "state": "gone"}),
        ("data_quarantine", {}),
        ("data_row", {"row_id": "1; DROP"}),
        ("data_row", {"row_id": True}),
        ("data_value", {"row_id": 1, "which": "id", "column": "x", "offset": 0}),
        ("data_value", {"row_id": 1, "which": "key", "column": 5, "offset": 0}),
        ("data_value", {"row_id": 1, "which": "key", "column": "x", "offset": -1}),
        ("data_discard", {"ids": []}),
        ("data_discard", {"ids": [1] * 1001}),
        ("data_discard", {"ids": "all"}),
        ("data_reapply", {"row_id": 1, "seen": 5}),
        ("data_make", {"row_id": "all"}),
        ("data_make", {"row_id": 1, "seen": "x" * 300}),
        ("data_make_some", {"ids": [1] * 1001}),
        ("data_value", {"row_id": 1, "which": ["key"], "column": "x", "offset": 0}),
        ("data_sweep", {"action": ["discard"], "only": {"table": "", "batch": "", "ids": [], "upto": 5}}),
        ("data_sweep", {"action": "drop", "only": {"table": "", "batch": "", "ids": [], "upto": 5}}),
        ("data_sweep", {"action": "discard", "only": {"table": "", "batch": "", "ids": [], "upto": 0}}),
        ("data_sweep", {"action": "discard", "only": {"table": "", "batch": "'; DROP", "ids": [], "upto": 5}}),
        ("data_sweep", {"action": "discard", "only": {"table": "", "batch": "", "ids": ["x"], "upto": 5}}),
        ("data_sweep", {"action": "discard", "only": "all"}),
        ("data_aside_delete", {"name": ["public"]}),
    ],
)
def test_what_a_hostile_gateway_asks_is_refused(two: Two, verb: str, told: dict[str, Any]) -> None:
    with pytest.raises(ClusterError):
        two.wire.handlers[A][verb](B, told)
    assert two.done(A) == []


PAGE = {"rows": [ROW], "after": None, "total": 1, "waiting": 1, "tables": [{"table": "public.voucher", "rows": 1}],
        "batches": [{"batch": "0" * 32, "kept_at": "", "rows": 1}], "newest": 1}
TABLE = {"table": "public.voucher", "rows": 1, "equal": False, "differing": [["1"]], "unsettled": 0,
         "incomplete": False}
RESULT = {"equal": False, "seconds": 0.5, "tables": [TABLE]}
STEP = {"table": "x", "tables_done": 0, "tables": 1, "all_rows": 1, "all_expected": 2, "left_s": None}


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_broken_gateway_answers_breaks_no_page(two: Two, whole: bool) -> None:
    desk, handlers = two.desk[A], two.wire.handlers[B]

    def told(verb: str, answer: Any) -> Any:
        handlers[verb] = lambda _sender, _told: answer
        return {"data_quarantine": lambda: desk.quarantine(0, 50, B, "", "kept", "", whole),
                "data_row": lambda: desk.row(1, B), "data_look": desk.verified, "data_verify": desk.verify,
                "data_discard": lambda: desk.discard([1], B), "data_swept": lambda: desk.swept(B),
                "data_value": lambda: desk.value(1, "key", "id", 0, B),
                "data_aside": lambda: desk.aside(B),
                "data_aside_delete": lambda: desk.aside_delete("x", B)}[verb]  # fmt: skip

    good = [("data_quarantine", PAGE), ("data_row", ROW), ("data_look", {"verify": {**COMPARED, "result": RESULT}}),
            ("data_verify", {**COMPARED, "progress": STEP}), ("data_discard", {"discarded": 1}),
            ("data_value", {"text": "x", "length": 5}), ("data_swept", SWEPT), ("data_aside", ASIDE),
            ("data_aside_delete", ASIDE["sets"][0])]
    for verb, answer in good:
        assert told(verb, answer)()
    bad: list[tuple[str, Any]] = [(verb, answer) for verb, _good in good for answer in ({}, {"rows": 5})]
    bad += [("data_row", {**ROW, name: value}) for name in ROW for value in ([1], 1.5, {"id": 5})]
    bad += [("data_quarantine", {**PAGE, "rows": [{**ROW, "new_row": {"id": 7}}]}),
            ("data_quarantine", {**PAGE, "after": "1"}),
            ("data_swept", {**SWEPT, "reasons": ["x"]}), ("data_swept", {**SWEPT, "left_s": "soon"}),
            ("data_aside", {**ASIDE, "sets": [5]}),
            ("data_aside_delete", {**ASIDE["sets"][0], "listed": [{"table": 5}]}),
            ("data_look", {"verify": {**COMPARED, "result": {**RESULT, "tables": [{}]}}}),
            ("data_look", {"verify": {**COMPARED, "result": {**RESULT, "tables": [{**TABLE, "differing": [5]}]}}}),
            ("data_look", {"verify": {**COMPARED, "progress": {**STEP, "left_s": "soon"}}})]  # fmt: skip
    if not whole:
        bad += [("data_quarantine", {**PAGE, "tables": [1]}), ("data_quarantine", {**PAGE, "waiting": None}),
                ("data_quarantine", {**PAGE, "batches": [{"batch": 1}]})]  # fmt: skip
    for verb, answer in bad:
        with pytest.raises(RequestRefused, match="cannot be read"):
            told(verb, answer)()


@pytest.mark.parametrize("result", [[], None, "x", 5])
def test_an_answer_without_an_object_is_none(result: object) -> None:
    with pytest.raises(ValueError, match="no answer"):
        result_from_dict({"ok": True, "result": result})


def test_the_comparison_runs_on_the_passive_gateway(two: Two) -> None:
    assert two.desk[A].verify()["under_way"] and two.desk[B].verify()["under_way"]
    assert two.done(A) == [] and two.done(B) == ["verify", "verify"]
    assert two.desk[A].verified()["is"] == two.desk[B].verified()["is"] == id(two.link[B])


def test_news_are_recorded_once(two: Two) -> None:
    desk = two.desk[B]
    desk.note_news()
    two.link[B].waiting = 5
    desk.note_news()
    desk.note_news()
    assert [kind for _node, kind, *_rest in two.events] == ["quarantined"]
