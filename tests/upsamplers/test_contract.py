from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ContractError, VfmIsbenchWarning
from vfm_isbench.upsamplers import Bilinear, ContractReport, check_upsampler, identity_of, load_upsampler


def check(upsampler: Any, **options: Any) -> ContractReport:
    return check_upsampler(upsampler, channels=5, grid=(4, 6), image_size=(16, 24), **options)


def raises(features: Tensor, image: Tensor) -> Tensor:
    raise KeyError("lr_feats")


def factory() -> Any:
    return Bilinear()


def in_place(features: Tensor, image: Tensor) -> Tensor:
    image.clamp_(0, 1)
    return features


BROKEN = {
    "not callable": (3, "type int, which cannot be called"),
    "raises": (raises, r"raised KeyError: 'lr_feats'.*features 2×5×4×6.*adapt\(upsampler, style\)"),
    "ends the program": (lambda features, image: sys.exit(0), "raised SystemExit: 0"),
    "keywords only": (lambda *, source, guidance: source, "raised TypeError.*source_guidance"),
    "tuple": (lambda f, x: (f, x), r"type tuple \(Tensor, Tensor\).*alone"),
    "None": (lambda f, x: None, "returned None"),
    "dict": (lambda f, x: {"features": f}, "type dict"),
    "numpy": (lambda f, x: f.numpy(), "type ndarray.*from_numpy"),
    "another function": (lambda f, x: factory, "factory"),
    "three dimensions": (lambda f, x: f[0], "returned 5×4×6 .*3 dimensions instead of 4"),
    "batch": (lambda f, x: f[:1], "returned 1×5×4×6 .*batch must be kept"),
    "channels": (lambda f, x: f[:, :4], "returned 2×4×4×6 .*channels must be kept"),
    "image back": (lambda f, x: x, "channels must be kept.*argument order"),
    "integers": (lambda f, x: f.long(), "torch.int64"),
    "device": (lambda f, x: f.to("meta"), "on meta; expected .* on cpu"),
    "NaN": (lambda f, x: f / 0, "240 values of 240 that are NaN or infinite"),
    "smaller": (lambda f, x: f[:, :, ::2], "returned 2×5×2×6 .*patch grid"),
    "features changed": (lambda f, x: f.mul_(2), "changed the features"),
    "image changed": (in_place, "changed the image"),
    "size by batch": (lambda f, x: f.repeat(1, 1, len(f), 1), "2×5×8×6"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_contract_is_named(name: str) -> None:
    upsampler, message = BROKEN[name]
    with pytest.raises(ContractError, match=re.compile(message, re.DOTALL)):
        check(upsampler)


def test_the_original_exception_is_chained() -> None:
    with pytest.raises(ContractError) as caught:
        check(raises)
    assert isinstance(caught.value.__cause__, KeyError)


def through_numpy(features: Tensor, image: Tensor) -> Tensor:
    return torch.from_numpy(features.detach().numpy() * 2)


@torch.no_grad()
def without_gradient(features: Tensor, image: Tensor) -> Tensor:
    return features * 2


def gradient_elsewhere(features: Tensor, image: Tensor) -> Tensor:
    return features.detach() + torch.zeros(1, requires_grad=True)


def zero_gradient(features: Tensor, image: Tensor) -> Tensor:
    return features.detach() + 0 * features


def infinite_gradient(features: Tensor, image: Tensor) -> Tensor:
    return (features * 0).sqrt() + features.detach()


def overwritten(features: Tensor, image: Tensor) -> Tensor:
    doubled = features.exp()
    doubled += 1
    return doubled


@pytest.mark.parametrize(
    "upsampler",
    [through_numpy, without_gradient, gradient_elsewhere, zero_gradient, infinite_gradient, overwritten],
)
def test_missing_gradient_stops_only_where_it_is_needed(upsampler: Any) -> None:
    assert check(upsampler).deterministic
    with pytest.raises(ContractError, match="trained through it.*'late'"):
        check(upsampler, needs_gradient=True)


def test_outputs_of_constant_sum_have_a_gradient() -> None:
    # As with normalised outputs, the gradient of their plain sum is zero.
    check(lambda f, x: torch.cat([f[:, :2], -f[:, :2], torch.zeros_like(f[:, 4:])], dim=1), needs_gradient=True)


def test_randomness_warns_and_is_recorded() -> None:
    with pytest.warns(VfmIsbenchWarning, match="not deterministic"):
        report = check(lambda f, x: f + torch.rand_like(f))
    assert not report.deterministic
    assert report.repeat_deviation > 0
    assert report.batch_independent, "what differs from call to call tells nothing about the batch"
    assert len(report.warnings) == 1


def test_dependence_on_the_batch_warns_and_is_recorded() -> None:
    with pytest.warns(VfmIsbenchWarning, match="depends on the rest of the batch"):
        report = check(lambda f, x: f / f.std())
    assert report.deterministic
    assert not report.batch_independent
    assert report.batch_deviation > 1e-4
    assert "batch" in report.warnings[0]


def test_rounding_within_the_tolerance_is_not_dependence() -> None:
    assert check(lambda f, x: f * (1 + 1e-6 * len(f))).batch_independent


def test_another_float_type_warns() -> None:
    with pytest.warns(VfmIsbenchWarning, match="torch.float16 for features of torch.float32"):
        check(lambda f, x: f.half())


def test_modules_are_checked_and_left_frozen_in_eval_mode() -> None:
    module = Dropping().train()
    report = check(module, needs_gradient=True)
    assert report.deterministic
    assert report.n_parameters == 5 * 5 + 5
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5, affine=False), nn.Dropout(0.5))

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(self.mix(features), scale_factor=2)


