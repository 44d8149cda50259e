"""The paper's figure: its columns, rows and content."""

from __future__ import annotations

import numpy as np
import pytest

from vfm_isbench.errors import PictureError
from vfm_isbench.viz import FeatureRow, feature_table, joint_colours


def row(seed: int, names: list[str]) -> FeatureRow:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    return FeatureRow(image, rng.normal(size=(5, 2, 2)), {name: rng.normal(size=(5, 28, 28)) for name in names})


def test_images_down_and_upsamplers_across() -> None:
    rows = [row(0, ["bilinear", "jbu"]), row(1, ["bilinear", "jbu"])]
    figure = feature_table(rows, backbone="fake")
    assert len(figure.axes) == 8
    titles = [panel.get_title() for panel in figure.axes[:4]]
    assert titles == ["image", "fake\n2×2", "bilinear\n28×28", "jbu\n28×28"]
    for number, one in enumerate(rows):
        drawn = [panel.images[0].get_array() for panel in figure.axes[4 * number : 4 * number + 4]]
        np.testing.assert_array_equal(drawn[0], one.image)
        expected = joint_colours([one.features, one.upsampled["bilinear"], one.upsampled["jbu"]])
        for found, colours in zip(drawn[1:], expected, strict=True):
            np.testing.assert_array_equal(found, colours)
    assert {panel.images[0].get_interpolation() for panel in figure.axes} == {"nearest"}


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PictureError):
        feature_table([], backbone="fake")
    with pytest.raises(PictureError):
        feature_table([row(0, ["a"]), row(1, ["b"])], backbone="fake")
