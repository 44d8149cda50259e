"""The vendored libraries match their record and include their licences."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import vfm_isbench.leaderboard.page
from vfm_isbench.leaderboard.page import vendored_files

FOLDER = Path(vfm_isbench.leaderboard.page.__file__).parent / "vendor"
RECORD = Path(__file__).parents[3] / "docs" / "decisions" / "0016-libraries-of-the-page.md"
PERMISSIVE = {"MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0"}
LIBRARIES = vendored_files()


def test_the_table_names_every_file_and_no_other():
    listed = {name for library in LIBRARIES for name in (library.file, library.licence_file)}
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == listed | {"vendored.json"}


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_a_library_is_what_the_table_says(library):
    content = (FOLDER / library.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == library.sha256
    assert len(content) < 2**20
    assert f"v{library.version}" in content[:200].decode()
    assert library.licence in PERMISSIVE


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_the_licence_text_covers_the_library(library):
    text = library.licence_text()
    assert f"{library.name} {library.version}" in text
    assert f"({library.licence})" in text
    assert re.search(r"Copyright .*\d{4}", text)
    assert re.search(r"Permission to use|Permission is hereby granted", text)


def test_the_decision_record_has_the_same_table():
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \| `(.+?)` \| `(.+?)` \|$", RECORD.read_text(), re.MULTILINE)
    assert rows == [
        (library.name, library.version, library.licence, library.file, library.sha256) for library in LIBRARIES
    ]
