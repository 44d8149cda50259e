"""Training backbone and upsampler: the gradients of the whole network, through caches, checkpoints and averages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest
import torch
from small import SMALL, evaluated, small_probe
from torch import Tensor

from vfm_isbench.acceleration.feature_cache import FeatureCache, open_feature_cache
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import VfmIsbenchWarning
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Injection, Protocol
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import Checkpoint, EpochRecord, TrainingSamples, load_checkpoint, save_checkpoint, train
from vfm_isbench.training import loop as training_loop
from vfm_isbench.training.prediction import click_generator, predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.upsamplers import Bilinear, Upsampler
from vfm_isbench.upsamplers.published.lift import LiFT

BOTH = SMALL.replace(train_upsampler=True, train_backbone=True, epochs=2)


def gradients(probe: Probe, protocol: Protocol, speed: Speed, cache: FeatureCache | None = None) -> dict[str, Tensor]:
    """Those of one training step with two iterative clicks."""
    samples = TrainingSamples(FakeDataset(), protocol)
    batch = collate([samples[0, item] for item in range(4)])
    clicks = next(click_generator(protocol, 0, 0, step) for step in range(99) if _draws(protocol, step) == 2)
    probe.zero_grad()

    def backward(logits: Tensor, targets: Tensor) -> None:
        torch.autograd.backward((logits * targets).sum() / 4)

    predict_batch(probe, batch, protocol, clicks, speed=speed, cache=cache, backward=backward)
    return {name: weight.grad.clone() for name, weight in probe.named_parameters() if weight.grad is not None}


def _draws(protocol: Protocol, step: int) -> int:
    return int(click_generator(protocol, 0, 0, step).integers(protocol.max_iterative_clicks + 1))


@pytest.mark.parametrize("make", [FakeUpsampler, lambda: LiFT(8), Bilinear], ids=["two steps", "lift", "bilinear"])
@pytest.mark.parametrize("injection", get_args(Injection))
def test_gradients_are_those_of_the_network_without_shortcut(
    injection: Injection, make: Callable[[], Upsampler], tmp_path: Path
) -> None:
    """In one pass and in several, and with features on disk, which have no gradient."""
    # Seed 0 puts a value so near to the kink of a ReLU that rounding decides its gradient.
    protocol = BOTH.replace(injection=injection, train_upsampler=make is not Bilinear, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        probe = small_probe(protocol, make())
    expected = gradients(probe, protocol, Speed(shortcut=False))
    reached = {name.partition(".")[0] for name, gradient in expected.items() if gradient.any()}
    assert {"backbone", "click_encoder", "head"} <= reached
    assert ("_upsampler_module" in reached) == protocol.train_upsampler
    cache = FeatureCache(tmp_path, probe.backbone)
    for speed, used in ((Speed(), None), (Speed(images_at_once=2), None), (Speed(), cache)):
        found = gradients(probe, protocol, speed, used)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert cache.hits + cache.misses == 0


def test_features_on_disk_serve_frozen_backbones_and_evaluation_only(tmp_path: Path) -> None:
    probe = small_probe(BOTH, FakeUpsampler())
    with pytest.warns(VfmIsbenchWarning, match="no features are cached in training"):
        assert open_feature_cache(probe, tmp_path, training=True) is None
    assert open_feature_cache(
        small_probe(SMALL.replace(train_upsampler=True), FakeUpsampler()), tmp_path, training=True
    )
    speed = Speed(feature_cache=tmp_path)
    once, _ = evaluated(probe, FakeDataset(), BOTH, speed=speed)
    files = {file.name for file in tmp_path.rglob("*.features")}
    assert files
    with torch.no_grad():  # as training would
        next(probe.backbone.parameters()).mul_(1.1)
    other, _ = evaluated(probe, FakeDataset(), BOTH, speed=speed)
    assert other == evaluated(probe, FakeDataset(), BOTH)[0] != once
    assert files < {file.name for file in tmp_path.rglob("*.features")}


def run(
    protocol: Protocol, probe: Probe, start: Checkpoint | None = None, stop_after: int | None = None
) -> list[Checkpoint]:
    """Train, and collect the checkpoints; after ``stop_after`` steps only the one inside the epoch."""
    kept: list[Checkpoint] = []
    options = RunOptions(progress=False, checkpoint_minutes=1e-9 if stop_after else 60.0)

    def keep(records: tuple[EpochRecord, ...], tensors: Mapping[str, Tensor]) -> None:
        kept.append(Checkpoint(protocol, {}, records, tensors))
        if stop_after and len(kept) == stop_after:
            raise InterruptedError

    with contextlib.suppress(InterruptedError):
        train(probe, TrainingSamples(FakeDataset(), protocol), None, start=start, keep=keep, options=options)
    return kept


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_training_resumed_inside_an_epoch_ends_with_the_same_bits(decay: float, tmp_path: Path) -> None:
    protocol = BOTH.replace(average_decay=decay)
    whole = small_probe(protocol, FakeUpsampler())
    before = {name: weight.clone() for name, weight in whole.state_dict().items()}
    last = run(protocol, whole)[-1]
    names = {name.partition(".")[0] for name in last.tensors}
    assert {"click_encoder", "head", "backbone", "upsampler", "optimizer"} <= names
    moved = {name for name, value in whole.state_dict().items() if not torch.equal(value, before[name])}
    for part in ("backbone", "_upsampler_module"):
        weights = {name for name, _ in whole.named_parameters() if name.startswith(f"{part}.")}
        assert weights == {name for name in moved if name.startswith(f"{part}.")}  # and no statistics
    (begun,) = run(protocol, small_probe(protocol, FakeUpsampler()), stop_after=1)
    assert begun.unfinished is not None and begun.unfinished.steps == 1
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, begun)
    again = small_probe(protocol, FakeUpsampler(seed=3))
    ended = run(protocol, again, start=load_checkpoint(path))[-1]
    assert ended.tensors.keys() == last.tensors.keys()
    assert all(torch.equal(ended.tensors[name], value) for name, value in last.tensors.items())
    assert all(torch.equal(again.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_the_parts_learn_at_their_share_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[dict[int, float]] = []
    step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam) -> None:
        rates.append({len(group["params"]): group["lr"] for group in self.param_groups})
        step(self)

    monkeypatch.setattr(training_loop.torch.optim.Adam, "step", spy)
    protocol = BOTH.replace(epochs=1, fine_tuning_rate=0.25, milestones=(), warmup_steps=2)
    probe = small_probe(protocol, FakeUpsampler())
    run(protocol, probe)
    tuned = sum(len(list(probe.trainable()[part].parameters())) for part in ("backbone", "upsampler"))
    new = len(list(probe.trainable().parameters())) - tuned
    assert rates == [{new: rate, tuned: rate / 4} for rate in (0.005, 0.01)]


def test_frozen_parts_are_trained_as_before() -> None:
    """Whatever the share is: one group, and nothing but click encoder and head in the checkpoint."""
    plain, other = (run(SMALL.replace(epochs=1, fine_tuning_rate=rate), small_probe())[-1] for rate in (0.1, 0.5))
    assert {name.partition(".")[0] for name in plain.tensors} == {"click_encoder", "head", "optimizer"}
    assert all(torch.equal(other.tensors[name], value) for name, value in plain.tensors.items())
