"""The table of known upsamplers."""

from __future__ import annotations

import pytest

from vfm_isbench import cli
from vfm_isbench.upsamplers import KNOWN, LOADERS, UPSAMPLERS, Known, fitting_backbones
from vfm_isbench.upsamplers.known import known_as, known_repository
from vfm_isbench.upsamplers.loading.settings import read_settings
from vfm_isbench.upsamplers.loading.specs import split_query
from vfm_isbench.upsamplers.published.sources import SOURCES


def test_everything_that_can_be_named_is_in_the_table() -> None:
    specs = {known.spec for known in KNOWN}
    assert {*UPSAMPLERS, *SOURCES} <= specs
    for known in KNOWN:
        name, query = split_query(known.spec)
        assert read_settings(known.spec, query) is not None
        kind = name.partition(":")[0]
        assert name in UPSAMPLERS or kind in LOADERS or name == "path/to/file.py:attribute"


@pytest.mark.parametrize("name", SOURCES)
def test_licences_and_backbones_are_those_of_the_sources(name: str) -> None:
    (known,) = (known for known in KNOWN if known.spec == name)
    assert known.licence == SOURCES[name].licence and known.title.split("-")[0] in SOURCES[name].title
    channels = {"ViT-S": 384, "ViT-B": 768, "ResN": 2048}
    (fit,) = known.fits
    backbone = SOURCES[name].title
    expected = 512 if "CLIP" in backbone else next(number for size, number in channels.items() if size in backbone)
    assert fit[1] == expected


def test_fitting_backbones_of_a_name() -> None:
    assert fitting_backbones("featup:dinov2?norm=false") == (("dinov2_vits14", 384),)
    assert [channels for _, channels in fitting_backbones("hub:mwalmer-umd/UPLiFT@abc:uplift_dinov2_s14")] == [384, 384]
    assert fitting_backbones("code:some/where/JAFAR-main:src.upsampler.jafar:JAFAR?v_dim=8")[0][1] == 384
    assert fitting_backbones("bilinear") == fitting_backbones("hub:wimmerth/anyup:anyup") == ()
    assert fitting_backbones("mine.py:Up") == fitting_backbones("hub:me/mine:up") == ()


def test_a_repository_is_recognised_by_its_name() -> None:
    assert [known_repository(name) is not None for name in ("NAF", "naf-main", "nafnet", "ViT-Up")] == [
        True,
        True,
        False,
        True,
    ]
    assert known_as("hub:valeoai/NAF@0123:naf") is known_repository("naf")


def test_the_list_shows_every_field(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfm_isbench.upsamplers.known.is_installed", lambda name: name == "einops")
    assert cli.main(["list", "upsamplers", "--all"]) == 0
    printed = capsys.readouterr().out
    for known in KNOWN:
        assert f"{known.title}: {known.spec}\n" in printed and known.verified in printed and known.remark in printed
    assert "needs:    einops, natten (missing here: pip install natten)" in printed
    assert "needs:    einops (installed)" in printed
    assert "fits:     dinov2_vits14 (384)\n" in printed and "fits:     any\n" in printed
    assert cli.main(["list", "protocols", "--all"]) == 2
    assert "vfm-isbench list upsamplers --all" in capsys.readouterr().err


def test_what_is_claimed_was_not_downloaded() -> None:
    def is_honest(known: Known) -> bool:
        return known.spec in UPSAMPLERS or "tested" in known.verified

    assert all(map(is_honest, KNOWN))
