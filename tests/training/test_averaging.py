"""The moving average of the weights: its values, where it is used, and what checkpoints keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import SMALL, small_probe
from torch import nn

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import RunError
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import Checkpoint, EpochRecord, TrainingSamples, load_checkpoint, save_checkpoint, train
from vfm_isbench.training.averaging import UNAVERAGED, WeightAverage
from vfm_isbench.training.loop import validate

AVERAGED = SMALL.replace(average_decay=0.9)


def trained(protocol: Protocol) -> tuple[Probe, list[Checkpoint], tuple[EpochRecord, ...]]:
    probe, kept = small_probe(protocol), list[Checkpoint]()
    history = train(
        probe,
        TrainingSamples(FakeDataset(), protocol),
        validation_of(protocol),
        keep=lambda records, tensors: kept.append(Checkpoint(protocol, {}, records, tensors)),
        options=RunOptions(progress=False),
    )
    return probe, kept, history


def validation_of(protocol: Protocol) -> TrainingSamples:
    return TrainingSamples(FakeDataset(seed=1), protocol, validation=True)


def test_the_decay_rises_to_its_limit() -> None:
    module = nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = WeightAverage(module, 0.5)
    expected = 0.0
    for step in range(1, 20):
        torch.nn.init.constant_(module.weight, float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert module.weight.item() == step  # training goes on from the weights themselves
        with average.in_place():
            assert module.weight.item() == pytest.approx(expected)
        assert module.weight.item() == step
    average.finish()
    assert module.weight.item() == pytest.approx(expected)


def test_without_decay_nothing_is_kept_or_changed() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.0)
    before = module.weight.clone()
    average.update(1)
    average.finish()
    assert torch.equal(module.weight, before)
    assert average.unaveraged() == {}
    _, kept, _ = trained(SMALL.replace(epochs=1))
    assert not any(name.startswith(UNAVERAGED) for name in kept[0].tensors)


def test_training_is_that_of_the_weights_themselves() -> None:
    """Averaging follows the training without changing it: losses are equal, and so are the weights it goes on from."""
    _, plain, without = trained(SMALL)
    probe, kept, history = trained(AVERAGED)
    assert [record.loss for record in history] == [record.loss for record in without]
    for own, other in zip(kept, plain, strict=True):
        for name in (name for name in own.tensors if name.startswith(UNAVERAGED)):
            plain_name = name.removeprefix(UNAVERAGED)
            assert torch.equal(own.tensors[name], other.tensors[plain_name])
            assert not torch.equal(own.tensors[name], own.tensors[plain_name])
    assert all(torch.equal(kept[-1].tensors[name], value) for name, value in probe.trainable().state_dict().items())


def test_validation_and_evaluation_use_the_average(tmp_path: Path) -> None:
    probe, kept, history = trained(AVERAGED)
    again = small_probe(AVERAGED.replace(seed=5))
    path = tmp_path / "checkpoint.safetensors"
    for checkpoint, record in zip(kept, history, strict=True):
        save_checkpoint(path, checkpoint)
        load_checkpoint(path).restore(again.trainable())
        assert validate(again, validation_of(AVERAGED)) == record.validation_iou
    assert validate(probe, validation_of(AVERAGED)) == history[-1].validation_iou


def test_a_checkpoint_without_the_weights_to_continue_from_is_refused() -> None:
    _, kept, _ = trained(SMALL.replace(epochs=1))
    with pytest.raises(RunError, match="lacks 'unaveraged.click_encoder"):
        train(
            small_probe(AVERAGED),
            TrainingSamples(FakeDataset(), AVERAGED),
            None,
            start=Checkpoint(AVERAGED, {}, kept[0].history, kept[0].tensors),
            options=RunOptions(progress=False),
        )
