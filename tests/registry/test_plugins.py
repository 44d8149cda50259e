"""Plugins: found without being imported, refused with a reason, and never able to break anything else."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from plugin_packages import GROUPS, Packages
from small import SMALL

from vfm_isbench.backbones import BACKBONE_PLUGINS, list_backbones, load_backbone
from vfm_isbench.click_encoders import CLICK_ENCODER_PLUGINS, list_click_encoders
from vfm_isbench.datasets import DATASET_PLUGINS, list_datasets, open_dataset
from vfm_isbench.errors import DataError, PluginError, UnknownNameError, VfmIsbenchWarning
from vfm_isbench.probe import build_probe
from vfm_isbench.registry.plugins import Plugins, plugin_origins
from vfm_isbench.registry.registry import is_plain_name
from vfm_isbench.storage.hashing import code_sha256
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.upsamplers import LOADERS, UPSAMPLER_PLUGINS, UPSAMPLERS, Bilinear, load_upsampler

PLUGINS: dict[str, Plugins] = {
    "upsampler": UPSAMPLER_PLUGINS,
    "backbone": BACKBONE_PLUGINS,
    "data set": DATASET_PLUGINS,
    "click encoder": CLICK_ENCODER_PLUGINS,
}
BUILT_IN: dict[str, list[str]] = {
    "upsampler": [*UPSAMPLERS, *LOADERS],
    "backbone": [name for name in list_backbones() if ":" not in name],
    "data set": list(list_datasets()),
    "click encoder": list(list_click_encoders()),
}
USE: dict[str, Callable[[str], Any]] = {
    "upsampler": load_upsampler,
    "backbone": lambda name: load_backbone(name, 28),
    "data set": lambda name: open_dataset(name, "test", None, SMALL),
    "click encoder": lambda name: build_probe(SMALL.replace(click_encoder=name), FakeBackbone(), Bilinear()),
}
"""How a name of each kind is used."""

GOOD = """
from torch import nn
from torch.nn import functional
from vfm_isbench.click_encoders import PatchEmbedding
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset

def upsampler():
    return lambda features, image: functional.interpolate(features, image.shape[-2:])

def backbone(image_size, *, weights, pretrained):
    made = FakeBackbone()
    made.name = "good"
    made.told = (image_size, weights, pretrained)
    return made

def dataset(role, data_root, protocol):
    made = FakeDataset(name="good")
    made.told = (role, data_root, protocol)
    return made

def click_encoder(channels, patch_size, protocol):
    made = PatchEmbedding(channels, patch_size)
    made.told = (channels, patch_size, protocol)
    return made
