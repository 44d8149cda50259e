"""sbd600 on small folders in SBD's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vfm_isbench import Protocol, cli
from vfm_isbench.datasets import open_dataset, read_sample, sbd_sample
from vfm_isbench.datasets.download.sources import published_counts, source_for
from vfm_isbench.datasets.size_strata import list_sha256, sample_by_size
from vfm_isbench.errors import DataError
from vfm_isbench.leaderboard.manifests import manifest_of

paper = Protocol.preset("paper")


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """SBD with three images of three instances each, of nine sizes."""
    root = tmp_path / "SBD"
    (root / "img").mkdir(parents=True)
    (root / "inst").mkdir()
    names = ["2008_000001", "2008_000002", "2008_000003"]
    for number, name in enumerate(names):
        labels = np.zeros((40, 60), np.uint8)
        for instance in (1, 2, 3):
            labels[2 : 4 + 3 * number + instance, 20 * instance - 18 : 20 * instance - 10] = instance
        Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(root / "img" / f"{name}.jpg")
        savemat(root / "inst" / f"{name}.mat", {"GTinst": {"Segmentation": labels}})
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("\n".join(names))
    return tmp_path


def test_it_holds_some_objects_of_sbd_under_a_name_of_its_own(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbd_sample, "SAMPLE_SIZE", 4)
    whole = open_dataset("sbd", "test", data_root, paper)
    sample = open_dataset("sbd600", "test", data_root, paper)
    areas = {o: int(read_sample(whole, o.image).object_mask(o.instance).sum()) for o in whole.objects}
    assert len(set(areas.values())) == 9
    assert sample.objects == sample_by_size(areas, 4)
    assert (sample.name, len(sample.objects), sample.notes) == ("sbd600", 4, ())


def test_a_part_of_sbd_is_taken_whole_with_a_note(data_root: Path) -> None:
    sample = open_dataset("sbd600", "test", data_root, paper)
    assert sample.objects == open_dataset("sbd", "test", data_root, paper).objects
    assert sample.notes == ("SBD val has only 9 objects here, so sbd600 holds all of them",)


def test_it_is_a_test_set_only(data_root: Path) -> None:
    for role in ("train", "validation"):
        with pytest.raises(DataError, match="'sbd600' is a test set; train and validate on"):
            open_dataset("sbd600", role, data_root, paper)


def test_the_command_prints_the_list_and_its_hash(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "objects", "sbd600", "--data-root", str(data_root)]) == 0
    printed = capsys.readouterr()
    objects = open_dataset("sbd", "test", data_root, paper).objects
    expected = f"# sbd600: 9 objects, SHA-256 of the lines above: {list_sha256(objects)}"
    assert printed.out.splitlines() == [*map(str, objects), expected]
    assert printed.err == "note: SBD val has only 9 objects here, so sbd600 holds all of them\n"
    assert cli.main(["data", "objects", "sbd600", "--data-root", str(data_root / "SBD")]) == 2


def test_what_is_known_of_it_without_its_files() -> None:
    counts, source, manifest = published_counts("sbd600", "test"), source_for("sbd600"), manifest_of("sbd600")
    assert counts is not None and source is not None and manifest is not None
    assert (counts.objects, source.name, manifest.n_objects, manifest.has_instances) == (600, "sbd", 600, True)
    assert source_for("scenes") is None and published_counts("scenes", "test") is None
    assert [published_counts("sbd", role) for role in ("train", "validation", "test")] == [
        source.counts["train"], source.counts["val"], source.counts["val"]
    ]  # fmt: skip
