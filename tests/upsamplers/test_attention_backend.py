"""Results with and without NATTEN are those of different upsamplers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_repositories import write_repository
from plugin_packages import Packages

from vfm_isbench.errors import ContractError
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.run_checks import _check_together
from vfm_isbench.upsamplers import LoadOptions, UpsamplerIdentity, identity_of, load_upsampler
from vfm_isbench.upsamplers.known import require_packages

CONSENT = LoadOptions(trust_remote_code=True)
CODE = '''
import warnings
from torch import nn
from torch.nn import functional

try:
    import natten
except Exception:
    natten = None


class Attention(nn.Module):
    def forward(self, image, features, output_size=None):
        """The part that NATTEN would compute."""
        return functional.interpolate(features, output_size or image.shape[-2:], mode="bilinear")


def anyup(use_natten=False):
    if use_natten and natten is None:
        warnings.warn("NATTEN is not installed, going on without it")
    return Attention()
'''


def identity(spec: str) -> UpsamplerIdentity:
    return identity_of(load_upsampler(spec, CONSENT))


@pytest.fixture(params=["hub", "code", "file"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = write_repository(tmp_path / "anyup", hubconf=CODE, model=CODE)
    kinds = {"hub": f"hub:{folder}:anyup", "code": f"code:{folder}:model:anyup", "file": f"{folder / 'model.py'}:anyup"}
    return kinds[str(request.param)]


def test_natten_s_version_is_in_source_and_identity(spec: str, packages: Packages) -> None:
    without = identity(spec)
    packages.install("natten", {}, {"natten": ""}, version="0.20.1")
    with_natten = identity(spec)
    packages.install("natten", {}, {"natten": ""}, version="0.21.0")
    newer = identity(spec)
    packages.install("natten", {}, {"natten": "raise ImportError('built for another CUDA')"}, version="0.21.0")
    broken = identity(spec)
    found = (without, with_natten, newer, broken)
    assert [one.source and one.source["attention"]["natten"] for one in found] == [
        "not installed",
        "0.20.1",
        "0.21.0",
        "0.21.0, which fails to import",
    ]
    assert len({one.sha256 for one in found}) == 4 and without.sha256 is not None


def test_they_cannot_share_an_entry(spec: str, packages: Packages) -> None:
    without = identity(spec)
    packages.install("natten", {}, {"natten": ""}, version="0.20.1")
    runs = [{"upsampler": {"name": one.name, "sha256": one.sha256}} for one in (without, identity(spec))]
    report = Report("entry.json")
    _check_together(runs, report)
    assert [finding.path for finding in report.findings] == ["runs[1].upsampler.sha256"]


@pytest.mark.filterwarnings("ignore:.*going on without it")
def test_a_silent_fall_back_shows_in_the_source(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "anyup", hubconf=CODE)
    source = identity(f"hub:{folder}:anyup?use_natten=true").source
    assert source is not None and source["warnings"] == ["NATTEN is not installed, going on without it"]


def test_what_never_speaks_of_natten_keeps_its_identity(tmp_path: Path, packages: Packages) -> None:
    file = tmp_path / "up.py"
    file.write_text("def up(features, image): return features\n")
    before = identity(f"{file}:up")
    packages.install("natten", {}, {"natten": ""})
    assert identity(f"{file}:up") == before and before.source is None


def test_missing_packages_are_named_before_anything_is_fetched_or_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    monkeypatch.setattr("vfm_isbench.upsamplers.known.is_installed", lambda name: name in installed)
    folder = write_repository(tmp_path / "NAF")
    load_upsampler(f"hub:{folder}:naf", CONSENT)  # it only has the name of a repository that needs them
    (folder / "was_run").unlink()
    (folder / "attention.py").write_text("import einops\nfrom natten.functional import na2d\n")
    with pytest.raises(ContractError, match="NAF needs einops and natten, which are not .*pip install einops natten"):
        load_upsampler(f"hub:{folder}:naf", CONSENT)
    with pytest.raises(ContractError, match="UPLiFT needs omegaconf.*pip install omegaconf"):
        load_upsampler("hub:mwalmer-umd/UPLiFT:uplift_dinov2_s14", CONSENT)
    require_packages("hub:me/uplift:up", "me/uplift")  # somebody else's repository of that name
    assert not (folder / "was_run").exists()
    installed += ["einops", "natten"]
    assert identity(f"hub:{folder}:naf").sha256 is not None
