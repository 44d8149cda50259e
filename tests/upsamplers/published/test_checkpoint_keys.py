from __future__ import annotations

import pytest
import torch
from torch import nn

from vfm_isbench.errors import WeightsError
from vfm_isbench.upsamplers.published.checkpoint_keys import (
    load_exactly,
    some_keys,
    tensors_below,
    without_module_prefix,
)


@pytest.mark.parametrize("prefix", ["", "module.", "upsampler.", "upsampler.lift.", "upsampler.upsampler."])
def test_tensors_are_found_below_every_prefix(prefix: str) -> None:
    own = {"up.0.weight": torch.zeros(1), "outc.bias": torch.ones(2)}
    others = {} if prefix == "" else {"head.up.weight": torch.zeros(1), "up": torch.zeros(1)}
    below, rest = tensors_below({prefix + key: value for key, value in own.items()} | others, "up.0.weight", "a.pth")
    assert below == own
    assert rest == others


def test_an_anchor_is_whole_parts_of_a_key() -> None:
    with pytest.raises(WeightsError, match="up1.temp.* found none; its keys are: group1.temp"):
        tensors_below({"group1.temp": torch.zeros(1)}, "up1.temp", "a.pth")


def test_no_anchor_and_several_are_refused_naming_file_and_keys() -> None:
    with pytest.raises(WeightsError, match=r"a\.pth: expected one key outc\.bias.* found none; its keys are: none"):
        tensors_below({}, "outc.bias", "a.pth")
    twice = {"a.outc.bias": torch.zeros(1), "b.outc.bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"found several: a\.outc\.bias, b\.outc\.bias\."):
        tensors_below(twice, "outc.bias", "a.pth")


def test_what_fits_is_loaded() -> None:
    module = nn.Linear(2, 1)
    load_exactly(module, {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}, "a.pth", "a bare one")
    assert module(torch.ones(1, 2)).item() == 6


def test_what_does_not_fit_is_listed_and_not_loaded() -> None:
    module = nn.Linear(2, 1)
    before = module.weight.clone()
    state = {"weight": torch.zeros(3, 2), "scale": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        load_exactly(module, state, "a.pth", "a bare state dict", unexpected=["head.bias"])
    assert str(caught.value) == (
        "a.pth does not fit Linear: missing: bias; unexpected: scale, head.bias; wrong shape: weight is 3×2 "
        "instead of 1×2. Known layouts: a bare state dict. Give a file in one of these."
    )
    assert torch.equal(module.weight, before)


def test_many_keys_are_counted() -> None:
    assert some_keys("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert some_keys("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["module.a", "module.b.module.c"], ["a", "b.module.c"]),
        (["module.module.a"], ["module.a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["modules.a"], ["modules.a"]),
        ([], []),
    ],
)
def test_module_is_left_out_once_where_all_keys_have_it(keys: list[str], expected: list[str]) -> None:
    assert list(without_module_prefix({key: torch.zeros(1) for key in keys})) == expected
