"""Checkpoints: whole or not at all, without pickle, and back as they were."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import SMALL, small_probe
from torch import Tensor

from vfm_isbench.errors import NonFiniteError, RunError, WriteError
from vfm_isbench.probe import Probe
from vfm_isbench.storage import atomic
from vfm_isbench.training import Checkpoint, EpochRecord, load_checkpoint, save_checkpoint
from vfm_isbench.training import checkpoint as module
from vfm_isbench.training.checkpoint import capture

HISTORY = (EpochRecord(0, 0.5, 0.25, None, 1.5), EpochRecord(1, 0.4, 0.35, 0.3, 1.25))


def trained(seed: int = 0) -> tuple[Probe, torch.optim.Adam]:
    """A probe after two steps, and its optimiser."""
    probe = small_probe(SMALL.replace(seed=seed))
    optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=1e-2)
    for step in range(2):
        take_step(probe, optimizer, step)
    return probe, optimizer


def take_step(probe: Probe, optimizer: torch.optim.Adam, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    loss = probe(torch.rand(2, 3, 28, 28, generator=generator), torch.rand(2, 3, 28, 28, generator=generator)).mean()
    torch.autograd.backward(loss)
    optimizer.step()


def checkpoint(seed: int = 0) -> Checkpoint:
    probe, optimizer = trained(seed)
    tensors = capture(probe.trainable(), optimizer)
    return Checkpoint(SMALL, {"name": "bilinear", "sha256": None}, HISTORY, tensors, {"backbone_sha256": "ab"})


def same(one: dict[str, Tensor] | Any, other: dict[str, Tensor] | Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("fused", [True, False])
def test_fused_and_other_optimisers_continue_each_other(fused: bool) -> None:
    """A run may start on a GPU, whose optimiser is fused, and continue without one, and the other way round."""

    def step_with_given_gradients(probe: Probe, optimizer: torch.optim.Adam, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in optimizer.param_groups[0]["params"]:
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)  # laid out as autograd does
        optimizer.step()

    probe, continued = small_probe(), small_probe(SMALL.replace(seed=5))
    optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=1e-2, fused=fused)
    step_with_given_gradients(probe, optimizer, 0)
    other = torch.optim.Adam(continued.trainable().parameters(), lr=1e-2, fused=not fused)
    Checkpoint(SMALL, {}, HISTORY, capture(probe.trainable(), optimizer)).restore(continued.trainable(), other)
    assert other.param_groups[0]["fused"] is not fused
    for seed in (1, 2):
        step_with_given_gradients(probe, optimizer, seed)
        step_with_given_gradients(continued, other, seed)
    one, two = (capture(p.trainable(), o) for p, o in ((probe, optimizer), (continued, other)))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-7)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "checkpoint.safetensors"
    saved = checkpoint()
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert same(loaded.tensors, saved.tensors)
    assert (loaded.protocol, loaded.history) == (SMALL, HISTORY)
    assert (loaded.upsampler, loaded.extra) == (saved.upsampler, saved.extra)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.safetensors"]


def test_is_complete_after_the_last_epoch() -> None:
    begun = checkpoint()
    assert not begun.is_complete
    assert replace(begun, history=(*HISTORY, EpochRecord(2, 0.3, 0.4, None, 1.0))).is_complete


def test_a_restored_probe_goes_on_as_the_original() -> None:
    probe, optimizer = trained()
    kept = Checkpoint(SMALL, {}, HISTORY, capture(probe.trainable(), optimizer))
    again = small_probe(SMALL.replace(seed=5))
    optimizer_again = torch.optim.Adam(again.trainable().parameters(), lr=1e-2)
    kept.restore(again.trainable(), optimizer_again)
    assert same(again.trainable().state_dict(), probe.trainable().state_dict())
    for seed in range(3):
        take_step(probe, optimizer, seed)
        take_step(again, optimizer_again, seed)
    assert same(again.trainable().state_dict(), probe.trainable().state_dict())


def test_a_checkpoint_is_a_copy() -> None:
    """Neither the training it was taken from nor one that goes on from it changes it."""
    probe, optimizer = trained()
    kept = Checkpoint(SMALL, {}, HISTORY, capture(probe.trainable(), optimizer))
    before = {key: value.clone() for key, value in kept.tensors.items()}
    take_step(probe, optimizer, 0)
    assert same(kept.tensors, before)
    again = small_probe()
    optimizer_again = torch.optim.Adam(again.trainable().parameters(), lr=1e-2)
    kept.restore(again.trainable(), optimizer_again)
    take_step(again, optimizer_again, 0)
    assert same(kept.tensors, before)


def test_an_evaluation_needs_no_optimiser() -> None:
    probe = small_probe(SMALL.replace(seed=5))
    kept = checkpoint()
    kept.restore(probe.trainable())
    weights = {key: value for key, value in kept.tensors.items() if not key.startswith("optimizer.")}
    assert same(probe.trainable().state_dict(), weights)


def test_other_modules_are_refused() -> None:
    with pytest.raises(RunError, match="does not fit click encoder and head"):
        checkpoint().restore(small_probe(SMALL.replace(head_layers=1)).trainable())


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("optimizer.1.exp_avg"),
        lambda tensors: tensors.update({"optimizer.1.exp_avg_sq": torch.zeros(1, 2, 3)}),
        lambda tensors: tensors.update({f"optimizer.999.{part}": torch.zeros(1) for part in module._MOMENTS}),
    ],
    ids=["a moment is missing", "a moment has another shape", "a parameter does not exist"],
)
def test_a_state_of_the_optimiser_that_does_not_fit_is_refused(change: Callable[[dict[str, Tensor]], Any]) -> None:
    probe, optimizer = trained()
    tensors = capture(probe.trainable(), optimizer)
    change(tensors)
    with pytest.raises(RunError, match=r"optimiser does not fit parameter (1|999) of.*--overwrite"):
        Checkpoint(SMALL, {}, HISTORY, tensors).restore(probe.trainable(), optimizer)


def test_a_broken_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    old = checkpoint()
    save_checkpoint(path, old)

    written: list[str] = []

    def full(_descriptor: int) -> None:
        written.extend(file.name for file in tmp_path.iterdir())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(WriteError, match=r"checkpoint\.safetensors cannot be written: No space left on device\. Free"):
        save_checkpoint(path, checkpoint(seed=1))
    # Not a name of the safetensors library, which nobody could clean up after a kill.
    assert sorted(written) == sorted([path.name, atomic.partial_of(path).name])
    assert same(load_checkpoint(path).tensors, old.tensors)
    monkeypatch.undo()
    new = checkpoint(seed=1)
    save_checkpoint(path, new)
    assert same(load_checkpoint(path).tensors, new.tensors)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_the_file_is_safetensors_with_json_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, checkpoint())
    names = {name.split(".")[0] for name in load_file(path)}
    assert names == {"click_encoder", "head", "optimizer"}
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["vfm_isbench"])["protocol"] == SMALL.to_dict()


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(RunError, match=r"no checkpoint at .*checkpoint\.safetensors"):
        load_checkpoint(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RunError, match="could not be read as a checkpoint"):
        load_checkpoint(path)
    for metadata in (None, {"vfm_isbench": "{"}, {"vfm_isbench": "[]"}, {"vfm_isbench": '{"format": "other"}'}):
        save_file({"a": torch.zeros(1)}, path, metadata=metadata)
        with pytest.raises(RunError, match="checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("damage", ["protocol", "history", "upsampler", "extra"])
def test_a_damaged_header_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    kept = checkpoint()
    save_checkpoint(path, kept)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    ours = json.loads(header["__metadata__"]["vfm_isbench"])
    del ours[damage]
    save_file(dict(kept.tensors), path, metadata={"vfm_isbench": json.dumps(ours)})
    with pytest.raises(RunError, match=f"{damage}"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["head.classifier.weight", "optimizer.0.exp_avg_sq"])
def test_nan_and_infinity_are_neither_written_nor_read(name: str, value: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    good = checkpoint()
    save_checkpoint(path, good)
    tensor = good.tensors[name].clone()
    tensor.view(-1)[0] = value
    broken = replace(good, tensors={**good.tensors, name: tensor})
    with pytest.raises(NonFiniteError, match=f"1 of {len(good.tensors)} tensors .* '{name}'"):
        save_checkpoint(path, broken)
    assert same(load_checkpoint(path).tensors, good.tensors)
    # Version 0.3 wrote such files.
    with safe_open(path, "pt") as file:
        header = file.metadata()
    save_file(dict(broken.tensors), path, header)
    with pytest.raises(RunError, match=f"useless: 1 of .* '{name}'. Train again .* --overwrite"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("upsampler", None, "'upsampler' has the wrong type: expected an object, found null"),
        ("upsampler", {"name": 3}, "'upsampler.name' has the wrong type"),
        ("extra", [], "'extra' has the wrong type: expected an object, found list"),
        ("extra", {"backbone_sha256": 3}, "'extra.backbone_sha256' has the wrong type"),
        ("history", [{"epoch": -1}], "'epoch' is -1"),
        ("history", [{"epoch": 0, "loss": "x"}], "'loss' has the wrong type"),
        ("protocol", [], "'protocol' has the wrong type"),
        ("protocol", {**SMALL.to_dict(), "image_size": 10**6}, "image_size is 1000000"),
        ("format", "[" * 100_000 + "]" * 100_000, "is not a checkpoint"),
    ],
)
def test_hostile_headers_are_refused_with_the_reason(tmp_path: Path, field: str, value: object, reason: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    kept = checkpoint()
    save_checkpoint(path, kept)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["vfm_isbench"])
    save_file(dict(kept.tensors), path, metadata={"vfm_isbench": json.dumps({**header, field: value})})
    with pytest.raises(RunError, match=reason):
        load_checkpoint(path)
    save_file(dict(kept.tensors), path, metadata={"vfm_isbench": "[" * 100_000 + "]" * 100_000})
    with pytest.raises(RunError, match="deeper than 32 levels"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["optimizer.x.step", "optimizer.0", "optimizer.-1.step", "optimizer.0.step.more"])
def test_a_state_of_the_optimiser_with_another_name_is_refused(name: str) -> None:
    probe, optimizer = trained()
    bad = replace(checkpoint(), tensors={**checkpoint().tensors, name: torch.zeros(1)})
    with pytest.raises(RunError, match="state of the optimiser does not fit"):
        bad.restore(probe.trainable(), optimizer)


def test_no_damaged_byte_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, checkpoint())
    content = path.read_bytes()
    assert load_checkpoint(path).history == HISTORY
    for place in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(RunError, match="Train again from the start|is not a checkpoint"):
            load_checkpoint(path)
