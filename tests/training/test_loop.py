"""The training loop: reproducible, resumable, and what happens in one step."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from small import SMALL, CallCounter, small_probe
from torch import Tensor, nn

from vfm_isbench.acceleration.cached_probe import CachedImage, CachedProbe
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import ProtocolError, VfmIsbenchWarning
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import (
    Checkpoint,
    EpochRecord,
    TrainingSamples,
    load_checkpoint,
    normalized_focal_loss,
    save_checkpoint,
    train,
)
from vfm_isbench.training.loop import Keep, learning_rate, validate
from vfm_isbench.training.prediction import batch_iou, click_generator, predict_batch
from vfm_isbench.training.samples import Batch, collate
from vfm_isbench.types import AnnotatedImage, Click


def state(probe: Probe) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in probe.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def without_time(history: Sequence[EpochRecord]) -> list[tuple[Any, ...]]:
    return [(record.epoch, record.loss, record.iou, record.validation_iou) for record in history]


def run(probe: Probe, protocol: Protocol = SMALL, **options: Any) -> tuple[EpochRecord, ...]:
    training = TrainingSamples(options.pop("dataset", FakeDataset()), protocol)
    validation = TrainingSamples(FakeDataset(seed=1), protocol, validation=True)
    run_options = RunOptions(workers=options.pop("workers", 0), progress=False)
    return train(probe, training, validation, options=run_options, **options)


def checkpointing(protocol: Protocol, keep: Callable[[Checkpoint], object]) -> Keep:
    """Hands whole checkpoints to ``keep``."""
    return lambda history, tensors: keep(Checkpoint(protocol, {}, history, tensors))


@pytest.mark.parametrize(
    "changes",
    [
        {"injection": "late"},
        {"injection": "early"},
        {"average_decay": 0.9},
        {"schedule": "cosine", "milestones": (), "average_decay": 0.5, "warmup_steps": 3},
    ],
    ids=["late", "early", "averaged", "cosine, averaged"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    protocol = SMALL.replace(**changes)
    whole = small_probe(protocol, FakeUpsampler())
    expected = run(whole, protocol)

    class Interrupted(FakeDataset):
        """Ctrl-C in the middle of the second epoch."""

        reads = 0

        def read(self, image_id: str) -> AnnotatedImage:
            self.reads += 1
            if self.reads == 13:
                raise KeyboardInterrupt
            return super().read(image_id)

    path = tmp_path / "checkpoint.safetensors"

    def keep(checkpoint: Checkpoint) -> None:
        save_checkpoint(path, checkpoint)

    with pytest.raises(KeyboardInterrupt):
        run(small_probe(protocol, FakeUpsampler()), protocol, dataset=Interrupted(), keep=checkpointing(protocol, keep))
    start = load_checkpoint(path)
    assert len(start.history) == 1
    # Another seed for the initial weights: all that counts must come from the file.
    resumed = small_probe(protocol.replace(seed=9), FakeUpsampler())
    history = run(resumed, protocol, start=start, keep=checkpointing(protocol, keep))
    assert without_time(history) == without_time(expected)
    assert same(state(resumed), state(whole))
    assert load_checkpoint(path).is_complete


class PartlyTrained(nn.Module):
    """A click encoder with a frozen part, an unused part, and a part that the gradient reaches only from epoch 2 on."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.late = nn.Conv2d(3, 8, 14, stride=14)
        self.mix = nn.Conv2d(3, 8, 14, stride=14)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, click_map: Tensor) -> Tensor:
        seen = self.frozen(click_map)
        tokens = self.mix(seen)
        if torch.is_grad_enabled():
            self.steps += 1
        return tokens + self.late(seen) if self.steps > 2 else tokens


def partly_trained(seed: int) -> Probe:
    probe = small_probe()
    torch.manual_seed(seed)
    return Probe(probe.backbone, FakeUpsampler(), PartlyTrained(), probe.head, injection="late")


@pytest.mark.parametrize("epochs", [1, 2])
def test_parts_that_never_got_a_gradient_do_not_hinder_resuming(tmp_path: Path, epochs: int) -> None:
    kept: list[Checkpoint] = []
    whole = partly_trained(0)
    expected = run(whole, keep=checkpointing(SMALL, kept.append))
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, kept[epochs - 1])
    resumed = partly_trained(7)
    history = run(resumed, start=load_checkpoint(path))
    assert without_time(history) == without_time(expected)
    assert same(state(resumed), state(whole))
    moments = [sum(key.startswith("optimizer.") for key in checkpoint.tensors) for checkpoint in kept]
    assert moments[0] < moments[1] == moments[2]  # the late part joined in


