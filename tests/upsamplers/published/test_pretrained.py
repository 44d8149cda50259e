"""Pretrained upsamplers by name: files, folders, the hub, URLs and remembered hashes."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vfm_isbench.errors import UnknownNameError, WeightsError
from vfm_isbench.storage import weights as weights_module
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.upsamplers import LOADERS, LoadOptions, identity_of, load_upsampler
from vfm_isbench.upsamplers.published import pretrained
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp
from vfm_isbench.upsamplers.published.pretrained import describe_loaders
from vfm_isbench.upsamplers.published.sources import SOURCES

WIDTH = 8
FEATUP_FILE = "dinov2_jbu_stack_cocostuff.ckpt"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<html>Sign in</html>"


def featup_state(seed: int = 0) -> dict[str, Tensor]:
    """A state dict like FeatUp's files, with the channel norm."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        ("model.1." if key.startswith("norm.") else "upsampler.") + key: torch.rand(value.shape, generator=generator)
        for key, value in FeatUpJBU(WIDTH).state_dict().items()
    }
    return state | {"model.0.model.cls_token": torch.ones(1, 1, 4), "downsampler.w": torch.ones(1)}


def save_featup(path: Path, seed: int = 0) -> Path:
    torch.save({"state_dict": featup_state(seed), "epoch": 3}, path)
    return path


def save_loftup(path: Path) -> Path:
    state = LoftUp(WIDTH).state_dict()
    torch.save({key if key.startswith("channelnorm.") else f"upsampler.{key}": state[key] for key in state}, path)
    return path


def save_lift(path: Path) -> Path:
    torch.save({f"module.{key}": value for key, value in LiFT(WIDTH).state_dict().items()}, path)
    return path


SAVE = {"loftup": save_loftup, "featup": save_featup, "lift": save_lift}
CLASSES = {"loftup": LoftUp, "featup": FeatUpJBU, "lift": LiFT}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind the URL of FeatUp's DINOv2 weights, and an empty cache."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{FEATUP_FILE}"
    monkeypatch.setitem(SOURCES, "featup:dinov2", dataclasses.replace(SOURCES["featup:dinov2"], url=url))
    monkeypatch.setenv("VFM_ISBENCH_CACHE", str(tmp_path / "cache"))
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("kind", SAVE)
def test_a_file_of_ones_own(tmp_path: Path, kind: str) -> None:
    path = SAVE[kind](tmp_path / "mine.pth")
    upsampler = load_upsampler(f"{kind}:{path}")
    assert type(upsampler.call) is CLASSES[kind]
    identity = identity_of(upsampler)
    assert identity.name == f"{kind}:mine.pth"
    assert identity.source is not None
    assert identity.source.items() >= {"kind": kind, "weights": "mine.pth", "sha256": hash_file(path)}.items()
    assert identity_of(load_upsampler(f"{kind}:{path}")) == identity
    by_option = load_upsampler(f"{kind}:", LoadOptions(weights=path))
    assert identity_of(by_option) == identity


@pytest.mark.parametrize("kind", SAVE)
def test_a_folder_with_one_weights_file(tmp_path: Path, kind: str) -> None:
    SAVE[kind](tmp_path / "mine.pth")
    (tmp_path / "README.md").touch()
    assert identity_of(load_upsampler(f"{kind}:{tmp_path}")).name == f"{kind}:mine.pth"
    (tmp_path / "other.bin").touch()
    with pytest.raises(WeightsError, match=r"expected one weights file in the folder .*got mine\.pth, other\.bin"):
        load_upsampler(f"{kind}:{tmp_path}")


def test_the_official_name_is_preferred_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "training.ckpt").touch()
    save_loftup(tmp_path / "pytorch_model.bin")
    assert identity_of(load_upsampler(f"loftup:{tmp_path}")).name == "loftup:pytorch_model.bin"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected one weights file in the folder .* got none"):
        load_upsampler(f"lift:{tmp_path}")


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_published_name_with_weights_at_hand(tmp_path: Path, as_folder: bool) -> None:
    path = save_loftup(tmp_path / "pytorch_model.bin")
    upsampler = load_upsampler("loftup:dinov2s", LoadOptions(weights=tmp_path if as_folder else path))
    identity = identity_of(upsampler)
    assert identity.name == "loftup:dinov2s"
    assert identity.source == {
        "kind": "loftup",
        "weights": "pytorch_model.bin",
        "sha256": hash_file(path),
        "attention": "torch.nn.functional.scaled_dot_product_attention",
    }


