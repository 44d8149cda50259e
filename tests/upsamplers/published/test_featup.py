from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from vfm_isbench.errors import ContractError, WeightsError
from vfm_isbench.upsamplers import TwoStepUpsampler, check_upsampler, identity_of
from vfm_isbench.upsamplers.published.featup import FeatUpJBU, featup_from_state_dict

WIDTH = 5


def random_featup(width: int = WIDTH, channel_norm: bool = True, seed: int = 0) -> FeatUpJBU:
    """FeatUp-JBU in eval mode, with weights that all matter and outputs as large as the features."""
    featup = FeatUpJBU(width, channel_norm)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in featup.named_parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim == 4 else 1
            parameter.copy_(scale * (2 * torch.rand(parameter.shape, generator=generator) - 1))
            if "sigma" in name:
                parameter.abs_().add_(0.3)
    return featup.eval()


def random_pair(grid: tuple[int, int], size: tuple[int, int], channels: int = WIDTH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, *grid, generator=generator), torch.randn(2, 3, *size, generator=generator)


def lightning_state(featup: FeatUpJBU) -> dict[str, Tensor]:
    """The state dict of a FeatUp training file, with keys of all its parts."""
    state = {"model.0.model.cls_token": torch.zeros(1), "scale_net.net.weight": torch.zeros(1)}
    state |= {"downsampler.w": torch.zeros(1), "downsampler.attention_net.1.bias": torch.zeros(1)}
    for key, value in featup.state_dict().items():
        state[f"model.1.{key}" if key.startswith("norm.") else f"upsampler.{key}"] = value
    return state


