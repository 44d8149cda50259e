from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.upsamplers import Bilinear, JointBilateralUpsampler, adapt, freeze, identity_of

SCALE = 2


def resize(features: Tensor, image: Tensor, mode: str = "bilinear") -> Tensor:
    return functional.interpolate(features, image.shape[-2:], mode=mode)


def scaled(features: Tensor, image: Tensor) -> Tensor:
    return helper(features, image) * SCALE


def helper(features: Tensor, image: Tensor) -> Tensor:
    return resize(features, image) * math.pi


def make(mode: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(features, image.shape[-2:], mode=str(mode))

    return upsampler


def make_with_default(mode: str) -> Callable[..., Tensor]:
    def upsampler(features: Tensor, image: Tensor, mode: str = mode) -> Tensor:
        return functional.interpolate(features, image.shape[-2:], mode=mode)

    return upsampler


class Mixing(nn.Module):
    def __init__(self, seed: int = 0, power: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1, stride=stride)
        self.power = power
        self.register_buffer("scale", torch.ones(()))
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.mix.weight, generator=generator)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return self.mix(features) ** self.power


class Squared(Mixing):
    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return self.mix(features).square()


@dataclass
class Settings:
    mode: Any = "bicubic"

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(features, image.shape[-2:], mode=self.mode)


def sha(upsampler: Any) -> str | None:
    return identity_of(upsampler).sha256


def test_names_and_kinds() -> None:
    here = __name__
    assert (identity_of(Bilinear()).name, identity_of(Bilinear()).kind) == ("bilinear", "object")
    assert (identity_of(JointBilateralUpsampler()).name, identity_of(JointBilateralUpsampler()).kind) == (
        "jbu",
        "module",
    )
    assert (identity_of(resize).name, identity_of(resize).kind) == (f"{here}:resize", "function")
    assert identity_of(functools.partial(resize, mode="nearest")).name == f"{here}:resize"
    assert (identity_of(Mixing()).name, identity_of(Mixing()).kind) == (f"{here}:Mixing", "module")
    assert (identity_of(Mixing().forward).name, identity_of(Mixing().forward).kind) == (
        f"{here}:Mixing.forward",
        "module",
    )
    assert identity_of(adapt(Mixing(), "image_features")).name == f"{here}:Mixing"
    assert identity_of(Settings()).name == f"{here}:Settings"


def test_equal_upsamplers_have_equal_fingerprints() -> None:
    pairs: list[tuple[Any, Any]] = [
        (Mixing(), Mixing()),
        (make("bicubic"), make("bicubic")),
        (Settings(), Settings()),
        (functools.partial(resize, mode="area"), functools.partial(resize, mode="area")),
        (make(torch.ones(3)), make(torch.ones(3))),
        (make(Mixing()), make(Mixing())),
        (torch.no_grad()(make("area")), torch.no_grad()(make("area"))),
    ]
    for one, other in pairs:
        assert sha(one) == sha(other)
        assert len(sha(one) or "") == 64


def test_whatever_changes_the_output_changes_the_fingerprint() -> None:
    upsamplers: list[Any] = [
        Mixing(),
        Mixing(seed=1),
        Mixing(power=2),
        Mixing(stride=2),
        Mixing().double(),
        Squared(),
        make("bicubic"),
        make("area"),
        make(None),
        make_with_default("bicubic"),
        make_with_default("area"),
        make(torch.ones(3)),
        make(torch.zeros(3)),
        make(Mixing()),
        make(Mixing(seed=1)),
        make([1, 2]),
        make({"a": 1}),
        Settings(),
        Settings("area"),
        resize,
        functools.partial(resize, mode="area"),
        functools.partial(resize, mode="nearest"),
        scaled,
        helper,
        adapt(resize, "image_features"),
        adapt(resize, "image_features_size"),
        torch.no_grad()(make("area")),
    ]
    fingerprints = [sha(upsampler) for upsampler in upsamplers]
    assert None not in fingerprints
    assert len(set(fingerprints)) == len(upsamplers)


def test_buffers_count() -> None:
    module = Mixing()
    before = sha(module)
    module.get_buffer("scale").fill_(2)
    assert sha(module) != before


def test_state_that_leaves_the_output_alone_does_not_count() -> None:
    module = Mixing()
    before = sha(module)
    assert sha(freeze(module)) == before
    module.mix.weight = nn.Parameter(module.mix.weight.detach().mT.contiguous().mT)
    assert sha(module) == before


def test_globals_that_a_function_reads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before, unrelated = sha(scaled), sha(resize)
    monkeypatch.setitem(scaled.__globals__, "SCALE", 3)
    assert sha(scaled) != before
    assert sha(resize) == unrelated
    monkeypatch.undo()
    monkeypatch.setitem(scaled.__globals__, "helper", lambda features, image: features)
    assert sha(scaled) != before


def test_lambdas_are_told_apart_by_their_line() -> None:
    one = lambda f, x: functional.interpolate(f, x.shape[-2:], mode="area")  # noqa: E731
    other = lambda f, x: functional.interpolate(f, x.shape[-2:], mode="bicubic")  # noqa: E731
    assert sha(one) is not None
    assert sha(one) != sha(other)


def test_identity_is_not_claimed_where_it_cannot_be_established() -> None:
    two_in_a_line = [lambda f, x: f, lambda f, x: 2 * f]
    assert sha(two_in_a_line[0]) is None
    assert sha(eval("lambda f, x: f")) is None
    assert sha(make(object())) is None
    assert sha(make(iter([1]))) is None
    assert sha(nn.LazyConv2d(3, 1)) is None


def test_lambdas_over_several_lines_are_not_taken_for_their_first_line() -> None:
    # fmt: off
    mean = [
        lambda f, x: f
        + x.mean(),
    ]
    maximum = [
        lambda f, x: f
        + x.amax(),
    ]
    # fmt: on
    assert sha(mean[0]) is None or sha(mean[0]) != sha(maximum[0])


def test_a_function_that_calls_itself_has_a_fingerprint() -> None:
    def again(features: Tensor, depth: Any) -> Tensor:
        return features if depth == 0 else again(features, depth - 1)

    assert sha(again) is not None


def test_bfloat16_weights_can_be_fingerprinted() -> None:
    assert sha(Mixing().bfloat16()) != sha(Mixing())
