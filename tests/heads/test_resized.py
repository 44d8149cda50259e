"""A convolution of an enlarged map equals the enlargement followed by the convolution, for every way of enlarging."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from vfm_isbench.heads.resized import conv_of_enlarged, enlargement

WAYS = [("bilinear", True), ("bilinear", False), ("bicubic", True), ("bicubic", False), ("nearest", None)]
SIDES = st.integers(1, 7)


@given(
    small=st.tuples(SIDES, SIDES),
    more=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    way=st.sampled_from(WAYS),
    with_sum=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_enlarging_first(
    small: tuple[int, int], more: tuple[int, int], way: tuple[str, bool | None], with_sum: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    large = (small[0] + more[0], small[1] + more[1])
    maps = torch.randn(2, 3, *small, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 3, 3, 3, generator=generator, dtype=torch.float64)
    plus = torch.randn(2, 5, *large, generator=generator, dtype=torch.float64) if with_sum else None
    expected = functional.conv2d(
        functional.interpolate(maps, large, mode=way[0], align_corners=way[1]), weight, padding=1
    )
    found = conv_of_enlarged(maps, weight, enlargement(small, large, *way, like=maps), plus)
    torch.testing.assert_close(found, expected if plus is None else expected + plus, rtol=0, atol=1e-10)


@pytest.mark.parametrize("way", WAYS)
def test_gradients_equal_those_of_enlarging_first(way: tuple[str, bool | None]) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    outer = torch.randn(2, 6, 13, 17, generator=generator, dtype=torch.float64)
    large = functional.interpolate(maps, (13, 17), mode=way[0], align_corners=way[1])
    expected = torch.autograd.grad((functional.conv2d(large, weight, padding=1) * outer).sum(), (maps, weight))
    short = conv_of_enlarged(maps, weight, enlargement((4, 5), (13, 17), *way, like=maps))
    for found, wanted in zip(torch.autograd.grad((short * outer).sum(), (maps, weight)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_the_result_is_channels_last_and_of_the_maps_type() -> None:
    maps = torch.randn(1, 8, 4, 4)
    found = conv_of_enlarged(maps, torch.randn(8, 8, 3, 3), enlargement((4, 4), (9, 9), "bilinear", True, like=maps))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == torch.float32
