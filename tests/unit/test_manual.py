"""No sentence of the manual page is forgotten: each has a test of its own, and its row in the documentation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "tests" / "lab" / "test_manual.py"
SENTENCES = MODULE.with_name("manual.txt").read_text().splitlines()
DOCUMENT = REPOSITORY / "docs" / "manual.md"
NOT_YET = "not proved yet"


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def named() -> dict[str, str]:
    """Return the names of the module's tests by the sentences that they are about, in their order."""
    functions = [each for each in ast.parse(MODULE.read_text()).body if isinstance(each, ast.FunctionDef)]
    found = [each for each in functions if each.name.startswith("test_")]
    return {" ".join((ast.get_docstring(each) or "").split()): each.name for each in found}


def rows() -> list[list[str]]:
    """Return the documentation's rows: sentence, test, where the product does it."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines][2:]


def test_each_sentence_has_its_test_in_the_manuals_order_unless_the_documentation_says_so() -> None:
    unproved = {row[0] for row in rows() if row[1] == NOT_YET}
    assert list(named()) == [sentence for sentence in SENTENCES if sentence not in unproved]


@pytest.mark.parametrize("sentence", named())
def test_a_test_is_named_after_its_sentence(sentence: str) -> None:
    left = iter(words(sentence))
    assert all(word in left for word in words(named()[sentence].removeprefix("test_").replace("_", " ")))


def test_the_documentation_lists_each_sentence_with_its_test() -> None:
    proved = named()
    assert [row[:2] for row in rows()] == [
        [sentence, f"`{proved[sentence]}`" if sentence in proved else NOT_YET] for sentence in SENTENCES
    ]


def test_the_documentation_names_places_that_exist() -> None:
    for sentence, test, where in rows():
        if test == NOT_YET:
            continue
        files = re.findall(r"`([a-z_/]+\.py)`", where)
        pages = re.findall(r"\]\(([a-z-]+\.md)(?:#([a-z0-9-]+))?\)", where)
        assert files and pages, sentence
        assert all((REPOSITORY / "flask_hsmx_cluster" / file).is_file() for file in files), files
        for page, anchor in pages:
            titles = re.findall(r"^#+ (.*)$", (REPOSITORY / "docs" / page).read_text(), re.M)
            assert not anchor or anchor in {"-".join(words(title)) for title in titles}, (page, anchor)
