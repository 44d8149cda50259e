"""Every known call style, weight layout and capability: the check, one training step, two objects of evaluation."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import known_signatures as known
import pytest
import torch
from hub_repositories import write_repository
from safetensors.torch import save_file
from small import SMALL, evaluated
from torch import nn

from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import ContractError, UnknownNameError, VfmIsbenchWarning
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.preparation import check_and_identify, follow_protocol
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.types import ObjectEvidence
from vfm_isbench.upsamplers import (
    KNOWN,
    FeatUpJBU,
    LiFT,
    LoadOptions,
    LoftUp,
    UpsamplerIdentity,
    load_upsampler,
)

STEP = SMALL.replace(epochs=1, milestones=(), samples_per_epoch=2, batch_size=2, validation_samples=1, max_clicks=2)
CPU = torch.device("cpu")
CONSENT = LoadOptions(trust_remote_code=True)
SUPPORT = Path(known.__file__)
WIDTH = 8


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a short run shows."""

    identity: UpsamplerIdentity
    size: tuple[int, int]
    evidence: list[ObjectEvidence]
    notes: tuple[str, ...]
    uses_features: bool


def run(
    upsampler: Any, options: LoadOptions | None = None, protocol: Protocol = STEP, speed: Speed | None = None
) -> Ran:
    """Check, train for one step and evaluate two objects, as a benchmark does, around a random backbone."""
    backbone = FakeBackbone(WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VfmIsbenchWarning)  # the notes have the same texts
        loaded, protocol, remarks = follow_protocol(load_upsampler(upsampler, options), protocol)
        checked = check_and_identify(loaded, protocol, backbone, CPU)
        probe = build_probe(protocol, backbone, checked.upsampler)
        options_of_run = RunOptions(progress=False, speed=speed or Speed())
        (record,) = train(probe, TrainingSamples(FakeDataset(), protocol), None, options=options_of_run)
        evidence, _ = evaluated(probe, FakeDataset(images=1), protocol, speed=speed)
    assert record.loss == record.loss and len(evidence) == 2
    assert all(0 <= iou <= 1 for one in evidence for iou in one.ious)
    assert checked.contract.deterministic and checked.contract.batch_independent
    assert checked.identity.sha256 is not None
    json.dumps(checked.identity.source)
    notes = (*remarks, *checked.notes, *checked.contract.warnings)
    return Ran(checked.identity, checked.contract.output_size, evidence, notes, checked.contract.uses_features)


IMAGE, TWICE, SIXTEEN, EIGHT = (28, 28), (4, 4), (32, 32), (8, 8)

STYLES: dict[str, tuple[str, tuple[int, int]]] = {
    "AnyUp": ("LikeAnyUp?call.q_chunk_size=100", IMAGE),
    "JAFAR": ("LikeJafar?v_dim=8", IMAGE),
    "NAF": ("LikeNaf", IMAGE),
    "UPLiFT": ("LikeUplift?then=enable_iterative(2)", IMAGE),
    "FeatUp": ("LikeFeatUp", SIXTEEN),
    "LoftUp": ("LikeLoftUp", IMAGE),
    "LiFT": ("LikeLift", TWICE),
    "high and low": ("HighAndLow", IMAGE),
    "features first": ("FeaturesFirst", IMAGE),
    "keywords only": ("KeywordsOnly?call.gain=2", IMAGE),
    "two steps": ("TwoSteps", IMAGE),
    "strips": ("Strips", IMAGE),
    "Upsample Anything": ("LikeUpsampleAnything", IMAGE),
    "FeatUp implicit": ("LikeFeatUpImplicit", IMAGE),
    "FeatSharp": ("LikeFeatSharp", EIGHT),
    "ViT-Up": ("LikeVitUp", IMAGE),
}


