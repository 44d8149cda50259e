"""Conv and linear head: shapes, receptive field, initial weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vfm_isbench.heads import ConvHead, LinearHead


def seeded(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", [ConvHead(8), ConvHead(8, layers=1), LinearHead(8)])
def test_gives_one_logit_per_place(head: nn.Module) -> None:
    assert head(seeded((2, 8, 5, 7))).shape == (2, 1, 5, 7)


@pytest.mark.parametrize(("head", "reach"), [(LinearHead(4), 0), (ConvHead(4, layers=1), 1), (ConvHead(4), 2)])
def test_sees_as_many_neighbours_as_it_has_convolutions(head: nn.Module, reach: int) -> None:
    for parameter in head.parameters():
        parameter.data.abs_()  # so that every ReLU lets its gradient through
    features = seeded((1, 4, 11, 11)).abs().requires_grad_()
    head(features)[0, 0, 5, 5].backward()
    assert features.grad is not None
    seen = torch.zeros(11, 11, dtype=torch.bool)
    seen[5 - reach : 6 + reach, 5 - reach : 6 + reach] = True
    assert torch.equal(features.grad[0].sum(dim=0) > 0, seen)


def test_initial_weights() -> None:
    """3×3 convolutions Kaiming-normal by fan-out with zero bias, the classifier uniform as PyTorch has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = ConvHead(96)
    *blocks, classifier = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    for conv in blocks:
        assert conv.weight.shape == (96, 96, 3, 3)
        expected = math.sqrt(2 / (96 * 9))
        count = conv.weight.numel()
        # Within four standard errors of the standard deviation, and of the mean.
        assert abs(conv.weight.std().item() / expected - 1) < 4 / math.sqrt(2 * count)
        assert abs(conv.weight.mean().item()) < 4 * expected / math.sqrt(count)
        assert conv.weight.abs().max() > 4 * expected  # a normal distribution has tails
        assert conv.bias is not None
        assert not conv.bias.any()
    bound = 1 / math.sqrt(96)
    assert classifier.weight.shape == (1, 96, 1, 1)
    assert 0.9 * bound < classifier.weight.abs().max() <= bound


def test_the_linear_head_is_one_convolution() -> None:
    head = LinearHead(6)
    features = seeded((2, 6, 3, 4))
    weight, bias = head.classifier.weight[0, :, 0, 0], head.classifier.bias
    assert bias is not None
    assert sum(parameter.numel() for parameter in head.parameters()) == 7
    torch.testing.assert_close(head(features)[:, 0], torch.einsum("bchw,c->bhw", features, weight) + bias)