def test_a_folder_without_the_official_file_says_its_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"expected one of {FEATUP_FILE}"):
        load_upsampler("featup:dinov2", LoadOptions(weights=tmp_path))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of LoftUp's file in an offline hub cache with one commit; our own cache is empty."""
    repository = tmp_path / "hub/models--haiwen--loftup-dinov2s"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("VFM_ISBENCH_CACHE", str(tmp_path / "cache"))
    return repository / "snapshots" / COMMIT / "pytorch_model.bin"


def test_commit_and_hash_of_a_file_from_the_hub_are_recorded(hub_cache: Path, tmp_path: Path) -> None:
    save_loftup(hub_cache)
    source = identity_of(load_upsampler("loftup:dinov2s")).source
    assert source is not None
    assert source["commit"] == COMMIT
    assert source["sha256"] == hash_file(hub_cache)
    record = tmp_path / "cache/hub/loftup-dinov2s.sha256"
    assert record.read_text(encoding="utf-8").split() == [hash_file(hub_cache), "pytorch_model.bin", COMMIT]
    assert identity_of(load_upsampler("loftup:dinov2s")).source == source


def test_another_file_on_the_hub_is_refused_until_it_is_accepted(hub_cache: Path, tmp_path: Path) -> None:
    save_loftup(hub_cache)
    load_upsampler("loftup:dinov2s")
    before = hash_file(hub_cache)
    save_loftup(hub_cache)  # other random weights
    record = tmp_path / "cache/hub/loftup-dinov2s.sha256"
    with pytest.raises(WeightsError, match=f"expected sha256 {before}, got {hash_file(hub_cache)}.*remove {record}"):
        load_upsampler("loftup:dinov2s")
    record.unlink()
    load_upsampler("loftup:dinov2s")


def test_a_broken_file_from_the_hub_is_not_trusted(hub_cache: Path, tmp_path: Path) -> None:
    hub_cache.write_bytes(PAGE)
    with pytest.raises(WeightsError, match=rf"could not be read(?s:.*)If it is broken, delete {hub_cache.resolve()}"):
        load_upsampler("loftup:dinov2s")
    assert not (tmp_path / "cache").exists()


def test_a_record_that_cannot_be_written_says_where_to(hub_cache: Path, tmp_path: Path) -> None:
    save_loftup(hub_cache)
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(WeightsError, match="cannot be saved to .*VFM_ISBENCH_CACHE"):
        load_upsampler("loftup:dinov2s")


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_is_asked_for_the_official_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_loftup(tmp_path / "pytorch_model.bin")
    asked = []

    def fetch(repository: str, file_name: str, **_: object) -> str:
        asked.append((repository, file_name))
        return str(path)

    monkeypatch.setattr(weights_module, "hf_hub_download", fetch)
    source = identity_of(load_upsampler("loftup:siglip2")).source
    assert asked == [("haiwen/loftup-siglip2", "pytorch_model.bin")]
    assert source is not None
    assert source["weights"] == "haiwen/loftup-siglip2/pytorch_model.bin"


