from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vfm_isbench.errors import ContractError, UnknownNameError, VfmIsbenchError
from vfm_isbench.upsamplers import Adapted, Bilinear, identity_of, list_upsamplers, load_upsampler

FEATURES, IMAGE = torch.rand(1, 4, 3, 3), torch.rand(1, 3, 12, 12)

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional

def bicubic(features, image):
    return functional.interpolate(features, image.shape[-2:], mode="bicubic")

def image_first(image, features):
    return bicubic(features, image)

def unnamed(*args):
    return bicubic(*args)

def optional(features=None, image=None):
    return bicubic(features, image)

class Module(nn.Module):
    def forward(self, features, image):
        return bicubic(features, image)

@dataclass
class Plain:
    mode: str = "bicubic"
    def __call__(self, features, image):
        return functional.interpolate(features, image.shape[-2:], mode=self.mode)

class Nested:
    up = Plain()

class NeedsArguments(nn.Module):
    def __init__(self, width):
        super().__init__()

class Breaks:
    def __init__(self):
        raise OSError("no weights here")

class NotCallable:
    pass

def make():
    return Module()

def make_with_options(mode="bicubic", flag=True):
    return Plain(mode)

def make_none():
    return None

def three(a, b, c):
    return a

ready = Module()
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "json.py"  # a name that would clash with a module of the standard library
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    "attribute",
    [
        "bicubic",
        "image_first",
        "unnamed",
        "optional",
        "Module",
        "Plain",
        "Nested.up",
        "make",
        "make_with_options",
        "ready",
    ],
)
def test_whatever_is_or_makes_an_upsampler_is_loaded_from_a_file(file: Path, attribute: str) -> None:
    expected = torch.nn.functional.interpolate(FEATURES, (12, 12), mode="bicubic")
    assert torch.equal(load_upsampler(f"{file}:{attribute}")(FEATURES, IMAGE), expected)


def test_modules_are_not_called_to_make_something(file: Path) -> None:
    assert isinstance(load_upsampler(f"{file}:ready").call, nn.Module)


def test_loading_a_file_hides_no_other_module(file: Path) -> None:
    import json

    file.write_text(f"{SOURCE}# content that no other test has loaded\n")
    before = set(sys.modules)
    upsampler = load_upsampler(f"{file}:Plain")
    assert sys.modules["json"] is json
    (new,) = set(sys.modules) - before
    assert new.startswith("json@")
    assert load_upsampler(f"{file}:Plain").call == upsampler.call, "the file is read once"
    assert pickle.loads(pickle.dumps(upsampler)).call == upsampler.call
    assert identity_of(upsampler).name == "Plain"
    assert identity_of(upsampler).sha256 is not None


def test_an_edited_file_is_read_anew(file: Path) -> None:
    first = load_upsampler(f"{file}:bicubic")
    file.write_text(SOURCE.replace('mode="bicubic"', 'mode="area"'))
    assert not torch.equal(load_upsampler(f"{file}:bicubic")(FEATURES, IMAGE), first(FEATURES, IMAGE))


def test_built_in_names_and_modules_by_name() -> None:
    assert load_upsampler("bilinear").call == Bilinear()
    assert load_upsampler("vfm_isbench.upsamplers.builtin.interpolation:Bilinear").call == Bilinear()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bilinaer", "Did you mean 'bilinear'.*package.module:attribute"),
        ("my_upsampler.py", "write my_upsampler.py:attribute"),
        ("my_upsampler.py:", "write my_upsampler.py:attribute"),
        ("absent/file.py:up", "cannot read the file"),
        ("absent_package.module:up", "no module 'absent_package'"),
        ("vfm_isbench.absent:up", "no module 'vfm_isbench.absent'"),
        ("vfm_isbench.upsamplers:Bilinaer", "Did you mean 'Bilinear'"),
        (":up", "unknown upsampler ':up'"),
    ],
)
def test_unknown_names_say_what_there_is(spec: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load_upsampler(spec)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("number", "is of type int"),
        ("NeedsArguments", r"needs arguments \(width\)"),
        ("Breaks", "failed with OSError: no weights here"),
        ("NotCallable", "made something of type NotCallable"),
        ("make_none", "made something of type NoneType"),
        ("three", r"parameters \(a, b, c\)"),
    ],
)
def test_what_is_no_upsampler_says_why(file: Path, attribute: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        load_upsampler(f"{file}:{attribute}")


def test_a_file_that_does_not_import_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import absent_dependency\n")
    before = set(sys.modules)
    with pytest.raises(ContractError, match="ModuleNotFoundError: No module named 'absent_dependency'.*PYTHONPATH"):
        load_upsampler(f"{path}:up")
    assert set(sys.modules) == before


def test_a_module_whose_dependency_is_absent_is_not_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_absent.py").write_text("import absent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ContractError, match="importing needs_absent failed.*absent_dependency"):
        load_upsampler("needs_absent:up")


def test_a_callable_is_loaded_like_a_name_and_only_once() -> None:
    def image_first(image: Tensor, features: Tensor) -> Tensor:
        return features

    assert load_upsampler("bilinear").call == load_upsampler(Bilinear()).call == Bilinear()
    loaded = load_upsampler(image_first)
    assert loaded.call == Adapted(image_first, "image_features")
    assert load_upsampler(loaded) is loaded
    with pytest.raises(ContractError, match="type int"):
        load_upsampler(3)  # type: ignore[arg-type]


def test_built_ins_are_listed_with_a_line_each() -> None:
    assert list_upsamplers().keys() >= {"identity", "nearest", "bilinear", "bicubic", "jbu"}
    assert all(list_upsamplers().values())


def test_a_callable_given_in_a_file_keeps_its_gradient(file: Path) -> None:
    features: Tensor = FEATURES.clone().requires_grad_()
    load_upsampler(f"{file}:image_first")(features, IMAGE).sum().backward()
    assert features.grad is not None


def test_a_name_that_is_too_long_for_a_file_is_refused() -> None:
    with pytest.raises(VfmIsbenchError, match="cannot be loaded"):
        load_upsampler("hf:" + "x" * 3000)
