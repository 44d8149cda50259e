"""The page as text: no content of an entry can break out of its block, and only known scripts run."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest
from leaderboard_sample import entry, sample

from vfm_isbench.errors import ResultError
from vfm_isbench.leaderboard.page import build_page, vendored_files, write_page
from vfm_isbench.leaderboard.page.build import SCRIPTS, content_security_policy, embedded_json

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\" onclick='alert(1)' `${alert(1)}` $data $scripts ${style}",
    "\u202egnp.exe\u2069",
    "line\u2028separator\u2029s",
    "]]>&lt;&#60;",
    "\ud800 lone surrogate",
    "日本語 עברית",
]


class Reader(HTMLParser):
    """Script blocks, start tags, addresses, and the text outside scripts, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def hostile_sample():
    data = sample()
    data["entries"] += [entry(f"hostile-{number}", name, 7.0, 9) for number, name in enumerate(HOSTILE)]
    data["removed"].append({"name": HOSTILE[1], "date": "2026-01-01", "why": HOSTILE[0]})
    return data


def test_the_data_in_the_page_are_the_data_given():
    data = hostile_sample()
    blocks = [text for attributes, text in read(build_page(data)).scripts if attributes.get("id") == "page-data"]
    assert len(blocks) == 1
    assert json.loads(blocks[0]) == data


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_is_plain_ascii_without_markup(text):
    embedded = embedded_json({text: text})
    assert json.loads(embedded) == {text: text}
    assert embedded.isascii()
    assert not set("<>&") & set(embedded)


def test_hostile_texts_add_no_element_and_no_script():
    tame, hostile = read(build_page(sample())), read(build_page(hostile_sample()))
    assert hostile.tags == tame.tags
    is_code = [text for attributes, text in hostile.scripts if "type" not in attributes]
    assert is_code == [text for attributes, text in tame.scripts if "type" not in attributes]
    assert len(is_code) == len(SCRIPTS) + len(vendored_files())


def test_the_policy_names_the_hash_of_every_script_and_of_nothing_else():
    reader = read(build_page(sample()))
    (policy,) = [
        attributes["content"]
        for tag, attributes in reader.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for attributes, text in reader.scripts
        if "type" not in attributes
    }
    assert set(directives.pop("script-src").split()) == hashes
    assert directives == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_policy_changes_with_a_script():
    assert content_security_policy(["let a"]) != content_security_policy(["let b"])


def test_nothing_is_loaded_from_elsewhere():
    page = build_page(sample())
    loading = [
        (tag, name, value)
        for tag, attributes in read(page).tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "action", "poster", "href") and not (value or "").startswith("#")
    ]
    assert [(tag, name) for tag, name, _ in loading] == [("link", "href")]
    assert loading[0][2].startswith("data:")
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", style)


@pytest.mark.parametrize("script", [text.script() for text in vendored_files()], ids=lambda text: text[:30])
def test_a_library_cannot_end_its_own_block(script):
    assert not re.search(r"</script|<!--", script, flags=re.IGNORECASE)


def test_missing_scores_must_be_null():
    data = sample()
    data["entries"][0]["ms_per_image"] = math.nan
    with pytest.raises(ResultError, match="not valid JSON"):
        build_page(data)


def test_other_data_are_refused():
    with pytest.raises(ResultError, match="'removed'"):
        build_page({"groups": [], "entries": []})


def test_the_page_is_written_whole_and_alone(tmp_path):
    path = write_page(sample(), tmp_path / "site")
    assert path == tmp_path / "site" / "index.html"
    assert path.read_text(encoding="utf-8") == build_page(sample())
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "site").write_text("a file")
    with pytest.raises(ResultError, match=r"site.index\.html cannot be written"):
        write_page(sample(), tmp_path / "site")


def test_licences_stand_in_the_page():
    page = build_page(sample())
    for library in vendored_files():
        assert f"{library.name} {library.version}" in page
    assert "Mike Bostock" in page
    assert "Observable" in page
