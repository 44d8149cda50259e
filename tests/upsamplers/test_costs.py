"""What a call costs: operations and memory, against what is known of simple upsamplers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.testing.fakes import FakeUpsampler
from vfm_isbench.upsamplers import LoadedUpsampler, Upsampler, check_upsampler, load_upsampler
from vfm_isbench.upsamplers.costs import MemoryNeed, call_memory, counted_memory, flops_per_image
from vfm_isbench.upsamplers.trial_inputs import Trial

CPU = torch.device("cpu")
TRIAL = Trial.smooth(8, (4, 4), (16, 16))
OUTPUT = 8 * 16 * 16 * 4
"""Bytes of upsampled features of one image."""


class Convolving(nn.Module):
    """Resizes, then convolves with 3×3 kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return self.layer(functional.interpolate(features, image.shape[-2:]))  # type: ignore[no-any-return]


def loaded(upsampler: Upsampler) -> LoadedUpsampler:
    return LoadedUpsampler.of(upsampler)


def test_memory_is_that_of_the_tensors_that_live_at_once() -> None:
    with counted_memory(CPU) as peak:
        for _ in range(3):
            first = torch.zeros(1000)
            second = first + 1
            del first
            second = second.view(10, 100)[:5]  # a view takes none
            second.mul_(2)
            torch.zeros(500)
            del second
    assert peak.n_bytes == 4 * 2000


def test_what_a_graph_keeps_for_the_backward_pass_counts() -> None:
    given = torch.ones(1000, requires_grad=True)
    with counted_memory(CPU) as peak:
        torch.autograd.backward(given.exp().exp().sum())
    kept, gradients = 2 * 4000, 4000
    assert kept + gradients <= peak.n_bytes <= kept + 2 * gradients + 100
    with counted_memory(CPU) as peak:
        given.add(1)
    assert peak.n_bytes == 4000, "counting starts anew"


def test_a_call_needs_memory_image_by_image() -> None:
    assert call_memory(load_upsampler("bilinear"), TRIAL) == MemoryNeed(OUTPUT, OUTPUT)
    convolving = call_memory(loaded(Convolving()), TRIAL)
    assert convolving is not None and convolving.of(4) == 4 * 2 * OUTPUT, "before and after the convolution"
    trained = call_memory(loaded(Convolving()), TRIAL, needs_gradient=True)
    assert trained is not None and trained.of(4) > convolving.of(4)


def test_what_does_not_grow_with_the_batch_counts_once() -> None:
    def table(features: Tensor, image: Tensor) -> Tensor:
        weights = torch.ones(1000)
        return functional.interpolate(features * weights[0], image.shape[-2:])

    need = call_memory(loaded(table), TRIAL)
    assert need is not None
    assert need.of(16) == 4000 + 16 * (OUTPUT + 8 * 4 * 4 * 4)


def test_an_upsampler_that_optimises_sees_one_image_at_a_time() -> None:
    class Optimising:
        needs_gradients = True

        def __call__(self, features: Tensor, image: Tensor) -> Tensor:
            assert len(features) == 1
            scale = torch.ones(1, requires_grad=True)
            (gradient,) = torch.autograd.grad((features * scale).square().mean(), scale)
            return functional.interpolate(features * gradient, image.shape[-2:])

    need = call_memory(loaded(Optimising()), TRIAL, needs_gradient=True)
    assert need is not None and OUTPUT < need.first < 4 * OUTPUT


def test_operations_of_a_convolution() -> None:
    """Each of 8 × 16 × 16 outputs multiplies and adds 8 × 3 × 3 values; resizing is not counted."""
    assert flops_per_image(loaded(Convolving()), TRIAL) == 2 * 8 * 16 * 16 * 8 * 3 * 3
    assert flops_per_image(load_upsampler("bilinear"), TRIAL) == 0


def test_operations_of_attention_and_products() -> None:
    def attend(features: Tensor, image: Tensor) -> Tensor:
        queries = functional.adaptive_avg_pool2d(image, 8).flatten(2).mT @ torch.ones(3, 8)
        keys = features.flatten(2).mT
        return functional.scaled_dot_product_attention(queries, keys, keys).mT.unflatten(2, (8, 8))

    products, attention = 2 * 64 * 3 * 8, 2 * 2 * 64 * 16 * 8
    assert flops_per_image(loaded(attend), TRIAL) == products + attention


def test_what_cannot_be_counted_is_unknown() -> None:
    def fails(features: Tensor, image: Tensor) -> Tensor:
        raise RuntimeError("no counting here")

    assert flops_per_image(loaded(fails), TRIAL) is None
    assert call_memory(loaded(fails), TRIAL) is None


def test_the_report_says_what_a_call_costs() -> None:
    report = check_upsampler(Convolving(), channels=8, grid=(4, 4), image_size=(16, 16))
    assert report.flops_per_image == 294912
    assert "FLOPs per image:   0.000295 billion" in str(report)
    assert "memory" not in str(report), "only a run knows its batch"


@pytest.mark.parametrize(("first", "further", "free", "most"), [(10, 5, 4, 0), (10, 5, 24, 3), (10, 0, 10, 10**9)])
def test_how_many_images_fit(first: int, further: int, free: int, most: int) -> None:
    assert MemoryNeed(first, further).most_images(free) == most


def test_counting_leaves_the_inputs_and_random_numbers_of_others_alone() -> None:
    upsampler = loaded(FakeUpsampler().eval())
    before = TRIAL.features.clone(), torch.get_rng_state()
    call_memory(upsampler, TRIAL, needs_gradient=True)
    flops_per_image(upsampler, TRIAL)
    assert torch.equal(before[0], TRIAL.features) and torch.equal(before[1], torch.get_rng_state())