def test_report_of_a_plain_function() -> None:
    report = check(lambda f, x: functional.interpolate(f, x.shape[-2:]))
    assert report.output_size == (16, 24)
    assert report.n_parameters == 0


def test_values_outside_modules_are_not_counted_as_none() -> None:
    weight = torch.ones(1)
    assert check(lambda f, x: functional.interpolate(f * weight, x.shape[-2:])).n_parameters is None
    assert "parameters:        unknown" in str(check(lambda f, x: functional.interpolate(f * weight, x.shape[-2:])))


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "jbu", "identity"])
def test_training_free_upsamplers_have_no_parameters(name: str) -> None:
    assert check(load_upsampler(name)).n_parameters == 0


def test_report_of_a_plain_function_has_no_warnings() -> None:
    report = check(lambda f, x: functional.interpolate(f, x.shape[-2:]))
    assert report.ms_per_image > 0
    assert report.repeat_deviation == report.batch_deviation == 0
    assert report.warnings == ()


def test_the_seed_decides_the_input_and_no_global_state_is_touched() -> None:
    seen: list[Tensor] = []

    def spy(features: Tensor, image: Tensor) -> Tensor:
        seen.append(features.clone())
        return features

    before = torch.random.get_rng_state()
    check(spy, seed=1)
    first = seen[0]
    seen.clear()
    check(spy, seed=1)
    assert torch.equal(seen[0], first)
    seen.clear()
    check(spy, seed=2)
    assert not torch.equal(seen[0], first)
    assert torch.equal(torch.random.get_rng_state(), before)


class TwoSteps:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return features

    def encode_guidance(self, image: Tensor) -> float:
        return self.factor

    def upsample(self, features: Tensor, guidance: float) -> Tensor:
        return features * guidance


def test_two_steps_must_equal_the_call() -> None:
    check(TwoSteps(1))
    with pytest.raises(ContractError, match=r"encode_guidance\(image\)\) returned .* differs by 1.0e\+00"):
        check(TwoSteps(2))


