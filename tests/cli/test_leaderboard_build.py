"""Building the page from a folder of entries on the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from browser import Browser
from doc_pages import DOCS, command_lines
from result_builder import synthetic_entry

from vfm_isbench import __version__, cli
from vfm_isbench.leaderboard import load_board, page_data

AWKWARD = "=1+1 ${data} #entry=x 'onclick'"
"""A name that validation accepts; it refuses markup, which the page would show as text anyway."""


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Three made-up upsamplers, three seeds each; one stopped early, one with an awkward name."""
    folder = tmp_path_factory.mktemp("leaderboard") / "entries"
    synthetic_entry("bilinear").save(folder)
    synthetic_entry("mine", name="Mine v1", skill=0.6).save(folder)
    synthetic_entry("other", name=AWKWARD, skill=0.2).save(folder)
    synthetic_entry("early", name="Early", stop_at_iou=(80, 85, 90)).save(folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.driver.quit()


def test_the_page_is_built_from_entries(entries, tmp_path, capsys):
    assert cli.main(["leaderboard", "build", "--entries", str(entries), "--output", str(tmp_path / "site")]) == 0
    path = tmp_path / "site" / "index.html"
    assert capsys.readouterr().out == f"saved: {path}\n"
    page = path.read_text(encoding="utf-8")
    (block,) = re.findall(r'id="page-data">(.*?)</script>', page)
    data = json.loads(block)
    assert data == json.loads(json.dumps(page_data(load_board(entries), version=__version__)))
    assert {entry["name"] for entry in data["entries"]} > {"bilinear", "Mine v1", AWKWARD, "Early"}


def test_a_browser_shows_the_entries_in_their_order(entries, browser):
    data = page_data(load_board(entries), version=__version__)
    browser.open(data)
    assert browser.one("#demo").is_displayed()
    ranked = {entry["name"]: str(entry["rank"]) for entry in data["entries"] if entry["status"] == "ranked"}
    rows = [row for row in browser.all("#table tr[data-row]") if row.find_elements("css selector", ".place")]
    shown = {
        row.find_element("css selector", "button.name").text: row.find_element("css selector", ".place").text
        for row in rows
    }
    assert shown == ranked
    assert next(iter(shown)) == "Mine v1"
    noc90 = next(entry for entry in data["entries"] if entry["name"] == "Mine v1")["scores"]["scenes"]["noc90"]
    assert rows[0].find_element("css selector", ".score .value").text == f"{noc90['value']:.2f}"
    assert "early stop" in browser.texts("#table .why")[0]
    for button in browser.all("#table button.name"):
        button.click()
        assert "vfm" in browser.one("#detail").text
        browser.one("#detail .close").click()
    assert browser.one("#quoted").is_displayed()
    assert browser.console() == []


def test_every_command_of_the_page_about_it_runs(entries, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(entries, tmp_path / "benchmarks" / "entries")
    lines = command_lines((DOCS / "leaderboard.md").read_text(encoding="utf-8"))
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, line
    assert capsys.readouterr().out.splitlines() == [
        f"saved: {Path('site') / 'index.html'}",
        f"saved: {Path('site') / 'leaderboard' / 'index.html'}",
        f"saved: {Path('site') / 'index.html'}",
    ]
    with_links, without = ((tmp_path / path).read_text() for path in ("site/index.html", "site/leaderboard/index.html"))
    assert '"repository":"https://example.org/vfm_isbench"' in with_links
    assert '"repository":null' in without and "OWNER" not in without.partition('id="page-data"')[2]
    assert cli.main(["leaderboard", "build", "--repository", "javascript:alert(1)"]) == 2
    assert "--repository 'javascript:alert(1)' is not a web address" in capsys.readouterr().err


def test_entries_with_findings_make_no_page(tmp_path, capsys):
    (tmp_path / "entries").mkdir()
    (tmp_path / "entries" / "broken.json.gz").write_bytes(b"no gzip")
    code = cli.main(
        ["leaderboard", "build", "--entries", str(tmp_path / "entries"), "--output", str(tmp_path / "site")]
    )
    assert code == 2
    assert "broken.json.gz" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_folder_that_is_not_there_makes_no_page(tmp_path, capsys):
    site = tmp_path / "site"
    absent = str(tmp_path / "absent")
    assert cli.main(["leaderboard", "build", "--entries", absent, "--output", str(site)]) == 2
    assert "there is no folder of entries" in capsys.readouterr().err
    assert not site.exists()


def test_a_folder_without_entries_makes_an_empty_page(tmp_path, capsys):
    assert cli.main(["leaderboard", "build", "--entries", str(tmp_path), "--output", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "index.html").is_file()
