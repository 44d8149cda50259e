"""Upsamplers that call the backbone of the run themselves."""

from __future__ import annotations

import copy
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import known_signatures as known
import pytest
import torch
from small import SMALL, small_probe
from tiny import TINY
from torch import Tensor, nn

from vfm_isbench import Benchmark, Speed, cli, evaluate_checkpoint
from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from vfm_isbench.errors import ContractError
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.preparation import check_and_identify
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.upsamplers import (
    LoadedUpsampler,
    adapt,
    check_upsampler,
    find_module,
    to_contract,
)

FILE = Path(known.__file__)
CPU = torch.device("cpu")
IMAGE, FEATURES = torch.randn(2, 3, 28, 28), torch.randn(2, 8, 2, 2)


class Asking(nn.Module):
    """Returns the backbone's own features, enlarged."""

    needs_backbone = True

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def bind_backbone(self, features_of: Any) -> None:
        self.features_of = features_of

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return self.scale * self.features_of(image).repeat_interleave(14, -1).repeat_interleave(14, -2)


def expected(backbone: FakeBackbone, image: Tensor = IMAGE) -> Tensor:
    return backbone.eval()(image).repeat_interleave(14, -1).repeat_interleave(14, -2)


def test_it_gets_the_backbone_of_its_probe_even_if_two_probes_share_it() -> None:
    shared, one, other = Asking(), FakeBackbone(), FakeBackbone(seed=1)
    first, second = build_probe(SMALL, one, shared), build_probe(SMALL, other, shared)
    for _ in range(2):
        torch.testing.assert_close(first.upsampler(FEATURES, IMAGE), expected(one))
        torch.testing.assert_close(second.guarded_upsampler(FEATURES, IMAGE), expected(other))


class Slow(Asking):
    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        time.sleep(0.01)  # in which another thread might hand over another backbone
        return super().forward(features, image)


def test_two_runs_at_once_may_share_it() -> None:
    shared, backbones = Slow(), (FakeBackbone(), FakeBackbone(seed=1))
    probes = [build_probe(SMALL, backbone, shared) for backbone in backbones]

    def call(number: int) -> Tensor:
        return probes[number % 2].upsampler(FEATURES, IMAGE).detach()

    with ThreadPoolExecutor(2) as pool:
        for number, found in enumerate(pool.map(call, range(10))):
            torch.testing.assert_close(found, expected(backbones[number % 2]).detach())


def test_a_copy_of_a_probe_uses_its_own_backbone() -> None:
    probe = small_probe(upsampler=Asking())
    copied = copy.deepcopy(probe)
    with torch.no_grad():
        for parameter in copied.backbone.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(copied.upsampler(FEATURES, IMAGE), expected(copied.backbone))  # type: ignore[arg-type]
    torch.testing.assert_close(probe.upsampler(FEATURES, IMAGE), expected(probe.backbone))  # type: ignore[arg-type]


def test_the_image_is_normalised_as_the_backbone_expects() -> None:
    backbone = FakeBackbone()
    backbone.mean, backbone.std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    probe = build_probe(SMALL, backbone, Asking())
    mean, std, usual_mean, usual_std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std, IMAGENET_MEAN, IMAGENET_STD)
    )
    given = (IMAGE * usual_std + usual_mean - mean) / std
    torch.testing.assert_close(probe.upsampler(FEATURES, IMAGE), expected(backbone, given))


def test_gradients_flow_to_the_image_only_if_asked_for_and_never_to_the_weights() -> None:
    backbone = FakeBackbone()
    access = build_probe(SMALL, backbone, Asking()).upsampler.backbone
    assert access is not None
    image = IMAGE.clone().requires_grad_()
    assert not access(image).requires_grad
    access(image, gradients=True).sum().backward()
    assert image.grad is not None and bool(image.grad.any())
    assert not backbone.training and all(parameter.grad is None for parameter in backbone.parameters())


