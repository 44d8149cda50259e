from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ContractError, WeightsError
from vfm_isbench.upsamplers import TwoStepUpsampler, check_upsampler, identity_of
from vfm_isbench.upsamplers.published.lift import LiFT, lift_from_state_dict

WIDTH = 6


def random_lift(width: int = WIDTH, seed: int = 0) -> LiFT:
    """LiFT in eval mode, with weights and running statistics that all matter."""
    lift = LiFT(width)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in lift.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0 if "running_var" in name else 0.4))
    return lift.eval()


def random_pair(grid: tuple[int, int], size: tuple[int, int], channels: int = WIDTH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, *grid, generator=generator), torch.randn(2, 3, *size, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module.", "upsampler.", "upsampler.lift.", "module.upsampler.lift."])
def test_loads_weights_behind_every_prefix(prefix: str) -> None:
    lift = random_lift()
    state = {prefix + key: value for key, value in lift.state_dict().items()}
    if prefix == "upsampler.lift.":
        state |= {"backbone.model.cls_token": torch.zeros(1), "head.convs.0.conv.weight": torch.zeros(1)}
        state |= {"embed_coords.proj.bias": torch.zeros(1)}
    loaded = lift_from_state_dict(state, "a.pth")
    pair = random_pair((3, 4), (42, 56))
    assert torch.equal(loaded(*pair), lift(*pair))
    assert not loaded.training


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        (lambda state: state.pop("up1.up.bias"), r"a\.pth .*missing: up1\.up\.bias\..*Known layouts"),
        (lambda state: state.update({"more": torch.zeros(1)}), r"unexpected: more\."),
        (lambda state: state.update({"outc.bias": torch.zeros(5)}), r"wrong shape: outc\.bias is 5 instead of 6\."),
        (
            lambda state: state.pop("outc.weight"),
            r"expected one key outc\.weight.* found none; its keys are: image_convs_1.*more",
        ),
    ],
)
def test_refuses_what_is_no_lift(change: Callable[[dict[str, Tensor]], object], listed: str) -> None:
    state = dict(LiFT(WIDTH).state_dict())
    change(state)
    with pytest.raises(WeightsError, match=listed):
        lift_from_state_dict(state, "a.pth")


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_backbone_beside_it_is_left_out(prefix: str) -> None:
    lift = random_lift()
    state = {f"upsampler.{key}": value for key, value in lift.state_dict().items()}
    state |= {"model.0.blocks.0.weight": torch.zeros(1), "head.convs.0.conv.weight": torch.zeros(1)}
    loaded = lift_from_state_dict({prefix + key: value for key, value in state.items()}, "a.ckpt")
    pair = random_pair((3, 4), (42, 56))
    assert torch.equal(loaded(*pair), lift(*pair))


def test_refuses_strange_keys_beside_its_prefix() -> None:
    state = {f"module.{key}": value for key, value in LiFT(WIDTH).state_dict().items()}
    with pytest.raises(WeightsError, match=r"unexpected: backbones\.bias"):
        lift_from_state_dict(state | {"backbones.bias": torch.zeros(1)}, "a.pth")


@torch.no_grad()
@settings(max_examples=15, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    more=st.tuples(st.integers(0, 13), st.integers(0, 13)),
    width=st.integers(2, 7),
)
def test_doubles_any_grid_and_width(grid: tuple[int, int], more: tuple[int, int], width: int) -> None:
    features, image = random_pair(grid, (grid[0] * 14 + more[0], grid[1] * 14 + more[1]), width)
    output = random_lift(width)(features, image)
    assert output.shape == (2, width, 2 * grid[0], 2 * grid[1])


@pytest.mark.parametrize(("grid", "size"), [((8, 8), (112, 112)), ((37, 16), (518, 224)), ((5, 7), (75, 98))])
def test_keeps_the_contract(grid: tuple[int, int], size: tuple[int, int]) -> None:
    report = check_upsampler(random_lift(), channels=WIDTH, grid=grid, image_size=size, needs_gradient=True)
    assert report.output_size == (2 * grid[0], 2 * grid[1])
    assert report.deterministic and report.batch_independent and not report.warnings


@torch.no_grad()
@pytest.mark.parametrize(("patch_size", "pool"), [(16, nn.MaxPool2d(2, 2)), (8, nn.Identity())])
def test_pools_like_the_original_for_other_patch_sizes(patch_size: int, pool: nn.Module) -> None:
    lift = random_lift()
    features, image = random_pair((3, 5), (3 * patch_size, 5 * patch_size))
    guidance = lift.encode_guidance(image)
    lift.upsample(features, guidance)
    assert torch.equal(guidance.levels[3, 5][0], pool(guidance.convolved))


@torch.no_grad()
def test_two_steps_equal_the_call_and_prepare_the_image_once() -> None:
    lift = random_lift()
    assert isinstance(lift, TwoStepUpsampler)
    features, image = random_pair((3, 4), (42, 56))
    calls: list[nn.Module] = []
    for convs in (lift.image_convs_1, lift.image_convs_2):
        convs.register_forward_hook(lambda module, *_: calls.append(module))
    guidance = lift.encode_guidance(image)
    outputs = [lift.upsample(features * factor, guidance) for factor in (1, 2, 3)]
    assert calls == [lift.image_convs_1, lift.image_convs_2]
    smaller = lift.upsample(features[..., :2, :2], guidance)
    assert calls[2:] == [lift.image_convs_2]
    assert torch.equal(lift(features * 3, image), outputs[2])
    assert torch.equal(lift(features[..., :2, :2], image), smaller)


def test_output_follows_features_and_image() -> None:
    lift = random_lift()
    features, image = random_pair((3, 4), (42, 56))
    output = lift(features, image)
    assert not torch.allclose(lift(features.flip(0), image), output)
    assert not torch.allclose(lift(features, image.flip(0)), output)
    assert not torch.allclose(lift(features, functional.pad(image[..., 8:], (0, 8))), output)


def test_other_batches_and_widths_are_refused() -> None:
    lift = random_lift()
    features, image = random_pair((3, 4), (42, 56))
    with pytest.raises(ContractError, match="features of 2 images and 6 channels, but guidance of 1 images"):
        lift(features, image[:1])
    with pytest.raises(ContractError, match="features of 2 images and 4 channels.* these weights are for 6 channels"):
        lift(features[:, :4], image)


def test_has_the_published_number_of_parameters_and_a_name() -> None:
    lift = LiFT(384)
    assert sum(parameter.numel() for parameter in lift.parameters()) == 1_187_280
    assert identity_of(lift).name == "lift"
