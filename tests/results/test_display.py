"""Results in notebooks and in Python's own output: self-contained, escaped HTML, and a short line."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from result_builder import made_dataset, made_result, random_ious, seeds_of

from vfm_isbench import compare, regress, resolution
from vfm_isbench.results import Result
from vfm_isbench.results.display import html_block, html_table

NASTY = "<script>alert('\\\"1')</script> & $x$\nnext"
NASTY_LINE = NASTY.replace("\n", " ")
"""Names in a protocol, such as those of data sets, are one line."""


class Page(HTMLParser):
    """Elements and text of HTML; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def shown(thing: object) -> Page:
    """What a notebook shows, checked for what a stranger could do with it and for both themes."""
    text = thing._repr_html_()  # type: ignore[attr-defined]
    page = Page(text)
    assert page.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.attributes <= {"style", "class"}
    styles = re.findall('style="([^"]*)"', text)
    assert [style for style in styles if "url" in style or re.search(r"(?<![-\w])(color|background)", style)] == []
    assert 'class="tex2jax_ignore mathjax_ignore"' in text, "dollar signs are not formulas"
    return page


def nasty_result() -> Result:
    result = made_result(made_dataset(random_ious(1), name=NASTY_LINE), name=NASTY)
    return dataclasses.replace(result, notes=(NASTY,), backbone={**result.backbone, "name": NASTY})


def test_a_result_shows_its_table_signature_and_notes() -> None:
    result = made_result(made_dataset(random_ious(1)), made_dataset(random_ious(2), name="grabcut"))
    page = shown(result)
    assert [row[:2] for row in page.rows] == [["data set", "objects"], ["davis", "40"], ["grabcut", "40"]]
    lines = str(result).splitlines()
    assert page.rows[1] == lines[4].split()
    assert {lines[0], result.signature(), "note: made up"} <= set(page.texts)


def test_text_from_outside_is_escaped() -> None:
    page = shown(nasty_result())
    assert page.rows[1][0] == NASTY_LINE
    assert f"note: {NASTY}" in page.texts
    sides = [[dataclasses.replace(run, notes=(NASTY,)) for run in seeds_of(name, (0, 1))] for name in (NASTY, "b", "c")]
    for found in (compare(*sides), regress(*sides[:2]), resolution(*sides)):
        assert any("<script>" in text for text in shown(found).texts), type(found)
    assert shown(compare(*sides)).rows[0][1] == " ".join(NASTY.split())


def test_comparisons_verdicts_and_resolutions_show_all_their_tables() -> None:
    sides = [seeds_of(name, (0, 1)) for name in "abc"]
    comparison = compare(*sides)
    page = shown(comparison)
    assert [row[0] for row in page.rows].count("NoC90") == 2
    assert ["c", *(str(rank.place) for rank in comparison.ranks if rank.side == "c")] in page.rows
    verdict = regress(*sides[:2])
    assert f"{verdict.verdict}: {verdict._meaning()}" in shown(verdict).texts
    planned = resolution(*sides, margin=0.1)
    headings = [line for line in str(planned).splitlines() if "budget" in line]
    assert len(headings) == 2 and set(headings) <= set(shown(planned).texts)
    other = [dataclasses.replace(run, backbone={**run.backbone, "sha256": "00"}) for run in sides[1]]
    refused = regress(sides[0], other)
    assert refused.verdict == "incomparable" and any("incomparable: " in text for text in shown(refused).texts)


def test_repr_is_one_short_line() -> None:
    result = made_result(made_dataset(random_ious(1)))
    assert repr(result) == (
        "<Result 'bilinear', 'paper', 'dinov2_vits14', seed 0: 'davis', 40 objects, "
        f"noc90 {result.datasets['davis'].noc(90):.2f}>"
    )
    assert repr(made_dataset(random_ious(1)[:, :0].repeat(1, axis=1)[:0], name="none")) == (
        "<DatasetResult 'none', 0 objects>"
    )
    sides = [seeds_of(name, (0, 1)) for name in "abc"]
    assert repr(compare(*sides)) == "<Comparison of 'a', 'b', 'c' on 'davis': 6 scores>"
    verdict = regress(*sides[:2])
    assert repr(verdict) == f"<Regression {verdict.verdict}: NoC90, margin 0.05 clicks, on 'davis'>"
    planned = resolution(*sides)
    smallest = planned.smallest("noc90")
    assert repr(planned) == f"<Resolution of NoC90 with 2 seeds, in clicks: {smallest:.2f} on 'davis'>"


@pytest.mark.parametrize("name", [NASTY_LINE, "x" * 1000])
def test_no_name_makes_repr_longer_than_a_few_lines_of_a_terminal(name: str) -> None:
    result = made_result(made_dataset(random_ious(1), name=name), name=name)
    for thing in (result, result.datasets[name]):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 240


def test_a_table_without_rows_shows_its_heading() -> None:
    assert "table" not in Page(html_block([html_table("nothing here", [])])).tags
