"""Checkpoints inside an epoch: from each of them, training ends as if nothing had interrupted it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL, small_probe
from torch import Tensor, nn

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import NonFiniteError, RunError
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import Checkpoint, EpochRecord, TrainingSamples, load_checkpoint, save_checkpoint, train
from vfm_isbench.training.unfinished import UNFINISHED, Keeper, UnfinishedEpoch

ALWAYS = 1e-9
STEPS = 3
LONGER = SMALL.replace(epochs=2, milestones=(1,), samples_per_epoch=STEPS * SMALL.batch_size)


class Noisy(nn.Module):
    """Draws from PyTorch's global random numbers, as modules of others may."""

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        upsampled = nn.functional.interpolate(features, image.shape[-2:])
        return upsampled + 0.1 * torch.randn_like(upsampled)


def run(
    protocol: Protocol, folder: Path | None = None, start: Checkpoint | None = None, minutes: float = ALWAYS
) -> tuple[tuple[EpochRecord, ...], dict[str, Tensor]]:
    """Train, with a checkpoint after every step in a folder of files numbered from 0."""
    # Another seed for the initial weights: all that counts must come from the file.
    probe = small_probe(protocol if start is None else protocol.replace(seed=9), Noisy())
    training = TrainingSamples(FakeDataset(), protocol)
    validation = TrainingSamples(FakeDataset(seed=1), protocol, validation=True)
    numbers = iter(range(1000))

    def keep(history: tuple[EpochRecord, ...], tensors: Mapping[str, Tensor]) -> None:
        if folder is not None:
            save_checkpoint(folder / f"{next(numbers)}.safetensors", Checkpoint(protocol, {}, history, tensors))

    options = RunOptions(progress=False, checkpoint_minutes=minutes)
    history = train(probe, training, validation, start=start, keep=keep, options=options)
    return history, _state(probe)


def _state(probe: Probe) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in probe.trainable().state_dict().items()}


def figures(history: tuple[EpochRecord, ...]) -> list[EpochRecord]:
    return [replace(record, seconds=0.0) for record in history]


CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "early": {"injection": "early"},
    "averaged": {"schedule": "cosine", "milestones": (), "average_decay": 0.5, "warmup_steps": 3},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_from_every_step_training_ends_as_if_nothing_had_interrupted_it(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    protocol = LONGER.replace(**changes)
    expected, weights = run(protocol, minutes=math.inf)
    also, same_weights = run(protocol, tmp_path)
    assert figures(also) == figures(expected)
    assert all(torch.equal(same_weights[name], value) for name, value in weights.items())
    files = sorted(tmp_path.iterdir(), key=lambda file: int(file.stem))
    places = []
    for file in files:
        start = load_checkpoint(file)
        places.append((len(start.history), start.unfinished.steps if start.unfinished else 0))
        history, found = run(protocol, start=start, minutes=math.inf)
        assert figures(history) == figures(expected), places[-1]
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], value) for name, value in weights.items()), places[-1]
    assert places == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]


def test_an_epoch_takes_as_long_as_its_parts(tmp_path: Path) -> None:
    run(LONGER, tmp_path)
    start = load_checkpoint(tmp_path / "1.safetensors")
    assert start.unfinished is not None
    tensors = {**start.tensors, UNFINISHED + "seconds": torch.tensor(1000.0)}
    history, _ = run(LONGER, start=replace(start, tensors=tensors))
    assert 1000 < history[0].seconds < 1100 and history[1].seconds < 100


def test_an_unfinished_checkpoint_can_be_evaluated(tmp_path: Path) -> None:
    run(LONGER, tmp_path)
    probe = small_probe(LONGER.replace(seed=9))
    start = load_checkpoint(tmp_path / "1.safetensors")
    start.restore(probe.trainable())
    assert all(torch.equal(value, start.tensors[name]) for name, value in _state(probe).items())
    assert not start.is_complete


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop(UNFINISHED + "ious"), "broken"),
        (lambda tensors: tensors.update({UNFINISHED + "seconds": torch.zeros(2)}), "broken"),
        (lambda tensors: tensors.update({UNFINISHED + "random.cpu": torch.zeros(3)}), "broken"),
        (lambda tensors: tensors.update({UNFINISHED + "losses": torch.zeros(9)}), "9 steps of an epoch that has 3"),
    ],
)
def test_a_broken_place_in_an_epoch_is_refused(tmp_path: Path, damage: Any, message: str) -> None:
    run(LONGER, tmp_path)
    start = load_checkpoint(tmp_path / "1.safetensors")
    tensors = dict(start.tensors)
    damage(tensors)
    with pytest.raises(RunError, match=message):
        run(LONGER, start=replace(start, tensors=tensors))


def test_no_checkpoint_holds_weights_of_a_step_with_a_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a step are read with those of the next one, so a checkpoint has to wait for them."""
    from vfm_isbench.training import loop

    original, calls = loop.normalized_focal_loss, []

    def sometimes_nan(*arguments: Any, **options: Any) -> Tensor:
        calls.append(1)
        loss = original(*arguments, **options)
        return loss * math.nan if len(calls) == 2 else loss

    monkeypatch.setattr(loop, "normalized_focal_loss", sometimes_nan)
    with pytest.raises(NonFiniteError, match="step 2 of 3"):
        run(LONGER, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["0.safetensors"]


def test_minutes_pass_from_one_checkpoint_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    from vfm_isbench.training import unfinished

    clock = [1000.0]
    monkeypatch.setattr(unfinished.time, "monotonic", lambda: clock[0])
    kept: list[int] = []
    keeper = Keeper(lambda history, _tensors: kept.append(len(history)), 10, 0, 0)
    for clock[0], expected in [(1000, False), (1599, False), (1600, True)]:
        assert keeper.is_due is expected
    keeper.keep((), {}, 5)
    assert not keeper.is_due and kept == [0]
    assert keeper.says() == "The checkpoint of epoch 1, step 5, is kept, and the same command continues from there."
    clock[0] = 2200
    assert keeper.is_due
    assert not Keeper(None, 10, 0, 0).is_due


@pytest.mark.parametrize("minutes", [0, -1, math.nan, "10", True])
def test_checkpoints_need_a_number_of_minutes(minutes: Any) -> None:
    with pytest.raises(RunError, match="checkpoint_minutes must be a number of minutes above 0"):
        RunOptions(checkpoint_minutes=minutes)


def test_finished_epochs_have_no_place_inside() -> None:
    assert UnfinishedEpoch.of({"head.weight": torch.zeros(1)}) is None
