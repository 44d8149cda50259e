"""Runs that an upsampler stops half-way: what the error says, what is kept, and that the same command continues."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY
from torch.nn import functional

from vfm_isbench import Benchmark, Result, cli, evaluate_checkpoint
from vfm_isbench.cli import run as run_command
from vfm_isbench.errors import NonFiniteError, StoppedError, UpsamplerError
from vfm_isbench.evaluation import Lockstep
from vfm_isbench.training import loop as training_loop

EPOCH_2 = 4
"""Number of the first batch of the second epoch: two of training and one of validation come before it."""


def upsample(features, image):
    """Fails in the way that the environment says, which is no part of its code and settings."""
    upsampled = functional.interpolate(features, image.shape[-2:], mode="bicubic")
    failure = os.environ.get("FAILURE")
    if failure == "exit":
        sys.exit(0)
    if failure == "raise":
        raise ZeroDivisionError("no pixels")
    if failure == "tuple":
        return upsampled, image
    return upsampled if failure is None else upsampled * float(failure)


ERRORS = {
    "exit": (UpsamplerError, "the upsampler ended the program with sys.exit(0)"),
    "raise": (UpsamplerError, "the upsampler raised ZeroDivisionError: no pixels"),
    "tuple": (UpsamplerError, "the upsampler returned a tuple"),
    "nan": (NonFiniteError, "NaN or infinite"),
    "inf": (NonFiniteError, "NaN or infinite"),
}
STAGES = {"training": (training_loop, "predict_batch"), "evaluation": (Lockstep, "click")}

Fail = Callable[[str, int, str], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Make the upsampler fail in one batch of the training, or for one object of the evaluation, counted from 1."""

    def arrange(stage: str, number: int, failure: str) -> None:
        module, name = STAGES[stage]
        original, calls = getattr(module, name), []

        def failing(*arguments, **options):
            calls.append(1)
            with monkeypatch.context() as during_call:
                if len(calls) == number:
                    during_call.setenv("FAILURE", failure)
                return original(*arguments, **options)

        def failing_by_steps(*arguments):
            calls.append(1)
            with monkeypatch.context() as during_call:
                if len(calls) == number:
                    during_call.setenv("FAILURE", failure)
                return (yield from original(*arguments))

        is_by_steps = inspect.isgeneratorfunction(original)
        monkeypatch.setattr(module, name, failing_by_steps if is_by_steps else failing)

    return arrange


def run(folder: Path | None) -> Result:
    return Benchmark(TINY, device="cpu", progress=False, output_dir=folder).run(upsample)


@pytest.fixture(scope="module")
def uninterrupted() -> Result:
    return run(None)


def assert_equal(found: Result, expected: Result) -> None:
    assert found.datasets["scenes"].objects == expected.datasets["scenes"].objects
    for key in ("loss", "iou", "validation_iou"):
        assert [record[key] for record in found.training] == [record[key] for record in expected.training]


@pytest.mark.parametrize("failure", ["exit", "nan"])
def test_a_failure_on_the_third_object_keeps_the_others(failure, tmp_path, fail, uninterrupted):
    fail("evaluation", 3, failure)
    kind, message = ERRORS[failure]
    with pytest.raises(kind) as caught:
        run(tmp_path)
    last = uninterrupted.datasets["scenes"].objects[2].object_id
    assert str(caught.value).startswith("test set 'scenes' with upsampler 'tests.test_stopped_runs:upsample'")
    assert f"image {last.image!r}, object {last}, click 1: " in str(caught.value)
    assert message in str(caught.value)
    assert "the same command continues from there" in str(caught.value)
    assert len((tmp_path / "evidence" / "scenes.jsonl").read_text().splitlines()) == 1 + 2
    assert not (tmp_path / "result.json").exists()
    assert_equal(run(tmp_path), uninterrupted)


@pytest.mark.parametrize(
    ("failure", "batch", "place"),
    [
        ("nan", EPOCH_2, "step 1 of 2"),
        ("raise", EPOCH_2 + 1, "step 2 of 2"),
        ("inf", EPOCH_2 + 2, "validation, step 1 of 1"),
    ],
)
def test_a_failure_in_training_keeps_the_last_finished_epoch(failure, batch, place, tmp_path, fail, uninterrupted):
    fail("training", batch, failure)
    with pytest.raises(ERRORS[failure][0]) as caught:
        run(tmp_path)
    assert f"upsample', epoch 2 of 2, {place}: " in str(caught.value)
    assert "The checkpoint of epoch 1 is kept" in str(caught.value)
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(tmp_path / "checkpoint.safetensors").values())
    assert_equal(run(tmp_path), uninterrupted)


