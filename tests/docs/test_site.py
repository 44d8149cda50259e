"""The documentation as a site on disk: it builds, it is complete, and its search works without a server."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import LOCAL, Browser
from doc_pages import DOCS, ROOT

import vfm_isbench

REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")


def documented() -> list[str]:
    """Names on the page of the API reference, as users write them."""
    blocks = re.findall(r"^::: (\S+)\n((?: +.*\n)*)", REFERENCE, flags=re.MULTILINE)
    headings = [re.search(r"heading: (\S+)", options) for _, options in blocks]
    return [found[1] if found else name for (name, _), found in zip(blocks, headings, strict=True)]


def test_the_reference_has_every_public_name_and_only_names_that_exist() -> None:
    names = documented()
    assert {f"vfm_isbench.{name}" for name in vfm_isbench.__all__} - set(names) == {"vfm_isbench.__version__"}
    assert len(set(names)) == len(names)
    for name in names:
        room, _, attribute = name.rpartition(".")
        module = importlib.import_module(room)
        assert attribute in module.__all__, f"{name} is not public: it is missing from {room}.__all__"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    for package in ("material", "mkdocstrings"):
        pytest.importorskip(package, reason="needs the packages of the site: pip install 'vfm_isbench[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_reference_shows_arguments_and_no_roles(site: Path) -> None:
    page = (site / "reference.html").read_text(encoding="utf-8")
    for heading in documented():
        assert heading in page
    for argument in ("output_dir", "samples_per_epoch", "trust_remote_code", "objects_at_once"):
        assert argument in page
    text = re.sub(r"<[^>]+>", "", page)
    assert re.findall(r":(?:class|func|meth|mod|data|attr):", text) == []
    assert "``" not in text
    assert not list(site.rglob("*.pyc")) and not (site / "griffe_roles.py").exists()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link rel=\"stylesheet\")[^>]* (?:src|href)=\"?([^\" >]+)", page.read_text()
        )
        assert [address for address in loaded if re.match(r"(?:https?:)?//", address)] == [], page.name


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser that may load pages from disk, and nothing else."""
    found = Browser(tmp_path)
    try:
        found.resize(1280, 900)
        found.driver.get("about:blank")
        found.requests()
        yield found
        assert [address for address in found.requests() if not address.startswith(LOCAL)] == []
    finally:
        found.driver.quit()


# In a folder below, the paths to the index and to the results differ.
@pytest.mark.parametrize("page", ["index.html", "decisions/0018-plugins.html"])
def test_the_search_works_from_disk(browser: Browser, site: Path, page: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(browser.driver, 30)
    pages = {"upsampler hub repository": "upsamplers-from-repositories", "output_dir": "reference"}
    for words, expected in pages.items():
        browser.driver.get((site / page).as_uri())
        box = browser.one("input.md-search__input")
        browser.run("arguments[0].focus()", box)
        box.send_keys(words)
        wait.until(lambda _: browser.all(".md-search-result__link"))
        links = [link.get_attribute("href") for link in browser.all(".md-search-result__link")]
        found = {re.split("[?#]", link)[0] for link in links}
        assert (site / f"{expected}.html").as_uri() in found
