"""The check calls an upsampler in all the ways a run does, and what passes it works in training and evaluation."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import SMALL, evaluated, small_probe
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import ContractError, VfmIsbenchWarning
from vfm_isbench.probe import Probe
from vfm_isbench.probe.preparation import check_on_device
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.types import ObjectEvidence
from vfm_isbench.upsamplers import Capabilities, ContractReport, LoadedUpsampler, check_upsampler

EARLY = SMALL.replace(injection="early", click_encoder="patch_embedding")


def check(upsampler: Any, **options: Any) -> ContractReport:
    return check_upsampler(upsampler, channels=8, grid=(4, 4), image_size=(56, 56), **options)


def enlarged(features: Tensor, image: Tensor) -> Tensor:
    return functional.interpolate(features, image.shape[-2:], mode="bilinear")


def measured(upsampler: Any, protocol: Any = SMALL) -> list[ObjectEvidence]:
    """Evidence of a short run: check, train, evaluate."""
    check_on_device(LoadedUpsampler.of(upsampler), protocol, FakeBackbone(), torch.device("cpu"))
    probe = small_probe(protocol, upsampler)
    samples = TrainingSamples(FakeDataset(), protocol.replace(epochs=1))
    train(probe, samples, samples, options=RunOptions(progress=False))
    evidence: list[ObjectEvidence] = evaluated(probe, FakeDataset(), protocol)[0]
    return evidence


@pytest.fixture(scope="module")
def expected() -> dict[str, list[ObjectEvidence]]:
    return {"late": measured(enlarged), "early": measured(enlarged, EARLY)}


# --- memory layout


def viewed(features: Tensor, image: Tensor) -> Tensor:
    batch, channels, height, width = features.shape
    return features.view(batch * channels, 1, height, width).view(features.shape)


def viewed_image(features: Tensor, image: Tensor) -> Tensor:
    return enlarged(features, image.view(len(image), -1).view(image.shape))


def in_memory_order(features: Tensor, image: Tensor) -> Tensor:
    return features.as_strided(features.shape, torch.empty(features.shape).stride()).clone()


def test_features_come_in_every_memory_layout_that_backbones_return() -> None:
    for upsampler in (viewed, viewed_image):
        with pytest.raises(ContractError, match=re.compile(r"view size.*channels last.*\.reshape\(\)", re.DOTALL)):
            check(upsampler)
    with pytest.raises(ContractError, match="other values .* channels-last"):
        check(in_memory_order)
    assert check(lambda f, x: enlarged(f.reshape(-1, 1, 4, f.shape[-1]), x).reshape(*f.shape[:2], *x.shape[-2:]))


# --- batches


def mixed_in_fours(features: Tensor, image: Tensor) -> Tensor:
    return features.roll(1, 0) if len(features) >= 4 else features


def last_is_padding(features: Tensor, image: Tensor) -> Tensor:
    return torch.cat([features[:-1], features[:1]]) if len(features) > 2 else features


def scaled_by_batch(features: Tensor, image: Tensor) -> Tensor:
    return features * len(features) if len(features) > 2 else features


@pytest.mark.parametrize("upsampler", [mixed_in_fours, last_is_padding, scaled_by_batch])
def test_a_dependence_on_the_batch_that_only_training_batches_show_is_found(upsampler: Any) -> None:
    for batch_size in (4, 8):
        with pytest.warns(VfmIsbenchWarning, match=f"depends on the rest of the batch: in a batch of {batch_size} "):
            assert not check(upsampler, batch_size=batch_size).batch_independent


def test_no_larger_batch_is_tried_than_training_has() -> None:
    sizes: list[int] = []

    def noted(features: Tensor, image: Tensor) -> Tensor:
        sizes.append(len(features))
        return features

    check(noted, batch_size=1)
    assert {1, 2} == set(sizes)
    check(noted, batch_size=5)
    assert {1, 2, 5} == set(sizes)


def fails_in_large_batches(features: Tensor, image: Tensor) -> Tensor:
    assert len(features) <= 2, "no more than two"
    return features


def test_an_upsampler_that_cannot_take_a_training_batch_is_refused_before_training() -> None:
    check(fails_in_large_batches, batch_size=2)
    with pytest.raises(ContractError, match=re.compile("no more than two.*features 4×8×4×4.*whole batches", re.DOTALL)):
        check(fails_in_large_batches, batch_size=4)


# --- hard inputs


def refuses_flat(features: Tensor, image: Tensor) -> Tensor:
    if float(image.std()) == 0:
        raise ValueError("no contrast")
    return features


HARD: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "contrast": (lambda f, x: f / x.std(dim=(1, 2, 3), keepdim=True), "NaN or infinite for an image of a single col"),
    "zeros": (lambda f, x: f * (x.mean() / x.abs().amax()), "NaN or infinite for an image of all zeros"),
    "edges": (lambda f, x: f * (x.diff(dim=-1).abs().max() * 20).exp(), "NaN or infinite for an image with hard edges"),
    "range": (lambda f, x: (5 * f).exp(), "NaN or infinite for features whose channels range"),
    "exception": (refuses_flat, "no contrast(.|\n)*not an image of a single colour"),
}


@pytest.mark.parametrize("name", HARD)
def test_inputs_that_bring_out_divisions_and_overflow_are_tried_and_named(name: str) -> None:
    upsampler, message = HARD[name]
    with pytest.raises(ContractError, match=message):
        check(upsampler)


def test_huge_values_warn() -> None:
    with pytest.warns(VfmIsbenchWarning, match=r"values up to .*e\+30 .*may not learn"):
        check(lambda f, x: f * 1e30)
    assert not check(lambda f, x: f * 100).warnings


# --- another size


def made_for_one_size(features: Tensor, image: Tensor) -> Tensor:
    return enlarged(features + torch.ones(4, 4), image)


def transposed(features: Tensor, image: Tensor) -> Tensor:
    return functional.interpolate(features, (image.shape[3], image.shape[2]))


def flat_at_other_sizes(features: Tensor, image: Tensor) -> Tensor:
    return features if features.shape[-2] == features.shape[-1] else features.flatten(2)


def test_another_size_and_aspect_is_tried_where_the_upsampler_allows_it() -> None:
    assert not check(made_for_one_size).warnings
    with pytest.warns(VfmIsbenchWarning, match="returned 56×28 for an image of 28×56: it takes height for width"):
        check(transposed)
    with pytest.raises(ContractError, match="3 dimensions instead of 4"):
        check(flat_at_other_sizes)


# --- what comes back


@torch.inference_mode()
def in_inference_mode(features: Tensor, image: Tensor) -> Tensor:
    return enlarged(features, image)


class StepsInInferenceMode:
    @torch.inference_mode()
    def encode_guidance(self, image: Tensor) -> Tensor:
        return image.clone()

    @torch.inference_mode()
    def upsample(self, features: Tensor, guidance: Tensor) -> Tensor:
        return enlarged(features, guidance)

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return self.upsample(features, self.encode_guidance(image))


@pytest.mark.parametrize("upsampler", [in_inference_mode, StepsInInferenceMode()], ids=["call", "steps"])
def test_outputs_made_in_inference_mode_work_in_training_and_evaluation(
    upsampler: Any, expected: dict[str, list[ObjectEvidence]]
) -> None:
    assert measured(upsampler) == expected["late"]
    with pytest.raises(ContractError, match="passes no gradient"):
        measured(upsampler, EARLY)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("protocol", [SMALL, EARLY], ids=["late", "early"])
def test_other_floating_dtypes_are_converted_and_noted(
    dtype: torch.dtype, protocol: Any, expected: dict[str, list[ObjectEvidence]]
) -> None:
    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        return enlarged(features, image).to(dtype)

    with pytest.warns(VfmIsbenchWarning, match=f"returns {dtype} for features of torch.float32; .* is converted"):
        found = measured(upsampler, protocol)
    assert len(found) == len(expected[protocol.injection])
    if dtype == torch.float64:
        assert found == expected[protocol.injection], "there and back changes no value"


def test_strips_of_another_dtype_are_converted() -> None:
    class Strips(StepsInInferenceMode):
        def upsample_strips(self, features: Tensor, guidance: Tensor) -> Any:
            yield 0, enlarged(features, guidance).double().permute(0, 2, 3, 1)

    loaded = LoadedUpsampler.of(Strips())
    ((top, strip),) = loaded.upsample_strips(torch.rand(1, 8, 2, 2), torch.rand(1, 3, 28, 28))
    assert (top, strip.dtype, strip.shape) == (0, torch.float32, (1, 28, 28, 8))


def test_dtypes_that_autocast_chose_stay() -> None:
    loaded = LoadedUpsampler.of(lambda f, x: enlarged(f, x).bfloat16())
    features, image = torch.rand(1, 8, 2, 2), torch.rand(1, 3, 28, 28)
    assert loaded(features, image).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert loaded(features, image).dtype == torch.bfloat16


class ViewedBackward(torch.autograd.Function):
    """Takes a contiguous gradient for granted; the head returns another layout."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view(-1).view(gradient.shape)