def test_a_complete_run_is_not_trained_further() -> None:
    kept: list[Checkpoint] = []
    probe = small_probe()
    history = run(probe, keep=checkpointing(SMALL, kept.append))
    assert [len(checkpoint.history) for checkpoint in kept] == [1, 2, 3]
    again = small_probe(SMALL.replace(seed=9))
    counter = CallCounter(again.head)
    assert run(again, start=kept[-1]) == history
    assert counter.calls == 0
    assert same(state(again), state(probe))


def test_training_follows_the_seed_and_nothing_else() -> None:
    protocol = SMALL.replace(epochs=1)
    first, second, other = small_probe(), small_probe(), small_probe()
    torch.manual_seed(1)
    one = run(first, protocol)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert without_time(run(second, protocol)) == without_time(one)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(state(first), state(second))
    run(other, protocol.replace(seed=1))
    assert not same(state(first), state(other))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_change_nothing() -> None:
    protocol = SMALL.replace(epochs=1)
    one, other = small_probe(), small_probe()
    assert without_time(run(one, protocol)) == without_time(run(other, protocol, workers=2))
    assert same(state(one), state(other))


def test_training_learns() -> None:
    """As well as four patches per image allow."""
    protocol = SMALL.replace(epochs=4, samples_per_epoch=80, milestones=(3,))
    history = run(small_probe(protocol), protocol)
    assert history[-1].loss < 0.95 * history[0].loss
    assert history[-1].iou > history[0].iou + 0.1
    assert history[-1].validation_iou is not None and history[-1].validation_iou > 0.55


def test_the_probe_is_left_in_eval_mode() -> None:
    probe = small_probe()
    run(probe, SMALL.replace(epochs=1))
    assert not any(module.training for module in probe.modules())


def test_an_epoch_has_as_many_samples_as_images_unless_said_otherwise() -> None:
    probe = small_probe()
    counter = CallCounter(probe.click_encoder)
    protocol = SMALL.replace(
        epochs=2, batch_size=2, samples_per_epoch=None, max_iterative_clicks=0, validation_samples=0
    )
    history = run(probe, protocol, dataset=FakeDataset(images=5))
    assert counter.calls == 2 * 2  # the fifth image does not fill a batch
    assert all(record.validation_iou is None for record in history)


def test_an_epoch_shorter_than_a_batch_is_refused() -> None:
    with pytest.raises(ProtocolError, match="epoch of 3 samples is less than one batch of 4"):
        run(small_probe(), SMALL.replace(samples_per_epoch=3))


