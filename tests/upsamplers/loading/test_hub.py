from __future__ import annotations

import json
import logging
import sys
import threading
import time
import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_repositories import write_repository, zip_repository
from safetensors.torch import save_file
from torch import nn

from vfm_isbench.errors import ContractError, UnknownNameError, VfmIsbenchWarning, WeightsError
from vfm_isbench.upsamplers import (
    Capabilities,
    LoadOptions,
    check_upsampler,
    find_module,
    identity_of,
)
from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.loading import hub
from vfm_isbench.upsamplers.loading.hub import load_from_hub

FEATURES, IMAGE = torch.rand(2, 4, 4, 6), torch.rand(2, 3, 20, 30)
CONSENT = LoadOptions(trust_remote_code=True)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_repository(tmp_path / "anyup")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub, and a GitHub that has nothing yet."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr("vfm_isbench.upsamplers.loading.hub.GITHUB", (tmp_path / "github").as_uri())
    return tmp_path / "hub"


def module_of(upsampler: Upsampler) -> nn.Module:
    module = find_module(upsampler)
    assert module is not None
    return module


def test_nothing_is_run_or_fetched_without_consent(folder: Path, cache: Path) -> None:
    with pytest.raises(ContractError, match=rf"anyup\(\) of {folder}/hubconf.py.*--trust-remote-code"):
        load_from_hub(f"{folder}:anyup", LoadOptions())
    assert not (folder / "was_run").exists()
    with pytest.raises(ContractError, match=rf"anyup\(\) of hubconf.py from .*/wimmerth/anyup, {COMMIT}"):
        load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", LoadOptions())
    assert not cache.exists()
    load_from_hub(f"{folder}:anyup", CONSENT)
    assert (folder / "was_run").exists()


@pytest.mark.parametrize(
    ("entry", "style", "size"),
    [
        ("anyup", "image_features_size", (20, 30)),
        ("jafar?attribute=0", "image_features_size", (20, 30)),
        ("naf", "image_features_size", (20, 30)),
        ("uplift", "image_features_size", (20, 30)),
        ("uplift?style=image_features", "image_features", (8, 12)),
        ("featup?attribute=upsampler", "source_guidance", (20, 30)),
        ("lift", "image_features", (8, 12)),
        ("unnamed?style=image_features_size", "image_features_size", (20, 30)),
        ("features_first", "features_image_size", (20, 30)),
        ("two_steps", "features_image", (20, 30)),
    ],
)
def test_every_calling_style_keeps_the_contract(folder: Path, entry: str, style: str, size: tuple[int, int]) -> None:
    upsampler = load_from_hub(f"{folder}:{entry}", CONSENT)
    assert (
        check_upsampler(upsampler, channels=4, grid=(4, 6), image_size=(20, 30), needs_gradient=True).output_size
        == size
    )
    source = identity_of(upsampler).source
    assert source is not None and source["style"] == style
    module = module_of(upsampler)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    resized = torch.nn.functional.interpolate(FEATURES, size, mode="bilinear")
    if style != "features_image":
        assert torch.equal(upsampler(FEATURES, IMAGE), module.get_submodule("mix")(resized))


def test_two_steps_and_declarations_are_passed_on(folder: Path) -> None:
    upsampler = load_from_hub(f"{folder}:two_steps", CONSENT)
    assert upsampler.capabilities.upsample is not None
    guidance = upsampler.encode_guidance(IMAGE)
    assert torch.equal(upsampler.upsample(FEATURES, guidance), upsampler(FEATURES, IMAGE))
    assert upsampler.capabilities.upsample_strips is None
    assert load_from_hub(f"{folder}:anyup", CONSENT).capabilities == Capabilities()


def test_strips_are_passed_on(folder: Path) -> None:
    upsampler = load_from_hub(f"{folder}:strips", CONSENT)
    upsample_strips = upsampler.capabilities.upsample_strips
    assert upsample_strips is not None
    tops, strips = zip(*upsample_strips(FEATURES, upsampler.encode_guidance(IMAGE)), strict=True)
    assert tops == tuple(range(0, IMAGE.shape[-2], 4))
    assert torch.equal(torch.cat(strips, dim=1).permute(0, 3, 1, 2), upsampler(FEATURES, IMAGE))


