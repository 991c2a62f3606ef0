"""The guide through a renewal: whatever happens between two steps, it never sends anybody to the active gateway, nor
lets the role move to one that is not fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.renewal.certificate import CRITICAL_DAYS, DAY_S, WARNING_DAYS, Certificate
from flask_hsmx_cluster.renewal.guide import KINDS, Before, Facts, Guide, Kind, checks, progress

NOW = 1_900_000_000
A, B = "a" * 32, "b" * 32
NAMES = {A: "gateway-a", B: "gateway-b"}


def certificate(number: int, start: int = NOW - DAY_S, end: int = NOW + 400 * DAY_S) -> Certificate:
    return Certificate(f"{number:064x}", ("wifi.example",), "CN=CA", start, end)


def facts(node: str, **changes: Any) -> Facts:
    whole: dict[str, Any] = {
        "node_id": node, "name": NAMES[node], "boot": "1", "https": True, "certificate": certificate(1), "problem": "",
        "firmware": "5.2", "version": "0.1", "protocol": 4, "protocol_least": 1, **changes,
    }  # fmt: skip
    return Facts(**whole)


def guide(kind: Kind = "certificate") -> Guide:
    return Guide(1, kind, "2030-01-01T00:00:00+00:00", "gateway-a", (Before.of(facts(B)), Before.of(facts(A))))


_certificates = st.none() | st.builds(
    certificate, st.integers(1, 3), st.sampled_from([NOW - DAY_S, NOW + 60]),
    st.sampled_from([NOW - 5, NOW + 5, NOW + 400 * DAY_S]),
)  # fmt: skip


def _any_facts(node: str) -> st.SearchStrategy[Facts]:
    return st.builds(
        lambda **changes: facts(node, **changes), boot=st.sampled_from("12"), certificate=_certificates,
        https=st.booleans(), problem=st.sampled_from(["", "refused"]), firmware=st.sampled_from(["5.2", "5.3"]),
        version=st.sampled_from(["0.1", "0.2"]), protocol=st.integers(3, 6), protocol_least=st.integers(1, 5),
    )  # fmt: skip


_pairs = st.fixed_dictionaries({}, optional={A: _any_facts(A), B: _any_facts(B)})


@given(st.sampled_from(KINDS), _pairs, st.sampled_from([A, B, None]))
def test_whatever_the_facts_the_guide_is_sound(kind: Kind, pair: dict[str, Facts], active: str | None) -> None:
    found = progress(guide(kind), pair, active, NOW)
    todo = [step for step in found.steps if step.state != "done"]
    doing = [step for step in found.steps if step.state == "now"]
    assert found.finished == (not todo) == (found.renewed == {A, B})
    assert doing or not todo, "there is always something to do next"
    assert len({(step.node_id, step.key == "failover") for step in doing}) <= 1, "one thing at a time"
    for step in doing:
        if active is not None:
            assert step.node_id != active, "nobody is sent to the gateway that serves"
        if step.key == "failover":
            assert step.node_id in found.renewed
    assert all(not step.note for step in found.steps if step.state != "now")
    assert [step.key for step in found.steps if step.key == "failover"] == ["failover"]


@given(_pairs, st.sampled_from([A, B]))
def test_a_fail_over_is_forbidden_unless_a_valid_certificate_was_seen(pair: dict[str, Facts], target: str) -> None:
    seen = pair[target].certificate if target in pair else None
    valid = seen is not None and pair[target].https and seen.not_before <= NOW <= seen.not_after
    other = facts(A if target == B else B)
    found = list(checks("certificate", pair.get(target), other, guide().before, NOW))
    assert any(one.blocking for one in found) == (not valid)


@given(_any_facts(A), _any_facts(B))
def test_an_upgrade_is_forbidden_only_where_no_protocol_is_common(one: Facts, other: Facts) -> None:
    common = range(max(one.protocol_least, other.protocol_least), min(one.protocol, other.protocol) + 1)
    found = list(checks("firmware", one, other, guide("firmware").before, NOW))
    assert any(finding.blocking for finding in found) == (not common)


def _renew(one: Facts, kind: Kind) -> Facts:
    fresh: dict[Kind, dict[str, Any]] = {
        "certificate": {"certificate": certificate(7)}, "firmware": {"firmware": "5.3"}, "extension": {"version": "0.2"}
    }  # fmt: skip
    return replace(one, boot="2", **fresh[kind])


@given(st.sampled_from(KINDS), st.lists(st.sampled_from(["work", "move", "restart a", "restart b"]), max_size=30))
def test_who_does_what_is_due_arrives_whatever_comes_between(kind: Kind, happens: list[str]) -> None:
    """The role may move by itself and gateways may restart, at any time."""
    pair, active = {A: facts(A), B: facts(B)}, A
    for one in [*happens, *["work"] * 4]:
        if one == "move":
            active = A if active == B else B
        elif one.startswith("restart"):
            node = A if one[-1] == "a" else B
            pair[node] = replace(pair[node], boot="2")
        else:
            step = next((step for step in progress(guide(kind), pair, active, NOW).steps if step.state == "now"), None)
            if step is None:
                continue
            if step.key == "failover":
                assert not any(found.blocking for found in
                               checks(kind, pair[step.node_id], pair[active], guide().before, NOW))  # fmt: skip
                active = step.node_id
            else:
                pair[step.node_id] = _renew(pair[step.node_id], kind)
    assert progress(guide(kind), pair, active, NOW).finished


def test_the_order_is_the_manuals() -> None:
    found = progress(guide(), {A: facts(A), B: facts(B)}, A, NOW)
    assert [(step.key, step.node_id) for step in found.steps] == [
        ("install", B), ("reboot", B), ("seen", B), ("failover", B), ("install", A), ("reboot", A), ("seen", A),
    ]  # fmt: skip


def test_a_new_certificate_without_a_reboot_is_not_through_yet() -> None:
    pair = {A: facts(A), B: facts(B, certificate=certificate(7))}
    assert [step.state for step in progress(guide(), pair, A, NOW).steps[:4]] == ["done", "now", "next", "next"]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "same"), ({"certificate": None}, "unseen"), ({"certificate": certificate(7, end=NOW - 1)}, "expired"),
        ({"certificate": certificate(7, start=NOW + 1)}, "not_yet"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_named(changes: dict[str, Any], note: str) -> None:
    pair = {A: facts(A), B: facts(B, boot="2", **changes)}
    assert {step.note for step in progress(guide(), pair, A, NOW).steps} == {"", note}


def test_names_that_are_lost_and_an_early_end_are_remarked() -> None:
    lost = replace(certificate(7, end=NOW + 3 * DAY_S), names=("other.example",))
    found = list(checks("certificate", facts(B, certificate=lost), facts(A), guide().before, NOW))
    assert [one.key for one in found] == ["renewal_names", "renewal_soon"] and not any(one.blocking for one in found)


@pytest.mark.parametrize(
    ("left_s", "severity"),
    [(WARNING_DAYS * DAY_S, None), (WARNING_DAYS * DAY_S - 1, "warning"), (CRITICAL_DAYS * DAY_S, "warning"),
     (CRITICAL_DAYS * DAY_S - 1, "critical"), (-1, "critical")],
)  # fmt: skip
def test_how_bad_it_is_that_a_certificate_ends(left_s: int, severity: str | None) -> None:
    assert certificate(1, end=NOW + left_s).severity(NOW) == severity
    assert certificate(1, start=NOW + 1).severity(NOW) == "critical"


# -- what is told ---------------------------------------------------------------------------------------------


@given(_any_facts(A), st.sampled_from(KINDS))
def test_facts_and_guides_survive_the_wire(one: Facts, kind: Kind) -> None:
    assert Facts.from_dict(one.as_dict()) == one
    begun = replace(guide(kind), before=(Before.of(one), Before.of(facts(B))))
    assert Guide.from_dict(begun.as_dict()) == begun
    assert Guide.from_dict(begun.ended("later").as_dict()).is_newer_than(begun)
    assert not begun.is_newer_than(begun) and begun.is_newer_than(None)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_anything_else_is_refused(data: st.DataObject) -> None:
    for read, whole in ((Facts.from_dict, facts(A).as_dict()), (Guide.from_dict, guide().as_dict())):
        key = data.draw(st.sampled_from(sorted(whole)))
        mangled = {**whole, key: data.draw(_json)}
        try:
            found: Any = read(mangled)
        except ValueError:
            continue
        assert read(found.as_dict()) == found  # what is taken is of our own form
    for nonsense in (None, [], "x", 7, {}, {"certificate": 7}, {"before": [1, 2]}):
        for read in (Facts.from_dict, Guide.from_dict):
            with pytest.raises(ValueError):
                read(nonsense)


def test_two_guides_that_were_begun_at_once_are_told_apart_alike() -> None:
    one, other = guide(), replace(guide(), by="gateway-b")
    assert one.is_newer_than(other) != other.is_newer_than(one)
