"""The documentation agrees with the code: fields, links, paths, snippets and command lines."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import doctest
import io
import posixpath
import re
import shlex
from pathlib import Path

import pytest
from doc_pages import (
    DOCS,
    NOT_RUN,
    OUTPUT,
    PAGES,
    ROOT,
    command_lines,
    fences,
    links,
    repository_paths,
)

from vfm_isbench.protocol import Protocol


def protocol_tables() -> dict[str, str]:
    """Fields and values in the tables of the protocol page."""
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    section = text[text.index("\n## Fields") : text.index("\n## Presets")]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| .+ \|$", section, flags=re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a field is in the tables twice"
    return dict(rows)


def identify(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(params=PAGES, ids=identify)
def page(request):
    if not request.param.is_file():
        pytest.skip(f"{identify(request.param)} does not exist")
    return request.param


def test_the_protocol_page_has_every_field_and_no_other():
    assert set(protocol_tables()) == {field.name for field in dataclasses.fields(Protocol)}


def test_the_protocol_page_states_the_values_of_the_paper_preset():
    paper = Protocol.preset("paper")
    stated = {field: ast.literal_eval(value) for field, value in protocol_tables().items()}
    assert stated == {field: getattr(paper, field) for field in stated}


def test_relative_links_lead_to_files(page):
    assert [link for link in links(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()] == []


def test_paths_of_the_repository_exist(page):
    assert [path for path in repository_paths(page.read_text(encoding="utf-8")) if not (ROOT / path).exists()] == []


def test_command_lines_parse_and_name_what_exists(page):
    from vfm_isbench.cli.commands import build_parser
    from vfm_isbench.cli.options import protocol_from

    for line in command_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        arguments = words[3:] if words[0].startswith("python") else words[1:]
        printed = io.StringIO()
        try:
            with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
                parsed = build_parser().parse_args(arguments)
        except SystemExit as exit_:
            assert exit_.code == 0, f"{line}\n{printed.getvalue()}"
            continue
        if parsed.command == "run":
            protocol_from(parsed)


def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem.replace("-", "_")}
    printed = ""
    for fence in fences(page.read_text(encoding="utf-8")):
        where = f"{identify(page)}, line {fence.line}"
        if fence.marker == OUTPUT:
            agrees = doctest.OutputChecker().check_output(fence.text, printed, doctest.ELLIPSIS)
            assert agrees, f"{where}: expected\n{fence.text}\ngot\n{printed}"
        elif fence.language == "python" and not NOT_RUN.fullmatch(fence.marker):
            # Leading blank lines give tracebacks and inspect.getsource the line numbers of the page.
            code = compile("\n" * (fence.line - 1) + fence.text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, names)
            printed = output.getvalue()


def test_the_pages_of_the_book_lead_on_to_the_next_one():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    book = [page for page in re.findall(r": (\S+\.md)$", nav, flags=re.MULTILINE) if not page.startswith("decisions/")]
    assert book[-1] == "glossary.md"
    for page, following in zip(book, book[1:], strict=False):
        last = (DOCS / page).read_text(encoding="utf-8").rstrip().rpartition("\n\n")[2]
        assert last.startswith("Next: "), page
        assert posixpath.normpath(posixpath.join(posixpath.dirname(page), links(last)[0])) == following, page


def test_the_page_of_rooms_lists_every_room_and_no_other():
    package = ROOT / "vfm_isbench"
    rooms = {f"{file.parent.relative_to(package)}/" for file in package.rglob("*/__init__.py")}
    listed = re.findall(r"^\| `(\S+/)` \|", (DOCS / "code.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(rooms)


def test_the_parsers_of_pages_find_what_they_should():
    text = (
        "See [a](b.md#c), [d](https://e.org), `vfm-isbench run f --seed 1` in `vfm_isbench/cli.py`.\n\n"
        "`vfm-isbench run` is `python` code.\n\n"
        "<!-- not run: slow -->\n```python\nx\n```\n\n```bash\n$ vfm-isbench list \\\n  backbones\npip install .\n```\n"
    )
    assert links(text) == ["b.md"]
    assert repository_paths(text) == ["vfm_isbench/cli.py"]
    assert [shlex.split(line) for line in command_lines(text)] == [
        ["vfm-isbench", "list", "backbones"],
        ["vfm-isbench", "run", "f", "--seed", "1"],
    ]
    assert [(fence.language, fence.line, bool(NOT_RUN.fullmatch(fence.marker))) for fence in fences(text)] == [
        ("python", 7, True),
        ("bash", 11, False),
    ]
