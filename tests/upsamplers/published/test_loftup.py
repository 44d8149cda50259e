"""LoftUp: recorded numbers, layouts of checkpoints, bounded memory, and the contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vfm_isbench.errors import ContractError, WeightsError
from vfm_isbench.upsamplers import StripwiseUpsampler, TwoStepUpsampler, check_upsampler, identity_of
from vfm_isbench.upsamplers.published.loftup import LoftUp, loftup_from_state_dict

WIDTH = 8
TINY = 1e-9
"""So few GiB that single rows and pixels are processed."""

State = dict[str, Tensor]


def small_loftup(seed: int = 0) -> LoftUp:
    """A frozen LoftUp in eval mode, with random weights and BatchNorm statistics that all matter."""
    generator = torch.Generator().manual_seed(seed)
    upsampler = LoftUp(WIDTH)
    for key, tensor in upsampler.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(values.abs() + 0.5 if key.endswith("running_var") else values * 0.4)
    return upsampler.eval().requires_grad_(False)


def random_pair(grid: tuple[int, int], size: tuple[int, int], batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, WIDTH, *grid, generator=generator),
        torch.randn(batch, 3, *size, generator=generator),
    )


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def parts(state: State) -> tuple[State, State]:
    """The state without its channel norm, and the norm's weight and bias."""
    norm = {key.removeprefix("channelnorm.norm."): state[key] for key in state if key.startswith("channelnorm.")}
    return {key: value for key, value in state.items() if not key.startswith("channelnorm.")}, norm


def hub(state: State) -> State:
    upsampler, norm = parts(state)
    return prefixed("channelnorm.norm.", norm) | prefixed("upsampler.", upsampler)


def drive(state: State) -> State:
    upsampler, norm = parts(state)
    return prefixed("model.1.norm.", norm) | prefixed("upsampler.", upsampler)


def drive_of_training(state: State) -> State:
    upsampler, _ = parts(state)
    beside = {"model.0.blocks.0.weight": torch.ones(2), "downsampler.w": torch.ones(1), "scale_net.b": torch.ones(1)}
    return drive(state) | prefixed("crop_upsampler.ema_model.", upsampler) | beside


def isegprobe(state: State) -> State:
    beside = {"backbone.model.norm.weight": torch.ones(3), "head.classifier.weight": torch.ones(1)}
    return prefixed("upsampler.upsampler.", hub(state)) | beside


def whole(layout: Callable[[State], State]) -> Callable[[State], State]:
    """The layout behind ``module.``."""
    return lambda state: prefixed("module.", layout(state))


LAYOUTS: dict[str, Callable[[State], State]] = {
    "own": dict,
    "module": whole(hub),
    "module_drive_of_training": whole(drive_of_training),
    "module_isegprobe": whole(isegprobe),
    "hub": hub,
    "drive": drive,
    "drive_of_training": drive_of_training,
    "isegprobe": isegprobe,
}


@pytest.mark.parametrize(("width", "count"), [(384, 4_303_894), (512, 7_165_462), (768, 15_051_286)])
def test_has_as_many_parameters_as_the_original(width: int, count: int) -> None:
    with torch.device("meta"):
        upsampler = LoftUp(width)
    assert sum(parameter.numel() for parameter in upsampler.parameters()) == count


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_upsampler(layout: str) -> None:
    original = small_loftup()
    loaded = loftup_from_state_dict(LAYOUTS[layout](original.state_dict()), "some.ckpt")
    assert not loaded.training
    assert identity_of(loaded).sha256 == identity_of(original).sha256


def test_weights_that_do_not_fit_are_listed() -> None:
    state = hub(small_loftup().state_dict())
    del state["upsampler.first_conv.1.bias"]
    del state["channelnorm.norm.bias"]
    state |= {"upsampler.more": torch.ones(1), "beside": torch.ones(1)}
    state["upsampler.lr_pe.biases"] = torch.ones(2, 3, 5)
    with pytest.raises(WeightsError) as caught:
        loftup_from_state_dict(state, "some.ckpt")
    for seen in (
        "some.ckpt does not fit LoftUp",
        "missing: channelnorm.norm.bias, first_conv.1.bias",
        "unexpected: more, beside",
        "lr_pe.biases is 2×3×5 instead of 2×2×5",
    ):
        assert seen in str(caught.value)


def with_two_norms(state: State) -> State:
    return hub(state) | drive(state)


def with_learned_positions(state: State) -> State:
    return {key: value for key, value in hub(state).items() if ".lr_pe." not in key} | {
        "upsampler.lr_pe": torch.ones(1, 256, WIDTH)
    }


