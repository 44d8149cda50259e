"""Data sets that come from Drive, from a folder that the user filled, and what is said if nothing works."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_server import Answer, ArchiveServer
from drive import QUOTA_PAGE, START_PAGE, page, serve_on_drive
from small_archives import COUNTS, serve_small, small_archive, small_files, write_files, zipped

from vfm_isbench.datasets.download.fetch import DownloadReport, download_dataset
from vfm_isbench.datasets.download.manifest import read_manifest
from vfm_isbench.datasets.download.sources import SOURCES, Counts, source_of
from vfm_isbench.datasets.download.verify import verify_dataset
from vfm_isbench.errors import DataError, UnknownNameError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ArchiveServer() as server:
        for name in SOURCES:
            monkeypatch.setitem(SOURCES, name, serve_small(server, name, Answer(status=404)))
        yield server


def get(name: str, root: Path, **options: object) -> DownloadReport:
    return download_dataset(name, root, **{"progress": False, "backoff": (0.0,), **options})  # type: ignore[arg-type]


def set_urls(name: str, *urls: str, **fields: object) -> None:
    SOURCES[name] = replace(SOURCES[name], archive=replace(SOURCES[name].archive, urls=urls, **fields))


def test_sources_are_tried_in_turn_until_drive_has_the_archive(server, tmp_path):
    archive, half = small_archive("grabcut"), len(small_archive("grabcut")) // 2
    set_urls(
        "grabcut",
        server.serve("/gone", Answer(status=404)),
        server.serve("/moved", page(START_PAGE)),
        server.serve("/html-named-otherwise", Answer(content=b"{'error': 'gone'}", content_type="application/zip")),
        serve_on_drive(server, "full", page(QUOTA_PAGE)),
        serve_on_drive(server, "good", Answer(content=archive, cut=half), Answer(content=archive)),
    )
    report = get("grabcut", tmp_path)
    assert report.verified.is_complete
    assert server.ranges[-1] == f"bytes={half}-"
    assert f"sha256 {hashlib.sha256(archive).hexdigest()}" in str(report)
    assert [entry.name for entry in (tmp_path / ".vfm_isbench" / "downloads").iterdir()] == []


def test_the_error_lists_every_source_and_what_else_can_be_done(server, tmp_path):
    set_urls(
        "grabcut",
        server.serve("/gone", Answer(status=404)),
        server.serve("/moved", page(START_PAGE)),
        server.serve("/text", Answer(content=b"no archive")),
        serve_on_drive(server, "full", page(QUOTA_PAGE)),
    )
    with pytest.raises(DataError) as caught:
        get("grabcut", tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "GrabCut.zip could not be downloaded. Tried:"
    assert lines[1].endswith("/gone: HTTP 404 Not Found")
    assert "/moved: sends a web page instead of the file" in lines[2]
    assert lines[3].endswith("/text: not a zip or tar archive")
    assert "/uc?export=download&id=full: its download quota is used up" in lines[4]
    assert "vfm-isbench data download grabcut --mirror URL" in lines[6]
    assert "vfm-isbench data download grabcut --from-folder DIR" in lines[7]
    assert list((tmp_path / ".vfm_isbench" / "downloads").iterdir()) == []  # what is no archive is not kept


def test_a_copy_packed_anew_is_judged_by_its_content(server, tmp_path):
    """The copy of SBD on Drive cannot have the published checksum."""
    copy = zipped(small_files("sbd"))
    set_urls(
        "sbd", server.serve("/b", Answer(status=404)), md5="0" * 32, copies=(server.serve("/c", Answer(content=copy)),)
    )
    report = get("sbd", tmp_path)
    assert report.verified.is_complete and report.manifest.sha256 == hashlib.sha256(copy).hexdigest()


def test_what_came_from_a_copy_can_be_fetched_again(server, tmp_path):
    """The copy's hash was recorded; the archive of the official address has another one."""
    files = small_files("grabcut")
    official, copy = small_archive("grabcut"), zipped(dict(reversed(files.items())))
    assert official != copy
    fields = {"md5": hashlib.md5(official, usedforsecurity=False).hexdigest()}
    set_urls(
        "grabcut",
        server.serve("/gone", Answer(status=404)),
        copies=(server.serve("/copy", Answer(content=copy)),),
        **fields,
    )
    assert get("grabcut", tmp_path).verified.is_complete
    shutil.rmtree(tmp_path / "GrabCut")
    set_urls("grabcut", server.serve("/back", Answer(content=official)), **fields)
    assert get("grabcut", tmp_path).verified.is_complete


def test_a_hash_of_the_user_takes_the_place_of_the_published_one(server, tmp_path):
    archive = small_archive("pascal_voc")
    set_urls("pascal_voc", server.serve("/v", Answer(content=archive)), md5="0" * 32)
    with pytest.raises(DataError, match="expected sha256 1111"):
        get("pascal_voc", tmp_path, sha256="1" * 64)
    assert get("pascal_voc", tmp_path, sha256=hashlib.sha256(archive).hexdigest()).verified.is_complete


