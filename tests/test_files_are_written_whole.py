"""Every file is written through ``storage/atomic``, or a comment in the code says why it is not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = ROOT / "vfm_isbench" / "storage" / "atomic.py"
MARK = "# not atomic: "

METHODS = {"write_text", "write_bytes", "save_file", "savefig", "savez", "NamedTemporaryFile", "mkstemp"}
OF_MODULES = {
    "os": {"rename", "replace"},
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move"},
    "torch": {"save"},
    "np": {"save"},
    "json": {"dump"},
    "gzip": {"open"},
}
BY_OTHERS = {"write_text", "write_bytes"}
"""Without an object before them, these are functions of ``storage/atomic``, or call them."""


def writes(call: ast.Call) -> bool:
    """Whether a call writes, moves or opens a file for writing by itself."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in METHODS - BY_OTHERS or (function.id == "open" and _has_writing_mode(call))
    if not isinstance(function, ast.Attribute):
        return False
    name, of = function.attr, function.value.id if isinstance(function.value, ast.Name) else ""
    if of == "atomic":
        return False
    is_path = len(call.args) == 1 and not call.keywords  # of text, replace has two arguments
    return (
        name in METHODS
        or name in OF_MODULES.get(of, ())
        or (name in {"rename", "replace"} and is_path)
        or (name == "open" and _has_writing_mode(call))
    )


def _has_writing_mode(call: ast.Call) -> bool:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
    return any(isinstance(mode, str) and len(mode) < 4 and set(mode) & set("wax+") for mode in modes)


def _calls(node: ast.AST, is_whole: bool = False) -> Iterator[ast.Call]:
    """Calls outside ``with replacing(…)``, which writes files whole."""
    if isinstance(node, ast.With):
        is_whole = is_whole or any("replacing(" in ast.unparse(item.context_expr) for item in node.items)
    if isinstance(node, ast.Call) and not is_whole:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, is_whole)


def unexplained(source: str) -> list[int]:
    """Lines that write a file by themselves, without a comment on them or right above that says why."""
    lines = source.splitlines()
    return [
        call.lineno
        for call in _calls(ast.parse(source))
        if writes(call) and not any(MARK in line for line in lines[max(0, call.lineno - 2) : call.end_lineno])
    ]


@pytest.mark.parametrize("part", ["vfm_isbench", "benchmarks"])
def test_every_file_is_written_whole(part: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / part).rglob("*.py"))
        if file != OWN
        for line in unexplained(file.read_text(encoding="utf-8"))
    ]
    assert not found, f"use vfm_isbench.storage.atomic, or say why not in a comment '{MARK}…'"


@pytest.mark.parametrize(
    "statement",
    [
        "path.write_text('x')",
        "path.open('a').write('x')",
        "open(path, mode='wb')",
        "save_file(tensors, path)",
        "torch.save(tensors, path)",
        "partial.rename(path)",
        "partial.replace(path)",
        "shutil.move(partial, path)",
        "json.dump(content, file)",
        "figure.savefig(path)",
    ],
)
def test_what_writes_by_itself_is_found(statement: str) -> None:
    assert unexplained(statement) == [1]
    assert unexplained(f"{statement}  # not atomic: a test") == []
    assert unexplained(f"with replacing(path) as partial:\n    {statement}") == []


def test_what_writes_nothing_is_not_found() -> None:
    harmless = ["path.open('rb')", "text.replace('a', 'b')", "protocol.replace(seed=1)", "write_text(path, text)"]
    assert unexplained("\n".join(harmless)) == []
