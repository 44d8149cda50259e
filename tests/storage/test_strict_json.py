"""The strict parser refuses what could hang, exhaust the memory, or mean something else to another reader."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfm_isbench.storage import json_fields
from vfm_isbench.storage.printable import escaped
from vfm_isbench.storage.strict_json import SMALL, Limits, UnreadableError, parse_json, read_json

FEW = Limits(size=1000, containers=10, values=20, depth=4)

REFUSED = {
    "400 digits": (b"[" + b"9" * 400 + b"]", "a number of 400 characters; at most 40"),
    "a long fraction": (b"0." + b"1" * 60, "a number of 62 characters"),
    "infinite float": (b'{"a": 1e999}', "the number '1e999', which is too large"),
    "infinite negative float": (b"[-1E+0400]", "too large"),
    "infinity at the end": (b"1e999", "too large"),
    "NaN": (b"[NaN]", "NaN, which is not a JSON number"),
    "Infinity": (b"[-Infinity]", "-Infinity, which is not a JSON number"),
    "lone surrogate": (b'["\\ud800"]', "half a character"),
    "lone surrogate as a key": (b'{"\\udfff": 1}', "half a character"),
    "lone surrogate in bytes": (b'["\xed\xa0\x80"]', "not UTF-8: byte 2"),
    "key twice": (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' twice"),
    "deep": (b"[" * 33 + b"]" * 33, "deeper than 32 levels"),
    "very deep": (b"[" * 20_000 + b"]" * 20_000, "deeper than 32 levels"),
    "not UTF-8": (b'"\xff"', "not UTF-8: byte 1"),
    "byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "no JSON": (b"{", "is not JSON"),
    "nothing": (b"", "is not JSON"),
    "containers": (b"[" + b"[]," * SMALL.containers + b"1]", "more than 50000 lists and objects"),
    "values": (b"[" + b"1," * (SMALL.values + 1) + b"1]", "500000 values"),
    "size": (b" " * (SMALL.size + 1), "larger than 4194304 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_text_is_refused_with_the_reason(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(UnreadableError, match=reason):
        parse_json(text, SMALL)


_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(_VALUES, st.booleans())
def test_other_json_is_read_as_by_pythons_parser(value: Any, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    try:
        assert parse_json(text) == json.loads(text)
    except UnreadableError as error:
        assert "deeper" in str(error)


def test_a_byte_of_a_file_name_that_is_not_utf_8_stays() -> None:
    assert parse_json(b'["\\udcff"]') == ["\udcff"]
    assert parse_json(b'["\\ud83d\\ude00"]') == ["\U0001f600"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_devices_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path, "is a folder"),
        (Path("a\0b"), "cannot be read"),
        (tmp_path / ("x" * 5000), "cannot be read"),
    ):
        with pytest.raises(UnreadableError, match=reason):
            read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing")
    (tmp_path / "file").write_text("[1]")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_json(tmp_path / "link") == [1]


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**34)  # takes no room
    tracemalloc.start()
    with pytest.raises(UnreadableError, match="larger than 1000 bytes"):
        read_json(tmp_path / "large", FEW)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_field_that_is_missing_or_of_another_type_is_named() -> None:
    content = {"flag": True, "minus": -1, "text": "x" * 30_000, "list": [1, 2]}
    for read, reason in (
        (
            lambda: json_fields.number(content, "flag", "a."),
            "'a.flag' has the wrong type: expected a number",
        ),
        (lambda: json_fields.whole(content, "minus"), "'minus' is -1; expected a whole number from 0"),
        (lambda: json_fields.text(content, "text"), "30000 characters; at most 20000"),
        (lambda: json_fields.sequence(content, "list", most=1), "2 items; at most 1"),
        (lambda: json_fields.text(content, "none", "a."), "'a.none' is missing"),
        (lambda: json_fields.text([], "none", "a."), "the field 'a' is a list of 0; expected an object"),
    ):
        with pytest.raises(UnreadableError, match=reason):
            read()


def test_texts_cannot_command_a_terminal() -> None:
    assert escaped(["a\x1b[2J\u202e", {"k\x07": "two\nlines"}, 3]) == ["a\\x1b[2J\\u202e", {"k\\x07": "two\nlines"}, 3]
