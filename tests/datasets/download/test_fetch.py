"""Data sets end to end, from a local server to a verified folder, with everything that can go wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_server import Answer, ArchiveServer
from small_archives import (
    COUNTS,
    SAMPLE_WEIGHTS,
    mask,
    picture,
    serve_small,
    small_archive,
    small_files,
    tarred,
    zipped,
)

from vfm_isbench.datasets.catalogue import SAMPLE_WEIGHTS_FILE
from vfm_isbench.datasets.download import fetch, install
from vfm_isbench.datasets.download.fetch import download_dataset
from vfm_isbench.datasets.download.manifest import Manifest, read_manifest
from vfm_isbench.datasets.download.sources import SOURCES, DatasetSource
from vfm_isbench.datasets.download.verify import verify_dataset
from vfm_isbench.errors import DataError, UnknownNameError, VfmIsbenchWarning

NAMES = ["grabcut", "berkeley", "davis", "sbd", "coco_mval", "pascal_voc", "tetris"]
Serve = Callable[..., DatasetSource]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ArchiveServer() as server:
        yield server


@pytest.fixture
def serve(server: ArchiveServer, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Serves a small data set in place of the published one."""

    def serve(name: str, *answers: Answer, **fields: object) -> DatasetSource:
        source = serve_small(server, name, *answers, **fields)
        monkeypatch.setitem(SOURCES, name, source)
        return source

    return serve


def get(name: str, root: Path, **options: object) -> fetch.DownloadReport:
    return download_dataset(name, root, **{"progress": False, "backoff": (0.0,), **options})  # type: ignore[arg-type]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_arrives_in_its_layout(name, serve, server, tmp_path):
    source = serve(name)
    root = tmp_path / "new" / "data"
    report = get(name, root)
    assert not report.was_there
    assert report.verified.is_complete and report.verified.is_deep
    assert report.verified.root == root / source.folder
    for split, counts in COUNTS[name].items():
        found = report.verified.splits[split]
        assert (found.images, found.objects) == (counts.images, counts.objects)
        assert len(source.open_split(root / source.folder, split).objects) == counts.objects
    archive = small_archive(name)
    assert report.manifest == read_manifest(name, root)
    assert report.manifest.sha256 == hashlib.sha256(archive).hexdigest()
    assert report.manifest.size == len(archive)
    assert report.manifest.counts == COUNTS[name]
    # Nothing else is left behind, neither the archive nor the file manager's junk.
    assert files_below(root / ".vfm_isbench") == [f"{name}.json"]
    assert not [path for path in files_below(root) if "MACOSX" in path or "._" in path]
    assert {entry.name for entry in root.iterdir()} == {source.folder, ".vfm_isbench"}


def test_the_second_call_requests_nothing(serve, server, tmp_path):
    for name in NAMES:
        serve(name)
        get(name, tmp_path)
    asked = len(server.requests)
    for name in NAMES:
        report = get(name, tmp_path)
        assert report.was_there and report.verified.is_complete
        assert "already there" in str(report)
    assert len(server.requests) == asked == len(NAMES) + 1  # and the scores of SBD


def test_an_interrupted_download_continues_in_the_next_call(serve, server, tmp_path):
    archive = small_archive("davis")
    half = len(archive) // 2
    serve("davis", Answer(content=archive, cut=half), Answer(status=503))
    with pytest.raises(DataError, match="503"):
        get("davis", tmp_path)
    assert not (tmp_path / "DAVIS").exists()
    serve("davis")
    get("davis", tmp_path)
    assert server.ranges[-1] == f"bytes={half}-"
    assert server.sent == len(archive)


@pytest.mark.parametrize("where", ["unpack", "verify_folder"])
def test_an_interruption_after_the_download_does_not_lose_the_archive(where, serve, server, tmp_path, monkeypatch):
    serve("grabcut")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # verify_dataset has its own reference, so only the check of the unpacked files is interrupted.
        patch.setattr(install, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            get("grabcut", tmp_path)
    assert files_below(tmp_path) == [".vfm_isbench/downloads/GrabCut.zip"]
    assert [entry.name for entry in (tmp_path / ".vfm_isbench").iterdir()] == ["downloads"]
    get("grabcut", tmp_path)
    assert len(server.requests) == 1


def test_the_archive_is_kept_on_request(serve, tmp_path):
    serve("sbd")
    get("sbd", tmp_path, keep_archive=True)
    assert (tmp_path / ".vfm_isbench" / "downloads" / "benchmark.tgz").read_bytes() == small_archive("sbd")


def test_an_archive_put_there_by_hand_needs_no_server(serve, server, tmp_path):
    serve("grabcut", Answer(status=404))
    downloads = tmp_path / ".vfm_isbench" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "GrabCut.zip").write_bytes(small_archive("grabcut"))
    assert get("grabcut", tmp_path).verified.is_complete
    assert server.requests == []


