"""The contract of every built-in upsampler; a new one needs a line in CASES only if it is not in the registry."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vfm_isbench.upsamplers import (
    UPSAMPLERS,
    JointBilateralUpsampler,
    LoadedUpsampler,
    TwoStepUpsampler,
    Upsampler,
    check_upsampler,
    find_module,
    identity_of,
    load_upsampler,
)

CASES: dict[str, Callable[[], Upsampler]] = {name: UPSAMPLERS.get(name) for name in UPSAMPLERS}
CASES["jbu, one patch around"] = lambda: JointBilateralUpsampler(0.7, 0.3, radius=1)

SIZES = [((4, 4), (16, 16)), ((3, 5), (17, 31)), ((5, 2), (24, 30)), ((1, 1), (6, 9))]


@pytest.fixture(params=CASES)
def upsampler(request: pytest.FixtureRequest) -> Upsampler:
    return CASES[request.param]()


def batch(grid: tuple[int, int], size: tuple[int, int], channels: int = 6, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(count, channels, *grid, generator=generator),
        torch.randn(count, 3, *size, generator=generator),
    )


@pytest.mark.parametrize(("grid", "size"), SIZES)
def test_keeps_the_contract_without_warnings(
    upsampler: Upsampler, grid: tuple[int, int], size: tuple[int, int]
) -> None:
    report = check_upsampler(upsampler, channels=7, grid=grid, image_size=size, needs_gradient=True)
    assert report.deterministic and report.batch_independent and not report.warnings
    assert report.output_size == (grid if LoadedUpsampler.of(upsampler).capabilities.keeps_patch_resolution else size)


@pytest.mark.parametrize(("grid", "size"), SIZES)
def test_constant_features_stay_constant(upsampler: Upsampler, grid: tuple[int, int], size: tuple[int, int]) -> None:
    features, image = batch(grid, size)
    features = features.mean((2, 3), keepdim=True).expand_as(features)
    output = upsampler(features, image)
    torch.testing.assert_close(output, features[:, :, :1, :1].expand_as(output))


def test_is_linear_in_the_features(upsampler: Upsampler) -> None:
    (one, image), other = batch((4, 5), (20, 33)), torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(
        upsampler(2 * one - 3 * other, image),
        2 * upsampler(one, image) - 3 * upsampler(other, image),
        atol=1e-4,
        rtol=0,
    )


def test_each_channel_and_image_is_upsampled_for_itself(upsampler: Upsampler) -> None:
    features, image = batch((3, 4), (14, 22), count=3)
    order = [2, 0, 1]
    torch.testing.assert_close(upsampler(features[order], image[order]), upsampler(features, image)[order])
    torch.testing.assert_close(upsampler(features.flip(1), image), upsampler(features, image).flip(1))


def test_half_precision_features_give_half_precision(upsampler: Upsampler) -> None:
    features, image = batch((3, 4), (14, 22))
    output = upsampler(features.bfloat16(), image)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), upsampler(features, image), atol=0.1, rtol=0.05)


def test_two_steps_equal_the_call(upsampler: Upsampler) -> None:
    if not isinstance(upsampler, TwoStepUpsampler):
        pytest.skip("has no two steps")
    features, image = batch((4, 4), (18, 18))
    guidance = upsampler.encode_guidance(image)
    for grid_features in (features, features.flip(0), features[..., :3], features):
        torch.testing.assert_close(upsampler.upsample(grid_features, guidance), upsampler(grid_features, image))


def test_survives_pickling_with_its_identity(upsampler: Upsampler) -> None:
    features, image = batch((3, 4), (12, 16))
    again = pickle.loads(pickle.dumps(upsampler))
    assert torch.equal(again(features, image), upsampler(features, image))
    assert identity_of(again) == identity_of(copy.deepcopy(upsampler)) == identity_of(upsampler)


def test_registry_names_are_their_names() -> None:
    assert list(UPSAMPLERS)[:5] == ["identity", "nearest", "bilinear", "bicubic", "jbu"]
    for name in UPSAMPLERS:
        identity = identity_of(load_upsampler(name))
        assert identity.name == name
        assert identity.sha256 is not None


def test_built_ins_have_different_fingerprints() -> None:
    fingerprints = {identity_of(make()).sha256 for make in CASES.values()}
    assert len(fingerprints) == len(CASES)


def test_only_the_baseline_without_upsampling_keeps_the_patch_grid() -> None:
    assert [name for name in UPSAMPLERS if load_upsampler(name).capabilities.keeps_patch_resolution] == ["identity"]


def test_built_ins_need_no_training() -> None:
    for name in UPSAMPLERS:
        module = find_module(load_upsampler(name))
        assert module is None or not list(module.parameters())
