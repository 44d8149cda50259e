"""Checkpoints evaluated again: our own, whole or cut short, and those of the reference implementation."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plugin_packages import Packages
from tiny import TINY

from vfm_isbench import Benchmark, Result, VfmIsbenchWarning, cli, compare, evaluate_checkpoint
from vfm_isbench.errors import ContractError, RunError, WeightsError
from vfm_isbench.evaluation import Lockstep
from vfm_isbench.isegprobe import read_reference
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.run_checks import check_runs
from vfm_isbench.results.sides import group_sides
from vfm_isbench.runs.checkpoints import load_trained
from vfm_isbench.training import load_checkpoint, save_checkpoint
from vfm_isbench.types import ObjectId
from vfm_isbench.upsamplers import LiFT, LoadOptions, identity_of, load_upsampler

RECORDED = "identity_pre-upsampler_simple-vit"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "nearest"
    Benchmark(TINY, device="cpu", output_dir=folder, progress=False).run("nearest")
    return folder


def evidence(result: Result) -> dict[ObjectId, tuple[float, ...]]:
    return {one.object_id: one.ious for found in result.datasets.values() for one in found.objects}


def test_a_run_evaluated_again_gives_the_same_evidence(run: Path) -> None:
    again = evaluate_checkpoint(run, device="cpu", progress=False)
    first = Result.load(run / "result.json")
    assert evidence(again) == evidence(first)
    assert again.protocol == first.protocol
    assert again.upsampler["sha256"] == first.upsampler["sha256"]
    assert [dict(record) for record in again.training] == [dict(record) for record in first.training]
    assert not [note for note in again.notes if "cannot be told" in note]


def test_limit_and_name(run: Path) -> None:
    result = evaluate_checkpoint(run, device="cpu", limit=1, name="mine", progress=False)
    assert len(result.datasets["scenes"].objects) == 1
    assert result.upsampler["name"] == "mine"
    assert result.protocol.object_limit == 1


def test_the_name_that_the_run_gave_it_stays(run: Path, tmp_path: Path) -> None:
    trained = load_checkpoint(run / "checkpoint.safetensors")
    named = dataclasses.replace(trained, upsampler={**trained.upsampler, "spec": "nearest", "name": "mine"})
    save_checkpoint(tmp_path / "checkpoint.safetensors", named)
    for name, shown in ((None, "mine"), ("ours", "ours")):
        result = evaluate_checkpoint(tmp_path, device="cpu", limit=1, name=name, progress=False)
        assert result.upsampler["name"] == shown


def test_another_upsampler_is_used_if_asked_for_and_noted(run: Path) -> None:
    with pytest.warns(VfmIsbenchWarning, match="'bicubic', trained with another, 'nearest'"):
        result = evaluate_checkpoint(run, upsampler="bicubic", device="cpu", limit=1, progress=False)
    assert any("'bicubic', trained with another" in note for note in result.notes)
    assert evidence(result) != {
        key: value for key, value in evidence(Result.load(run / "result.json")).items() if key in evidence(result)
    }


def mine(features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """An upsampler that has no name in this library."""
    return torch.nn.functional.interpolate(features, image.shape[-2:])


def test_an_upsampler_of_another_name_is_found_by_what_was_given(tmp_path: Path) -> None:
    Benchmark(TINY.replace(epochs=1), device="cpu", output_dir=tmp_path, progress=False).train("nearest", "bilinear")
    loaded = load_trained(tmp_path, device="cpu")
    assert (loaded.upsampler.name, loaded.notes) == ("bilinear", ())
    assert loaded.upsampler.sha256 == identity_of(load_upsampler("nearest")).sha256


def test_another_upsampler_of_the_same_name_is_refused(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint = load_checkpoint(run / "checkpoint.safetensors")
    save_checkpoint(path, dataclasses.replace(checkpoint, upsampler={**checkpoint.upsampler, "sha256": "0" * 64}))
    with pytest.raises(RunError, match="whose code or weights differ"):
        load_trained(path, device="cpu")


@pytest.mark.parametrize("spec", ["{folder}/evil.py:up", "evil:up", "hub:{folder}:up", "hf:{folder}:evil.py:Up"])
def test_a_checkpoint_cannot_name_code_to_run(
    spec: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    (tmp_path / "hubconf.py").write_text("from evil import up\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "checkpoint.safetensors"
    checkpoint = load_checkpoint(run / "checkpoint.safetensors")
    upsampler = {**checkpoint.upsampler, "spec": spec.format(folder=tmp_path)}
    save_checkpoint(path, dataclasses.replace(checkpoint, upsampler=upsampler))
    with pytest.raises(RunError, match="--upsampler SPEC"):
        load_trained(path, device="cpu", load_options=LoadOptions(trust_remote_code=True))
    assert not (tmp_path / "ran").exists()


def test_nor_that_of_an_installed_package(run: Path, tmp_path: Path, packages: Packages) -> None:
    packages.install("mine", {("upsampler", "mine"): "mine_module:up"}, {"mine_module": "raise SystemExit('ran')"})
    path = tmp_path / "checkpoint.safetensors"
    checkpoint = load_checkpoint(run / "checkpoint.safetensors")
    save_checkpoint(path, dataclasses.replace(checkpoint, upsampler={**checkpoint.upsampler, "spec": "mine"}))
    with pytest.raises(RunError, match="--upsampler SPEC"):
        load_trained(path, device="cpu")
    assert "mine_module" not in sys.modules


def test_an_upsampler_of_ones_own_is_asked_for(tmp_path: Path) -> None:
    Benchmark(TINY.replace(epochs=1), device="cpu", output_dir=tmp_path, progress=False).train(mine)
    with pytest.raises(RunError, match="--upsampler SPEC"):
        load_trained(tmp_path, device="cpu")
    loaded = load_trained(tmp_path, upsampler=mine, device="cpu")
    assert (loaded.upsampler.kind, loaded.notes) == ("function", ())


OWN = """
from torch.nn import functional