def test_without_a_folder_the_error_says_that_nothing_is_kept(fail, tmp_path):
    fail("training", EPOCH_2, "nan")
    with pytest.raises(NonFiniteError, match="Nothing was kept; with an output folder"):
        run(None)


def test_a_failure_in_the_first_epoch_starts_the_training_again(fail, tmp_path, uninterrupted):
    fail("training", 1, "nan")
    with pytest.raises(NonFiniteError, match="epoch 1 of 2, step 1 of 2: .*\n.*starts the training again"):
        run(tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert_equal(run(tmp_path), uninterrupted)


def test_features_so_large_that_the_weights_overflow_stop_the_training(monkeypatch):
    """The last step is followed by no other loss that could show it."""
    short = TINY.replace(epochs=1, milestones=(), validation_samples=0)
    original, steps = training_loop.normalized_focal_loss, []

    def overflowing(*arguments, **options):
        loss = original(*arguments, **options)
        steps.append(1)
        # Finite, with a gradient that is not: the slope of a root at zero.
        return loss + (loss - loss.detach()).abs().sqrt() if len(steps) == 2 else loss

    monkeypatch.setattr(training_loop, "normalized_focal_loss", overflowing)
    with pytest.raises(NonFiniteError, match="epoch 1 of 1: .* tensors of click encoder, head and optimiser hold NaN"):
        Benchmark(short, device="cpu", progress=False).train(upsample)


def test_the_command_line_ends_with_code_2_and_continues(fail, tmp_path, capsys, monkeypatch, uninterrupted):
    monkeypatch.setattr(run_command, "protocol_from", lambda _arguments: TINY)
    folder = tmp_path / "run"
    command = ["run", f"{Path(__file__)}:upsample", "--device", "cpu", "--output", str(folder), "--quiet"]
    fail("evaluation", 3, "exit")
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "vfm-isbench: test set 'scenes' with upsampler" in error
    assert "sys.exit(0)" in error and "the same command continues" in error and "Traceback" not in error
    assert cli.main(command) == 0
    assert_equal(Result.load(folder / "result.json"), uninterrupted)


def test_an_evaluation_of_a_checkpoint_continues_too(fail, tmp_path, uninterrupted):
    run(tmp_path / "run")
    output = tmp_path / "r.json"
    fail("evaluation", 3, "nan")
    with pytest.raises(StoppedError, match="object .*, click 1: .*\n.*evidence of finished objects is kept"):
        evaluate_checkpoint(tmp_path / "run", upsampler=upsample, device="cpu", progress=False, output=output)
    assert not output.exists()
    again = evaluate_checkpoint(tmp_path / "run", upsampler=upsample, device="cpu", progress=False, output=output)
    assert_equal(again, uninterrupted)


def test_ctrl_c_in_an_upsampler_is_no_error_of_it(tmp_path, fail, monkeypatch):
    def interrupt(_failure: object) -> float:
        raise KeyboardInterrupt

    fail("evaluation", 1, "nan")
    monkeypatch.setitem(globals(), "float", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)


def test_code_that_ends_the_program_elsewhere_cannot_pass_as_success(monkeypatch, tmp_path, capsys):
    def ends(*_arguments, **_options):
        sys.exit(0)

    monkeypatch.setattr(run_command, "Benchmark", ends)
    assert cli.main(["run", "bilinear", "--output", str(tmp_path / "run"), "--quiet"]) == 2
    assert "called sys.exit(0)" in capsys.readouterr().err


@pytest.mark.parametrize("change", [lambda: torch.set_default_dtype(torch.float64), lambda: torch.manual_seed(99)])
def test_a_caller_of_a_whole_run_may_have_any_settings(change, uninterrupted):
    random_numbers = torch.get_rng_state()
    try:
        change()
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert_equal(run(None), uninterrupted)
            assert torch.is_autocast_enabled("cpu") and torch.is_inference_mode_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_rng_state(random_numbers)