def test_the_source_is_recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("vfm_isbench.upsamplers.loading.foreign_code.version", not_there)
    identity = identity_of(load_from_hub(f"{folder}:anyup?seed=3", CONSENT))
    assert (identity.name, identity.kind) == ("hub:anyup:anyup?seed=3", "module")
    source = dict(identity.source or {})
    assert len(source.pop("code_sha256")) == 64
    assert source == {
        "kind": "torch.hub",
        "repository": "anyup",
        "ref": None,
        "commit": None,
        "entry": "anyup",
        "attribute": None,
        "arguments": {"seed": 3},
        "style": "image_features_size",
        "attention": {"natten": "not installed", "modules": ["hubconf.py.CrossAttentionBlock"]},
        "warnings": [],
    }
    assert json.loads(json.dumps(identity.source)) == identity.source
    assert str(folder.parent) not in json.dumps(identity.source)
    monkeypatch.setattr("vfm_isbench.upsamplers.loading.foreign_code.version", lambda name: "0.21.1")
    again = identity_of(load_from_hub(f"{folder}:naf", CONSENT)).source
    assert again is not None and again["attention"] == {"natten": "0.21.1, which fails to import", "modules": []}


def test_the_identity_is_that_of_code_and_weights(folder: Path) -> None:
    def sha(spec: str) -> str:
        fingerprint = identity_of(load_from_hub(f"{folder}:{spec}", CONSENT)).sha256
        assert fingerprint is not None
        return fingerprint

    before = sha("anyup")
    assert sha("anyup") == before
    assert len({before, sha("anyup?seed=1"), sha("naf")}) == 3
    changed = load_from_hub(f"{folder}:anyup", CONSENT)
    with torch.no_grad():
        module_of(changed).get_submodule("mix").get_parameter("bias").add_(1)
    assert identity_of(changed).sha256 != before
    write_repository(folder, helpers__extra="x = 1\n")
    assert sha("anyup") != before


def test_values_are_json_or_text(folder: Path) -> None:
    def made(query: str) -> object:
        return load_from_hub(f"{folder}:text?{query}", CONSENT)(FEATURES, IMAGE)

    assert made("a=true&b=1.5") == (True, 1.5)
    assert made("a=cpu&b=[1,2]") == ("cpu", [1, 2])
    assert made("a=cuda:0&b=") == ("cuda:0", "")
    assert load_from_hub(f"{folder}:anyup?width=7", CONSENT)(torch.rand(1, 7, 2, 2), IMAGE[:1]).shape[1] == 7