def test_learning_rate_falls_at_milestones_and_rises_at_first() -> None:
    protocol = SMALL.replace(learning_rate=1e-2, milestones=(2, 4), decay=0.1)
    rates = [learning_rate(protocol, epoch, 0, 50) for epoch in range(5)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    warm = protocol.replace(warmup_steps=4)
    rates = [learning_rate(warm, 0, step, 50) for step in range(5)]
    np.testing.assert_allclose(rates, [0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_learning_rate_falls_by_half_a_cosine() -> None:
    protocol = SMALL.replace(learning_rate=1e-2, milestones=(), schedule="cosine")
    rates = [learning_rate(protocol, step // 4, step, 8) for step in range(8)]
    assert rates[0] == 1e-2
    assert rates[4] == pytest.approx(5e-3)
    np.testing.assert_allclose(rates, 1e-2 * np.cos(np.pi * np.arange(8) / 16) ** 2)
    assert learning_rate(protocol, 2, 8, 8) == 0
    warm = protocol.replace(warmup_steps=4)
    factors = [learning_rate(warm, 0, step, 8) / rates[step] for step in range(8)]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


def test_the_learning_rate_reaches_the_optimiser() -> None:
    """After a milestone with an almost vanishing rate the weights stay where they are."""
    weights: list[Tensor] = []

    def keep(checkpoint: Checkpoint) -> None:
        weights.append(checkpoint.tensors["head.classifier.weight"].clone())

    run(small_probe(), SMALL.replace(milestones=(1,), decay=1e-9), keep=checkpointing(SMALL, keep))
    assert (weights[2] - weights[0]).abs().max() < 1e-6
    moved: list[Tensor] = weights.copy()
    weights.clear()
    run(small_probe(), SMALL.replace(milestones=()), keep=checkpointing(SMALL, keep))
    assert torch.equal(weights[0], moved[0])
    assert (weights[2] - weights[0]).abs().max() > 1e-3


def test_validation_draws_the_same_samples_every_time() -> None:
    probe = small_probe()
    samples = TrainingSamples(FakeDataset(), SMALL.replace(validation_samples=6), validation=True)
    assert validate(probe, samples) == validate(probe, samples)


def test_validation_counts_only_as_many_samples_as_asked_for() -> None:
    """Of 6 samples in batches of 4 the last two of the second batch are left out."""
    protocol = SMALL.replace(validation_samples=6, max_iterative_clicks=0)
    samples = TrainingSamples(FakeDataset(), protocol, validation=True)
    probe = small_probe(protocol)
    ious = []
    with torch.no_grad():
        for step, items in enumerate((range(4), range(4, 8))):
            batch = collate([samples[0, item] for item in items])
            ious += batch_iou(*predict_batch(probe, batch, protocol, click_generator(protocol, 1, 0, step)))
    assert validate(probe, samples) == pytest.approx(np.mean(ious[:6]))


class Spy(nn.Module):
    """Stands for the click encoder: keeps what it is given, and in which mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[tuple[Tensor, bool, bool]] = []

    def forward(self, click_map: Tensor) -> Tensor:
        self.seen.append((click_map.detach().clone(), self.training, torch.is_grad_enabled()))
        tokens: Tensor = self.inner(click_map)
        return tokens


def spied() -> tuple[Probe, Spy]:
    probe = small_probe()
    spy = Spy(probe.click_encoder)
    probe.click_encoder = spy
    return probe, spy


def a_batch(count: int = 4) -> Batch:
    samples = TrainingSamples(FakeDataset(), SMALL)
    return collate([samples[0, item] for item in range(count)])


def test_iterative_predictions_are_made_in_eval_mode_and_without_gradient() -> None:
    probe, spy = spied()
    logits, _ = predict_batch(probe.train(), a_batch(), SMALL.replace(max_iterative_clicks=3), at_least(3))
    assert [(training, gradient) for _, training, gradient in spy.seen] == [(False, False)] * 3 + [(True, True)]
    assert logits.requires_grad


def at_least(clicks: int) -> np.random.Generator:
    """A generator that draws this number of iterative clicks out of 0 to 3 first."""
    return next(
        np.random.default_rng(seed) for seed in range(1000) if np.random.default_rng(seed).integers(4) == clicks
    )


def test_the_first_prediction_has_no_previous_mask_and_later_ones_have_the_last() -> None:
    probe, spy = spied()
    batch = a_batch()
    predict_batch(probe, batch, SMALL, at_least(2))
    maps = [click_map for click_map, _, _ in spy.seen]
    assert not maps[0][:, :1].any()
    probe.eval()
    for earlier, later in zip(maps, maps[1:], strict=False):
        with torch.no_grad():
            expected = torch.sigmoid(probe(batch.images, earlier))
        torch.testing.assert_close(later[:, :1], expected, rtol=1e-5, atol=1e-6)


def test_every_iterative_click_lies_in_an_error_of_the_last_prediction() -> None:
    probe, spy = spied()
    batch = a_batch()
    batch.clicks[:] = [[] for _ in batch.clicks]
    predict_batch(probe, batch, SMALL.replace(disk_radius=0.5), at_least(3))
    maps = [click_map.numpy() for click_map, _, _ in spy.seen]
    targets = batch.targets[:, 0].numpy() > 0.5
    for earlier, later in zip(maps, maps[1:], strict=False):
        for image, target in enumerate(targets):
            new = later[image, 1:] - earlier[image, 1:]
            assert new.min() >= 0
            assert new.sum() <= 1
            predicted = later[image, 0] > 0.49
            if new[0].any():
                assert (target & ~predicted)[new[0] > 0].all()
            if new[1].any():
                assert (~target & predicted)[new[1] > 0].all()
            if not new.any():
                # No click only where there is no error, or at a place clicked before.
                assert (target == predicted).all() or earlier[image, 1:].any()


def test_every_step_has_random_clicks_of_its_own() -> None:
    keys = [(SMALL, 0, 0, 0), (SMALL, 0, 0, 1), (SMALL, 0, 1, 0), (SMALL, 1, 0, 0), (SMALL.replace(seed=1), 0, 0, 0)]
    assert len({click_generator(*key).integers(2**60) for key in keys}) == len(keys)
    assert click_generator(*keys[1]).integers(2**60) == click_generator(*keys[1]).integers(2**60)


def test_the_number_of_iterative_clicks_is_uniform() -> None:
    probe, spy = spied()
    batch = a_batch(1)
    counts: Counter[int] = Counter()
    for step in range(400):
        spy.seen.clear()
        predict_batch(probe, batch, SMALL, click_generator(SMALL, 0, 0, step))
        counts[len(spy.seen) - 1] += 1
    assert set(counts) == {0, 1, 2, 3}
    assert stats.chisquare([counts[number] for number in range(4)]).pvalue > 1e-3


def test_clicks_stay_within_the_slots_and_the_batch_is_not_changed() -> None:
    probe, spy = spied()
    batch = a_batch()
    batch.clicks[:] = [[Click(3, 3, True), Click(9, 9, False)] for _ in batch.clicks]
    before = [list(clicks) for clicks in batch.clicks]
    predict_batch(probe, batch, SMALL.replace(max_first_clicks=1, disk_radius=0.5), at_least(3))
    for click_map, _, _ in spy.seen:
        assert click_map[:, 1:].sum(dim=(2, 3)).max() <= 1
    assert batch.clicks == before


def test_iou_of_a_batch() -> None:
    targets = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).reshape(4, 1, 2, 2)
    logits = torch.tensor([[2.0, -1, 3, -1], [-1, -1, -1, -1], [1, -1, -1, -1], [1, 1, 1, 1]]).reshape(4, 1, 2, 2)
    assert batch_iou(logits, targets) == pytest.approx([1 / 3, 1, 0, 1])


def test_training_in_half_precision_gives_every_weight_a_gradient() -> None:
    """After iterative clicks, too, whose passes record none."""
    probe = small_probe()
    batch = collate([TrainingSamples(FakeDataset(), SMALL)[0, item] for item in range(4)])
    logits, targets = predict_batch(probe, batch, SMALL, np.random.default_rng(3), speed=Speed(precision="bfloat16"))
    assert logits.dtype == torch.float32
    normalized_focal_loss(logits, targets).mean().backward()
    assert [name for name, parameter in probe.trainable().named_parameters() if parameter.grad is None] == []


def test_encoded_images_are_gone_before_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With late injection they are as large as the features at full size."""
    encoded: list[weakref.ref[Tensor]] = []
    original = CachedProbe.encode

    def encode(network: CachedProbe, image: Tensor) -> CachedImage:
        found = original(network, image)
        assert found.convolved is not None
        encoded.append(weakref.ref(found.convolved))
        return found

    def backward(logits: Tensor, targets: Tensor) -> None:
        assert logits.requires_grad and [each() for each in encoded] == [None]

    monkeypatch.setattr(CachedProbe, "encode", encode)
    predict_batch(small_probe(SMALL, FakeUpsampler()), a_batch(), SMALL, at_least(2), backward=backward)


def test_validation_does_not_end_the_cache_of_features(tmp_path: Path) -> None:
    protocol = SMALL.replace(injection="late", epochs=2, validation_samples=2)
    samples = TrainingSamples(FakeDataset(), protocol)
    validation = TrainingSamples(FakeDataset(), protocol, validation=True)
    train(small_probe(protocol), samples, validation, options=RunOptions(speed=Speed(feature_cache=tmp_path)))
    crops = 2 * 8 + 2  # two epochs, and the same validation twice
    assert crops <= len(list(tmp_path.rglob("*.features"))) <= crops + 2


def test_early_injection_has_no_features_to_cache(tmp_path: Path) -> None:
    protocol = SMALL.replace(injection="early", epochs=1, validation_samples=0)
    with pytest.warns(VfmIsbenchWarning, match="depend on the clicks"):
        samples = TrainingSamples(FakeDataset(), protocol)
        train(small_probe(protocol), samples, None, options=RunOptions(speed=Speed(feature_cache=tmp_path)))
    assert list(tmp_path.iterdir()) == []
