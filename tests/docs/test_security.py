"""SECURITY.md and the page on reliability name a test for each of their statements; here, that these tests exist."""

from __future__ import annotations

import ast
import re

import pytest
from doc_pages import ROOT

from vfm_isbench.leaderboard import repository

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "least"), [("SECURITY.md", 30), ("docs/reliability.md", 30)])
def test_every_test_that_it_names_exists(page: str, least: int) -> None:
    file, missing, named = "", [], 0
    for path, name in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", (ROOT / page).read_text(encoding="utf-8")):
        file = path or file
        functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
        named += 1
        if name not in functions:
            missing.append(f"{file}::{name}")
    assert missing == []
    assert named >= least


def test_every_kind_of_data_has_a_test() -> None:
    rows = [line for line in PAGE.partition("### Data")[2].splitlines() if line.startswith("| ")]
    assert len(rows) >= 9
    assert [row for row in rows[1:] if "::test_" not in row] == []


def test_every_promise_of_reliability_has_a_test() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| Promise |" not in line]
    assert len(rows) >= 20
    assert [row for row in rows if "`tests/" not in row] == []


def test_it_does_not_name_an_address_that_is_not_there() -> None:
    assert ("has no public address yet" in PAGE) == (repository.REPOSITORY is None)