def test_a_backward_pass_through_the_head_is_tried() -> None:
    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        return ViewedBackward.apply(features)  # type: ignore[no-any-return]

    check(upsampler, needs_gradient=True)
    with pytest.raises(ContractError, match="cannot be trained on: RuntimeError .* view size"):
        measured(upsampler, EARLY)
    assert measured(upsampler), "with late injection no gradient passes through it"


# --- attributes that are no declarations


class Named(nn.Module):
    """A module of other people, with a setting whose name this library uses, too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return enlarged(features, image)


@pytest.mark.parametrize(
    "settings",
    [
        {"interpolation": "bicubic"},
        {"interpolation": ["bicubic", None]},
        {"interpolation": ("lanczos", None)},
        {"interpolation": ("bicubic", "align")},
        {"interpolation": (["bicubic"], None)},
        {"interpolation": nn.Upsample(scale_factor=2)},
        {"interpolation": enlarged},
        {"upsample": True, "encode_guidance": True},
        {"upsample": enlarged, "encode_guidance": None},
        {"keeps_patch_resolution": "no"},
        {"needs_gradients": "no"},
        {"upsampler_name": 3, "upsampler_source": "github"},
    ],
    ids=lambda settings: " ".join(f"{name} {type(value).__name__}" for name, value in settings.items()),
)
def test_settings_of_the_same_name_are_no_declarations(
    settings: dict[str, Any], expected: dict[str, list[ObjectEvidence]]
) -> None:
    assert LoadedUpsampler.of(Named(**settings)).capabilities == Capabilities()
    assert measured(Named(**settings)) == expected["late"]


def test_what_is_a_declaration_is_still_read() -> None:
    for declared in (("bicubic", None), ("bilinear", False), ("nearest-exact", None)):
        assert LoadedUpsampler.of(Named(interpolation=declared)).capabilities.interpolation == declared
    assert LoadedUpsampler.of(Named(keeps_patch_resolution=True)).capabilities.keeps_patch_resolution


# --- TorchScript


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.mix = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Dropout(0.5))

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(self.mix(features), [image.shape[2], image.shape[3]], mode="bilinear")


def reloaded(module: torch.jit.ScriptModule) -> Any:
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("protocol", [SMALL, EARLY], ids=["late", "early"])
def test_torchscript_modules_run_frozen(protocol: Any) -> None:
    upsampler = reloaded(torch.jit.script(Mixed().train()))
    wrapped = reloaded(torch.jit.script(Mixed().train()))
    found = measured(upsampler, protocol)
    assert not any(parameter.requires_grad for parameter in upsampler.parameters())
    assert not any(module.training for module in upsampler.modules())
    assert found == measured(lambda features, image: wrapped(features, image), protocol)
    assert [len(evidence.ious) for evidence in found] == [4] * len(found)


# --- optimising per image


class Optimised:
    """Fits a gain for each image, starting from scratch in every call."""

    needs_gradients = True
    upsample = encode_guidance = enlarged  # ignored: what is optimised per image has no steps

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        self.batches.append(len(features))
        gain = torch.ones(1, requires_grad=True)
        loss = (gain * features).pow(2).mean() + (gain - 2).pow(2).sum()
        (gradient,) = torch.autograd.grad(loss, gain)
        return enlarged(features, image) * (gain - 0.1 * gradient)


def in_one_go(features: Tensor, image: Tensor) -> Tensor:
    """The same in closed form."""
    gradient = 2 * features.pow(2).mean(dim=(1, 2, 3), keepdim=True) - 2
    return enlarged(features, image) * (1 - 0.1 * gradient)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_are_there_in_every_grad_mode_and_do_not_get_out(mode: Any) -> None:
    features, image = torch.rand(3, 8, 2, 2), torch.rand(3, 3, 28, 28)
    with mode():
        found = LoadedUpsampler.of(Optimised())(features, image)
    assert not found.requires_grad
    torch.testing.assert_close(found, in_one_go(features, image))


def test_optimising_per_image_works_in_training_and_evaluation_once_per_crop() -> None:
    upsampler = Optimised()
    probe = small_probe(SMALL, upsampler)
    samples = TrainingSamples(FakeDataset(), SMALL.replace(epochs=1))
    train(probe, samples, None, options=RunOptions(progress=False))
    assert upsampler.batches == [1] * 8, "eight samples, whatever the number of clicks"
    upsampler.batches.clear()
    found, _ = evaluated(probe, FakeDataset(images=2), SMALL.replace(zoom_in=False))
    assert upsampler.batches == [1] * 4, "two images, each with its mirror image"
    assert len(found) == 4


def test_optimising_per_image_passes_the_check_and_is_measured() -> None:
    upsampler = Optimised()
    report = check(upsampler)
    assert (report.deterministic, report.batch_independent, report.warnings) == (True, True, ())
    assert set(upsampler.batches) == {1}
    assert measured(upsampler)


def test_optimising_per_image_needs_late_injection() -> None:
    with pytest.raises(ContractError, match=r"needs_gradients = True.*use injection 'late'"):
        check(Optimised(), needs_gradient=True)
    with pytest.raises(ContractError, match=r"needs_gradients = True.*use injection 'late'"):
        measured(Optimised(), EARLY)


def test_who_forgets_to_declare_it_is_told() -> None:
    with pytest.raises(ContractError, match="declare needs_gradients = True"):
        check(lambda features, image: Optimised()(features, image))


def test_enabling_gradients_oneself_works_as_before(expected: dict[str, list[ObjectEvidence]]) -> None:
    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        with torch.enable_grad():
            output = enlarged(features, image).detach().clone().requires_grad_()
            output.pow(2).mean().backward()  # type: ignore[no-untyped-call]
        return output.detach()

    assert measured(upsampler) == expected["late"]


def test_the_uncached_probe_accepts_them_too() -> None:
    image, click_map = torch.rand(2, 3, 28, 28), torch.rand(2, 3, 28, 28)
    for upsampler in (in_inference_mode, Optimised(), lambda f, x: enlarged(f, x).double()):
        probe: Probe = small_probe(SMALL, upsampler)
        torch.autograd.backward(probe(image, click_map).mean())
        assert all(parameter.grad is not None for parameter in probe.head.parameters())