@pytest.mark.parametrize("name", STYLES)
def test_every_known_signature_runs(name: str) -> None:
    attribute, size = STYLES[name]
    ran = run(f"{SUPPORT}:{attribute}")
    assert ran.size == size
    ignores = any("ignores those of the protocol's backbone" in note for note in ran.notes)
    assert ignores == (name == "ViT-Up") == (not ran.uses_features)
    source = ran.identity.source or {}
    assert source.get("uses_backbone", False) == (name in ("FeatSharp", "FeatUp implicit"))


THROUGH = ("AnyUp", "FeatUp", "LiFT", "keywords only", "two steps", "strips")


@pytest.mark.parametrize("name", THROUGH)
def test_clicks_are_trained_through_those_that_pass_gradients(name: str) -> None:
    early = STEP.replace(injection="early", click_encoder="patch_embedding")
    run(f"{SUPPORT}:{STYLES[name][0]}", protocol=early)


@pytest.mark.parametrize("name", ["ViT-Up", "FeatSharp", "Upsample Anything", "FeatUp implicit"])
def test_clicks_cannot_be_trained_through_the_others(name: str) -> None:
    with pytest.raises(ContractError, match="use injection 'late'"):
        run(f"{SUPPORT}:{STYLES[name][0]}", protocol=STEP.replace(injection="pre_upsampler"))


@pytest.mark.parametrize("name", ["FeatUp implicit", "FeatSharp", "ViT-Up", "strips"])
def test_the_cached_probe_gives_what_the_whole_network_gives(name: str) -> None:
    spec = f"{SUPPORT}:{STYLES[name][0]}"
    fast, whole = run(spec), run(spec, speed=Speed(shortcut=False))
    assert [one.clicks for one in fast.evidence] == [one.clicks for one in whole.evidence]
    for one, other in zip(fast.evidence, whole.evidence, strict=True):
        assert one.ious == pytest.approx(other.ious, abs=1e-3)


# --- weight layouts of files, and the ways to find code


def random_state(module: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: 0.1 * torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }


def featup_with_norm(folder: Path) -> str:
    state = random_state(FeatUpJBU(WIDTH, channel_norm=True))
    torch.save({"state_dict": {_featup_key(key): value for key, value in state.items()}}, folder / "a.ckpt")
    return f"featup:{folder / 'a.ckpt'}"


def _featup_key(key: str) -> str:
    return f"model.1.norm.{key.rpartition('.')[2]}" if "norm" in key and "proj" not in key else f"upsampler.{key}"


def featup_without_norm(folder: Path) -> str:
    state = random_state(FeatUpJBU(WIDTH))
    torch.save({"state_dict": {f"upsampler.{key}": value for key, value in state.items()}}, folder / "a.ckpt")
    return f"featup:{folder / 'a.ckpt'}"


def loftup_of_the_hub(folder: Path) -> str:
    state = random_state(LoftUp(WIDTH))
    named = {key if key.startswith("channelnorm.") else f"upsampler.{key}": value for key, value in state.items()}
    torch.save(named, folder / "pytorch_model.bin")
    return f"loftup:{folder / 'pytorch_model.bin'}?max_memory=1"


def lift_behind_module(folder: Path) -> str:
    torch.save({f"module.{key}": value for key, value in random_state(LiFT(WIDTH)).items()}, folder / "lift.pth")
    return f"lift:{folder / 'lift.pth'}"


def hub_entry(folder: Path) -> str:
    repository = write_repository(folder / "repository", hubconf=f"{SUPPORT.read_text()}\n{ENTRIES}")
    return f"hub:{repository}:uplift?include_extractor=false&then=enable_iterative(4)"


ENTRIES = """
def uplift(pretrained=True, include_extractor=True):
    return LikeUplift()
"""


def hub_entry_in_a_pair(folder: Path) -> str:
    repository = write_repository(folder / "repository", hubconf=f"{SUPPORT.read_text()}\n{PAIR}")
    return f"hub:{repository}:jafar?attribute=0&call.q_chunk_size=56"


