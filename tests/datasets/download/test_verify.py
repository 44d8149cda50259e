"""What verification reports about good, damaged, small and missing data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_archives import COUNTS, WRAPPED_IN, mask, small_files, write_files

from vfm_isbench.datasets.download.manifest import Manifest, hash_content, write_manifest
from vfm_isbench.datasets.download.sources import SOURCES
from vfm_isbench.datasets.download.verify import VerifyReport, verify_dataset
from vfm_isbench.errors import UnknownNameError

NAMES = list(COUNTS)
HAVE_REAL = ["grabcut", "berkeley", "davis", "sbd"]
INSIDE = {"sbd", "pascal_voc", "tetris"}
"""Data sets with instances inside their files."""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All data sets, small and complete."""
    for name, counts in COUNTS.items():
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], counts=counts))
        files = small_files(name)
        inside = {path: content for path, content in files.items() if path.startswith(WRAPPED_IN[name])}
        folder = SOURCES[name].folder
        write_files(tmp_path, {path.replace(WRAPPED_IN[name], folder, 1): inside[path] for path in inside})
    return tmp_path


def verify(name: str, data_root: Path, deep: bool = True) -> VerifyReport:
    return verify_dataset(name, data_root, deep=deep, progress=False)


def record(name: str, data_root: Path) -> None:
    """A manifest like the one a download writes."""
    root = data_root / SOURCES[name].folder
    content = hash_content(SOURCES[name], root)
    (data_root / ".vfm_isbench").mkdir()
    manifest = Manifest(
        urls=(), sha256="0" * 64, size=1, date="2026-01-02T03:04:05+00:00", content_sha256=content, counts=COUNTS[name]
    )
    write_manifest(name, data_root, manifest)


@pytest.mark.parametrize("deep", [False, True])
def test_a_complete_data_set(name, data_root, deep):
    report = verify(name, data_root, deep)
    assert (report.state, report.problems, report.notes) == ("complete", (), ())
    for split, counts in COUNTS[name].items():
        assert report.splits[split].images == counts.images
        assert report.splits[split].objects == (None if name in INSIDE and not deep else counts.objects)


@pytest.mark.parametrize("name", HAVE_REAL)
def test_the_miniature_sets_are_readable_but_not_the_published_ones(name, real_root):
    report = verify(name, real_root)
    assert report.is_readable and not report.is_complete
    assert report.state == "incomplete"
    for split, found in report.splits.items():
        published = SOURCES[name].counts[split]
        assert (
            f"{split} has {found.images} images, but the published data set has {published.images}" in report.problems
        )
        assert (
            f"{split} has {found.objects} objects, but the published data set has {published.objects}"
            in report.problems
        )
    assert report.splits["val" if name == "sbd" else "test"].images == (30 if name == "sbd" else 10)


def test_an_absent_data_set(name, tmp_path):
    report = verify(name, tmp_path)
    assert (report.state, report.is_readable, len(report.problems)) == ("absent", False, 1)
    assert "not found" in report.problems[0]


def test_only_a_deep_check_finds_broken_files_and_it_names_them_all(data_root):
    broken = [data_root / path for path in ("SBD/img/2008_000002.jpg", "SBD/inst/2008_000004.mat")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:50])
    assert verify("sbd", data_root, deep=False).is_complete
    report = verify("sbd", data_root)
    assert report.state == "unreadable"
    assert len(report.unreadable) == 2
    assert all(str(path) in problem for path, problem in zip(broken, report.unreadable, strict=True))
    # With unreadable files, the number of objects is unknown.
    assert report.differing == ()
    assert "objects not counted" in str(report)


def test_a_missing_file_is_found_without_opening_any(data_root):
    (data_root / "SBD" / "inst" / "2008_000003.mat").unlink()
    report = verify("sbd", data_root, deep=False)
    assert report.state == "unreadable"
    assert "2008_000003.mat" in report.problems[0]


def test_two_objects_of_a_photograph_are_one_image(data_root):
    found = verify("berkeley", data_root).splits["test"]
    assert (found.images, found.objects) == (2, 3)


def test_a_mask_without_an_image_is_noted(data_root):
    (data_root / "GrabCut" / "boundary_GT" / "more.png").write_bytes(mask())
    report = verify("grabcut", data_root)
    assert report.is_complete
    assert len(report.notes) == 1 and "more.png" in report.notes[0]


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_files_other_than_those_downloaded_are_found(data_root, change):
    record("grabcut", data_root)
    assert verify("grabcut", data_root).is_complete
    folder = data_root / "GrabCut" / "boundary_GT"
    if change == "changed":
        (folder / "person1.png").write_bytes(mask() + b"\0")
    elif change == "added":
        (folder / "more.png").write_bytes(mask())
    else:
        (folder / "person1.png").rename(folder / "person1.bmp")
    assert verify("grabcut", data_root, deep=False).is_complete
    report = verify("grabcut", data_root)
    assert report.is_readable
    assert len(report.differing) == 1
    assert "changed, added or removed since the download on 2026-01-02" in report.differing[0]


def test_leftovers_of_file_managers_are_not_a_change(data_root):
    record("davis", data_root)
    write_files(data_root / "DAVIS" / "img", {".DS_Store": b"x", "Thumbs.db": b"x"})
    assert verify("davis", data_root).is_complete


def test_a_kept_archive_is_compared_with_the_record(data_root):
    record("grabcut", data_root)
    write_files(data_root / ".vfm_isbench" / "downloads", {"GrabCut.zip": b"another"})
    report = verify("grabcut", data_root)
    assert len(report.problems) == 1
    assert "GrabCut.zip is not the archive downloaded" in report.problems[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"counts": {}}', '{"counts": {"test": {"images": 1}}, "urls": []}'])
def test_a_broken_record_is_a_problem_that_names_the_file(data_root, content):
    write_files(data_root / ".vfm_isbench", {"grabcut.json": content.encode()})
    report = verify("grabcut", data_root)
    assert len(report.problems) == 1
    assert str(data_root / ".vfm_isbench" / "grabcut.json") in report.problems[0]


def test_nothing_is_written(name, data_root):
    before = {path: path.stat().st_mtime_ns for path in data_root.rglob("*")}
    verify(name, data_root)
    assert {path: path.stat().st_mtime_ns for path in data_root.rglob("*")} == before


def test_an_unknown_name(tmp_path):
    with pytest.raises(UnknownNameError, match="grabcut, berkeley, davis, sbd"):
        verify("scenes", tmp_path)
