"""Seeds are honest replicates: another seed means other initial weights and other draws, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from small import SMALL, small_probe
from torch import Tensor

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.training.prediction import click_generator
from vfm_isbench.upsamplers import Bilinear

SEEDS = range(4)
ONE_STEP = SMALL.replace(epochs=1, samples_per_epoch=4, milestones=(), validation_samples=0)
"""One step, whose loss depends on the initial weights and the batch but not yet on what was learnt."""


class ResettingBackbone(FakeBackbone):
    """Resets the global generator when built, as the reference's backbone does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)


def probe_of(protocol: Protocol) -> Probe:
    return build_probe(protocol, ResettingBackbone(), Bilinear())


def random_weights(probe: Probe) -> dict[str, Tensor]:
    """The weights that are drawn: matrices and kernels, not biases and norms, which start at 0 and 1."""
    return {name: weight for name, weight in probe.trainable().named_parameters() if weight.ndim > 1}


def first_loss(initial: int, draws: int) -> float:
    samples = TrainingSamples(FakeDataset(), ONE_STEP.replace(seed=draws))
    (record,) = train(probe_of(ONE_STEP.replace(seed=initial)), samples, None, options=RunOptions(progress=False))
    return record.loss


def weights(seed: int) -> dict[str, Tensor]:
    return probe_of(SMALL.replace(seed=seed)).trainable().state_dict()


def test_every_initial_weight_follows_the_seed_even_if_the_backbone_resets_the_generator() -> None:
    """Building a backbone resets the global generator; that is how recordings came to share their weights."""
    drawn = [random_weights(probe_of(SMALL.replace(seed=seed))) for seed in SEEDS]
    again = random_weights(probe_of(SMALL.replace(seed=SEEDS[1])))
    assert len(drawn[0]) >= 6
    assert {name.split(".")[0] for name in drawn[0]} >= {"head", "click_encoder"}
    for name in drawn[0]:
        assert torch.equal(drawn[1][name], again[name]), name
        for one, other in combinations(drawn, 2):
            assert (one[name] != other[name]).float().mean() > 0.99, name


def test_weights_of_neighbouring_seeds_are_independent() -> None:
    """Correlations are those of independent draws."""
    kernels = np.stack([weights(seed)["head.convs.0.conv.weight"].flatten().numpy() for seed in range(8)])
    others = np.corrcoef(kernels)[~np.eye(8, dtype=bool)]
    assert np.abs(others).max() < 5 / np.sqrt(kernels.shape[1])


def test_the_seed_does_not_depend_on_what_was_drawn_before() -> None:
    torch.manual_seed(0)
    first = small_probe(SMALL.replace(seed=3)).trainable().state_dict()
    torch.manual_seed(1)
    torch.rand(7)
    second = small_probe(SMALL.replace(seed=3)).trainable().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_frozen_part_does_not_follow_the_seed() -> None:
    backbone = FakeBackbone()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    for seed in SEEDS:
        build_probe(SMALL.replace(seed=seed), backbone, Bilinear())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda sample: sample.image.numpy().tobytes(), id="images"),
        pytest.param(lambda sample: sample.target.tobytes(), id="targets"),
        pytest.param(lambda sample: tuple(sample.clicks), id="clicks"),
    ],
)
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_samples_follow_the_seed(draw: Callable[..., object], is_shuffled: bool) -> None:
    protocol = SMALL.replace(shuffled=is_shuffled)
    drawn = []
    for seed in (1, 2, 1):
        samples = TrainingSamples(FakeDataset(), protocol.replace(seed=seed))
        drawn.append([draw(samples[epoch, item]) for epoch in range(2) for item in range(8)])
    one, other, again = drawn
    assert one == again
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 8


def test_no_image_is_drawn_for_two_seeds() -> None:
    """Which object, how it is cut, flipped and coloured."""
    runs = [TrainingSamples(FakeDataset(), SMALL.replace(seed=seed)) for seed in SEEDS]
    for place in [(epoch, item) for epoch in range(2) for item in range(6)]:
        assert len({run[place].image.numpy().tobytes() for run in runs}) == len(SEEDS)


def test_the_order_of_shuffled_images_follows_the_seed() -> None:
    orders = []
    for seed in (1, 2):
        samples = TrainingSamples(FakeDataset(), SMALL.replace(shuffled=True, seed=seed))
        orders.append([samples._draw_image(0, item, np.random.default_rng(0)) for item in range(8)])
    assert orders[0] != orders[1]


def test_iterative_clicks_follow_the_seed() -> None:
    one, other = (click_generator(SMALL.replace(seed=seed), 0, 0, 0).random(8) for seed in (1, 2))
    assert not np.isclose(one, other).any()


def test_initial_weights_and_draws_each_change_the_first_loss() -> None:
    losses = {(initial, draws): first_loss(initial, draws) for initial in (1, 2) for draws in (1, 2)}
    assert len(set(losses.values())) == 4, losses
    assert first_loss(1, 1) == losses[1, 1]