PAIR = """
def jafar():
    return LikeAnyUp(), nn.Identity()
"""


def mixin_class(folder: Path) -> str:
    file = folder / "with_mixin.py"
    file.write_text(
        "from huggingface_hub import PyTorchModelHubMixin\nfrom known_signatures import LikeNaf\n\n\n"
        "class Naf(LikeNaf, PyTorchModelHubMixin):\n    pass\n"
    )
    pushed = folder / "pushed"
    pushed.mkdir()
    save_file(known.LikeNaf().state_dict(), pushed / "model.safetensors")
    return f"hf:{pushed}:{file}:Naf"


LAYOUTS: dict[str, tuple[Callable[[Path], str], str]] = {
    "FeatUp with its norm": (featup_with_norm, "featup:a.ckpt"),
    "FeatUp without": (featup_without_norm, "featup:a.ckpt"),
    "LoftUp of the hub": (loftup_of_the_hub, "loftup:pytorch_model.bin"),
    "LiFT behind module.": (lift_behind_module, "lift:lift.pth"),
    "torch.hub, with a method": (
        hub_entry,
        "hub:repository:uplift?include_extractor=false&then=enable_iterative(4)",
    ),
    "torch.hub, in a pair": (hub_entry_in_a_pair, "hub:repository:jafar?attribute=0&call.q_chunk_size=56"),
    "hub mixin": (mixin_class, "hf:pushed:"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_weight_layout_and_way_to_find_code_runs(layout: str, tmp_path: Path) -> None:
    write, name = LAYOUTS[layout]
    ran = run(write(tmp_path), CONSENT)
    assert ran.identity.name.startswith(name)
    assert str(tmp_path) not in json.dumps(ran.identity.source)


@pytest.fixture
def jafar(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A folder with JAFAR's layout and no hubconf.py, and its weights."""
    lines = SUPPORT.read_text().replace("class LikeJafar", "class JAFAR")
    folder = write_repository(tmp_path / "JAFAR-main", src__upsampler__jafar=lines)
    torch.save({"jafar": known.LikeJafar().state_dict(), "epoch": 3}, tmp_path / "jafar.pth")
    yield f"code:{folder}:src.upsampler.jafar:JAFAR?v_dim=8&weights_key=jafar", tmp_path / "jafar.pth"


def test_jafar_runs_from_a_folder_without_hubconf(jafar: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spec, weights = jafar
    (weights.parent / "JAFAR-main" / "src" / "rope.py").write_text("from einops import rearrange\n")
    installed: list[str] = []
    monkeypatch.setattr("vfm_isbench.upsamplers.known.is_installed", lambda name: name in installed)
    options = LoadOptions(weights=weights, trust_remote_code=True)
    with pytest.raises(ContractError, match=r"JAFAR needs einops, which is not installed here; run pip install einops"):
        run(spec, options)
    installed.append("einops")
    ran = run(spec, options)
    source = ran.identity.source
    assert source is not None and len(source["weights_sha256"]) == 64
    assert ran.identity.name == "code:JAFAR-main:src.upsampler.jafar:JAFAR?v_dim=8&weights_key=jafar"
    with pytest.raises(ContractError, match="would run code of other people"):
        run(spec, LoadOptions(weights=weights))
    for module in ("src.up.jafar", "..jafar", "src/upsampler"):
        with pytest.raises(UnknownNameError, match=r"there is no module .*as in src\.upsampler\.jafar"):
            run(spec.replace("src.upsampler.jafar", module), options)


def test_every_known_upsampler_has_a_test_here() -> None:
    tested = {*STYLES, "LoftUp", "FeatUp-JBU", "LiFT"} - {"two steps", "strips"}
    ours = {entry.title for entry in KNOWN if entry.verified.startswith("built in")}
    assert {entry.title for entry in KNOWN} - ours <= tested