def of_odd_width(state: State) -> State:
    return state | {"final_conv.1.weight": torch.ones(6)}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (with_two_norms, "missing: channelnorm.norm.weight.* unexpected: .*model.1.norm.weight"),
        (with_learned_positions, "learned patch positions.*sine"),
        (of_odd_width, "multiple of 4 channels, but final_conv.1.weight has 6"),
        (lambda _: {"outc.weight": torch.ones(1)}, r"(?s)some.ckpt.*final_conv\.1\.weight.*outc\.weight"),
        (lambda _: {}, "some.ckpt"),
    ],
)
def test_other_weights_are_refused(layout: Callable[[State], State], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        loftup_from_state_dict(layout(small_loftup().state_dict()), "some.ckpt")


@pytest.mark.parametrize("width", [0, -4, 6])
def test_widths_that_cannot_be_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        LoftUp(width)


@pytest.mark.parametrize("gib", [0.0, -1.0, float("nan"), float("inf")])
def test_memory_that_cannot_be_is_refused(gib: float) -> None:
    with pytest.raises(ValueError, match="positive number of GiB"):
        LoftUp(WIDTH, max_memory=gib)


@pytest.mark.parametrize(
    ("grid", "size"), [((8, 8), (112, 112)), ((1, 1), (9, 5)), ((5, 3), (70, 42)), ((8, 12), (113, 165))]
)
def test_any_grid_and_aspect_comes_out_at_the_size_of_the_image(grid: tuple[int, int], size: tuple[int, int]) -> None:
    features, image = random_pair(grid, size)
    output = small_loftup()(features, image)
    assert output.shape == (1, WIDTH, *size)
    assert bool(output.isfinite().all())
    # Transposed: rows and columns must not be mixed up if their numbers differ.
    assert small_loftup()(features.mT, image.mT).shape == (1, WIDTH, *size[::-1])


def test_keeps_the_contract() -> None:
    report = check_upsampler(small_loftup(), channels=WIDTH, grid=(3, 4), image_size=(24, 32), needs_gradient=True)
    assert report.output_size == (24, 32)
    assert report.deterministic
    assert report.batch_independent


def test_two_steps_equal_the_call() -> None:
    upsampler = small_loftup()
    assert isinstance(upsampler, TwoStepUpsampler)
    features, image = random_pair((3, 4), (21, 30), batch=2)
    guidance = upsampler.encode_guidance(image)
    assert guidance.queries.shape == (2, 21 * 30, WIDTH + 20)
    for some in (features, features.flip(0)):
        assert torch.equal(upsampler.upsample(some, guidance), upsampler(some, image))


@settings(max_examples=15)
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    batch=st.integers(1, 2),
    gib=st.floats(1e-7, 1e-4),
    seed=st.integers(0, 99),
)
def test_output_does_not_depend_on_the_memory_allowed(
    grid: tuple[int, int], size: tuple[int, int], batch: int, gib: float, seed: int
) -> None:
    # In double precision, because rounding in single precision alone reaches 1e-6.
    features, image = (tensor.double() for tensor in random_pair(grid, size, batch, seed))
    upsampler = small_loftup(seed).double()
    whole = upsampler(features, image)
    upsampler.max_memory = gib
    torch.testing.assert_close(upsampler(features, image), whole, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_strips_are_exactly_the_rows_of_the_whole_image(rows: int) -> None:
    # In double precision, where another order of summation cannot hide a wrong border.
    upsampler = small_loftup().double()
    image = random_pair((1, 1), (7, 6))[1].double()
    whole = upsampler.encode_guidance(image)
    per_row = 6 * (4 * 203 + 5 * (WIDTH + 20)) * 8 / 2**30
    upsampler.max_memory = per_row * (rows + 4.5)
    strips = spied(upsampler, "_strip")
    guidance = upsampler.encode_guidance(image)
    assert [(top, bottom) for _, top, bottom, _ in strips] == [(top, min(top + rows, 7)) for top in range(0, 7, rows)]
    torch.testing.assert_close(guidance.pixels, whole.pixels, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(guidance.queries, whole.queries, atol=1e-12, rtol=1e-12)


def spied(upsampler: LoftUp, name: str) -> list[tuple[Any, ...]]:
    """Record the arguments of every later call of a method, which still runs."""
    calls = []
    method = getattr(upsampler, name)

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return method(*arguments)

    object.__setattr__(upsampler, name, call)
    return calls


def test_chunks_shrink_with_the_memory_allowed() -> None:
    upsampler = small_loftup()
    features, image = random_pair((2, 2), (8, 8), batch=2)
    chunks = spied(upsampler, "_attend")
    sizes = {}
    with torch.no_grad():
        for gib in (1.0, 5e-5, 2.5e-5, TINY):
            chunks.clear()
            upsampler.max_memory = gib
            upsampler(features, image)
            sizes[gib] = [pixels.shape[1] for pixels, *_ in chunks]
            assert sum(sizes[gib]) == 64
            # No chunk's output, which is only part of its memory, exceeds the limit.
            assert gib == TINY or max(sizes[gib]) * 2 * WIDTH * 4 < gib * 2**30
    assert len(sizes[1.0]) == 1
    assert set(sizes[TINY]) == {1}
    assert sizes[5e-5][0] == pytest.approx(2 * sizes[2.5e-5][0], abs=1)


@settings(max_examples=20, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    batch=st.integers(1, 2),
    gib=st.floats(1e-7, 1e-4),
    has_gradient=st.booleans(),
)
def test_strips_are_what_the_whole_step_returns(
    grid: tuple[int, int], size: tuple[int, int], batch: int, gib: float, has_gradient: bool
) -> None:
    features, image = (tensor.double() for tensor in random_pair(grid, size, batch))
    upsampler = small_loftup().double()
    assert isinstance(upsampler, StripwiseUpsampler)
    guidance = upsampler.encode_guidance(image)
    with torch.set_grad_enabled(has_gradient):
        whole = upsampler.upsample(features, guidance).permute(0, 2, 3, 1)
        upsampler.max_memory = gib
        next_row = 0
        for top, strip in upsampler.upsample_strips(features, guidance):
            assert top == next_row
            next_row += strip.shape[1]
            torch.testing.assert_close(strip, whole[:, top:next_row], atol=1e-10, rtol=1e-10)
    assert next_row == size[0]


def test_gradient_through_chunks_equals_that_through_the_whole() -> None:
    upsampler = small_loftup()
    features, image = random_pair((3, 4), (12, 10), batch=2)
    weights = torch.randn(2, WIDTH, 12, 10, generator=torch.Generator().manual_seed(1))
    chunks = spied(upsampler, "_attend")
    gradients, calls = [], []
    for gib in (1.0, 1e-4):
        chunks.clear()
        upsampler.max_memory = gib
        leaf = features.clone().requires_grad_()
        loss = (upsampler(leaf, image) * weights).sum()
        forward = len(chunks)
        loss.backward()
        gradients.append(leaf.grad)
        calls.append((forward, len(chunks) - forward))
    assert calls[0] == (1, 0)
    assert calls[1][0] > 1
    assert calls[1][1] == calls[1][0], "chunks were kept instead of computed again"
    assert bool(gradients[0].any())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-5)


def test_an_image_is_scaled_by_its_own_range() -> None:
    upsampler = small_loftup()
    features, image = random_pair((3, 3), (12, 12), batch=2)
    image[1] *= 5
    batch = upsampler(features, image)
    for i in range(2):
        torch.testing.assert_close(upsampler(features[i : i + 1], image[i : i + 1])[0], batch[i], atol=1e-5, rtol=1e-5)


def test_an_image_of_one_colour_gives_finite_features() -> None:
    features, image = random_pair((3, 3), (12, 12))
    assert bool(small_loftup()(features, torch.zeros_like(image)).isfinite().all())


@pytest.mark.parametrize("seed", range(3))
def test_half_precision_is_close_to_single(seed: int) -> None:
    """At the highest frequency, a rounding error of half precision would change the angle completely."""
    features, image = (tensor.bfloat16() for tensor in random_pair((4, 5), (28, 35), seed=seed))
    upsampler = small_loftup(seed).bfloat16()
    half = upsampler(features, image)
    single = upsampler.float()(features.float(), image.float())
    assert half.dtype == torch.bfloat16
    assert float((half - single).norm() / single.norm()) < 0.02


def test_wrong_features_are_refused() -> None:
    upsampler = small_loftup()
    features, image = random_pair((3, 3), (9, 9), batch=2)
    guidance = upsampler.encode_guidance(image)
    with pytest.raises(ContractError, match="needs features of 8 channels, got 5"):
        upsampler.upsample(features[:, :5], guidance)
    with pytest.raises(ContractError, match="features of 1 images but guidance of 2"):
        upsampler.upsample(features[:1], guidance)


def test_memory_is_no_part_of_the_identity() -> None:
    upsampler = small_loftup()
    before = identity_of(upsampler)
    upsampler.max_memory = 0.25
    assert identity_of(upsampler) == before
    assert identity_of(small_loftup(seed=1)).sha256 != before.sha256


MEASURE = """
import resource, torch
from vfm_isbench.upsamplers.published.loftup import LoftUp

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux

upsampler = LoftUp(384).eval()
features, image = torch.randn(1, 384, 32, 32), torch.randn(1, 3, 448, 448)
before = peak()
with torch.no_grad():
    upsampler(features, image)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory in Linux's unit")
def test_memory_at_448_pixels_is_bounded() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 3
