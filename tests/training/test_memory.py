"""Steps that do not fit into memory: the run stops with the setting that fits, and continues with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL, small_probe
from torch import Tensor
from torch.nn import functional

from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import OutOfMemoryError, UpsamplerError
from vfm_isbench.probe import Probe
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import Checkpoint, TrainingSamples, load_checkpoint, save_checkpoint, train
from vfm_isbench.training.memory import within_memory

FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has …")

CPU = torch.device("cpu")


class Memory:
    """Says how many images fit, from which epoch on, and in which pass."""

    def __init__(self, images: int, from_epoch: int = 0, backward: bool = False) -> None:
        self.images = images
        self.from_epoch = from_epoch
        self.backward = backward
        self.epoch = 0

    def check(self, images: int, *, backward: bool) -> None:
        if self.epoch >= self.from_epoch and images > self.images and backward is self.backward:
            raise FULL


class Checked(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, memory: Memory) -> Tensor:
        context.memory = memory
        return features.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        context.memory.check(len(gradient), backward=True)
        return gradient, None


def probe_with(memory: Memory, **changes: Any) -> Probe:
    def upsample(features: Tensor, image: Tensor) -> Tensor:
        memory.check(len(features), backward=False)
        upsampled = functional.interpolate(features, image.shape[-2:], mode="bicubic")
        return Checked.apply(upsampled, memory)  # type: ignore[no-any-return, no-untyped-call]

    return small_probe(SMALL.replace(**changes), upsample)


def run(probe: Probe, path: Path, speed: Speed, memory: Memory, start: Checkpoint | None = None) -> None:
    protocol = SMALL.replace(injection=probe.injection, epochs=2)

    def keep(history: Any, tensors: Any) -> None:
        save_checkpoint(path, Checkpoint(protocol, {}, history, tensors))
        memory.epoch = len(history)

    samples = TrainingSamples(FakeDataset(), protocol)
    train(probe, samples, None, start=start, keep=keep, options=RunOptions(speed=speed, progress=False))


@pytest.mark.parametrize(("injection", "backward"), [("late", False), ("early", False), ("early", True)])
def test_a_run_continues_with_the_setting_that_fits(tmp_path: Path, injection: str, backward: bool) -> None:
    expected = tmp_path / "expected.safetensors"
    enough = Memory(SMALL.batch_size)
    run(probe_with(enough, injection=injection), expected, Speed(), enough)

    path, memory = tmp_path / "checkpoint.safetensors", Memory(2, from_epoch=1, backward=backward)
    probe = probe_with(memory, injection=injection)
    with pytest.raises(OutOfMemoryError) as caught:
        run(probe, path, Speed(), memory)
    message = str(caught.value)
    assert "epoch 2 of 2, step 1 of 2: the step ran out of memory with 4 images in one pass" in message
    assert "Tried to allocate 2 GiB.). 2 images fit: " in message
    assert "Speed(images_at_once=2) (command line: --images-at-once 2)" in message
    assert "The checkpoint of epoch 1 is kept" in message
    kept = load_checkpoint(path)
    for name, value in probe.trainable().state_dict().items():
        assert torch.equal(value, kept.tensors[name]), "trying smaller passes must not change weights"

    resumed = probe_with(memory, injection=injection, seed=9)
    run(resumed, path, Speed(images_at_once=2), memory, start=kept)
    whole, parts = load_checkpoint(expected), load_checkpoint(path)
    assert whole.history[1].loss == pytest.approx(parts.history[1].loss, rel=1e-5)
    assert whole.history[1].iou == pytest.approx(parts.history[1].iou, abs=1e-3)
    for name, value in whole.tensors.items():
        torch.testing.assert_close(parts.tensors[name], value, rtol=1e-3, atol=1e-4)


def test_passes_of_unequal_size_weigh_every_image_alike(tmp_path: Path) -> None:
    """Four images in passes of three and one."""
    enough = Memory(SMALL.batch_size)
    for name, speed in {"whole": Speed(), "parts": Speed(images_at_once=3)}.items():
        run(small_probe(SMALL, FakeUpsampler()), tmp_path / name, speed, enough)
    whole, parts = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    for name, value in whole.tensors.items():
        torch.testing.assert_close(parts.tensors[name], value, rtol=1e-3, atol=1e-4)


def test_the_first_number_that_fits_is_named() -> None:
    tried = []

    def step(images: int) -> str:
        tried.append(images)
        if images > 5:
            raise MemoryError
        return "done"

    with pytest.raises(OutOfMemoryError, match=r"24 images in one pass of the network \(MemoryError\). 3 images fit"):
        within_memory(step, 24, CPU)
    assert tried == [24, 12, 6, 3]
    assert within_memory(step, 4, CPU) == "done"


@pytest.mark.parametrize(("images", "expected"), [(2, "1 image does not fit either: free"), (1, "with 1 image in one")])
def test_nothing_fits(images: int, expected: str) -> None:
    def step(_images: int) -> None:
        raise FULL

    with pytest.raises(OutOfMemoryError, match=expected) as caught:
        within_memory(step, images, CPU)
    assert "choose a device that has more" in str(caught.value)
    assert "images_at_once" not in str(caught.value)


def test_other_failures_of_an_upsampler_are_not_repeated() -> None:
    tried = []

    def step(images: int) -> None:
        tried.append(images)
        raise UpsamplerError("the upsampler raised ZeroDivisionError") from ZeroDivisionError()

    with pytest.raises(UpsamplerError, match="ZeroDivisionError"):
        within_memory(step, 8, CPU)
    assert tried == [8]


def test_tensors_of_a_failed_attempt_are_gone_before_the_next_one() -> None:
    alive: list[int] = []
    held = []

    class Held:
        def __del__(self) -> None:
            held.remove(id(self))

    def step(_images: int) -> None:
        alive.append(len(held))
        tensors = Held()
        held.append(id(tensors))
        try:
            raise torch.cuda.OutOfMemoryError("full")
        except torch.cuda.OutOfMemoryError as error:
            raise UpsamplerError("the upsampler ran out of memory") from error

    with pytest.raises(OutOfMemoryError):
        within_memory(step, 4, CPU)
    assert alive == [0, 0, 0]