"""
ATTRIBUTES = {"upsampler": "upsampler", "backbone": "backbone", "data set": "dataset", "click encoder": "click_encoder"}
KINDS = list(GROUPS)


def install_good(packages: Packages) -> None:
    points = {(kind, "good"): f"good_module:{attribute}" for kind, attribute in ATTRIBUTES.items()}
    packages.install("good-package", points, {"good_module": GOOD}, version="2.5")


def told(made: Any) -> Any:
    return made.told


def test_plugins_are_called_as_documented(packages: Packages) -> None:
    install_good(packages)
    assert told(load_backbone("good", 28, pretrained=False)) == (28, None, False)
    assert told(open_dataset("good", "train", packages.folder, SMALL)) == ("train", packages.folder, SMALL)
    protocol = SMALL.replace(click_encoder="good")
    assert told(build_probe(protocol, FakeBackbone(), Bilinear()).click_encoder) == (8, 14, protocol)
    assert load_upsampler("good")(torch.rand(1, 2, 3, 3), torch.rand(1, 3, 9, 9)).shape == (1, 2, 9, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_made_by_a_plugin_carries_its_origin(kind: str, packages: Packages) -> None:
    install_good(packages)
    made = USE[kind]("good")
    assert plugin_origins(object(), made.click_encoder if kind == "click encoder" else made) == [
        {
            "kind": kind,
            "name": "good",
            "package": "good-package",
            "version": "2.5",
            "entry_point": f"good_module:{ATTRIBUTES[kind]}",
            "code_sha256": code_sha256(packages.folder / "good_module.py"),
        }
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_imported_before_a_name_is_used(kind: str, packages: Packages) -> None:
    install_good(packages)
    assert PLUGINS[kind].describe() == [("good", f"plugin: good-package 2.5 (good_module:{ATTRIBUTES[kind]})")]
    with pytest.raises(UnknownNameError):
        USE[kind]("godo")
    assert "good_module" not in sys.modules
    USE[kind]("good")
    assert "good_module" in sys.modules


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_lists_built_ins_and_plugins_and_suggests(kind: str, packages: Packages) -> None:
    install_good(packages)
    with pytest.raises(
        UnknownNameError, match=rf"unknown {kind} 'goood'\. Did you mean 'good'\? Known: .*good"
    ) as caught:
        USE[kind]("goood")
    assert all(name in str(caught.value) for name in BUILT_IN[kind])


BROKEN: dict[str, tuple[str, str]] = {
    "absent_dependency": ("import no_such_module_at_all", "could not be imported: ModuleNotFoundError"),
    "syntax": ("def (", "could not be imported: SyntaxError"),
    "raises_at_import": ("raise RuntimeError('not today')", "could not be imported: RuntimeError: not today"),
    "exits_at_import": ("raise SystemExit(3)", "could not be imported: SystemExit: 3"),
    "lacks_it": ("other = 1", "could not be imported: AttributeError"),
    "is_a_number": ("it = 3", "is of type int, which cannot be called"),
    "raises": ("def it(*a, **o): raise OSError('no disk')", "failed with OSError: no disk"),
    "exits": ("def it(*a, **o): raise SystemExit(3)", "failed with SystemExit: 3"),
    "makes_nothing": ("def it(*a, **o): return None", "made something of type NoneType"),
    "makes_a_list": ("def it(*a, **o): return [1]", "made something of type list"),
    "other_parameters": ("def it(a, b, c, d, *, e): return a", "a, b, c, d|required positional|unexpected keyword"),
}
UPSAMPLER_SOURCES = {name: source.replace("*a, **o", "") for name, (source, _) in BROKEN.items()}
"""An upsampler's function is a maker only if it takes no arguments."""


@pytest.mark.filterwarnings("ignore:.*SyntaxWarning")
@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_plugin_is_named_and_breaks_nothing_else(kind: str, fault: str, packages: Packages) -> None:
    source, said = BROKEN[fault]
    source = UPSAMPLER_SOURCES[fault] if kind == "upsampler" else source
    packages.install("broken-package", {(kind, "broken"): f"broken_{fault}:it"}, {f"broken_{fault}": source}, "0.3")
    install_good(packages)
    with pytest.raises(PluginError, match=said) as caught:
        USE[kind]("broken")
    for part in ("'broken'", "broken-package 0.3", f"broken_{fault}:it", GROUPS[kind], "pip uninstall broken-package"):
        assert part in str(caught.value)
    assert caught.value.__cause__ is not None or fault.startswith(("is_a", "makes"))
    USE[kind]("good")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value", ["no_such_module_at_all:it", "good_module", "good_module:no.such", "!", "a b:c", ":it"]
)
def test_entry_points_that_lead_nowhere(kind: str, value: str, packages: Packages) -> None:
    packages.install("broken-package", {(kind, "broken"): value})
    install_good(packages)
    with pytest.raises(PluginError, match="broken-package 1.0"):
        USE[kind]("broken")
    USE[kind]("good")


def test_errors_of_this_library_pass_through(packages: Packages) -> None:
    """A data set whose folder is missing is not broken."""
    source = "from vfm_isbench.errors import DataError\ndef it(role, data_root, protocol): raise DataError('no Discs/')"
    packages.install("discs", {("data set", "discs"): "discs_module:it"}, {"discs_module": source})
    with pytest.raises(DataError, match=r"^no Discs/$"):
        open_dataset("discs", "test", None, SMALL)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in BUILT_IN[kind]])
