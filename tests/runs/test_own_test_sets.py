"""One's own data as a test set of a whole run: from the command line to the leaderboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from vfm_isbench import Benchmark, Result, cli, evaluate_checkpoint
from vfm_isbench.errors import DataError
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.trust import evidence_gaps, why_unranked
from vfm_isbench.protocol.protocol import PRESETS
from vfm_isbench.training import loop as training_loop


def write_photos(folder: Path) -> Path:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 60, 3), np.uint8)
        mask = np.zeros((50, 60), np.uint8)
        mask[10:30, 10:40] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("secret place") / "photos")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the folder and on scenes, from the command line."""
    output = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY.replace(epochs=1, max_clicks=2, object_limit=2))
        arguments = ["run", "bilinear", "--protocol", "tiny", "--datasets", "scenes", f"folder:{photos}"]
        assert cli.main([*arguments, "--device", "cpu", "--quiet", "--output", str(output)]) == 0
    return output


def test_the_result_names_the_folder_and_says_nothing_of_its_place(run, photos):
    result = Result.load(run / "result.json")
    assert list(result.datasets) == ["scenes", "folder:photos"]
    assert result.protocol.test_datasets == ("scenes", "folder:photos")
    assert len(result.datasets["folder:photos"].content_sha256) == 64
    assert [str(found.object_id) for found in result.datasets["folder:photos"].objects] == ["0.png:1", "1.png:1"]
    assert "folder:photos" in str(result)
    for file in run.rglob("*"):
        if file.is_file():
            assert b"secret place" not in file.read_bytes(), file
    assert (run / "evidence" / "folder-photos.jsonl").is_file()


def test_eval_takes_a_folder_too(run, photos, tmp_path, capsys):
    arguments = ["eval", str(run), "--datasets", f"folder:{photos}", "--device", "cpu", "--quiet"]
    assert cli.main([*arguments, "--output", str(tmp_path / "again.json")]) == 0
    again, first = Result.load(tmp_path / "again.json"), Result.load(run / "result.json")
    assert again.datasets["folder:photos"].objects == first.datasets["folder:photos"].objects
    assert again.datasets["folder:photos"].content_sha256 == first.datasets["folder:photos"].content_sha256
    # By the recorded name, the folder is looked for in the data root.
    by_name = evaluate_checkpoint(run, data_root=photos.parent, datasets="folder:photos", device="cpu", progress=False)
    assert by_name.datasets["folder:photos"].objects == first.datasets["folder:photos"].objects
    with pytest.raises(DataError, match="'folder:photos': there is no "):
        evaluate_checkpoint(run, datasets="folder:photos", device="cpu", progress=False)


def test_a_benchmark_finds_the_folder_again_to_evaluate_what_it_trained(photos):
    protocol = TINY.replace(epochs=1, max_clicks=1, test_datasets=(f"folder:{photos}",))
    benchmark = Benchmark(protocol, device="cpu", progress=False)
    trained = benchmark.train("bilinear")
    assert trained.protocol.test_datasets == ("folder:photos",)
    assert list(benchmark.evaluate(trained).datasets) == ["folder:photos"]
    assert benchmark.protocol is protocol


def test_a_bad_folder_stops_the_run_before_training(tmp_path, monkeypatch):
    folder = write_photos(tmp_path / "bad")
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(folder / "masks" / "1.png")

    def trains(*_: object, **__: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(training_loop, "train", trains)
    protocol = TINY.replace(test_datasets=(f"folder:{folder}",))
    with pytest.raises(DataError, match=r"masks/1\.png: the mask is empty"):
        Benchmark(protocol, device="cpu", progress=False).run("bilinear")


def test_such_a_result_is_not_ranked(run):
    result = Result.load(run / "result.json")
    entry = Entry(
        name="mine", date="2026-01-01", code=None, paper=None, submitter=None, spec="bilinear", runs=(result,)
    )
    assert any("test sets of its own, folder:photos" in reason for reason in why_unranked(entry))
    assert "this library does not know the objects of folder:photos" in evidence_gaps(entry)
    # Nor is one that otherwise follows a preset.
    whole = dataclasses.replace(result, protocol=result.protocol.replace(object_limit=None))
    assert any("test sets of its own" in reason for reason in why_unranked(dataclasses.replace(entry, runs=(whole,))))


def test_the_data_sets_of_ones_own_are_listed(capsys):
    assert cli.main(["list", "datasets"]) == 0
    printed = capsys.readouterr().out
    for name in ("folder:PATH", "hf:OWNER/NAME[@REVISION][:SPLIT]", "coco_mval", "pascal_voc", "hqseg44k", "tetris"):
        assert name in printed