def test_parameters_and_identity_are_the_upsampler_s_own() -> None:
    small, large = FakeBackbone(), FakeBackbone(seed=1)
    found = [check_and_identify(LoadedUpsampler.of(Asking()), SMALL, backbone, CPU) for backbone in (small, large)]
    assert [one.contract.n_parameters for one in found] == [8, 8]
    assert found[0].identity.sha256 == found[1].identity.sha256 is not None
    assert found[0].identity.source == {"uses_backbone": True}
    assert not any("runs modules that it does not hold" in note for one in found for note in one.notes)
    module = find_module(build_probe(SMALL, small, found[0].upsampler).upsampler)
    assert module is not None and sum(1 for _ in module.modules()) == 1


def test_whoever_declares_it_has_the_method() -> None:
    class Without:
        needs_backbone = True

        def __call__(self, features: Tensor, image: Tensor) -> Tensor:
            return features

    with pytest.raises(ContractError, match=r"has no method bind_backbone\(features_of\)"):
        LoadedUpsampler.of(Without())
    Without.needs_backbone = 1  # type: ignore[assignment]  # an attribute of that name that means something else
    assert LoadedUpsampler.of(Without()).capabilities.bind_backbone is None


def test_the_check_outside_a_run_uses_a_stand_in_or_the_function_given() -> None:
    sizes: dict[str, Any] = {"channels": 8, "grid": (2, 2), "image_size": (28, 28)}
    assert check_upsampler(Asking(), **sizes).output_size == (28, 28)
    seen: list[tuple[int, ...]] = []

    def backbone(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape))
        return FakeBackbone().eval()(image)  # type: ignore[no-any-return]

    check_upsampler(Asking(), **sizes, backbone=backbone)
    assert seen and {shape[1] for shape in seen} == {3}
    with pytest.raises(ContractError, match="needs the backbone of a run"):
        LoadedUpsampler.of(Asking())(FEATURES, IMAGE)


def test_the_command_check_hands_it_over_too(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--channels", "8", "--patch-size", "7", "--image-size", "28"]
    assert cli.main(["check", f"{FILE}:LikeFeatSharp", *sizes]) == 0
    assert "(image, the backbone as a function)" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["check", f"{FILE}:LikeVitUp", *sizes]) == 0
    printed = capsys.readouterr()
    assert "(image, points B×N×2)" in printed.out and "it ignores those of the protocol's backbone" in printed.err


def test_points_are_the_centres_of_pixels_from_left_to_right_and_top_to_bottom() -> None:
    asked: list[Tensor] = []

    def at_points(images: Tensor, query_coords: Tensor) -> Tensor:
        asked.append(query_coords)
        return query_coords

    found = to_contract(at_points)(torch.zeros(2, 2, 1, 1), torch.zeros(2, 3, 3, 4))
    assert found.shape == (2, 2, 3, 4)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(found[1, 1, :, 0], torch.tensor([1 / 6, 0.5, 5 / 6]))
    assert len(asked) == 1


def test_points_are_asked_for_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    upsampler = known.LikeVitUp().eval()
    whole = adapt(upsampler, "image_points")(FEATURES, IMAGE)
    monkeypatch.setattr("vfm_isbench.upsamplers.loading.point_queries.MOST_QUERIES", 70)
    upsampler.most = 0
    assert torch.equal(adapt(upsampler, "image_points")(FEATURES, IMAGE), whole)
    assert upsampler.most == 56


def test_a_whole_run_with_cached_features_and_its_checkpoint_again(tmp_path: Path) -> None:
    protocol = TINY.replace(epochs=1, samples_per_epoch=2, max_clicks=2, object_limit=2)
    spec = f"{FILE}:LikeFeatSharp"
    cached = Speed(feature_cache=tmp_path / "features")
    results = [
        Benchmark(protocol, progress=False, speed=cached, output_dir=tmp_path / folder).run(spec)
        for folder in ("one", "again")  # the second finds all features of the first
    ]
    results.append(evaluate_checkpoint(tmp_path / "one", upsampler=spec, progress=False))
    evidence = [result.datasets["scenes"].objects for result in results]
    assert evidence[0] == evidence[1]
    assert [one.clicks for one in evidence[0]] == [one.clicks for one in evidence[2]]
    assert len({result.upsampler["sha256"] for result in results}) == 1
    assert all(result.upsampler["source"] == {"uses_backbone": True} for result in results)
    assert all(result.upsampler["n_parameters"] == 1 for result in results)