def test_a_built_in_name_cannot_be_replaced(kind: str, name: str, packages: Packages) -> None:
    packages.install("greedy", {(kind, name): "greedy_module:it"}, {"greedy_module": "raise RuntimeError('imported')"})
    with pytest.raises(PluginError, match=rf"{kind} '{name}' is built in: .*greedy 1.0.*pip uninstall greedy"):
        PLUGINS[kind].find(name)
    with pytest.warns(VfmIsbenchWarning, match="greedy 1.0 .* is refused"):
        PLUGINS[kind].warn_if_refused(name)
    ((listed, description),) = PLUGINS[kind].describe()
    assert listed == name and description.startswith("refused: ")
    with pytest.raises(UnknownNameError) as caught:
        PLUGINS[kind].find("no_such_name")
    assert str(caught.value).count(f" {name},") + str(caught.value).count(f" {name}.") == 1, "listed once"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("upsampler", "bilinear"),
        ("backbone", "efficientnet_lite0"),
        ("data set", "scenes"),
        ("click encoder", "simple_vit"),
    ],
)
def test_the_built_in_part_wins_and_says_so(kind: str, name: str, packages: Packages) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = type(use_at_64(kind, name))
    packages.install("greedy", {(kind, name): "greedy_module:it"}, {"greedy_module": "raise RuntimeError('imported')"})
    with pytest.warns(VfmIsbenchWarning, match=f"{kind} '{name}' is built in"):
        made = use_at_64(kind, name)
    assert type(made) is expected
    assert plugin_origins(made) == []