def test_weights_of_ones_own_are_loaded_exactly(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    other = load_from_hub(f"{folder}:anyup?seed=1", CONSENT)
    save_file(module_of(other).state_dict(), file)
    loaded = load_from_hub(f"{folder}:anyup", LoadOptions(file, trust_remote_code=True))
    assert torch.equal(loaded(FEATURES, IMAGE), other(FEATURES, IMAGE))
    assert len((identity_of(loaded).source or {})["weights_sha256"]) == 64
    save_file({"other.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="missing: mix.weight, mix.bias; unexpected: other.weight"):
        load_from_hub(f"{folder}:anyup", LoadOptions(file, trust_remote_code=True))
    with pytest.raises(ContractError, match="no module but a function"):
        load_from_hub(f"{folder}:text?a=1", LoadOptions(file, trust_remote_code=True))


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("anyupp", UnknownNameError, "unknown entry of .*hubconf.py 'anyupp'. Did you mean 'anyup'"),
        ("anyup?style=image_feature", UnknownNameError, "Did you mean 'image_features'"),
        ("featup?attribute=upsamplr", UnknownNameError, "Did you mean 'upsampler'. Known: model, upsampler"),
        ("jafar?attribute=2", UnknownNameError, "Known: 0, 1"),
        ("anyup?source=github", UnknownNameError, "'source' cannot be given"),
        ("", UnknownNameError, "expected hub:OWNER/REPO@COMMIT:ENTRY"),
        ("anyup?width=text", ContractError, "failed with TypeError"),
        ("anyup?unheard=1", ContractError, "failed with TypeError.*unheard"),
        ("breaks", ContractError, "failed with OSError: no weights here"),
        ("ends", ContractError, "failed with SystemExit: 3"),
        ("jafar", ContractError, r"type tuple \(LikeJafar, Identity\).*attribute=0"),
        ("settings", ContractError, "type dict, which cannot be called"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, entry: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_from_hub(f"{folder}:{entry}", CONSENT)


@pytest.mark.parametrize(
    ("hubconf", "message"),
    [
        ("import absent_dependency", "ModuleNotFoundError: No module named 'absent_dependency'; install what is"),
        (
            'dependencies = ["natten_that_is_absent"]\ndef up(): ...',
            "Missing dependencies: natten_that.*; install what",
        ),
        ("raise ValueError('not today')", "ValueError: not today"),
        ("def up(:", "SyntaxError"),
    ],
)
def test_a_hubconf_that_does_not_import_says_why(tmp_path: Path, hubconf: str, message: str) -> None:
    folder = write_repository(tmp_path / "broken", hubconf=hubconf)
    path = list(sys.path)
    with pytest.raises(ContractError, match=message):
        load_from_hub(f"{folder}:up", CONSENT)
    assert sys.path == path


def test_folders_without_hubconf_and_places_that_are_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no hubconf.py in"):
        load_from_hub(f"{tmp_path}:up", CONSENT)
    for place in ("./absent/folder", "/absent/folder/here", "owner"):
        with pytest.raises(UnknownNameError, match="nor a folder here"):
            load_from_hub(f"{place}:up", CONSENT)


def test_warnings_of_foreign_code_are_passed_on_and_kept_and_prints_moved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(VfmIsbenchWarning, match="going on with random ones"):
        upsampler = load_from_hub(f"{folder}:falls_back", CONSENT)
    assert (identity_of(upsampler).source or {})["warnings"] == ["no weights found, going on with random ones"]
    printed = capsys.readouterr()
    assert not printed.out and "loading" in printed.err


def test_repositories_with_packages_of_one_name_get_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = types.ModuleType("src")
    monkeypatch.setitem(sys.modules, "src", mine)
    folders = [
        write_repository(
            tmp_path / name,
            hubconf="from src.model import up as made\ndef up():\n    return made\n",
            src__model=f"FACTOR = {factor}\ndef up(image, features):\n    return {factor} * features\n",
        )
        for name, factor in (("one", 2), ("other", 3))
    ]
    with caplog.at_level(logging.INFO):
        one, other = (load_from_hub(f"{folder}:up", CONSENT) for folder in folders)
    assert torch.equal(one(FEATURES, IMAGE), 2 * FEATURES)
    assert torch.equal(other(FEATURES, IMAGE), 3 * FEATURES)
    assert sys.modules["src"] is mine and "src.model" not in sys.modules
    assert identity_of(one).sha256 != identity_of(other).sha256


LAZY = """
class Up:
    def encode_guidance(self, image):
        from src.first import FACTOR
        return FACTOR

    def upsample(self, features, guidance):
        from src.second import FACTOR
        return guidance * FACTOR * features

    def upsample_strips(self, features, guidance):
        for row in range(features.shape[2]):
            from src.second import FACTOR
            yield row, guidance * FACTOR * features[:, :, row : row + 1].permute(0, 2, 3, 1)

    def __call__(self, features, image):
        return self.upsample(features, self.encode_guidance(image))
"""


def write_lazy(folder: Path, factor: int) -> Path:
    modules = {"first": f"FACTOR = {factor}\n", "second": f"FACTOR = {factor}\n", "model": LAZY}
    files = {f"src__{name}": text for name, text in modules.items()}
    return write_repository(folder, hubconf="def up():\n    from src.model import Up\n    return Up()\n", **files)


def test_what_a_repository_imports_only_while_it_computes_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsamplers = {n: load_from_hub(f"{write_lazy(tmp_path / str(n), n)}:up", CONSENT) for n in (2, 3)}
    monkeypatch.setitem(sys.modules, "src", mine := types.ModuleType("src"))
    path = list(sys.path)
    for _ in range(2):
        for factor, upsampler in upsamplers.items():
            assert torch.equal(upsampler(FEATURES, IMAGE), factor**2 * FEATURES)
            guidance = upsampler.encode_guidance(IMAGE)
            assert torch.equal(upsampler.upsample(FEATURES, guidance), factor**2 * FEATURES)
            assert upsampler.capabilities.upsample_strips is not None
            for row, strip in upsampler.capabilities.upsample_strips(FEATURES, guidance):
                assert sys.modules["src"] is mine, "between two strips, others run"
                assert torch.equal(strip[:, 0].mT, factor**2 * FEATURES[:, :, row])
    assert sys.modules["src"] is mine and "src.first" not in sys.modules
    assert sys.path == path


def test_what_is_imported_and_where_from_is_no_part_of_the_identity(tmp_path: Path) -> None:
    upsampler = load_from_hub(f"{write_lazy(tmp_path / 'a/lazy', 2)}:up", CONSENT)
    before = identity_of(upsampler)
    upsampler(FEATURES, IMAGE)
    assert identity_of(upsampler) == before
    assert identity_of(load_from_hub(f"{write_lazy(tmp_path / 'b/lazy', 2)}:up", CONSENT)) == before


def test_a_pinned_repository_is_taken_from_the_cache(cache: Path) -> None:
    write_repository(cache / f"wimmerth_anyup_{COMMIT}")
    upsampler = load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup?seed=1", CONSENT)
    assert check_upsampler(upsampler, channels=4, grid=(4, 4), image_size=(16, 16)).output_size == (16, 16)
    identity = identity_of(upsampler)
    assert identity.name == "hub:wimmerth/anyup:anyup?seed=1"
    assert identity.source is not None
    assert (identity.source["repository"], identity.source["commit"]) == ("wimmerth/anyup", COMMIT)


def test_an_unpinned_repository_warns_and_says_how_to_pin(cache: Path) -> None:
    write_repository(cache / "wimmerth_anyup_main")
    with pytest.warns(VfmIsbenchWarning, match=r"not pinned.*hub:wimmerth/anyup@COMMIT:anyup\?seed=1"):
        upsampler = load_from_hub("wimmerth/anyup:anyup?seed=1", CONSENT)
    source = identity_of(upsampler).source or {}
    assert source["commit"] is None and len(source["code_sha256"]) == 64


@pytest.mark.parametrize(("place", "ref"), [("wimmerth/anyup", "HEAD"), ("wimmerth/anyup@some/branch", "some/branch")])
def test_what_is_not_cached_is_fetched_once_and_its_commit_kept(
    tmp_path: Path, folder: Path, cache: Path, place: str, ref: str
) -> None:
    archive = tmp_path / f"github/wimmerth/anyup/archive/{ref}.zip"
    zip_repository(folder, archive, COMMIT)
    for _ in range(2):
        with pytest.warns(VfmIsbenchWarning, match=f"pin it: hub:wimmerth/anyup@{COMMIT}:anyup"):
            upsampler = load_from_hub(f"{place}:anyup", CONSENT)
        assert (identity_of(upsampler).source or {})["commit"] == COMMIT
        archive.unlink(missing_ok=True)
    assert [path.name for path in cache.iterdir()] == [f"wimmerth_anyup_{ref.replace('/', '_')}"]


def test_a_pinned_commit_has_to_be_that_of_the_archive(tmp_path: Path, folder: Path, cache: Path) -> None:
    archive, other = tmp_path / f"github/wimmerth/anyup/archive/{COMMIT}.zip", "f" * 40
    zip_repository(folder, archive, other)
    with pytest.raises(ContractError, match=f"is not commit {COMMIT}, but says that it is {other}"):
        load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", CONSENT)
    assert not list(cache.iterdir())
    zip_repository(folder, archive, COMMIT)
    for _ in range(2):
        assert (identity_of(load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", CONSENT)).source or {})["commit"] == COMMIT
    (cache / f"wimmerth_anyup_{COMMIT}" / "vfm_isbench_commit.txt").write_text(other)
    with pytest.raises(ContractError, match=f"wimmerth_anyup_{COMMIT} is not commit"):
        load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", CONSENT)


def test_an_archive_that_does_not_say_its_commit_has_none(tmp_path: Path, folder: Path, cache: Path) -> None:
    zip_repository(folder, tmp_path / f"github/wimmerth/anyup/archive/{COMMIT}.zip", "")
    source = identity_of(load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", CONSENT)).source or {}
    assert (source["ref"], source["commit"]) == (COMMIT, None)


def test_what_cannot_be_fetched_says_how_to_go_on_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UnknownNameError, match=rf"could not be fetched(?s:.*)put a copy of it at .*_{COMMIT}, or give"):
        load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", CONSENT)
    broken = tmp_path / f"github/wimmerth/anyup/archive/{COMMIT}.zip"
    broken.parent.mkdir(parents=True)
    broken.write_text("no archive")
    with pytest.raises(UnknownNameError, match="not a zip file"):
        load_from_hub(f"wimmerth/anyup@{COMMIT}:anyup", CONSENT)
    assert not list(cache.iterdir())


def test_whoever_wants_the_same_repository_waits_for_it(
    tmp_path: Path, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zip_repository(folder, tmp_path / f"github/wimmerth/anyup/archive/{COMMIT}.zip", COMMIT)
    fetched, original = [], hub._fetch_archive

    def slowly(*arguments: Any) -> Any:
        fetched.append(1)
        time.sleep(0.3)
        return original(*arguments)

    monkeypatch.setattr(hub, "_fetch_archive", slowly)
    found: list[tuple[Path, str | None]] = []
    threads = [threading.Thread(target=lambda: found.append(hub._fetch("wimmerth", "anyup", COMMIT))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(cache / f"wimmerth_anyup_{COMMIT}", COMMIT)] * 3 and len(fetched) == 1
    assert [path.name for path in cache.iterdir()] == [f"wimmerth_anyup_{COMMIT}"]
