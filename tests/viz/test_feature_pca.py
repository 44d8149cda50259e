"""One projection for all maps: what changes its colours, and what must not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfm_isbench.errors import PictureError
from vfm_isbench.viz import joint_colours


def maps(seed: int) -> list[np.ndarray]:
    """A coarse map and two finer ones, with components of clearly different size and skew."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    sizes = np.array([8, 4, 2, 0.5, 0.25, 0.1, 0.05])
    return [
        np.einsum("ij,jhw->ihw", basis, sizes[:, None, None] * rng.gamma(1.0, 1.0, (7, side, side)))
        for side in (4, 9, 12)
    ]


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-50, 50))
def test_no_change_by_shift_scale_rotation_or_order(seed: int, scale: float, shift: float) -> None:
    before = maps(seed)
    rotation = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(7, 7)))[0]
    after = [np.einsum("ij,jhw->ihw", rotation, scale * one + shift) for one in before]
    expected = joint_colours(before)
    for one, other in zip(expected, joint_colours(after[::-1])[::-1], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_equal_features_have_equal_colours_and_repetition_changes_none(seed: int, times: int) -> None:
    coarse, fine, _ = maps(seed)
    repeated = coarse.repeat(times, axis=1).repeat(times, axis=2)
    colours, of_fine, of_repeated = joint_colours([coarse, fine, repeated])
    np.testing.assert_allclose(of_repeated, colours.repeat(times, axis=0).repeat(times, axis=1), atol=1e-9)
    again, of_fine_again, _ = joint_colours([coarse, fine, coarse])
    np.testing.assert_allclose(again, colours, atol=1e-6)
    np.testing.assert_allclose(of_fine_again, of_fine, atol=1e-6)


def test_colours_are_the_principal_components() -> None:
    """Compare with NumPy's singular vectors on a single map, whose weights do not matter."""
    (one, *_) = maps(3)
    cells = one.reshape(7, -1).T
    cells = cells - cells.mean(axis=0)
    projected = cells @ np.linalg.svd(cells)[2][:3].T
    colours = joint_colours([one])[0].reshape(-1, 3)
    assert colours.min() == 0 and colours.max() == 1
    for component in range(3):
        inside = (colours[:, component] > 0) & (colours[:, component] < 1)
        correlation = np.corrcoef(colours[inside, component], projected[inside, component])[0, 1]
        assert abs(correlation) == pytest.approx(1, abs=1e-9)


def test_the_coarse_map_is_not_outvoted() -> None:
    """A constant fine map leaves the scale to the coarse one, however many cells it has."""
    coarse = np.zeros((3, 2, 2))
    coarse[0] = [[0, 1], [2, 3]]
    fine = np.zeros((3, 100, 100))
    fine[0] = 1.5
    colours, _ = joint_colours([coarse, fine])
    assert np.ptp(colours[..., 0]) == 1


def test_what_does_not_vary_is_grey() -> None:
    constant = joint_colours([np.full((5, 2, 2), 3.25), np.full((5, 4, 4), 3.25)])
    assert all((one == 0.5).all() for one in constant)
    (two_channels,) = joint_colours([np.random.default_rng(0).normal(size=(2, 3, 3))])
    assert (two_channels[..., 2] == 0.5).all() and np.ptp(two_channels[..., 0]) > 0.9


@pytest.mark.parametrize(
    "wrong", [[], [np.zeros((3, 4))], [np.zeros((3, 2, 2)), np.zeros((4, 2, 2))], [np.full((3, 2, 2), np.nan)]]
)
def test_what_cannot_be_coloured(wrong) -> None:
    with pytest.raises(PictureError):
        joint_colours(wrong)