def use_at_64(kind: str, name: str) -> Any:
    """Like USE, for images that the built-in backbone accepts."""
    return load_backbone(name, 64) if kind == "backbone" else USE[kind](name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_offered_by_two_packages_is_refused(kind: str, packages: Packages) -> None:
    install_good(packages)
    packages.install("second", {(kind, "good"): "second_module:it"}, {"second_module": "it = None"}, version="7")
    with pytest.raises(
        PluginError, match=r"good-package 2\.5 \(good_module:.*\) and second 7 \(second_module:it\)"
    ) as caught:
        USE[kind]("good")
    assert "pip uninstall good-package or second" in str(caught.value)
    assert not {"good_module", "second_module"} & set(sys.modules)
    with pytest.raises(UnknownNameError) as unknown:
        USE[kind]("goood")
    assert "'good'" not in str(unknown.value), "a name that cannot be used is not suggested"
    assert PLUGINS[kind].describe()[0][1].startswith("refused: ")


def test_the_same_package_twice_on_the_path_counts_once(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example an editable install beside an old copy: Python uses the first."""
    install_good(packages)
    old = packages.folder / "old"
    old.mkdir()
    Packages(old).install("good-package", {("upsampler", "good"): "old_module:it"}, version="0.1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(old)])
    assert UPSAMPLER_PLUGINS.find("good").version == "2.5"


BAD_NAMES = ["a b", "mine.py", "a:b", "../up", "a/b", "a|b", ".hidden", "ends.", "timm:mine", "mine@8", "<b>", "größe"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_names_with_a_meaning_elsewhere_are_refused(kind: str, name: str, packages: Packages) -> None:
    packages.install("odd", {(kind, name): "odd_module:it"})
    with pytest.raises(PluginError, match="has an unusable name; expected letters, digits") as caught:
        PLUGINS[kind].find(name)
    assert "odd 1.0" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "is_plain"),
    [*((name, False) for name in BAD_NAMES), ("", False), (3, False), (None, False), ("a\n", False), ("-a", False),
     ("a", True), ("sam2.1", True), ("dinov2_vits14-x", True), ("a.python", True), ("7", True)],
)  # fmt: skip
def test_plain_names(name: object, is_plain: bool) -> None:
    assert is_plain_name(name) is is_plain


@pytest.mark.parametrize("text", ["[vfm_isbench.upsamplers]\nno equals sign\n", "no section = at all\n", "\x00"])
def test_broken_metadata_leaves_the_built_ins_alone(text: str, packages: Packages) -> None:
    packages.write("broken-metadata", text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_upsampler("bilinear").call == Bilinear()
    assert all("look at entry_points.txt" in str(warning.message) for warning in caught)


def test_unreadable_metadata_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_group: str) -> None:
        raise ValueError("not enough values to unpack")

    monkeypatch.setattr("vfm_isbench.registry.plugins.entry_points", fail)
    with pytest.warns(VfmIsbenchWarning, match="plugins are unavailable: .*ValueError: not enough values"):
        assert load_upsampler("bilinear").call == Bilinear()
    with (
        pytest.warns(VfmIsbenchWarning, match="plugins are unavailable"),
        pytest.raises(UnknownNameError, match="Did you mean 'bilinear'"),
    ):
        load_upsampler("bilinaer")


WRONG: Mapping[str, tuple[str, str, str]] = {
    "backbone": (
        "backbone",
        "from vfm_isbench.testing.fakes import FakeBackbone\n"
        "def it(image_size, *, weights, pretrained): return FakeBackbone()",
        "calls itself 'fake'",
    ),
    "data set": (
        "data set",
        "from vfm_isbench.testing.fakes import FakeDataset\ndef it(role, data_root, protocol): return FakeDataset()",
        "calls itself 'fake'",
    ),
    "tokens of another size": (
        "click encoder",
        "from torch import nn\ndef it(channels, patch_size, protocol): return nn.Conv2d(3, channels, 7, stride=7)",
        r"returned \(1, 8, 4, 4\) for 1×3×28×28 zeros instead of \(1, 8, 2, 2\)",
    ),
    "tokens in a tuple": (
        "click encoder",
        "from torch import nn\nclass it(nn.Module):\n"
        "  def __init__(self, *a): super().__init__()\n  def forward(self, clicks): return (clicks,)",
        "returned a tuple for 1×3×28×28 zeros",
    ),
    "fails when used": (
        "click encoder",
        "from torch import nn\ndef it(channels, patch_size, protocol): return nn.Conv2d(4, channels, 7)",
        "failed on 1×3×28×28 zeros with RuntimeError",
    ),
    "features with another number of channels": (
        "backbone",
        "from vfm_isbench.testing.fakes import FakeBackbone\ndef it(image_size, *, weights, pretrained):\n"
        "  made = FakeBackbone()\n  made.name, made.channels = 'wrong', 9\n  return made",
        r"returned \(1, 8, 2, 2\) for 1×3×28×28 zeros instead of \(1, 9, 2, 2\)",
    ),
    "a backbone with only a width": (
        "backbone",
        "from vfm_isbench.testing.fakes import FakeBackbone\ndef it(image_size, *, weights, pretrained):\n"
        "  made = FakeBackbone()\n  made.name, made.width = 'wrong', 8\n  del made.channels\n  return made",
        "without `channels`: .* is called `channels` since vfm_isbench 0.4",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_plugin_that_does_not_fit_is_reported_immediately(case: str, packages: Packages) -> None:
    kind, source, said = WRONG[case]
    packages.install("wrong", {(kind, "wrong"): "wrong_module:it"}, {"wrong_module": source})
    with pytest.raises(PluginError, match=f"wrong 1.0.*{said}"):
        USE[kind]("wrong")


def test_the_trial_of_a_click_encoder_leaves_no_trace(packages: Packages) -> None:
    """Neither in the weights of the head, which are drawn after it, nor in its own statistics and mode."""
    source = """
import torch
from torch import nn
from vfm_isbench.click_encoders import PatchEmbedding

class Noisy(PatchEmbedding):
    noise = 0.0
    def __init__(self, channels, patch_size, protocol):
        super().__init__(channels, patch_size)
        self.norm = nn.BatchNorm2d(channels)
    def forward(self, click_map):
        return self.norm(super().forward(click_map + torch.rand(())))
"""
    packages.install("noisy", {("click encoder", "noisy"): "noisy_module:Noisy"}, {"noisy_module": source})
    noisy = build_probe(SMALL.replace(click_encoder="noisy"), FakeBackbone(), Bilinear())
    quiet = build_probe(SMALL.replace(click_encoder="patch_embedding"), FakeBackbone(), Bilinear())
    assert noisy.click_encoder.training
    assert int(noisy.click_encoder.norm.num_batches_tracked) == 0  # type: ignore[union-attr, arg-type]
    for key, value in quiet.head.state_dict().items():
        assert torch.equal(value, noisy.head.state_dict()[key])


def test_code_counts_wherever_it_stands_in_the_package(packages: Packages) -> None:
    package = packages.folder / "several"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep" / "made.py").write_text("from several.helper import factor\nit = lambda: lambda f, x: f * factor")
    (package / "helper.py").write_text("factor = 1")
    packages.install("several", {("upsampler", "several"): "several.deep.made:it"})
    first = plugin_origins(load_upsampler("several"))[0]["code_sha256"]
    assert first == code_sha256(package)
    (package / "helper.py").write_text("factor = 2")
    assert plugin_origins(load_upsampler("several"))[0]["code_sha256"] != first