@pytest.mark.parametrize("name", ["grabcut", "sbd", "pascal_voc", "tetris", "coco_mval"])
def test_an_archive_of_the_user_is_taken_like_a_download(name, server, tmp_path):
    there = tmp_path / "fetched by hand"
    there.mkdir()
    published = Path(SOURCES[name].archive.file_name)
    (there / f"{published.stem} (1){published.suffix}").write_bytes(small_archive(name))
    report = get(name, tmp_path / "data", from_folder=there)
    assert report.verified.is_complete and not report.was_there
    manifest = read_manifest(name, tmp_path / "data")
    assert manifest.sha256 == hashlib.sha256(small_archive(name)).hexdigest() and manifest.urls == ()
    assert manifest.counts == COUNTS[name]
    assert len(list(there.iterdir())) == 1  # it stays
    assert [asked for asked, _ in server.requests if "pkl" not in asked] == []


def test_a_saved_page_beside_the_archive_does_no_harm(server, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "GrabCut.zip").write_bytes(START_PAGE.encode() if isinstance(START_PAGE, str) else START_PAGE)
    with pytest.raises(DataError, match=r"GrabCut\.zip: not a zip or tar archive"):
        get("grabcut", tmp_path, from_folder=tmp_path / "in")
    (tmp_path / "in" / "GrabCut (1).zip").write_bytes(small_archive("grabcut"))
    assert get("grabcut", tmp_path, from_folder=tmp_path / "in").verified.is_complete


def test_names_that_are_not_downloaded_say_what_to_do():
    with pytest.raises(UnknownNameError, match="Did you mean 'sbd'.*sbd600 is made of the files of sbd"):
        source_of("sbd600")
    with pytest.raises(UnknownNameError, match="not downloaded; check them with: vfm-isbench data objects folder:mine"):
        source_of("folder:mine")


def test_several_archives_make_one_data_set(server, tmp_path):
    files = small_files("hqseg44k")
    parts = {"DIS5K.zip": "DIS5K", "thin_object_detection.zip": "thin_object"}
    (tmp_path / "in").mkdir()
    for archive, start in parts.items():
        with pytest.raises(DataError, match=r"expected DIS5K\.zip and thin_object_detection\.zip, or a folder with"):
            get("hqseg44k", tmp_path, from_folder=tmp_path / "in")
        wanted = {path[2:]: content for path, content in files.items() if path.startswith(f"./{start}")}
        (tmp_path / "in" / archive).write_bytes(zipped(wanted))
    report = get("hqseg44k", tmp_path, from_folder=tmp_path / "in")
    assert report.verified.is_complete and report.manifest.sha256 is not None
    assert verify_dataset("hqseg44k", tmp_path, deep=True, progress=False).is_complete
    with pytest.raises(DataError, match=r"(?s)by hand.*from https://huggingface\.co/sam-hq-team.*--from-folder DIR"):
        get("hqseg44k", tmp_path / "elsewhere")


@pytest.mark.parametrize("depth", ["", "a/b"])
def test_an_unpacked_folder_is_copied(depth, server, tmp_path):
    there = tmp_path / "in" / depth
    write_files(there, small_files("grabcut"))
    report = get("grabcut", tmp_path / "data", from_folder=tmp_path / "in")
    assert report.verified.is_complete and report.manifest.sha256 is None
    assert (there / "GrabCut" / "data_GT").is_dir()
    assert "sha256" not in str(report)
    assert read_manifest("grabcut", tmp_path / "data") == report.manifest
    (tmp_path / "data" / "GrabCut" / "data_GT" / "person1.jpg").write_bytes(b"")
    assert not verify_dataset("grabcut", tmp_path / "data", deep=True, progress=False).is_complete


def test_what_is_wrong_in_a_folder_is_said_and_nothing_is_installed(server, tmp_path):
    there = tmp_path / "in"
    with pytest.raises(DataError, match="in is not a folder; expected one that holds GrabCut.zip, or a folder with"):
        get("grabcut", tmp_path, from_folder=there)
    there.mkdir()
    with pytest.raises(DataError, match="holds nothing; expected GrabCut.zip"):
        get("grabcut", tmp_path, from_folder=there)
    (there / "GrabCut.zip").write_bytes(START_PAGE.encode())
    with pytest.raises(DataError, match=r"GrabCut\.zip: not a zip or tar archive\. Perhaps a web page was saved"):
        get("grabcut", tmp_path, from_folder=there)
    (there / "GrabCut.zip").write_bytes(small_archive("davis"))
    with pytest.raises(DataError, match=r"no folder in it has data_GT/"):
        get("grabcut", tmp_path, from_folder=there)
    (there / "benchmark.tgz").write_bytes(small_archive("sbd"))
    set_urls("sbd", md5="0" * 32)
    with pytest.raises(
        DataError, match=r"expected md5 000.*If you trust this copy, give its own hash: --sha256 [0-9a-f]"
    ):
        get("sbd", tmp_path, from_folder=there)
    sha256 = hashlib.sha256(small_archive("sbd")).hexdigest()
    assert get("sbd", tmp_path, from_folder=there, sha256=sha256).verified.is_complete
    assert not (tmp_path / "GrabCut").exists()


def test_a_number_that_other_publications_give_is_noted_not_refused(server, tmp_path):
    SOURCES["pascal_voc"] = replace(
        SOURCES["pascal_voc"], counts={"val": Counts(images=2, objects=9)}, disputed_objects=(4,)
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / SOURCES["pascal_voc"].archive.file_name).write_bytes(small_archive("pascal_voc"))
    verified = get("pascal_voc", tmp_path, from_folder=tmp_path / "in").verified
    assert verified.is_complete and "other publications give 4" in str(verified)