def test_without_a_hub_the_error_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(repository: str, file_name: str, **_: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(weights_module, "hf_hub_download", fetch)
    with pytest.raises(WeightsError, match="'loftup:clip'.*haiwen/loftup-clip/pytorch_model.bin.*no route"):
        load_upsampler("loftup:clip")


def test_a_url_is_fetched_once_and_then_kept(served: Path, tmp_path: Path) -> None:
    original = save_featup(served / FEATUP_FILE)
    digest = hash_file(original)
    identity = identity_of(load_upsampler("featup:dinov2"))
    assert identity.name == "featup:dinov2"
    assert identity.source == {
        "kind": "featup",
        "weights": SOURCES["featup:dinov2"].url,
        "sha256": digest,
        "channel_norm": True,
    }
    record = tmp_path / "cache" / f"{FEATUP_FILE}.sha256"
    assert record.read_text(encoding="utf-8").split() == [digest, FEATUP_FILE]
    original.unlink()
    assert identity_of(load_upsampler("featup:dinov2")) == identity


def test_a_file_that_changed_after_the_first_download_is_refused(served: Path, tmp_path: Path) -> None:
    save_featup(served / FEATUP_FILE)
    load_upsampler("featup:dinov2")
    cached = tmp_path / "cache" / FEATUP_FILE
    save_featup(cached, seed=1)
    with pytest.raises(WeightsError, match="not the expected file: expected sha256"):
        load_upsampler("featup:dinov2")
    # A changed file from the server is refused too.
    cached.unlink()
    save_featup(served / FEATUP_FILE, seed=1)
    with pytest.raises(WeightsError, match=rf"(?s)wrong bytes, expected sha256.*remove .*{FEATUP_FILE}\.sha256"):
        load_upsampler("featup:dinov2")
    cached.with_name(f"{FEATUP_FILE}.sha256").unlink()
    load_upsampler("featup:dinov2")


def test_a_page_in_place_of_weights_is_not_kept(served: Path, tmp_path: Path) -> None:
    (served / FEATUP_FILE).write_bytes(PAGE)
    with pytest.raises(WeightsError, match=rf"{FEATUP_FILE}: asks to sign in, so the file is not public"):
        load_upsampler("featup:dinov2")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == []
    save_featup(served / FEATUP_FILE)
    load_upsampler("featup:dinov2")


def test_what_is_no_such_weights_is_set_aside_and_not_remembered(served: Path, tmp_path: Path) -> None:
    save_lift(served / FEATUP_FILE)
    cached = tmp_path / "cache" / FEATUP_FILE
    with pytest.raises(WeightsError, match=rf"(?s){FEATUP_FILE}.*The file is now {cached}\.rejected; the next attempt"):
        load_upsampler("featup:dinov2")
    assert [path.name for path in cached.parent.iterdir()] == [f"{FEATUP_FILE}.rejected"]
    save_featup(served / FEATUP_FILE)
    load_upsampler("featup:dinov2")


def test_a_bad_file_that_was_remembered_once_says_what_to_delete(served: Path, tmp_path: Path) -> None:
    cached, record = (tmp_path / "cache" / f"{FEATUP_FILE}{suffix}" for suffix in ("", ".sha256"))
    cached.parent.mkdir()
    cached.write_bytes(PAGE)
    record.write_text(hash_file(cached))
    with pytest.raises(WeightsError, match=f"delete {cached.resolve()} and {record} to download it again"):
        load_upsampler("featup:dinov2")


def test_a_file_of_ones_own_is_never_set_aside(tmp_path: Path) -> None:
    path = tmp_path / FEATUP_FILE
    path.write_bytes(PAGE)
    for spec, options in (("featup:dinov2", LoadOptions(weights=path)), (f"featup:{path}", LoadOptions())):
        with pytest.raises(WeightsError, match="could not be read as"):
            load_upsampler(spec, options)
    assert path.read_bytes() == PAGE


def test_a_file_that_the_server_does_not_have(served: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_upsampler("featup:dinov2")
    for part in ("'featup:dinov2'", "HTTP 404", f"/{FEATUP_FILE} elsewhere", "--upsampler-weights"):
        assert part in str(caught.value)
    # A file that was downloaded elsewhere and put there by hand is used.
    save_featup(tmp_path / "cache" / FEATUP_FILE)
    load_upsampler("featup:dinov2")


def test_an_expected_hash_is_checked_wherever_the_file_is_from(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_featup(served / FEATUP_FILE)
    source = dataclasses.replace(SOURCES["featup:dinov2"], sha256=hash_file(path))
    monkeypatch.setitem(SOURCES, "featup:dinov2", source)
    load_upsampler("featup:dinov2")
    other = save_featup(tmp_path / "other.ckpt", seed=1)
    with pytest.raises(WeightsError, match="other.ckpt is not the published file of featup:dinov2: expected sha256"):
        load_upsampler("featup:dinov2", LoadOptions(weights=other))
    load_upsampler(f"featup:{other}")


@pytest.mark.parametrize("kind", ["loftup", "featup"])
def test_memory_is_set_and_no_part_of_the_identity(tmp_path: Path, kind: str) -> None:
    path = SAVE[kind](tmp_path / "mine.pth")
    upsampler = load_upsampler(f"{kind}:{path}?max_memory=0.125")
    assert isinstance(upsampler.call, LoftUp | FeatUpJBU)
    assert upsampler.call.max_memory == 0.125
    assert identity_of(upsampler) == identity_of(load_upsampler(f"{kind}:{path}"))


def test_the_channel_norm_of_featup_can_be_left_out(tmp_path: Path) -> None:
    path = save_featup(tmp_path / "mine.ckpt")
    with_norm, also, without = (load_upsampler(f"featup:{path}{query}") for query in ("", "?norm=true", "?norm=false"))
    assert [each.capabilities.channel_norm for each in (with_norm, also, without)] == [True, True, False]
    asked = identity_of(also)
    assert (asked.name, asked.sha256) == (identity_of(with_norm).name, identity_of(with_norm).sha256)
    assert dict(asked.source or {}) == {**(identity_of(with_norm).source or {}), "norm_asked": True}
    left_out = identity_of(without)
    assert left_out.name == "featup:mine.ckpt?norm=false"
    assert left_out.source is not None
    assert left_out.source["channel_norm"] is False
    assert left_out.sha256 != identity_of(with_norm).sha256


def test_a_channel_norm_that_is_not_there_cannot_be_insisted_on(tmp_path: Path) -> None:
    path = tmp_path / "no_norm.ckpt"
    torch.save({key: value for key, value in featup_state().items() if not key.startswith("model.")}, path)
    without = load_upsampler(f"featup:{path}")
    assert without.capabilities.channel_norm is False
    with pytest.raises(WeightsError, match="no_norm.ckpt contains no channel norm"):
        load_upsampler(f"featup:{path}?norm=true")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("loftup:dinov2x", r"unknown upsampler 'loftup:dinov2x'\..*loftup:dinov2s_reg, .*loftup:FILE.*neither a file"),
        ("featup:dino", "Did you mean 'featup:dinov2'.*featup:maskclip.*featup:FILE"),
        ("lift:dinov2s", "Known: lift:FILE.*dinov2s is neither a file nor a folder"),
        ("lift:", "no FILE was given"),
        ("loftup:dinov2s?memory=2", "unknown option in loftup:dinov2s.memory=2: 'memory'.*max_memory"),
        ("loftup:dinov2s?norm=false", "Known: max_memory"),
        ("lift:some.pth?max_memory=2", "Known: none"),
        ("featup:dinov2?norm=no", "norm must be true or false, got 'no'"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(spec: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load_upsampler(spec)


@pytest.mark.parametrize("gib", ["0", "-1", "nan", "inf", "much", ""])
def test_memory_that_cannot_be_is_refused(tmp_path: Path, gib: str) -> None:
    path = save_loftup(tmp_path / "mine.pth")
    with pytest.raises(UnknownNameError, match=f"max_memory must be a positive number of GiB, got '{gib}'"):
        load_upsampler(f"loftup:{path}?max_memory={gib}")


@pytest.mark.parametrize("kind", SAVE)
@pytest.mark.parametrize("name", ["mine.pth", "weights/mine.pth"])
@pytest.mark.parametrize("given", ["file", "folder", "file of another name"])
def test_weights_given_stand_for_a_file_that_records_name_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    path = SAVE[kind](tmp_path / "elsewhere" / ("renamed.pth" if given == "file of another name" else "mine.pth"))
    SAVE[kind](tmp_path / "elsewhere" / "other.bin")
    upsampler = load_upsampler(f"{kind}:{name}", LoadOptions(weights=path.parent if given == "folder" else path))
    source = identity_of(upsampler).source
    assert source is not None
    assert source["sha256"] == hash_file(path)


def test_weights_given_go_before_a_file_of_the_same_name_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    save_lift(tmp_path / "lift.pth")
    path = save_lift(tmp_path / "elsewhere/lift.pth")
    for weights in (path, Path("lift.pth")):
        source = identity_of(load_upsampler("lift:lift.pth", LoadOptions(weights=weights))).source
        assert source is not None
        assert source["sha256"] == hash_file(weights)


def test_two_different_files_are_one_too_many(tmp_path: Path) -> None:
    path, other = save_lift(tmp_path / "mine.pth"), save_lift(tmp_path / "other.pth")
    with pytest.raises(UnknownNameError, match="was given too"):
        load_upsampler(f"lift:{path}", LoadOptions(weights=other))
    with pytest.raises(UnknownNameError, match="absent.pth does not exist"):
        load_upsampler("lift:nowhere.pth", LoadOptions(weights=tmp_path / "absent.pth"))
    with pytest.raises(UnknownNameError, match="absent.pth is neither a file nor a folder"):
        load_upsampler("lift:", LoadOptions(weights=tmp_path / "absent.pth"))
    # A misspelt name is not a file.
    with pytest.raises(UnknownNameError, match="Did you mean 'loftup:dinov2s'"):
        load_upsampler("loftup:dinov2z", LoadOptions(weights=save_loftup(tmp_path / "loftup.pth")))


def test_weights_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    path = save_lift(tmp_path / "mine.pth")
    for kind in ("loftup", "featup"):
        with pytest.raises(WeightsError, match="mine.pth"):
            load_upsampler(f"{kind}:{path}")


def test_every_published_name_has_a_loader_and_a_line() -> None:
    described = describe_loaders()
    assert described.keys() >= SOURCES.keys()
    assert {name.partition(":")[0] for name in described} == {"loftup", "featup", "lift"}
    assert all(name.partition(":")[0] in LOADERS for name in described)
    assert "haiwen/loftup-dinov2s/pytorch_model.bin" in described["loftup:dinov2s"]
    for source in SOURCES.values():
        assert (source.repository is None) != (source.url is None)
        assert source.where.endswith(source.file_name)


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VFM_ISBENCH_CACHE", raising=False)
    assert pretrained.cache_folder() == Path.home() / ".cache" / "vfm_isbench" / "weights"
