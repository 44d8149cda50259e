"""The command line as users see it: output, exit codes, one-paragraph errors."""

import subprocess
from pathlib import Path

import pytest
from tiny import TINY

from vfm_isbench import Result, cli
from vfm_isbench.cli.commands import build_parser
from vfm_isbench.cli.options import protocol_from
from vfm_isbench.cli.run import default_output
from vfm_isbench.protocol import PRESETS, Protocol


@pytest.fixture
def tiny_preset(monkeypatch):
    """Add the small protocol to the presets."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)


def test_run_trains_evaluates_prints_and_saves(tiny_preset, tmp_path, capsys):
    arguments = ["run", "nearest", "--protocol", "tiny", "--device", "cpu", "--output", str(tmp_path / "out")]
    code = cli.main([*arguments, "--limit", "2", "--seed", "3", "--epochs", "1", "--quiet"])
    printed = capsys.readouterr()
    assert code == 0
    assert "NoC90" in printed.out
    result = Result.load(tmp_path / "out" / "result.json")
    assert (result.protocol.seed, result.protocol.epochs, len(result.datasets["scenes"].objects)) == (3, 1, 2)


def test_settings_of_speed_are_taken_and_said(tiny_preset, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["run", "nearest", "--protocol", "tiny", "--device", "cpu", "--epochs", "1", "--limit", "2", "--quiet"]
    arguments += ["--output", str(output), "--feature-cache", str(tmp_path / "features"), "--objects-at-once", "2"]
    arguments += ["--images-at-once", "1"]
    assert cli.main([*arguments, "--stop-at-iou"]) == 0
    assert f"saved: {output / 'result-stop90.json'}" in capsys.readouterr().out
    assert Result.load(output / "result-stop90.json").datasets["scenes"].stop_at_iou == (80, 85, 90)
    assert list((tmp_path / "features").rglob("*.features"))
    assert cli.main([*arguments, "--stop-at-iou", "190"]) == 2
    assert "whole numbers from 1 to 100" in capsys.readouterr().err
    again = ["eval", str(output), "--quiet", "--device", "cpu", "--output", str(tmp_path / "r.json"), "--no-shortcut"]
    assert cli.main([*again, "--stop-at-iou", "80"]) == 0
    assert Result.load(tmp_path / "r.json").datasets["scenes"].stop_at_iou == (80,)


def test_run_of_a_file_attribute(tiny_preset, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef half(features, image):\n"
        "    return torch.nn.functional.interpolate(features, scale_factor=2, mode='nearest')\n"
    )
    arguments = ["run", f"{tmp_path / 'mine.py'}:half", "--protocol", "tiny", "--device", "cpu", "--epochs", "1"]
    assert cli.main([*arguments, "--limit", "1", "--quiet", "--output", str(tmp_path / "out"), "--name", "half"]) == 0
    assert Result.load(tmp_path / "out" / "result.json").upsampler["name"] == "half"


def test_compare_shows_results_beside_quoted_figures(tiny_preset, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["run", "nearest", "--protocol", "tiny", "--device", "cpu", "--epochs", "1", "--limit", "1", "--quiet"]
    assert cli.main([*arguments, "--output", str(output)]) == 0
    capsys.readouterr()
    assert cli.main(["compare", str(output), str(output / "result.json"), "--quoted"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("nearest · tiny protocol") == 2
    assert "LoftUp (quoted, second-hand)" in printed
    assert "* not comparable: nearest was measured with" in printed
    assert cli.main(["compare", str(tmp_path / "absent.json")]) == 2
    assert "absent.json could not be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["protocols", "backbones", "upsamplers", "datasets", "click_encoders"])
def test_list_names_everything(kind, capsys):
    assert cli.main(["list", kind]) == 0
    expected = {
        "protocols": ["paper", "paper-early", "reference", "quick", "lite", "demo", "demo@1"],
        "backbones": ["dinov2_vits14", "efficientnet_lite0", "timm:NAME"],
        "upsamplers": ["identity", "nearest", "bilinear", "bicubic", "jbu"],
        "datasets": ["sbd", "sbd600", "grabcut", "berkeley", "davis", "scenes", "compact_scenes"],
        "click_encoders": ["patch_embedding", "simple_vit", "distances"],
    }[kind]
    lines = capsys.readouterr().out.splitlines()
    assert [name for name in expected if not any(line.startswith(name + " ") for line in lines)] == []


def test_list_alone_lists_everything_under_headings(capsys):
    assert cli.main(["list"]) == 0
    everything = capsys.readouterr().out.split("\n\n")
    headings = {
        "protocols": "protocols (--protocol NAME)",
        "backbones": "backbones (--backbone NAME)",
        "upsamplers": "upsamplers (vfm-isbench run NAME)",
        "datasets": "datasets (--datasets NAME …)",
        "click_encoders": "click encoders (--click-encoder NAME)",
    }
    for (kind, heading), block in zip(headings.items(), everything, strict=True):
        assert cli.main(["list", kind]) == 0
        assert block.rstrip("\n").splitlines() == [
            heading,
            *(f"  {line}" for line in capsys.readouterr().out.splitlines()),
        ]


def test_a_kind_may_be_written_with_a_dash(capsys):
    assert cli.main(["list", "click-encoders"]) == 0
    with_dash = capsys.readouterr().out
    assert cli.main(["list", "click_encoders"]) == 0
    assert capsys.readouterr().out == with_dash


def test_listed_protocols_say_how_they_differ(capsys):
    assert cli.main(["list", "protocols"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "20 epochs of all images of sbd, tested on grabcut, berkeley, davis, sbd · bb:" in lines["paper"]
    assert "8 epochs of 1,000 samples of sbd, tested on grabcut, berkeley · bb:" in lines["quick"]
    assert "10 epochs of 2,400 samples of sbd, tested on grabcut, berkeley, davis, sbd600 · bb:" in lines["lite"]


def test_versions_of_a_protocol_have_folders_of_their_own(capsys):
    demo, old = Protocol.preset("demo"), Protocol.preset("demo@1")
    assert default_output("bilinear", old) == Path("runs/bilinear-demo-seed0")  # as before there were versions
    assert default_output("bilinear", demo) == Path(f"runs/bilinear-{demo.label}-seed0")
    assert default_output("hub:a/b@c:d", demo.replace(name="my/own", version=1, seed=2)) == Path(
        "runs/hub-a-b-c-d-my-own-seed2"
    )
    assert cli.main(["run", "bilinear", "--protocol", "demo@99"]) == 2
    assert f"'demo' has no version '99'. Known: demo@1, {demo.label}" in capsys.readouterr().err


def test_list_shows_plugins_with_their_packages_and_refused_ones(packages, capsys):
    points = {("upsampler", "mine"): "mine_module:up", ("upsampler", "bilinear"): "mine_module:down"}
    packages.install("mine-package", points, {"mine_module": "raise RuntimeError('imported')"}, version="0.4")
    assert cli.main(["list", "upsamplers"]) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    assert ["mine", "plugin: mine-package 0.4 (mine_module:up)"] in lines
    first, second = [description for name, description in lines if name == "bilinear"]
    assert not first.startswith("refused")
    assert second.startswith("refused: upsampler 'bilinear' is built in: the one offered by mine-package 0.4")
    assert cli.main(["list", "protocols"]) == 0


def test_check_accepts_a_good_upsampler_and_refuses_a_bad_one(tmp_path, capsys):
    assert cli.main(["check", "jbu", "--channels", "8", "--image-size", "56", "--device", "cpu"]) == 0
    assert "keeps the contract" in capsys.readouterr().out
    (tmp_path / "bad.py").write_text("def shrink(features, image):\n    return features[:, :, ::2, ::2]\n")
    arguments = ["check", f"{tmp_path / 'bad.py'}:shrink", "--channels", "8", "--image-size", "56", "--device", "cpu"]
    assert cli.main(arguments) == 2
    assert "vfm-isbench:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "bilinaer"], "bilinear"),
        (["run", "bilinear", "--protocol", "papr"], "paper"),
        (["run", "bilinear", "--injection", "middle"], "late"),
        (["run", "bilinear", "--protocol", "paper", "--backbone", "efficientnet_lite0"], "--data-root"),
        (["run", "bilinear", "--datasets", "grabcut"], "--data-root"),
        (["run", "bilinear", "--backbone", "resnet"], "backbone"),
        (["run", "bilinear", "--click-encoder", "simple_vitt"], "'simple_vit'"),
        (["run", "bilinear", "--device", "warp"], "warp"),
        (["run", "bilinear", "--limit", "0"], "object_limit"),
        (["run", "bilinear", "--set", "disk_radius"], "FIELD=VALUE"),
        (["run", "bilinear", "--set", "disk_radius=-3"], "disk_radius"),
        (["run", "bilinear", "--set", "disc_radius=3"], "disk_radius"),
        (["run", "no.such.module:thing"], "no.such.module"),
    ],
)
def test_wrong_use_ends_with_code_2_and_one_paragraph(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_any_field_of_the_protocol_can_be_set():
    words = ["run", "jbu", "--set", "disk_radius=3", "--set", "resize_range=[0.6, 1]", "--set", "flip=none"]
    protocol = protocol_from(build_parser().parse_args([*words, "--seed", "4"]))
    assert (protocol.disk_radius, protocol.resize_range, protocol.flip) == (3.0, (0.6, 1.0), "none")
    assert protocol.changed_fields() == ["disk_radius", "resize_range", "flip"]


def test_without_arguments_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert "Start with: vfm-isbench run bilinear" in shown and "export" in shown
    with pytest.raises(SystemExit) as end:
        cli.main(["run"])
    assert end.value.code == 2
    assert "For help: vfm-isbench run --help" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    assert cli.main(["run", "bilinaer", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_module_runs_and_wrong_arguments_end_with_code_2(python):
    shown = subprocess.run([*python, "-m", "vfm_isbench", "--version"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert shown.stdout.startswith("vfm-isbench ")
    assert subprocess.run([*python, "-m", "vfm_isbench", "fly"], capture_output=True).returncode == 2
