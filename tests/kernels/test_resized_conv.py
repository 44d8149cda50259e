"""A convolution of an enlarged map equals the enlargement followed by the convolution, for every mode."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from vfm_isbench.kernels.resized_conv import conv_of_enlarged, enlargement

WAYS = [("bilinear", True), ("bilinear", False), ("bicubic", True), ("bicubic", False), ("nearest", None)]
SIDES = st.integers(1, 7)


@given(
    small=st.tuples(SIDES, SIDES),
    more=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    way=st.sampled_from(WAYS),
    is_map=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_enlarging_first(
    small: tuple[int, int], more: tuple[int, int], way: tuple[str, bool | None], is_map: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    large = (small[0] + more[0], small[1] + more[1])
    maps = torch.randn(2, 3, *small, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 3, 3, 3, generator=generator, dtype=torch.float64)
    plus = torch.randn(*((2, 5, *large) if is_map else (5,)), generator=generator, dtype=torch.float64)
    expected = functional.conv2d(
        functional.interpolate(maps, large, mode=way[0], align_corners=way[1]), weight, padding=1
    )
    expected = expected + plus if is_map else expected + plus.view(1, -1, 1, 1)
    found = conv_of_enlarged(maps, weight, enlargement(small, large, *way, like=maps), plus)
    torch.testing.assert_close(found.whole(), expected, rtol=0, atol=1e-10)
    assert found.shape == (2, *large, 5)
    top, bottom = large[0] // 3, large[0] // 3 + 1
    rows = expected[:, :, top:bottom].permute(0, 2, 3, 1)
    torch.testing.assert_close(found.rows(top, bottom), rows, rtol=0, atol=1e-10)


@pytest.mark.parametrize("way", WAYS)
def test_gradients_equal_those_of_enlarging_first(way: tuple[str, bool | None]) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    plus = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    outer = torch.randn(2, 6, 13, 17, generator=generator, dtype=torch.float64)
    large = functional.interpolate(maps, (13, 17), mode=way[0], align_corners=way[1])
    direct = functional.conv2d(large, weight, plus, padding=1)
    short = conv_of_enlarged(maps, weight, enlargement((4, 5), (13, 17), *way, like=maps), plus).whole()
    gradients = [torch.autograd.grad((result * outer).sum(), (maps, weight, plus)) for result in (short, direct)]
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_the_result_is_channels_last_and_of_the_maps_type() -> None:
    maps = torch.randn(1, 8, 4, 4)
    how = enlargement((4, 4), (9, 9), "bilinear", True, like=maps)
    found = conv_of_enlarged(maps, torch.randn(8, 8, 3, 3), how, torch.randn(8)).whole()
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == torch.float32