def slow_featup(features: Tensor, image: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The definition, with all windows side by side and channels mixed at the end, as in the original."""

    def network(values: Tensor, name: str) -> Tensor:
        hidden = functional.conv2d(values, state[f"{name}.0.weight"], state[f"{name}.0.bias"])
        return functional.conv2d(functional.gelu(hidden), state[f"{name}.3.weight"], state[f"{name}.3.bias"])

    def windows(values: Tensor) -> Tensor:
        padded = functional.pad(values, [3, 3, 3, 3], mode="reflect")
        return functional.unfold(padded, 7).view(*values.shape[:2], 49, *values.shape[2:])

    if "norm.weight" in state:
        features = features - features.mean(1, keepdim=True)
        features = features / (features.square().mean(1, keepdim=True) + 1e-5).sqrt()
        features = features * state["norm.weight"].view(1, -1, 1, 1) + state["norm.bias"].view(1, -1, 1, 1)
    for stage in ("up1", "up2", "up3", "up4"):
        size = (2 * features.shape[2], 2 * features.shape[3])
        small = functional.adaptive_avg_pool2d(image, size)
        keys = network(small, f"{stage}.range_proj")
        temperature = min(max(float(state[f"{stage}.range_temp"].exp()), 1e-4), 1e4)
        kernel = (temperature * (windows(keys) * keys.unsqueeze(2)).sum(1)).softmax(1)
        for tap in range(49):
            distance = ((tap // 7 - 3) / 3) ** 2 + ((tap % 7 - 3) / 3) ** 2
            kernel[:, tap] *= (-distance / (2 * state[f"{stage}.sigma_spatial"] ** 2)).exp()
        kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-7)
        kernel = kernel + 0.1 * network(torch.cat([kernel, small], 1), f"{stage}.fixup_proj")
        large = functional.interpolate(features, size, mode="bicubic", align_corners=False)
        features = (windows(large) * kernel.unsqueeze(1)).sum(2)
    mixed = functional.conv2d(features, state["fixup_proj.1.weight"], state["fixup_proj.1.bias"])
    return features + 0.1 * mixed


@torch.no_grad()
@settings(max_examples=15, deadline=None)
@given(
    grid=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    channel_norm=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_the_definition(grid: tuple[int, int], size: tuple[int, int], channel_norm: bool, seed: int) -> None:
    features, image = random_pair(grid, size)
    featup = random_featup(WIDTH, channel_norm, seed)
    expected = slow_featup(features, image, featup.state_dict())
    torch.testing.assert_close(featup(features, image), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_channel_norm_of_a_file_comes_first_and_can_be_left_out() -> None:
    bare = random_featup(channel_norm=False)
    weight, bias = torch.rand(WIDTH), torch.rand(WIDTH)
    state = {f"upsampler.{key}": value for key, value in bare.state_dict().items()}
    state |= {"model.1.norm.weight": weight, "model.1.norm.bias": bias}
    with_norm = featup_from_state_dict(state, "a.ckpt")
    assert with_norm.channel_norm
    features, image = random_pair((2, 3), (28, 42))
    normalised = functional.layer_norm(features.permute(0, 2, 3, 1), [WIDTH], weight, bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(with_norm(features, image), bare(normalised, image), atol=1e-5, rtol=0)
    for without in (featup_from_state_dict(state, "a.ckpt", channel_norm=False), with_norm.without_channel_norm()):
        assert not without.channel_norm
        assert torch.equal(without(features, image), bare(features, image))


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module.", "upsampler.", "upsampler.upsampler."])
def test_loads_weights_behind_every_prefix(prefix: str) -> None:
    featup = random_featup(channel_norm=False)
    state = {prefix + key: value for key, value in featup.state_dict().items()}
    if prefix == "upsampler.upsampler.":
        state |= {"backbone.model.cls_token": torch.zeros(1), "head.classifier.bias": torch.zeros(1)}
    loaded = featup_from_state_dict(state, "a.ckpt")
    pair = random_pair((2, 3), (28, 42))
    assert torch.equal(loaded(*pair), featup(*pair))
    assert not loaded.training
    assert not loaded.channel_norm


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module."])
def test_loads_a_lightning_file_with_and_without_its_norm(prefix: str) -> None:
    featup = random_featup()
    pair = random_pair((2, 3), (28, 42))
    state = {prefix + key: value for key, value in lightning_state(featup).items()}
    loaded = featup_from_state_dict(state, "a.ckpt")
    assert loaded.channel_norm
    assert torch.equal(loaded(*pair), featup(*pair))
    left_out = featup_from_state_dict(state, "a.ckpt", channel_norm=False)
    assert not left_out.channel_norm
    assert torch.equal(left_out(*pair), loaded.without_channel_norm()(*pair))
    assert not torch.allclose(left_out(*pair), featup(*pair))


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        (lambda state: state.pop("upsampler.up3.range_temp"), r"a\.ckpt .*missing: up3\.range_temp\..*Known layouts"),
        (lambda state: state.pop("model.1.norm.bias"), r"missing: norm\.bias\."),
        (lambda state: state.update({"upsampler.up5.range_temp": torch.zeros(())}), r"unexpected: up5\.range_temp\."),
        (lambda state: state.update({"more.bias": torch.zeros(1)}), r"unexpected: more\.bias\."),
        (
            lambda state: state.update({"upsampler.up1.range_temp": torch.zeros(1)}),
            r"wrong shape: up1\.range_temp is 1 instead of a scalar\.",
        ),
        (
            lambda state: state.pop("upsampler.fixup_proj.1.weight"),
            r"expected one key fixup_proj\.1\.weight.* found none",
        ),
    ],
)
def test_refuses_what_is_no_featup(change: Callable[[dict[str, Tensor]], object], listed: str) -> None:
    state = lightning_state(FeatUpJBU(WIDTH))
    change(state)
    with pytest.raises(WeightsError, match=listed):
        featup_from_state_dict(state, "a.ckpt")


class RecordChunks(TorchDispatchMode):
    """Records how many channels are enlarged and how many rows of kernels are computed at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: set[int] = set()
        self.rows: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "bicubic" in str(func):
            self.channels.add(result.shape[1])
        if "softmax" in str(func):
            self.rows.add(result.shape[2])
        return result


@torch.no_grad()
@pytest.mark.parametrize(
    ("max_memory", "channels", "rows"),
    [(1e-9, {1}, {1}), (2e-4, {5, 3, 2}, {4, 7, 1, 3}), (1.0, {5}, {4, 8, 16, 32})],
)
def test_memory_limit_cuts_up_the_work_and_changes_nothing(
    max_memory: float, channels: set[int], rows: set[int]
) -> None:
    featup = random_featup()
    features, image = random_pair((2, 3), (28, 42))
    expected = featup(features, image)
    featup.max_memory = max_memory
    with RecordChunks() as chunks:
        output = featup(features, image)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)
    assert chunks.channels == channels
    assert chunks.rows == rows


def test_memory_limit_must_be_positive_and_is_no_part_of_the_identity() -> None:
    featup = random_featup()
    sha256 = identity_of(featup).sha256
    featup.max_memory = 3.0
    assert identity_of(featup).sha256 == sha256
    assert identity_of(featup.without_channel_norm()).sha256 != sha256
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="max_memory must be a positive number of GiB"):
            featup.max_memory = wrong