def test_mirrors_come_first_in_their_order(serve, server, tmp_path):
    serve("grabcut", Answer(status=404))
    server.serve("/second/GrabCut.zip", Answer(content=small_archive("grabcut")))
    mirrors = [f"{server.url}/first", f"{server.url}/second/"]
    report = get("grabcut", tmp_path, mirrors=mirrors)
    assert [path for path, _ in server.requests] == ["/first/GrabCut.zip", "/second/GrabCut.zip"]
    assert report.manifest.urls == (
        *(f"{mirror.rstrip('/')}/GrabCut.zip" for mirror in mirrors),
        f"{server.url}/GrabCut.zip",
    )


def test_a_missing_archive_names_every_address_and_what_to_do(serve, server, tmp_path):
    serve("berkeley", Answer(status=404))
    with pytest.raises(DataError) as caught:
        get("berkeley", tmp_path, mirrors=[f"{server.url}/m"])
    message = str(caught.value)
    assert f"{server.url}/m/Berkeley.zip: HTTP 404" in message
    assert f"{server.url}/Berkeley.zip: HTTP 404" in message
    assert str(tmp_path / ".vfm_isbench" / "downloads" / "Berkeley.zip") in message


def test_a_published_checksum_is_kept(serve, server, tmp_path):
    wrong, right = zipped({"other.txt": b"x"}), small_archive("sbd")
    md5 = hashlib.md5(right).hexdigest()
    serve("sbd", Answer(content=wrong), md5=md5)
    with pytest.raises(DataError, match=f"expected md5 {md5}, got {hashlib.md5(wrong).hexdigest()}"):
        get("sbd", tmp_path)
    server.serve("/mirror/benchmark.tgz", Answer(content=right))
    assert get("sbd", tmp_path, mirrors=[f"{server.url}/mirror"]).verified.is_complete


def test_without_a_published_checksum_the_first_download_is_trusted_and_remembered(serve, tmp_path):
    serve("grabcut")
    first = get("grabcut", tmp_path)
    (tmp_path / "GrabCut").rename(tmp_path / "moved away")
    other = zipped({**small_files("grabcut"), "GrabCut/README": b"published anew"})
    serve("grabcut", Answer(content=other))
    with pytest.raises(DataError) as caught:
        get("grabcut", tmp_path)
    assert first.manifest.sha256 in str(caught.value)
    assert hashlib.sha256(other).hexdigest() in str(caught.value)
    record = tmp_path / ".vfm_isbench" / "grabcut.json"
    assert f"delete {record}" in str(caught.value)
    record.unlink()
    assert get("grabcut", tmp_path).manifest.sha256 == hashlib.sha256(other).hexdigest()


def without(files: dict[str, bytes], path: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != path}


GRABCUT = small_files("grabcut")
NOT_GRABCUT = {
    "truncated": (small_archive("grabcut")[:-200], "not an archive"),
    "another data set": (small_archive("davis"), "no folder in it has data_GT/, boundary_GT/; it contains DAVIS/"),
    "empty": (zipped({}), "it contains nothing"),
    "an image less": (
        zipped(without(without(GRABCUT, "GrabCut/data_GT/person1.jpg"), "GrabCut/boundary_GT/person1.png")),
        "test has 1 objects, but the published data set has 2",
    ),
    "an image more": (
        zipped({**GRABCUT, "GrabCut/data_GT/2.jpg": picture("JPEG"), "GrabCut/boundary_GT/2.png": mask()}),
        "test has 3 images, but the published data set has 2",
    ),
    "a mask less": (zipped(without(GRABCUT, "GrabCut/boundary_GT/person1.png")), "no mask for"),
    "a broken image": (zipped({**GRABCUT, "GrabCut/data_GT/person1.jpg": b"GIF89a"}), r"person1\.jpg: cannot be read"),
}


@pytest.mark.parametrize("case", NOT_GRABCUT)
def test_another_archive_is_never_put_in_place(case, serve, server, tmp_path):
    content, message = NOT_GRABCUT[case]
    serve("grabcut", Answer(content=content))
    with pytest.raises(DataError, match=message):
        get("grabcut", tmp_path)
    assert files_below(tmp_path) == [".vfm_isbench/downloads/GrabCut.zip.rejected"]
    # The wrong archive is not used again, even without a checksum.
    serve("grabcut")
    assert get("grabcut", tmp_path).verified.is_complete


