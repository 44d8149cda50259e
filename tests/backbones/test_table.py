"""The table of backbones, against timm and against the networks themselves, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from vfm_isbench import cli
from vfm_isbench.backbones import CHANNELS, Backbone, list_backbones, load_backbone
from vfm_isbench.backbones.table import COLOURS, HEADER, TABLE, Row, backbones_with, made_for, markdown_lines
from vfm_isbench.upsamplers import KNOWN
from vfm_isbench.upsamplers.published.sources import SOURCES

LOADED = ("loftup", "featup", "lift")
"""Kinds of upsamplers that the library itself loads."""

OF_TIMM = [row for row in TABLE if row.name.startswith("timm:")]


def timm_name(row: Row) -> str:
    return row.name.removeprefix("timm:").partition("@")[0]


def prefix_of(backbone: Backbone) -> int:
    return getattr(backbone.model, "num_prefix_tokens", 0)


def check(row: Row, backbone: Backbone, image_size: int) -> None:
    """Compare a network with its row, and run it."""
    assert (backbone.channels, backbone.patch_size, prefix_of(backbone)) == (row.channels, row.patch_size, row.prefix)
    assert (backbone.feature_norm, backbone.takes_click_tokens) == (row.feature_norm, row.early)
    assert (tuple(backbone.mean), tuple(backbone.std)) == COLOURS[row.colours]
    cells = image_size // row.patch_size
    image = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    clicks = torch.randn(1, row.channels, cells, cells, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = backbone.eval()(image)
        assert features.shape == (1, row.channels, cells, cells)
        if row.feature_norm == "projection":
            assert features.isfinite().all()
        else:  # a norm has no learned scale yet
            torch.testing.assert_close(features.square().mean(1).sqrt(), torch.ones(1, cells, cells), rtol=0.03, atol=0)
        if row.early:
            assert not torch.allclose(backbone(image, clicks), features, atol=1e-3)


def test_the_rows_are_distinct_and_their_names_exist() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names)
    for row in TABLE:
        if row in OF_TIMM:
            config = timm.models.get_pretrained_cfg(timm_name(row))
            assert config is not None, row.name
            assert config.hf_hub_id, row.name  # so it has weights
            assert (tuple(config.mean), tuple(config.std)) == COLOURS[row.colours], row.name
        else:
            assert row.name.partition("@")[0] in list_backbones()
            assert CHANNELS[row.name] == row.channels


def test_every_published_upsampler_with_a_name_has_a_backbone_in_the_table() -> None:
    listed = {name for row in TABLE for name in row.upsamplers}
    assert set(SOURCES) <= listed
    assert made_for("featup:maskclip?norm=false").name == "maskclip_vitb16"  # type: ignore[union-attr]
    assert made_for("bilinear") is None


def test_backbones_are_found_by_their_channels() -> None:
    found = backbones_with(512)
    assert [row.name for row in found] == ["clip_vitb16", "maskclip_vitb16", "timm:convnext_base.dinov3_lvd1689m@16"]
    assert backbones_with(7) == []


def test_the_page_shows_the_table() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    shown = [line for line in page.splitlines() if line.startswith("|") and line.count("|") == len(HEADER) + 1]
    assert shown == markdown_lines()


def test_the_command_line_shows_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "backbones", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["family", "--backbone"]
    (line,) = (line for line in lines if " maskclip_vitb16 " in line)
    for cell in ("512", "projection", "late, pre_upsampler", "featup:maskclip", "random weights, 224 px"):
        assert cell in line
    assert len([line for line in lines if "px" in line]) == len(TABLE)
    assert cli.main(["list", "--all"]) == 2
    assert "vfm-isbench list backbones --all" in capsys.readouterr().err


@pytest.fixture
def flat_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's transformers with one block."""
    create = timm.create_model

    def create_flat(name: str, **options: Any) -> Any:
        return create(name, **({} if name.startswith("tf_") else {"depth": 1}), **options)

    monkeypatch.setattr(timm, "create_model", create_flat)


SMALLEST = {row.family: row for row in sorted(TABLE, key=lambda row: -row.channels) if "timm" not in row.name or
            "@" not in row.name}  # fmt: skip
"""Of each family, the transformer with the fewest channels, or the network of this library."""


@pytest.mark.usefixtures("flat_transformers")
@pytest.mark.parametrize("row", SMALLEST.values(), ids=SMALLEST)
def test_a_flat_network_of_each_family_is_as_its_row_says(row: Row) -> None:
    size = 4 * row.patch_size
    check(row, load_backbone(row.name, size, pretrained=False), size)


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_whole_network_is_as_its_row_says(row: Row) -> None:
    check(row, load_backbone(row.name, row.tried_at, pretrained=False), row.tried_at)


def test_the_table_of_upsamplers_names_the_same_pairs() -> None:
    rows = {row.name: row for row in TABLE}
    for known in KNOWN:
        for name, channels in known.fits:
            assert rows[name].channels == channels, (known.spec, name)
    own = {(upsampler, row.name) for row in TABLE for upsampler in row.upsamplers if upsampler != "UPLiFT"}
    listed = {(known.spec, name) for known in KNOWN for name, _ in known.fits if known.spec.split(":")[0] in LOADED}
    assert own == listed
