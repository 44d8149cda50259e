"""A fingerprint covers everything that an upsampler reaches, or there is none."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.upsamplers import adapt, identity_of, load_upsampler
from vfm_isbench.upsamplers.identity import why_unidentified
from vfm_isbench.upsamplers.loaded import DECLARED_IDENTITY


def sha(upsampler: Any, declared: str | None = None) -> str | None:
    return identity_of(upsampler, declared).sha256


class Configured(nn.Module):
    """A module whose settings are wherever its author put them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(features, image.shape[-2:], mode="nearest")


def area(features: Tensor, image: Tensor) -> Tensor:
    return functional.interpolate(features, image.shape[-2:], mode="area")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"cfg": {"mode": "bicubic"}}, {"cfg": {"mode": "nearest"}}),
        ({"steps": [1, {"a": (2, [3])}]}, {"steps": [1, {"a": (2, [4])}]}),
        ({"args": types.SimpleNamespace(mode="a")}, {"args": types.SimpleNamespace(mode="b")}),
        ({"_hidden": 1}, {"_hidden": 2}),
        ({"call": functools.partial(area, scale=1)}, {"call": functools.partial(area, scale=2)}),
        ({"table": torch.zeros(3)}, {"table": torch.ones(3)}),
        ({"modes": {"a", "b"}}, {"modes": {"a", "c"}}),
        ({"branches": [nn.Conv2d(1, 1, 1)]}, {"branches": [nn.Conv2d(1, 1, 1)]}),
    ],
    ids=["dict", "nested list", "namespace", "private", "partial", "plain tensor", "set", "modules in a list"],
)
def test_settings_count_wherever_they_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert sha(Configured(**one)) == sha(Configured(**one)) is not None
    assert sha(Configured(**one)) != sha(Configured(**other)) is not None


def test_hooks_and_a_replaced_forward_count() -> None:
    plain, hooked, replaced = Configured(), Configured(), Configured()
    hooked.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    replaced.forward = area  # type: ignore[method-assign]
    assert len({sha(plain), sha(hooked), sha(replaced)}) == 3


def cached(file: Path) -> Callable[..., Tensor]:
    """An upsampler whose weights a cached getter reads from a file."""

    @functools.cache
    def weights() -> Tensor:
        return torch.tensor(float(file.read_text()))

    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        return weights() * area(features, image)

    return upsampler


def test_weights_behind_a_cached_getter_count_once_they_are_there(tmp_path: Path) -> None:
    features, image = torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 8, 8)
    found = []
    for value in ("0.5", "0.5", "0.25"):
        (tmp_path / "weights.txt").write_text(value)
        upsampler = cached(tmp_path / "weights.txt")
        upsampler(features, image)
        found.append(sha(upsampler))
    assert found[0] == found[1] != found[2]
    assert None not in found


def test_values_cached_by_argument_cannot_be_read() -> None:
    @functools.cache
    def weights(size: int) -> Tensor:
        return torch.ones(size)

    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        return weights(1) * area(features, image)

    weights(1)
    assert sha(upsampler) is None
    assert "caches values by argument" in why_unidentified(upsampler)
    assert "--identity TEXT" in why_unidentified(upsampler)


class Package:
    """A folder of the user's modules; ``edit`` writes one, as if for a new process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def edit(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / f"{name}.py").write_text(text)
        for name in [name for name, module in sys.modules.items() if self.is_mine(module)]:
            del sys.modules[name]

    def is_mine(self, module: Any) -> bool:
        return str(getattr(module, "__file__", "")).startswith(str(self.folder))

    def sha(self) -> str | None:
        upsampler = load_upsampler(f"{self.folder / 'up.py'}:up")
        upsampler(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 8, 8))
        return sha(upsampler)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = Package(tmp_path)
    yield found
    found.edit()


HELPER = """import torch.nn.functional as F
MODE = 'area'
def enlarge(f, size): return F.interpolate(f, size, mode=MODE)
"""
METHOD = """import helpers_of_mine as h
class Up:
    def __call__(self, f, image): return h.enlarge(f, image.shape[-2:])
up = Up()
"""


@pytest.mark.parametrize(
    "up",
    [
        "from helpers_of_mine import enlarge\ndef up(f, image): return enlarge(f, image.shape[-2:])\n",
        "import helpers_of_mine\ndef up(f, image): return helpers_of_mine.enlarge(f, image.shape[-2:])\n",
        "def up(f, image):\n    from helpers_of_mine import enlarge\n    return enlarge(f, image.shape[-2:])\n",
        "from between_of_mine import again\ndef up(f, image): return again(f, image)\n",
        METHOD,
    ],
    ids=["from", "module", "inside", "two files away", "method"],
)
def test_an_edited_helper_is_another_upsampler(package: Package, up: str) -> None:
    between = "from helpers_of_mine import enlarge\ndef again(f, image): return enlarge(f, image.shape[-2:])\n"
    package.edit(up=up, between_of_mine=between, helpers_of_mine=HELPER)
    first = package.sha()
    package.edit()
    assert package.sha() == first is not None
    package.edit(helpers_of_mine=HELPER.replace("area", "nearest"))
    assert package.sha() != first


def test_a_setting_of_a_helper_that_was_changed_at_run_time_counts(package: Package) -> None:
    package.edit(
        up="import helpers_of_mine\ndef up(f, image): return helpers_of_mine.enlarge(f, image.shape[-2:])\n",
        helpers_of_mine=HELPER,
    )
    first = package.sha()
    sys.modules["helpers_of_mine"].MODE = "nearest"  # type: ignore[attr-defined]
    assert package.sha() != first


def test_code_that_is_not_reached_does_not_count(package: Package) -> None:
    package.edit(
        up="import torch.nn.functional as F\n" + HELPER + "def up(f, image): return enlarge(f, image.shape[-2:])\n"
    )
    first = package.sha()
    package.edit(unrelated_of_mine="x = 1\n")
    assert package.sha() == first is not None


def test_what_the_user_declares_takes_the_place_of_the_fingerprint() -> None:
    unreadable = Configured(handle=iter([1]))
    assert sha(unreadable) is None
    assert sha(unreadable, "mine, version 1") == sha(area, "mine, version 1") != sha(unreadable, "mine, version 2")
    setattr(unreadable, DECLARED_IDENTITY, lambda: "mine, version 1")
    assert sha(unreadable) == sha(area, "mine, version 1")
    assert sha(adapt(unreadable, "image_features")) == sha(unreadable), "another call style loses it"