@pytest.mark.parametrize("bad", [b"<html>Sign in</html>", small_archive("davis")], ids=["a page", "another archive"])
def test_after_a_mirror_with_a_wrong_archive_the_next_is_tried(bad, serve, server, tmp_path):
    serve("grabcut", Answer(status=404))
    server.serve("/bad/GrabCut.zip", Answer(content=bad))
    server.serve("/good/GrabCut.zip", Answer(content=small_archive("grabcut")))
    mirrors = [f"{server.url}/{name}" for name in ("bad", "good")]
    assert get("grabcut", tmp_path, mirrors=mirrors).verified.is_complete
    assert [path for path, _ in server.requests] == ["/bad/GrabCut.zip", "/good/GrabCut.zip"]


def test_if_no_address_has_the_right_archive_the_error_names_each(serve, server, tmp_path):
    serve("grabcut", Answer(status=404))
    server.serve("/bad/GrabCut.zip", Answer(content=b"<html>Sign in</html>"))
    with pytest.raises(DataError, match=r"(?s)/bad/GrabCut\.zip: .*asks to sign in.*/GrabCut\.zip: HTTP 404"):
        get("grabcut", tmp_path, mirrors=[f"{server.url}/bad"])


def test_a_wrong_archive_put_there_by_hand_is_set_aside(serve, tmp_path):
    serve("grabcut")
    downloads = tmp_path / ".vfm_isbench" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "GrabCut.zip").write_bytes(small_archive("davis"))
    assert get("grabcut", tmp_path).verified.is_complete
    assert (downloads / "GrabCut.zip.rejected").read_bytes() == small_archive("davis")


def test_a_wrong_count_of_instances_is_noticed(serve, tmp_path):
    source = serve("sbd")
    SOURCES["sbd"] = replace(source, counts={**source.counts, "val": replace(source.counts["val"], objects=3)})
    with pytest.raises(DataError, match="val has 2 objects, but the published data set has 3"):
        get("sbd", tmp_path)


def test_an_archive_that_leads_out_of_its_folder_writes_nothing(serve, tmp_path):
    root = tmp_path / "a" / "data"
    serve("grabcut", Answer(content=zipped({**GRABCUT, "../../../../escaped": b"x"})))
    with pytest.raises(DataError, match="leads out of the target folder"):
        get("grabcut", root)
    assert files_below(tmp_path) == ["a/data/.vfm_isbench/downloads/GrabCut.zip.rejected"]


@pytest.mark.parametrize("prefix", ["", "GrabCut/", "a/b/c/d/"])
def test_the_layout_is_found_however_deep(prefix, serve, tmp_path):
    files = {path.replace("GrabCut/", prefix): content for path, content in GRABCUT.items()}
    serve("grabcut", Answer(content=tarred(files)))
    get("grabcut", tmp_path)
    assert {entry.name for entry in (tmp_path / "GrabCut").iterdir()} == {"data_GT", "boundary_GT"}


@pytest.mark.parametrize(
    ("removed", "problem"),
    [("data_GT/person1.jpg", "has 1 images"), ("boundary_GT/person1.png", "no mask for .*person1")],
)
def test_an_incomplete_folder_is_reported_and_left_alone(removed, problem, serve, server, tmp_path):
    serve("grabcut")
    get("grabcut", tmp_path)
    (tmp_path / "GrabCut" / removed).unlink()
    before = files_below(tmp_path)
    with pytest.raises(DataError, match=rf"(?s)GrabCut exists, but is not.*{problem}.*Move or delete it"):
        get("grabcut", tmp_path)
    assert files_below(tmp_path) == before
    assert len(server.requests) == 1


def test_a_data_root_that_cannot_be_written(serve, tmp_path):
    serve("grabcut")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        get("grabcut", tmp_path / "file" / "data")


def test_sbd_comes_with_the_scores_of_its_training_images(serve, tmp_path):
    serve("sbd")
    get("sbd", tmp_path)
    assert (tmp_path / "SBD" / SAMPLE_WEIGHTS_FILE).read_bytes() == SAMPLE_WEIGHTS


def test_missing_scores_are_a_warning_and_come_with_the_next_call(serve, server, tmp_path):
    serve("sbd")
    server.serve(f"/{SAMPLE_WEIGHTS_FILE}", Answer(status=404))
    with pytest.warns(VfmIsbenchWarning, match=r"(?s)HTTP 404.*draws images evenly"):
        report = get("sbd", tmp_path)
    assert report.verified.is_complete
    server.serve(f"/{SAMPLE_WEIGHTS_FILE}", Answer(content=SAMPLE_WEIGHTS))
    assert get("sbd", tmp_path).was_there
    assert (tmp_path / "SBD" / SAMPLE_WEIGHTS_FILE).is_file()


