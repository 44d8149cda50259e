"""Checkpoints evaluated again: our own, whole or cut short, and those of the reference implementation."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import torch
from tiny import TINY

from vfm_isbench import Benchmark, Result, VfmIsbenchWarning, cli, evaluate_checkpoint
from vfm_isbench.checkpoint_evaluation import load_trained
from vfm_isbench.errors import RunError, WeightsError
from vfm_isbench.evaluation import loop as evaluation_loop
from vfm_isbench.reference import read_reference
from vfm_isbench.training import load_checkpoint, save_checkpoint
from vfm_isbench.types import ObjectId

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


def test_another_upsampler_is_used_and_told(run: Path) -> None:
    with pytest.warns(VfmIsbenchWarning, match="'bicubic' now"):
        result = evaluate_checkpoint(run, upsampler="bicubic", device="cpu", limit=1, progress=False)
    assert any("'bicubic' now" in note for note in result.notes)
    assert evidence(result) != {
        key: value for key, value in evidence(Result.load(run / "result.json")).items() if key in evidence(result)
    }


def test_an_upsampler_that_cannot_be_found_by_its_name_is_asked_for(tmp_path: Path) -> None:
    def mine(features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(features, image.shape[-2:])

    Benchmark(TINY.replace(epochs=1), device="cpu", output_dir=tmp_path, progress=False).train(mine)
    with pytest.raises(RunError, match="--upsampler SPEC"):
        load_trained(tmp_path, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VfmIsbenchWarning)
        assert load_trained(tmp_path, upsampler=mine, device="cpu").upsampler["kind"] == "function"


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
    evaluate_object = evaluation_loop.evaluate_object
    calls: list[int] = []

    def interrupted(*arguments: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate_object(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation_loop, "evaluate_object", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_checkpoint(run, device="cpu", output=output, progress=False)
    assert not output.exists()
    result = evaluate_checkpoint(run, device="cpu", output=output, progress=False)
    assert len(calls) == 2 + 2, "the first object was not evaluated again"
    assert evidence(result) == evidence(Result.load(run / "result.json")) == evidence(Result.load(output))
    assert list(tmp_path.iterdir()) == [output]


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
