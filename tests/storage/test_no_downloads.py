"""Inside the block, whoever would use the network says that something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfm_isbench.backbones import load_backbone
from vfm_isbench.errors import DataError, UnknownNameError, VfmIsbenchError, WeightsError
from vfm_isbench.storage import connection
from vfm_isbench.storage.downloads import download
from vfm_isbench.storage.no_downloads import are_downloads_forbidden, no_downloads
from vfm_isbench.storage.weights import find_weights
from vfm_isbench.upsamplers import LoadOptions, load_upsampler


def test_it_ends_with_the_block_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), no_downloads():
        assert are_downloads_forbidden()
        raise ZeroDivisionError
    assert not are_downloads_forbidden()


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFM_ISBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something wanted the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr(connection, "open_url", refuse)


def test_a_file_is_missing_unless_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with no_downloads():
        with pytest.raises(DataError, match="file is not at .*, and downloads are forbidden here"):
            download(["https://example.org/file"], path)
        path.write_text("here")
        assert download(["https://example.org/file"], path) == path


def test_weights_of_the_hub_are_missing() -> None:
    with no_downloads(), pytest.raises(WeightsError, match="downloads are forbidden here, and the hub's cache does"):
        find_weights("x", None, ["x.pth"], [("no-such-owner/no-such-model", "x.pth")])


@pytest.mark.parametrize("name", ["dinov2_vits14", "timm:vit_tiny_patch16_224"])
def test_weights_of_a_backbone_are_missing(name: str) -> None:
    with no_downloads(), pytest.raises(WeightsError, match="downloads are forbidden here"):
        load_backbone(name, 224)


@pytest.mark.parametrize("name", ["featup:dinov2", "loftup:dinov2s", "hub:owner/repo:entry"])
def test_upsamplers_are_missing(name: str) -> None:
    error: type[VfmIsbenchError] = UnknownNameError if name.startswith("hub:") else WeightsError
    with no_downloads(), pytest.raises(error, match="downloads are forbidden here"):
        load_upsampler(name, LoadOptions(trust_remote_code=True))
