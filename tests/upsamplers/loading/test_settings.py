"""Keywords and methods in the name of an upsampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import known_signatures as known
import pytest
import torch
from hub_repositories import write_repository

from vfm_isbench.errors import ContractError, UnknownNameError
from vfm_isbench.upsamplers import (
    LoadedUpsampler,
    LoadOptions,
    call_style,
    find_module,
    identity_of,
    is_own,
    is_unchanged_here,
    load_upsampler,
    recorded_spec,
)
from vfm_isbench.upsamplers.loading.entry_parameters import parameters_of
from vfm_isbench.upsamplers.loading.settings import MethodCall, declared_with, read_settings

FILE = Path(known.__file__)
CONSENT = LoadOptions(trust_remote_code=True)
FEATURES, IMAGE = torch.rand(2, 8, 3, 4), torch.rand(2, 3, 12, 16)


def sha256(spec: str, options: LoadOptions | None = None) -> str | None:
    return identity_of(load_upsampler(spec, options)).sha256


@pytest.mark.parametrize(
    ("text", "places", "keywords"),
    [
        ("f()", (), {}),
        ("f(4)", (4,), {}),
        ("f( -1 , 0.5, 1e3)", (-1, 0.5, 1000.0), {}),
        ("f(true, False, none)", (True, False, None), {}),
        ("f(a-b/c.d, key=x_1, n=2)", ("a-b/c.d",), {"key": "x_1", "n": 2}),
    ],
)
def test_a_method_call_has_literal_arguments(text: str, places: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    assert MethodCall.read("spec", text) == MethodCall("f", places, keywords)


@pytest.mark.parametrize("query", ["b=Infinity", "b=[1,-1e999]", "call.b=NaN", "then=f(inf)", "then=f(b=1e999)"])
def test_numbers_that_no_result_can_hold_are_refused(query: str) -> None:
    with pytest.raises(UnknownNameError, match="is not a finite number"):
        load_upsampler(f"{FILE}:LikeUplift?{query}")


def test_a_declared_identity_does_not_depend_on_the_order_of_settings() -> None:
    one, other = (read_settings("x", values) for values in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}))
    texts = [declared_with("mine", settings) for settings in (one, other, read_settings("x", {"a": "1", "b": "3"}))]
    found = [text() for text in texts if callable(text)]
    assert len(found) == 3 and found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "text",
    [
        "f",
        "f(1",
        "_private(1)",
        "__init__()",
        "a.b(1)",
        "f(g(1))",
        "f([1])",
        "f('text')",
        "f(a=1, 2)",
        "f(a=1, a=2)",
        "f(1)(2)",
        "f(,)",
        "f(a b)",
        "f(x=__import__('os'))",
        "",
    ],
)
def test_any_other_form_is_refused_before_anything_runs(text: str, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository")
    with pytest.raises(UnknownNameError, match="then="):
        load_upsampler(f"hub:{repository}:anyup?then={text}", CONSENT)
    assert not (repository / "was_run").exists()


def test_the_style_is_told_also_of_what_is_called_with_keywords(tmp_path: Path) -> None:
    file = tmp_path / "up.py"
    file.write_text("def up(image, features, q=1):  # natten\n    return features\n")
    styles = {call_style(load_upsampler(f"{file}:up{query}")) for query in ("", "?call.q=2")}
    assert styles == {"(image, features), from the names of its parameters"}


def test_a_method_is_called_once_after_loading() -> None:
    plain, four = load_upsampler(f"{FILE}:LikeUplift"), load_upsampler(f"{FILE}:LikeUplift?then=enable_iterative(4)")
    named = load_upsampler(f"{FILE}:LikeUplift?then=enable_iterative(iters=4)")
    assert [getattr(find_module(one), "iters", None) for one in (plain, four, named)] == [1, 4, 4]
    assert four.source is not None and four.source["then"] == "enable_iterative(4)"
    assert four.name == "LikeUplift?then=enable_iterative(4)"
    assert identity_of(plain).sha256 != identity_of(four).sha256


@pytest.mark.parametrize(
    ("then", "error", "message"),
    [
        ("enable_iterativ(4)", UnknownNameError, "enable_iterativ.*Did you mean 'enable_iterative'"),
        ("mix(4)", UnknownNameError, "method of upsampler.*enable_iterative, resized"),
        ("enable_iterative()", UnknownNameError, r"does not fit enable_iterative\(iters: 'int'\).*missing"),
        ("enable_iterative(0)", ContractError, r"enable_iterative\(0\) of upsampler.*AssertionError"),
    ],
)
def test_a_method_that_does_not_work_says_why(then: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_upsampler(f"{FILE}:LikeUplift?then={then}")


def test_call_keywords_reach_every_call() -> None:
    plain = load_upsampler(f"{FILE}:KeywordsOnly")
    louder = load_upsampler(f"{FILE}:KeywordsOnly?call.gain=3")
    torch.testing.assert_close(louder(FEATURES, IMAGE), 3 * plain(FEATURES, IMAGE))
    assert louder.source is not None and louder.source["call"] == {"gain": 3}
    assert identity_of(plain).sha256 != identity_of(louder).sha256 != sha256(f"{FILE}:KeywordsOnly?call.gain=4")
    assert identity_of(louder).sha256 == sha256(f"{FILE}:KeywordsOnly?call.gain=3")


def test_the_two_steps_do_not_get_them_and_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "up.py"
    file.write_text(
        "import torch\nfrom torch.nn.functional import interpolate\nclass Up:\n"
        "    def encode_guidance(self, image): return image\n"
        "    def upsample(self, features, image, gain=1): return gain * interpolate(features, image.shape[-2:])\n"
        "    def __call__(self, features, image, gain=1): return self.upsample(features, image, gain)\n"
    )
    assert load_upsampler(f"{file}:Up").capabilities.upsample is not None
    louder = load_upsampler(f"{file}:Up?call.gain=2")
    assert louder.capabilities.upsample is None
    assert torch.equal(louder.upsample(FEATURES, louder.encode_guidance(IMAGE)), louder(FEATURES, IMAGE))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("LikeAnyUp?call.q_chunk=3", "keyword of the call.*'q_chunk'.*Did you mean 'q_chunk_size'"),
        ("LikeAnyUp?call.output_size=3", "the benchmark gives 'output_size' in every call"),
        ("LikeLoftUp?call.img=3", "the benchmark gives 'img' in every call"),
        ("KeywordsOnly?call.image=3", "the benchmark gives 'image' in every call"),
        ("LikeAnyUp?chanels=3", "keyword of LikeAnyUp.*'chanels'.*Did you mean 'channels'"),
        ("TwoSteps?seed=1&seed=2", "a key stands twice"),
    ],
)
def test_unknown_keywords_are_refused_with_the_ones_there_are(entry: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load_upsampler(f"{FILE}:{entry}")


def test_keywords_make_another_upsampler_of_a_file_or_a_module() -> None:
    one, other = load_upsampler(f"{FILE}:LikeLift?seed=1"), load_upsampler("known_signatures:LikeLift?seed=1")
    assert one.name == "LikeLift?seed=1" and other.name == "known_signatures:LikeLift?seed=1"
    assert torch.equal(one(FEATURES, IMAGE), known.LikeLift(seed=1)(IMAGE, FEATURES))
    assert torch.equal(other(FEATURES, IMAGE), one(FEATURES, IMAGE))
    assert one.source is not None and one.source["arguments"] == {"seed": 1} and one.source["style"] == "image_features"
    assert len({sha256(f"{FILE}:LikeLift{query}") for query in ("", "?seed=1", "?seed=2")}) == 3


def test_a_ready_upsampler_takes_no_keywords_of_a_maker(tmp_path: Path) -> None:
    file = tmp_path / "up.py"
    file.write_text(
        "from torch.nn.functional import interpolate\n"
        "def up(features, image, mode='nearest'): return interpolate(features, image.shape[-2:], mode=mode)\n"
        "class Up:\n    def __call__(self, features, image): return features\n"
        "ready = Up()\n"
        "def make(mode='nearest'): return lambda features, image: up(features, image, mode)\n"
        "def pair(): return None, up\n"
    )
    with pytest.raises(ContractError, match=r"nothing takes mode; for a keyword of every call write call\.mode="):
        load_upsampler(f"{file}:ready?mode=bilinear")
    smooth = torch.nn.functional.interpolate(FEATURES, (12, 16), mode="bilinear")
    for attribute in ("up?call.mode=bilinear", "make?mode=bilinear", "pair?attribute=1&call.mode=bilinear"):
        assert torch.equal(load_upsampler(f"{file}:{attribute}")(FEATURES, IMAGE), smooth), attribute
    with pytest.raises(ContractError, match=r"making upsampler .* failed with TypeError: up\(\) missing 2 required"):
        load_upsampler(f"{file}:up?mode=bilinear")


def test_built_ins_take_their_settings() -> None:
    upsampler = load_upsampler("bilinear?align_corners=false")
    assert upsampler.capabilities.interpolation == ("bilinear", False)
    assert upsampler.name == "bilinear?align_corners=false" and is_own("bilinear?align_corners=false")
    assert sha256("bilinear?align_corners=false") != sha256("bilinear") == sha256("bilinear?align_corners=true")
    with pytest.raises(UnknownNameError, match="'corners'.*align_corners"):
        load_upsampler("bilinear?corners=1")
    with pytest.raises(ContractError, match="radius must not be negative"):
        load_upsampler("jbu?radius=-1")


def test_a_declared_identity_is_told_apart_by_settings(tmp_path: Path) -> None:
    file = tmp_path / "up.py"
    file.write_text(
        "class Up:\n    __vfm_isbench_identity__ = 'mine'\n"
        "    def __init__(self, n=1): self.n = n\n"
        "    def __call__(self, features, image): return self.n * features\n"
    )
    assert len({sha256(f"{file}:Up{query}") for query in ("", "?n=1", "?n=2")}) == 3


# --- torch.hub: read before it is run

HUBCONF = """
from pathlib import Path
from parts.models import imported, Class as klass
import torch
Path(__file__).with_name("was_run").touch()
def plain(width=4, *, depth=2):
    return lambda features, image: features