@pytest.mark.parametrize("max_memory", [1e-4, 1.0])
def test_gradient_to_features_and_weights(max_memory: float) -> None:
    featup = FeatUpJBU(2, max_memory=max_memory).eval().double()
    features, image = (tensor[:1].double() for tensor in random_pair((2, 2), (28, 28), channels=2))
    temperature = featup.up4.range_temp

    def some_output(features: Tensor, _: Tensor) -> Tensor:
        output: Tensor = featup(features, image)
        return output[..., ::9, ::7]

    assert torch.autograd.gradcheck(some_output, (features.requires_grad_(), temperature))


@pytest.mark.parametrize(("grid", "size"), [((8, 8), (112, 112)), ((37, 2), (518, 28)), ((5, 7), (75, 98))])
def test_keeps_the_contract(grid: tuple[int, int], size: tuple[int, int]) -> None:
    report = check_upsampler(random_featup(), channels=WIDTH, grid=grid, image_size=size, needs_gradient=True)
    assert report.output_size == (16 * grid[0], 16 * grid[1])
    assert report.deterministic and report.batch_independent and not report.warnings


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_half_precision_is_close_to_single(seed: int) -> None:
    featup = random_featup(channel_norm=False, seed=seed)
    # Like trained weights: temperatures and projections that make sharp kernels.
    for stage in (featup.up1, featup.up2, featup.up3, featup.up4):
        stage.range_temp.fill_(2.0)
    featup.bfloat16()
    image = random_pair((2, 3), (28, 42))[1].bfloat16()
    half = featup._kernels(image, 2, 3)
    single = featup.float()._kernels(image.float(), 2, 3)
    for kernel, expected in zip(half, single, strict=True):
        assert kernel.dtype == torch.bfloat16
        assert float((kernel - expected).norm() / expected.norm()) < 0.05


@torch.no_grad()
def test_two_steps_equal_the_call_and_compute_kernels_once() -> None:
    featup = random_featup()
    assert isinstance(featup, TwoStepUpsampler)
    features, image = random_pair((2, 3), (28, 42))
    guidance = featup.encode_guidance(image)
    first = featup.upsample(features, guidance)
    kernels = guidance.kernels[2, 3]
    assert [tuple(kernel.shape) for kernel in kernels] == [(2, 49, 2 * 2**k, 3 * 2**k) for k in range(1, 5)]
    second = featup.upsample(features + 1, guidance)
    assert guidance.kernels[2, 3] is kernels
    assert torch.equal(featup(features, image), first)
    assert torch.equal(featup(features + 1, image), second)
    assert featup.upsample(features.expand(2, WIDTH, 2, 3)[..., :2], guidance).shape == (2, WIDTH, 32, 32)
    assert list(guidance.kernels) == [(2, 3), (2, 2)]


def test_what_does_not_fit_is_refused() -> None:
    featup = random_featup()
    features, image = random_pair((2, 3), (28, 42))
    with pytest.raises(ContractError, match="features of 2 images and 5 channels, but guidance of 1 images"):
        featup(features, image[:1])
    with pytest.raises(ContractError, match="features of 2 images and 4 channels.* these weights are for 5 channels"):
        featup(features[:, :4], image)
    with pytest.raises(ContractError, match="a patch grid of 1×3, but .* needs at least 2 rows"):
        featup(features[:, :, :1], image)


def test_has_the_published_number_of_parameters_and_a_name() -> None:
    featup = FeatUpJBU(384, channel_norm=False)
    assert sum(parameter.numel() for parameter in featup.parameters()) == 172_772
    assert identity_of(featup).name == "featup_jbu"


MEASURE = """
import torch
from pathlib import Path
from vfm_isbench.upsamplers.published.featup import FeatUpJBU

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

featup = FeatUpJBU(384).eval()
with torch.no_grad():
    featup(torch.randn(1, 384, 2, 2), torch.randn(1, 3, 28, 28))
    before = peak()
    featup(torch.randn(1, 384, 32, 32), torch.randn(1, 3, 448, 448))
print((peak() - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux to measure peak memory")
def test_448_pixels_at_width_384_take_less_than_2_gib() -> None:
    measured = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    # The output alone takes 0.375 GiB; a smaller value would mean that nothing was measured.
    assert 0.375 < float(measured.stdout) < 2