class Mine:
    def __call__(self, features, image):
        return functional.interpolate(features, image.shape[-2:])
"""


@pytest.fixture
def own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run of an upsampler in a file of the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    Benchmark(TINY.replace(epochs=1), device="cpu", output_dir="run", progress=False).train("mine.py:Mine")
    return tmp_path / "run"


def test_a_file_of_ones_own_is_found_if_it_has_not_changed(own_run: Path) -> None:
    loaded = load_trained(own_run, device="cpu")
    assert (loaded.upsampler.name, loaded.notes, loaded.trained_with) == ("Mine", (), None)


def test_a_changed_file_or_one_elsewhere_must_be_named(
    own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(RunError, match="no file below the current folder is unchanged"):
        load_trained(own_run, device="cpu")
    checkpoint = load_checkpoint(own_run / "checkpoint.safetensors")
    for spec in (f"{tmp_path / 'mine.py'}:Mine", "../mine.py:Mine"):  # there, and unchanged
        outside = {**checkpoint.upsampler, "spec": spec}
        save_checkpoint(tmp_path / "outside.safetensors", dataclasses.replace(checkpoint, upsampler=outside))
        with pytest.raises(RunError, match="no file below the current folder is unchanged"):
            load_trained(tmp_path / "outside.safetensors", device="cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN + "open('ran', 'w').close()\n")
    with pytest.raises(RunError, match="no file below the current folder is unchanged"):
        load_trained(own_run, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("default::vfm_isbench.VfmIsbenchWarning")
def test_code_edited_after_the_training_can_evaluate_it(
    own_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN + "# mended\n")
    benchmark = Benchmark(TINY.replace(epochs=1), device="cpu", output_dir="run", progress=False)
    with pytest.raises(RunError) as refused:
        benchmark.run("mine.py:Mine")
    command = "vfm-isbench eval run --upsampler mine.py:Mine --output run/result-edited.json"
    lines = str(refused.value).splitlines()
    assert [line.strip() for line in lines[2:3]] == [command] and "--overwrite" in lines[3]
    assert cli.main([*command.split()[1:], "--device", "cpu", "--quiet"]) == 0
    assert "another version of upsampler 'Mine'" in capsys.readouterr().err
    edited = Result.load("run/result-edited.json")
    assert edited.upsampler["trained_with"] == {
        "name": "Mine",
        "sha256": json.loads((own_run / "run.json").read_text())["upsampler"]["sha256"],
    }
    assert any("than it was trained with" in note for note in edited.notes)
    fresh = dataclasses.replace(
        edited, upsampler={key: value for key, value in edited.upsampler.items() if key != "trained_with"}
    )
    assert len(group_sides([edited, fresh])) == 2, "it is no seed of a run that was trained with the new code"
    bilinear = dataclasses.replace(fresh, upsampler={**fresh.upsampler, "name": "other", "sha256": "1" * 64})
    comparison = compare(fresh, bilinear, edited)
    assert {rank.side for rank in comparison.ranks} == {comparison.sides[0], "other"}
    assert "was trained with another upsampler or version, 'Mine'" in str(comparison)
    finding = validate_runs([edited.to_dict()])
    assert "train it with this one" in finding and "train it" not in validate_runs([fresh.to_dict()])


def test_another_upsampler_is_not_offered_the_training(own_run: Path) -> None:
    with pytest.raises(RunError) as refused:
        Benchmark(TINY.replace(epochs=1), device="cpu", output_dir="run", progress=False).run("bilinear")
    assert "vfm-isbench eval" not in str(refused.value)


def test_a_training_is_not_kept_for_another_protocol(own_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN + "# mended\n")
    with pytest.raises(RunError) as refused:
        Benchmark(TINY, device="cpu", output_dir="run", progress=False).run("mine.py:Mine")
    assert "vfm-isbench eval" not in str(refused.value)


def validate_runs(runs: list[dict[str, Any]]) -> str:
    """What a check of an entry finds in its runs."""
    report = Report("entry")
    check_runs(runs, None, report)
    return "; ".join(map(str, report.findings))


def test_an_upsampler_of_another_width_is_refused_before_the_evaluation(run: Path) -> None:
    with pytest.raises(ContractError, match="channels"):
        load_trained(run, upsampler=LiFT(5), device="cpu")


def test_the_backbone_must_be_the_one_trained_on(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint = load_checkpoint(run / "checkpoint.safetensors")
    save_checkpoint(path, dataclasses.replace(checkpoint, extra={"backbone_sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="not those .* was trained on"):
        load_trained(path, device="cpu")


def test_an_unfinished_training_is_told(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint = load_checkpoint(run / "checkpoint.safetensors")
    save_checkpoint(path, dataclasses.replace(checkpoint, history=checkpoint.history[:1]))
    with pytest.warns(VfmIsbenchWarning, match="1 of 2 epochs"):
        assert load_trained(path, device="cpu").notes == ("trained for 1 of 2 epochs",)


def test_an_interrupted_evaluation_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "r.json"
    click = Lockstep.click
    calls: list[int] = []

    def interrupted(*arguments: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return click(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Lockstep, "click", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_checkpoint(run, device="cpu", output=output, progress=False)
    assert not output.exists()
    result = evaluate_checkpoint(run, device="cpu", output=output, progress=False)
    assert len(calls) == 2 + 2, "the first object was not evaluated again"
    assert evidence(result) == evidence(Result.load(run / "result.json")) == evidence(Result.load(output))
    assert list(tmp_path.iterdir()) == [output]


def interrupt(*_arguments: object) -> None:
    """Stands for Ctrl-C."""
    raise KeyboardInterrupt


def test_evidence_of_other_data_is_not_reused(
    parity_root: Path, real_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation is interrupted, and a mask is repaired before it continues."""
    shutil.copytree(real_root / "GrabCut", tmp_path / "GrabCut")
    mask = sorted((tmp_path / "GrabCut" / "boundary_GT").iterdir())[0]
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    evaluate = functools.partial(
        evaluate_checkpoint,
        parity_root / "end_to_end" / f"{RECORDED}.safetensors",
        data_root=tmp_path,
        datasets=["grabcut"],
        limit=1,
        device="cpu",
        progress=False,
    )
    with monkeypatch.context() as patch:
        patch.setattr(Result, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluate(output=tmp_path / "r.json")
    shutil.copy(real_root / "GrabCut" / "boundary_GT" / mask.name, mask)
    assert evidence(evaluate(output=tmp_path / "r.json")) == evidence(evaluate())
    assert not (tmp_path / "r.json.evidence").exists()


def test_a_folder_as_output_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder"):
        evaluate_checkpoint(tmp_path / "absent.safetensors", output=tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent"):
        evaluate_checkpoint(tmp_path / "absent.safetensors", device="cpu")


@pytest.mark.parametrize("kind", [".safetensors", ".reference.pth"])
def test_a_recorded_model_on_the_command_line(kind: str, parity_root: Path, real_root: Path, tmp_path: Path) -> None:
    """Without any option but the data, except for the frozen parts a real checkpoint leaves out."""
    folder = parity_root / "end_to_end"
    arguments = ["eval", str(folder / f"{RECORDED}{kind}"), "--data-root", str(real_root), "--device", "cpu"]
    arguments += ["--datasets", "grabcut", "sbd", "--limit", "2", "--quiet", "--output", str(tmp_path / "r.json")]
    if kind == ".reference.pth":
        arguments += ["--backbone-weights", str(folder / f"{RECORDED}.safetensors")]
    assert cli.main(arguments) == 0
    written = json.loads((tmp_path / "r.json").read_text())
    recorded = json.loads((folder / f"{RECORDED}.json").read_text())
    for name, theirs in (("grabcut", "GrabCut"), ("sbd", "SBD")):
        for found, expected in zip(written["datasets"][name]["objects"], recorded[theirs]["objects"], strict=False):
            assert {key: found[key] for key in ("image", "instance", "clicks")} == {
                key: expected[key] for key in ("image", "instance", "clicks")
            }
            assert found["iou"] == pytest.approx(expected["iou"], abs=1e-3)
    assert any("trained elsewhere" in note for note in written["notes"])


def test_export_and_back_on_the_command_line(parity_root: Path, tmp_path: Path) -> None:
    source, exported = parity_root / "end_to_end" / f"{RECORDED}.safetensors", tmp_path / "exported.pth"
    arguments = ["export-reference", str(source), str(exported), "--include-frozen", "--device", "cpu"]
    assert cli.main(arguments) == 0
    before, after = read_reference(source), read_reference(exported)
    assert after.model == before.model
    for part in ("click_encoder", "head"):
        assert before.tensors[part].keys() == after.tensors[part].keys()
        assert all(torch.equal(before.tensors[part][key], after.tensors[part][key]) for key in before.tensors[part])


def test_late_injection_cannot_be_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export-reference", str(run), str(tmp_path / "out.pth"), "--device", "cpu"]) == 2
    assert "injection 'late' has no counterpart" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