def anything(width=4, **more):
    return lambda features, image: features
"""
PARTS = """
def imported(levels=3):
    return lambda features, image: features
class Class:
    def __init__(self, gain=1): pass
    def __call__(self, features, image): return features
"""


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("plain?wdth=3", r"keyword of plain\(\).*'wdth'.*Did you mean 'width'"),
        ("plain?levels=3", "width, depth"),
        ("imported?width=3", "levels"),
        ("klass?width=3", "gain"),
    ],
)
def test_unknown_keywords_of_an_entry_are_refused_before_its_code_runs(
    tmp_path: Path, entry: str, message: str
) -> None:
    repository = write_repository(tmp_path / "repository", hubconf=HUBCONF, parts__models=PARTS)
    with pytest.raises(UnknownNameError, match=message):
        load_upsampler(f"hub:{repository}:{entry}", CONSENT)
    assert not (repository / "was_run").exists()


@pytest.mark.parametrize("entry", ["plain?depth=3", "anything?levels=3", "imported?levels=3", "klass?gain=2"])
def test_known_keywords_of_an_entry_are_handed_on(tmp_path: Path, entry: str) -> None:
    repository = write_repository(tmp_path / "repository", hubconf=HUBCONF, parts__models=PARTS)
    assert isinstance(load_upsampler(f"hub:{repository}:{entry}", CONSENT), LoadedUpsampler)


def test_what_the_text_does_not_explain_is_left_to_the_call(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from . import b\nfrom elsewhere import c\nd = lambda x: x\n@wrap\ndef e(x): ...\n")
    assert [parameters_of(tmp_path, "a.py", name) for name in "bcde"] == [None] * 4
    (tmp_path / "broken.py").write_text("def f(:")
    assert parameters_of(tmp_path, "broken.py", "f") is None and parameters_of(tmp_path, "no.py", "f") is None


def test_a_file_with_settings_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "up.py").write_text("class Up: ...\n")
    recorded = recorded_spec("up.py:Up?width=4")
    assert len(recorded["file_sha256"]) == 64 and is_unchanged_here(recorded)
    (tmp_path / "up.py").write_text("class Up: 1\n")
    assert not is_unchanged_here(recorded)
