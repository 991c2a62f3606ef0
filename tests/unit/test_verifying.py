"""What is told of a comparison: it fits into one message between the gateways, whatever the keys hold."""

from __future__ import annotations

import json

from flask_hsmx_cluster.agent.data.news import news
from flask_hsmx_cluster.control import MAX_MESSAGE
from flask_hsmx_cluster.replication import verifying
from flask_hsmx_cluster.replication.verify import Result, TableResult


def test_what_differs_in_many_tables_fits_into_a_message() -> None:
    keys = tuple((f"{number:04}" + "\U0001f600" * 500, "é" * 500) for number in range(1000))
    tables = tuple(TableResult(f"public.t{n}", 1000, ("a", "b"), keys, False, 0) for n in range(300))
    told = verifying._plain(Result(tables, 1.0))
    assert len(json.dumps(told)) < MAX_MESSAGE / 2
    assert told["tables"][0]["differing"][0][0].startswith("0000") and len(told["tables"][0]["differing"]) > 5
    looks = [{"following": {"error": ""} | dict.fromkeys(("under_way", "total"), 0), "verify": each}
             for each in ({}, {"ended_at": "2030", "result": told})]
    (found,) = news(looks[0], looks[1], "gw-b")
    assert len(found.evidence) == 21 and found.evidence[-1] == "and 280 more tables"
    assert found.evidence[-2] == "public.t19: 1,000 rows" and sum(map(len, found.evidence)) < 10_000
    assert all(table["differing_rows"] == 1000 and not table["equal"] for table in told["tables"])
