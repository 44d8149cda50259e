"""Features for the figure: those the probe's head would get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from vfm_isbench.errors import ContractError, DataError
from vfm_isbench.inspection.feature_maps import read_square_image, square_image, upsampled_features
from vfm_isbench.testing.fakes import FakeBackbone, FakeUpsampler
from vfm_isbench.upsamplers import Identity, Nearest

IMAGE = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)


def test_features_and_what_upsamplers_make_of_them() -> None:
    backbone, upsampler = FakeBackbone().eval(), FakeUpsampler().eval()
    upsamplers = {"nearest": Nearest(), "identity": Identity(), "fake": upsampler}
    (row,) = upsampled_features([IMAGE], backbone, upsamplers)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = (torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 255 - mean) / std
    with torch.no_grad():
        features = backbone(normalised)
        expected = upsampler(features, normalised)
    np.testing.assert_allclose(row.features, features[0], atol=1e-6)
    np.testing.assert_allclose(row.upsampled["identity"], features[0], atol=1e-6)
    np.testing.assert_allclose(row.upsampled["nearest"], functional.interpolate(features, (28, 28))[0], atol=1e-6)
    np.testing.assert_allclose(row.upsampled["fake"], expected[0], atol=1e-6)
    assert list(row.upsampled) == list(upsamplers)
    np.testing.assert_array_equal(row.image, IMAGE)


def test_an_upsampler_that_breaks_its_contract_is_refused() -> None:
    with pytest.raises(ContractError):
        upsampled_features([IMAGE], FakeBackbone(), {"bad": lambda features, image: features[:, :2]})


def test_images_are_cut_square_not_squeezed(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    assert (square_image(wide, 20) == 200).all()
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_square_image(tmp_path / "wide.png", 10).shape == (10, 10, 3)
    Image.fromarray(wide[..., 0]).save(tmp_path / "grey.png")
    assert read_square_image(tmp_path / "grey.png", 10).shape == (10, 10, 3)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no image")
    for name in ("no.png", "absent.png"):
        with pytest.raises(DataError, match=name):
            read_square_image(tmp_path / name, 10)
