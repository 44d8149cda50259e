"""Pictures on the command line, from runs of the tiny protocol."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from vfm_isbench import Benchmark, Result, cli
from vfm_isbench.cli.features import split_words
from vfm_isbench.errors import PictureError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "nearest" and "bilinear" of finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("nearest", "bilinear"):
        Benchmark(TINY.replace(epochs=1), device="cpu", output_dir=folder / name, progress=False).run(name)
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_plot_draws_all_that_can_be_drawn(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plot", str(runs / "nearest"), str(runs / "bilinear" / "result.json")]) == 0
    stems = ("iou-curves", "noc90", "scatter-noc90")
    assert files(tmp_path / "plots") == sorted(f"{stem}.{ending}" for stem in stems for ending in ("png", "svg"))
    assert capsys.readouterr().out.count("saved: plots/") == 6
    with Image.open(tmp_path / "plots" / "iou-curves.png") as image:
        assert Result.load(runs / "nearest" / "result.json").signature() in image.text["Description"]


def test_plot_of_one_result_has_no_scatter(runs: Path, tmp_path: Path) -> None:
    assert cli.main(["plot", str(runs / "nearest"), "--output", "new", "--percent", "80"]) == 0
    assert files(tmp_path / "new") == ["iou-curves.png", "iou-curves.svg", "noc80.png", "noc80.svg"]


def test_plot_of_other_data_ends_with_code_3(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((runs / "nearest" / "result.json").read_text())
    content["upsampler"]["name"] = "other"
    content["datasets"]["scenes"]["content_sha256"] = "0" * 64
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert cli.main(["plot", str(runs / "nearest"), "r.json"]) == 3
    assert "cannot be compared" in capsys.readouterr().err
    assert files(tmp_path) == ["r.json"]


def test_plot_of_one_picture_to_a_file(runs: Path, tmp_path: Path) -> None:
    arguments = ["plot", str(runs / "nearest"), str(runs / "bilinear"), "--picture", "scatter", "--score", "iou@3"]
    assert cli.main([*arguments, "--output", "new/a.pdf"]) == 0
    assert files(tmp_path / "new") == ["a.pdf"]


def test_plot_of_failures(runs: Path, tmp_path: Path) -> None:
    arguments = ["plot", str(runs / "nearest"), str(runs / "bilinear"), "--picture", "failures", "--percent", "85"]
    assert cli.main([*arguments, "--output", "new"]) == 0
    assert files(tmp_path / "new") == ["failures85.png", "failures85.svg"]


def test_show_prints_tables(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result.load(runs / "nearest")
    assert cli.main(["show", str(runs / "nearest"), "--columns", "noc95,nof90,iou_auc,gflops"]) == 0
    assert capsys.readouterr().out == result.table(["noc95", "nof90", "iou_auc", "gflops"]) + "\n"
    assert cli.main(["show", str(runs / "nearest"), "--by-size"]) == 0
    assert capsys.readouterr().out == result.table(by_size=True) + "\n"
    assert cli.main(["show", str(runs / "nearest"), "--columns", "noc95,noff"]) == 2
    assert "unknown column 'noff'. Did you mean 'nof" in capsys.readouterr().err
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "a.png"], "there are 2 pictures to draw"),
        (["--picture", "scatter"], "a scatter compares two upsamplers, but there are 1: nearest"),
        (["--datasets", "davis"], "no result has a data set 'davis'"),
        (["--picture", "noc", "--percent", "0"], "0 %"),
        (["--picture", "curves", "--dpi", "1"], "dots per inch"),
    ],
)
def test_plot_used_wrongly(words, said, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plot", str(runs / "nearest"), *words]) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == []


def caption_and_headings(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> tuple[str, list[str]]:
    """What a contact sheet says, caught on its way to the file."""
    from vfm_isbench import viz
    from vfm_isbench.viz.canvas import caption_of

    figures = []

    def draw(*objects, **options):
        figures.append(contact_sheet(*objects, **options))
        return figures[-1]

    contact_sheet = viz.contact_sheet
    monkeypatch.setattr(viz, "contact_sheet", draw)
    assert cli.main(arguments) == 0
    (figure,) = figures
    return caption_of(figure), [frame.get_suptitle() for frame in figure.subfigs if frame.axes]


def test_show_replays_what_was_measured(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caption, headings = caption_and_headings(monkeypatch, ["show", str(runs / "nearest"), "--device", "cpu"])
    assert len(headings) == 3, "as many objects as the result has"
    assert "Middle: the prediction" in caption and not any("differs" in heading for heading in headings)
    with Image.open(tmp_path / "plots" / "worst-nearest-scenes.png") as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 100, "the image is in it"


def test_show_tells_of_another_checkpoint(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["show", str(runs / "nearest" / "result.json"), "--checkpoint", str(runs / "bilinear")]
    caption, headings = caption_and_headings(monkeypatch, [*arguments, "--worst", "3", "--device", "cpu"])
    told = sum("the replay differs" in heading for heading in headings)
    assert told > 0
    assert f"{told} of 3 predictions differ from the measured ones." in caption


def test_show_without_checkpoint(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tmp_path / "alone.json"
    alone.write_bytes((runs / "nearest" / "result.json").read_bytes())
    objects = [one["image"] for one in json.loads(alone.read_text())["datasets"]["scenes"]["objects"]]
    arguments = ["show", str(alone), "--objects", objects[0], "--click", "2", "--output", "a.svg"]
    caption, headings = caption_and_headings(monkeypatch, arguments)
    assert "there is no checkpoint beside the result" in caption
    assert all(heading.endswith("% at click 2") and heading.startswith(objects[0]) for heading in headings)
    assert (tmp_path / "a.svg").is_file()


def test_show_without_replay(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caption, headings = caption_and_headings(monkeypatch, ["show", str(runs / "nearest"), "--best", "1", "--no-replay"])
    assert "Predictions were left out." in caption and len(headings) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "davis"], "unknown data set of this result 'davis'"),
        (["--objects", "nobody"], "unknown object of scenes 'nobody'"),
        (["--worst", "0"], "1 … 100"),
        (["--click", "9", "--no-replay"], "1 … 3"),
        (["--checkpoint", "absent.safetensors"], "absent.safetensors"),
        (["--output", "a.jpg/b.gif/c.png", "--no-replay", "--dpi", "9999"], "dots per inch"),
    ],
)
def test_show_used_wrongly(words, said, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(runs / "nearest"), *words]) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == []


def test_a_name_from_a_result_leads_nowhere(runs: Path, tmp_path: Path) -> None:
    content = json.loads((runs / "nearest" / "result.json").read_text())
    content["upsampler"]["name"] = "../../$up_/a b"
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert cli.main(["show", "r.json", "--worst", "1"]) == 0
    assert files(tmp_path / "plots") == ["worst-up_-a-b-scenes.png"]


def test_features_of_an_embedded_scene(tmp_path: Path) -> None:
    assert cli.main(["features", "nearest", "jbu", "--image-size", "64", "--device", "cpu"]) == 0
    with Image.open(tmp_path / "plots" / "features.png") as image:
        assert image.width == 4 * 290


@pytest.mark.parametrize("form", ["after the upsamplers", "as an option"])
def test_features_of_images(form: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for name in ("one.jpg", "two.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    words = ["one.jpg", "two.png"] if form == "after the upsamplers" else ["--image", "one.jpg", "two.png"]
    assert cli.main(["features", "bilinear", *words, "--image-size", "64", "--output", "new/f.png"]) == 0
    with Image.open(tmp_path / "new" / "f.png") as image:
        assert image.height == 2 * 290 + 140


def test_images_are_told_by_their_ending() -> None:
    words = ["jbu", "my/up.py:Up", "hub:o/r@v1.0:up", "photo.JPG", "a.b/c.webp", "jbu"]
    assert split_words(words) == (["jbu", "my/up.py:Up", "hub:o/r@v1.0:up"], ["photo.JPG", "a.b/c.webp"])
    with pytest.raises(PictureError, match="no upsampler named"):
        split_words(["photo.jpg"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bilinaer"], "bilinear"),
        (["bilinear", "absent.jpg"], "absent.jpg cannot be read"),
        (["bilinear", "--image-size", "70"], "64 or 72"),
        (["bilinear", "--backbone", "resnet"], "backbone"),
    ],
)
def test_features_used_wrongly(words, said, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["features", *words]) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == []
