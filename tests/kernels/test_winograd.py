"""Convolution by Winograd's filtering equals PyTorch's, for every size, border and strip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vfm_isbench.kernels import winograd
from vfm_isbench.kernels.row_strips import item_rows_of, rows_of
from vfm_isbench.kernels.winograd import Winograd, convolve, pays


def convolution(channels: int, to_channels: int, *, bias: bool = True, **options: object) -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"padding": 1, **options}
        return nn.Conv2d(channels, to_channels, 3, bias=bias, **options).double()  # type: ignore[arg-type]


def prepared(conv: nn.Conv2d) -> Winograd:
    return Winograd(conv.weight, conv.bias)


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    to_channels=st.integers(1, 5),
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    strip=st.integers(1, 2000),
    bias=st.booleans(),
    is_last=st.booleans(),
)
def test_it_is_the_same_convolution(
    batch: int, channels: int, to_channels: int, height: int, width: int, strip: int, bias: bool, is_last: bool
) -> None:
    conv, values = convolution(channels, to_channels, bias=bias), maps(batch, channels, height, width)
    values = values.contiguous(memory_format=torch.channels_last) if is_last else values
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(winograd, "_STRIP_VALUES", strip)
        torch.testing.assert_close(prepared(conv)(values), conv(values), rtol=0, atol=1e-12)


@pytest.mark.parametrize("strip", [1, 200, 10**9])
def test_rows_are_made_strip_by_strip_and_rectified(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_STRIP_VALUES", strip)
    conv, values = convolution(3, 4), maps(2, 3, 21, 10)
    cells, asked = values.permute(0, 2, 3, 1), []

    def rows(top: int, bottom: int) -> torch.Tensor:
        asked.append((top, bottom))
        return cells[:, top:bottom]

    with torch.no_grad():
        tops, strips = zip(*prepared(conv).strips(rows, cells.shape, rectify=True), strict=True)
        result = torch.cat(strips, dim=1).permute(0, 3, 1, 2)
        torch.testing.assert_close(result, conv(values.relu()), rtol=0, atol=1e-12)
    assert values.min() < 0, "rectifying must not change what was handed out"
    assert len(asked) == len(tops) == {1: 6, 200: 6, 10**9: 1}[strip]
    assert [max(top - 1, 0) for top in tops] == [top for top, _ in asked]


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 23),
    strip=st.integers(1, 2000),
    count=st.integers(2, 4),
    rectify=st.booleans(),
)
def test_threads_make_the_same_strips(
    batch: int, height: int, width: int, strip: int, count: int, rectify: bool
) -> None:
    conv, values = prepared(convolution(3, 4)), maps(batch, 3, height, width)
    cells, whole = values.permute(0, 2, 3, 1), torch.full((batch, height, width, 4), torch.nan, dtype=torch.float64)
    expected = torch.empty_like(whole)

    def use(item: int, top: int, made: torch.Tensor) -> None:
        assert whole[item, top : top + len(made)].isnan().all(), "made twice"
        whole[item, top : top + len(made)] = made

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(winograd, "_STRIP_VALUES", strip)
        patch.setattr(winograd, "_LEAST_TILES", 1)
        patch.setattr(winograd.threads, "available", lambda _: count)
        for top, made in conv.strips(rows_of(values), cells.shape, rectify=rectify):
            expected[:, top : top + made.shape[1]] = made
        for _ in range(2):  # the second time with the memory of the first
            whole.fill_(torch.nan)
            was_shared = conv.share_strips(item_rows_of(values), cells.shape, use, rectify=rectify)
            assert was_shared == (batch * -(-height // winograd.TILE) >= 3 * count)
            torch.testing.assert_close(whole, expected if was_shared else whole, rtol=0, atol=1e-13, equal_nan=True)


def test_results_are_the_same_on_every_number_of_threads() -> None:
    conv, values = convolution(128, 128).float(), maps(2, 128, 112, 60).float()
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            with torch.no_grad():
                results.append(prepared(conv)(values))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-6)


def test_inference_mode_may_change_between_two_calls() -> None:
    conv, values = prepared(convolution(3, 3)), maps(2, 3, 40, 8)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_LEAST_TILES", 1)
        patch.setattr(winograd.threads, "available", lambda _: 2)
        for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
            with mode():
                results.append(conv(values).clone())
    assert torch.equal(results[0], results[1]) and torch.equal(results[1], results[2])


def test_rounding_in_single_precision_stays_small() -> None:
    conv, values = convolution(128, 128), maps(1, 128, 32, 32)
    with torch.no_grad():
        exact, single, narrow = conv(values), conv.float(), values.float()
        direct = (single(narrow) - exact).square().mean().sqrt()
        rounding = (prepared(single)(narrow) - exact).square().mean().sqrt()
    assert rounding < 10 * direct
    assert rounding < 2e-6 * exact.square().mean().sqrt()


def test_only_what_gains_by_it_and_equals_it_is_taken_this_way() -> None:
    conv = nn.Conv2d(128, 128, 3, padding=1)
    with torch.no_grad():
        assert pays(conv)
        assert pays(nn.Conv2d(128, 128, 3, padding=1, dtype=torch.float64))
        assert not pays(nn.Conv2d(16, 128, 3, padding=1))
        assert not pays(nn.Conv2d(128, 128, 1))
        assert not pays(nn.Conv2d(128, 128, 3, padding=0))
        assert not pays(nn.Conv2d(128, 128, 3, padding=1, stride=2))
        assert not pays(nn.Conv2d(128, 128, 3, padding=2, dilation=2))
        assert not pays(nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"))
        assert not pays(nn.Conv2d(128, 128, 3, padding=1, groups=2))
        assert not pays(nn.Conv2d(128, 128, 3, padding=1, dtype=torch.bfloat16))
        assert not pays(nn.Conv2d(128, 128, 3, padding=1, device="meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not pays(conv)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 4),
    to_channels=st.integers(1, 4),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    strip=st.integers(1, 2000),
    bias=st.booleans(),
    of_maps=st.booleans(),
)
def test_gradients_are_those_of_the_convolution(
    batch: int, channels: int, to_channels: int, height: int, width: int, strip: int, bias: bool, of_maps: bool
) -> None:
    conv = convolution(channels, to_channels, bias=bias)
    weighting = maps(batch, to_channels, height, width)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_STRIP_VALUES", strip)
        for least in (1, 1000):
            values = maps(batch, channels, height, width).requires_grad_(of_maps)
            conv.zero_grad(set_to_none=True)
            result = convolve(conv, values, least).relu_()  # in place, like the head
            (result * weighting).sum().backward()
            found.append([result, values.grad, conv.weight.grad, None if conv.bias is None else conv.bias.grad])
    for quick, direct in zip(*found, strict=True):
        torch.testing.assert_close(quick, direct, rtol=0, atol=1e-10)


def test_frozen_weights_let_gradients_through() -> None:
    conv = convolution(128, 128).requires_grad_(False)
    values = maps(1, 128, 5, 7).requires_grad_()
    assert pays(conv)
    convolve(conv, values).sum().backward()
    quick, values.grad = values.grad, None
    conv(values).sum().backward()
    torch.testing.assert_close(quick, values.grad, rtol=0, atol=1e-10)


def test_without_gradients_nothing_is_kept_for_them() -> None:
    conv, values = convolution(128, 128), maps(1, 128, 5, 7)
    assert convolve(conv, values).requires_grad
    with torch.no_grad():
        assert not convolve(conv, values).requires_grad
    assert not convolve(conv.requires_grad_(False), values).requires_grad