class Strips(TwoSteps):
    """To the size of the image, three rows at a time."""

    def __init__(self, factor: float = 1, rows: int | None = None, skipped: int = 0) -> None:
        super().__init__(factor)
        self.rows, self.skipped = rows, skipped

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(features, image.shape[-2:])

    def encode_guidance(self, image: Tensor) -> Any:
        return image

    def upsample(self, features: Tensor, guidance: Any) -> Tensor:
        return self(features, guidance)

    def upsample_strips(self, features: Tensor, guidance: Tensor) -> Iterator[tuple[int, Tensor]]:
        cells = self(features, guidance).permute(0, 2, 3, 1)[:, : self.rows] * self.factor
        for top in range(0, cells.shape[1], 3):
            yield top + self.skipped, cells[:, top : top + 3]


def test_strips_must_equal_the_call() -> None:
    check(Strips())
    with pytest.raises(ContractError, match=r"upsample_strips\(.*\) returned .* differs by 1.0e\+00 .* or rename them"):
        check(Strips(factor=2))
    with pytest.raises(ContractError, match="which is not the image's size"):
        check(Strips(rows=-1))
    with pytest.raises(ContractError, match="gave rows from 1 on; expected rows from 0 on"):
        check(Strips(skipped=1))


class Brighter(Bilinear):
    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return 2 * super().__call__(features, image)


class Coarser(Bilinear):
    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("kind", [Brighter, Coarser])
def test_what_declares_to_be_an_interpolation_must_be_one(kind: type[Bilinear]) -> None:
    """It would not be called where the shortcut works on the patch grid."""
    check(Bilinear())
    with pytest.raises(ContractError, match="interpolation = None"):
        check(kind())


class Failing:
    """Raises in some of its calls."""

    def __init__(self, fails: Callable[[int, int], bool]) -> None:
        self.fails = fails
        self.calls = 0

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        self.calls += 1
        if self.fails(self.calls, len(features)):
            raise RuntimeError("it broke")
        return functional.interpolate(features, image.shape[-2:])


STATE = "The same call worked before: look for state"


@pytest.mark.parametrize("first", [2, 3, 8])
def test_an_upsampler_that_stops_working_is_told_to_look_for_state(first: int) -> None:
    with pytest.raises(ContractError, match=f"it broke(?s:.*){STATE}") as caught:
        check(Failing(lambda call, _: call >= first))
    assert "adapt(" not in str(caught.value)


def test_an_upsampler_that_fails_while_its_calls_are_timed_breaks_the_contract() -> None:
    working = Failing(lambda call, _: False)
    check(working)
    with pytest.raises(ContractError, match=f"it broke(?s:.*){STATE}"):
        check(Failing(lambda call, _: call == working.calls))


def test_a_batch_that_an_upsampler_does_not_take_is_named() -> None:
    with pytest.raises(ContractError, match="works with 2 images in a batch, but not with 1"):
        check(Failing(lambda _, images: images == 1))
    with pytest.raises(ContractError, match="works with 2 images in a batch, but not with 8"):
        check(Failing(lambda _, images: images == 8))


def needs_more(image: Tensor, features: Tensor, *, q_chunk_size: int) -> Tensor:
    return functional.interpolate(features, image.shape[-2:])


def test_arguments_that_only_the_author_can_give_are_bound_in_a_lambda() -> None:
    said = re.escape("lambda features, image: up(image, features, q_chunk_size=…)")
    with pytest.raises(ContractError, match=said):
        check(load_upsampler(needs_more))


def test_code_without_a_module_has_a_name() -> None:
    there: dict[str, Any] = {"__name__": None, "functional": functional}
    exec("def up(features, image):\n    return functional.interpolate(features, image.shape[-2:])", there)
    loaded = load_upsampler(there["up"])
    assert loaded.name == identity_of(loaded).name == "up"
    check(loaded)


def test_a_sparse_output_is_refused() -> None:
    with pytest.raises(ContractError, match=r"returned a sparse tensor; .* convert with \.to_dense\(\)"):
        check_upsampler(lambda features, image: features.to_sparse(), channels=4, grid=(2, 3), image_size=(8, 12))
