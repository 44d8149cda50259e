from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vfm_isbench.upsamplers import Bilinear, adapt, count_parameters, find_module, freeze


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return self.mix(features)

    def swapped(self, image: Tensor, features: Tensor) -> Tensor:
        return self(features, image)


class Holder:
    def __init__(self, module: nn.Module) -> None:
        self.parts = {"upsampler": [module]}

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return self.parts["upsampler"][0](features, image)

    def run(self, features: Tensor, image: Tensor) -> Tensor:
        return self(features, image)


GLOBAL = Mixing()
shape = Mixing()
"""Its name is also that of an attribute which functions below read; they do not use *it*."""


def uses_a_global(features: Tensor, image: Tensor) -> Tensor:
    return GLOBAL(features, image).reshape(features.shape)


def uses_none(features: Tensor, image: Tensor) -> Tensor:
    return features.reshape(features.shape)


class CallUsesAGlobal:
    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return (lambda: GLOBAL(features, image))()


def call_with(model: Any, features: Tensor, image: Tensor) -> Tensor:
    return model(features, image)


def has_default(model: nn.Module) -> Any:
    def upsampler(features: Tensor, image: Tensor, model: nn.Module = model) -> Tensor:
        return model(features, image)

    return upsampler


WRAPPINGS = {
    "itself": lambda m: m,
    "bound method": lambda m: m.forward,
    "closure": lambda m: lambda f, x: m(f, x),
    "default": lambda m: has_default(m),
    "partial": lambda m: functools.partial(call_with, m),
    "partial keyword": lambda m: functools.partial(call_with, model=m),
    "adapter": lambda m: adapt(m.swapped, "image_features"),
    "object": Holder,
    "method of an object": lambda m: Holder(m).run,
    "no_grad": lambda m: torch.no_grad()(lambda f, x: m(f, x)),
    "cached": lambda m: functools.lru_cache(lambda f, x: m(f, x)),
    "nested": lambda m: adapt(functools.partial(call_with, Holder(m).run), "features_image"),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_module_is_found_and_frozen_in_every_wrapping(name: str) -> None:
    module = Mixing().train()
    upsampler = WRAPPINGS[name](module)
    assert find_module(upsampler) is module
    assert freeze(upsampler) is upsampler
    assert not module.training and not module.mix.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert count_parameters(upsampler) == 20


@pytest.mark.parametrize("upsampler", [uses_a_global, CallUsesAGlobal()])
def test_module_is_found_among_the_globals_that_are_read(upsampler: Any) -> None:
    assert find_module(upsampler) is GLOBAL


@pytest.mark.parametrize("upsampler", [uses_none, Bilinear(), torch.add, len, 3, Mixing])
def test_nothing_is_found_where_nothing_is_used(upsampler: Any) -> None:
    assert find_module(upsampler) is None
    assert count_parameters(upsampler) is None
    assert freeze(upsampler) is upsampler


def test_several_modules_are_found_and_frozen_together() -> None:
    one, other = Mixing(), Mixing()

    def both(features: Tensor, image: Tensor) -> Tensor:
        return one(features, image) + other(features, image)

    freeze(both)
    assert not one.training and not other.training
    assert count_parameters(both) == 40


def test_a_function_that_refers_to_itself_is_no_endless_search() -> None:
    def again(features: Tensor, depth: Any) -> Tensor:
        return features if depth == 0 else again(features, depth - 1)

    assert find_module(again) is None


def test_gradient_still_flows_through_what_is_frozen() -> None:
    features = torch.rand(1, 4, 2, 2, requires_grad=True)
    freeze(Mixing())(features, features).sum().backward()
    assert features.grad is not None and bool(features.grad.any())
