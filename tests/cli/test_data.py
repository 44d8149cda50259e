"""``vfm-isbench data`` as users see it: output, requests and errors."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_server import Answer, ArchiveServer
from small_archives import serve_small, small_archive

from vfm_isbench.cli.data import add_data
from vfm_isbench.datasets.download.sources import SOURCES
from vfm_isbench.errors import DataError, UnknownNameError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    """Serve small versions of all data sets instead of the published ones."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("VFM_ISBENCH_DATA_MIRROR", raising=False)
    with ArchiveServer() as server:
        for name in SOURCES:
            monkeypatch.setitem(SOURCES, name, serve_small(server, name))
        yield server


def run(*arguments: object) -> None:
    """Run the subcommand alone, without error handling."""
    parser = argparse.ArgumentParser()
    add_data(parser.add_subparsers())
    parsed = parser.parse_args(["data", *map(str, arguments)])
    parsed.function(parsed)


def test_download_verify_and_list(server, tmp_path, capsys):
    run("list", "--data-root", tmp_path)
    assert capsys.readouterr().out.count("absent") == len(SOURCES)

    run("download", "grabcut", "berkeley", "davis", "sbd", "--data-root", tmp_path, "--quiet")
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith(f"data root: {tmp_path}\n")
    for name in ("grabcut", "berkeley", "davis", "sbd"):
        source = SOURCES[name]
        terms, verdict = printed.out.index(source.licence), printed.out.index(f"{name}: complete")
        assert terms < printed.out.index(source.citation) < verdict

    run("list", "--data-root", tmp_path)
    assert capsys.readouterr().out.count(" complete ") == 4

    run("verify", "--deep", "--quiet", "--data-root", tmp_path)
    printed = capsys.readouterr()
    assert printed.out.count(": complete (") == 4
    assert "train: 2 of 2 images, 4 of 4 objects" in printed.out


def test_progress_is_shown_unless_quiet(server, tmp_path, capsys):
    run("download", "grabcut", "--data-root", tmp_path)
    assert "GrabCut.zip: 100%" in capsys.readouterr().err


def test_the_data_root_is_the_folder_data_unless_given(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("download", "grabcut", "--quiet")
    assert (tmp_path / "data" / "GrabCut" / "data_GT").is_dir()


def test_one_failure_does_not_keep_the_others_back(server, tmp_path, capsys):
    server.serve("/GrabCut.zip", Answer(status=404))
    with pytest.raises(DataError, match=r"(?s)grabcut: GrabCut.zip could not be downloaded.*HTTP 404"):
        run("download", "grabcut", "davis", "--data-root", tmp_path, "--quiet")
    assert "davis: complete" in capsys.readouterr().out


def test_mirrors_of_the_option_and_of_the_environment(server, tmp_path, monkeypatch):
    server.serve("/GrabCut.zip", Answer(status=404))
    server.serve("/c/GrabCut.zip", Answer(content=small_archive("grabcut")))
    monkeypatch.setenv("VFM_ISBENCH_DATA_MIRROR", f"{server.url}/b {server.url}/c")
    run("download", "grabcut", "--mirror", f"{server.url}/a", "--data-root", tmp_path, "--quiet", "--keep-archive")
    assert [path for path, _ in server.requests] == ["/a/GrabCut.zip", "/b/GrabCut.zip", "/c/GrabCut.zip"]
    assert (tmp_path / ".vfm_isbench" / "downloads" / "GrabCut.zip").is_file()


def test_an_unknown_name_stops_everything_before_it_begins(server, tmp_path):
    with pytest.raises(UnknownNameError, match="pascal"):
        run("download", "grabcut", "pascal", "--data-root", tmp_path)
    assert server.requests == []


def test_verify_prints_the_whole_report_and_fails(server, tmp_path, capsys):
    run("download", "grabcut", "davis", "--data-root", tmp_path, "--quiet")
    (tmp_path / "GrabCut" / "data_GT" / "person1.jpg").unlink()
    capsys.readouterr()
    with pytest.raises(DataError, match=r"not the published files: grabcut \(incomplete\); "):
        run("verify", "--data-root", tmp_path)
    printed = capsys.readouterr().out
    assert "problem: test has 1 images, but the published data set has 2" in printed
    assert "davis: complete" in printed


def test_verify_of_what_is_not_there(server, tmp_path, capsys):
    with pytest.raises(DataError, match="holds none of GrabCut, Berkeley, DAVIS, SBD, COCO_MVal"):
        run("verify", "--data-root", tmp_path)
    with pytest.raises(DataError, match=r"sbd \(absent\)"):
        run("verify", "sbd", "--data-root", tmp_path)
    assert "img/, inst/, train.txt, val.txt not found" in capsys.readouterr().out


def test_the_options_are_those_of_the_page():
    """Otherwise the page on data would be out of date."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for option in (
        "--data-root",
        "--mirror",
        "--keep-archive",
        "--deep",
        "--from-folder",
        "--sha256",
        "VFM_ISBENCH_DATA_MIRROR",
    ):
        assert option in page
    for source in SOURCES.values():
        for text in (source.licence, source.citation):
            assert text in " ".join(page.split())