def test_scores_beside_sbd_are_enough(serve, server, tmp_path):
    serve("sbd")
    (tmp_path / SAMPLE_WEIGHTS_FILE).write_bytes(b"the user's own")
    get("sbd", tmp_path)
    assert [path for path, _ in server.requests] == ["/benchmark.tgz"]


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'grabcut'.*grabcut, berkeley, davis, sbd"):
        get("grapcut", tmp_path)


def test_the_published_numbers_and_addresses():
    """Compared with the papers, to catch typing errors."""
    counts = {
        name: {split: (count.images, count.objects) for split, count in source.counts.items()}
        for name, source in SOURCES.items()
    }
    assert counts == {
        "grabcut": {"test": (50, 50)},
        "berkeley": {"test": (96, 100)},
        "davis": {"test": (345, 345)},
        "sbd": {"train": (8498, 20172), "val": (2857, 6671)},
        "coco_mval": {"test": (800, 800)},
        "pascal_voc": {"val": (1449, 3427)},
        "hqseg44k": {"test": (1537, 1537)},
        "tetris": {"val": (2000, 2531)},
    }
    release = "https://github.com/saic-vul/fbrs_interactive_segmentation/releases/download/v1.0/"
    drive = "https://drive.google.com/uc?export=download&id="
    on_drive = {
        "GrabCut": "1tU17eJaevYd5PQAwzEK6oG1N9eBJORC4",
        "Berkeley": "1yStolKW8AnS5rYm3VhgnID_XReNCXbEJ",
        "DAVIS": "1DhwMOqbwH4tcIrVfqtSczdofjdHHnMCJ",
        "COCO_MVal": "1oz1VT8YqykQFfx_Vtp_wtYFGz5mYBOnp",
    }
    archives = {name: source.archive for name, source in SOURCES.items()}
    assert [archives[name].urls for name in ("grabcut", "berkeley", "davis", "coco_mval")] == [
        (f"{release}{folder}.zip", drive + file_id) for folder, file_id in on_drive.items()
    ]
    assert archives["tetris"].urls == (f"{drive}1iJgohY1XBSnY-kRUoaRZJlu0HZbyHcyK",)
    assert archives["sbd"].copies == (f"{drive}13LOm0eorDCWO19PzgEI2NeDpWGiZanAf",)
    assert (archives["sbd"].file_name, archives["sbd"].md5) == ("benchmark.tgz", "82b4d87ceb2ed10f6038a1cba92111cb")
    weights = SOURCES["sbd"].sample_weights
    assert weights.sha256 == "5c2891a0d217737ef5cb94ebd8013394095cdb43ef897c82ffa05a097bb44258"
    assert all(source.licence and source.citation for source in SOURCES.values())


def test_a_manifest_survives_its_file(tmp_path):
    from vfm_isbench.datasets.download.manifest import write_manifest

    manifest = Manifest(
        urls=("a", "b"), sha256="0", size=3, date="2026-01-01T00:00:00+00:00", content_sha256="1", counts=COUNTS["sbd"]
    )
    (tmp_path / ".vfm_isbench").mkdir()
    write_manifest("sbd", tmp_path, manifest)
    assert read_manifest("sbd", tmp_path) == manifest
    assert verify_dataset("grabcut", tmp_path).state == "absent"


def test_the_archive_of_sbd_is_the_one_that_torchvision_downloads() -> None:
    from torchvision.datasets import SBDataset

    archive = SOURCES["sbd"].archive
    assert (archive.file_name, archive.urls, archive.md5) == (SBDataset.filename, (SBDataset.url,), SBDataset.md5)


def test_the_archive_of_pascal_voc_is_the_one_that_torchvision_downloads() -> None:
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    known, archive = DATASET_YEAR_DICT["2012"], SOURCES["pascal_voc"].archive
    assert (archive.file_name, archive.md5) == (known["filename"], known["md5"])
    assert known["url"] in archive.urls


def test_whoever_wants_the_same_data_set_waits_and_downloads_nothing(serve, server, tmp_path, caplog):
    serve("grabcut", Answer(content=small_archive("grabcut"), pause=1.5))
    reports: list[fetch.DownloadReport] = []
    threads = [threading.Thread(target=lambda: reports.append(get("grabcut", tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.was_there for report in reports) == [False, True, True]
    assert all(report.verified.is_complete for report in reports)
    assert len(server.requests) == 1
    assert "downloading and unpacking grabcut" in caplog.text
    assert not list(tmp_path.rglob("*.lock"))
