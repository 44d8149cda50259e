"""Seeds are honest replicates: another seed means other initial weights and other draws, and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from small import SMALL, small_probe

from vfm_isbench.probe import build_probe
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset
from vfm_isbench.training import TrainingSamples
from vfm_isbench.upsamplers import Bilinear

SEEDS = range(4)


def weights(seed: int) -> dict[str, torch.Tensor]:
    return small_probe(SMALL.replace(seed=seed)).trainable().state_dict()


def test_every_weight_that_is_drawn_is_drawn_anew() -> None:
    """Also if building a backbone resets the global generator, which is how recordings came to share their weights."""
    drawn = [weights(seed) for seed in SEEDS]
    varying = [key for key, value in drawn[0].items() if value.unique().numel() > 1]
    assert any(key.startswith("head") for key in varying) and any(key.startswith("click_encoder") for key in varying)
    for key in varying:
        for first in SEEDS:
            for second in range(first):
                assert not torch.equal(drawn[first][key], drawn[second][key]), key


def test_seeds_are_not_neighbours_of_each_other() -> None:
    """Initial weights of different seeds have nothing in common: correlations are those of independent draws."""
    kernels = np.stack([weights(seed)["head.convs.0.conv.weight"].flatten().numpy() for seed in range(8)])
    others = np.corrcoef(kernels)[~np.eye(8, dtype=bool)]
    assert np.abs(others).max() < 5 / np.sqrt(kernels.shape[1])


def test_the_seed_does_not_depend_on_what_was_drawn_before() -> None:
    torch.manual_seed(0)
    first = weights(3)
    torch.manual_seed(1)
    torch.rand(7)
    second = weights(3)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_every_draw_of_training_follows_the_seed() -> None:
    """Which object, how it is cut, flipped and coloured, and where it is clicked."""
    dataset = FakeDataset()
    runs = [TrainingSamples(dataset, SMALL.replace(seed=seed)) for seed in SEEDS]
    for epoch in range(2):
        samples = [[run[epoch, item] for item in range(6)] for run in runs]
        for first in SEEDS:
            for second in range(first):
                same = [
                    np.array_equal(np.asarray(one.image), np.asarray(other.image))
                    for one, other in zip(samples[first], samples[second], strict=True)
                ]
                assert not any(same)


def test_the_frozen_part_does_not_follow_the_seed() -> None:
    backbone = FakeBackbone()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    for seed in SEEDS:
        build_probe(SMALL.replace(seed=seed), backbone, Bilinear())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
