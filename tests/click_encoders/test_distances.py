"""Tokens know how far every patch is from the clicks of each sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vfm_isbench.click_encoders import DistanceEncoder
from vfm_isbench.click_encoders.distances import REACHES, nearness

PATCH = 4


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    share=st.sampled_from([0.02, 0.2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearness_falls_with_the_distance_to_the_nearest_patch_with_a_click(size, share, seed):
    rng = np.random.default_rng(seed)
    disks = (rng.random((2, 2, size[0] * PATCH, size[1] * PATCH)) < share).astype(np.float32)
    found = nearness(torch.from_numpy(disks), PATCH).numpy()
    assert found.shape == (2, 2 * len(REACHES), *size)
    for image in range(2):
        for sign in range(2):
            patches = disks[image, sign].reshape(size[0], PATCH, size[1], PATCH).any(axis=(1, 3))
            distance = ndimage.distance_transform_edt(~patches)
            for number, reach in enumerate(REACHES):
                expected = np.exp(-distance / (max(size) * reach)) if patches.any() else np.zeros(size)
                np.testing.assert_allclose(found[image, sign * len(REACHES) + number], expected, rtol=1e-5, atol=1e-7)


def test_a_token_depends_on_its_own_patch_of_the_mask_and_on_clicks_anywhere():
    torch.manual_seed(0)
    encoder = DistanceEncoder(channels=6, patch_size=PATCH)
    empty = torch.zeros(1, 3, 16, 24)
    assert encoder(empty).shape == (1, 6, 4, 6)

    def changed(channel: int) -> np.ndarray:
        touched = empty.clone()
        touched[0, channel, 5, 9] = 1.0
        return (encoder(touched) != encoder(empty)).any(dim=1)[0].numpy()

    own = np.zeros((4, 6), dtype=bool)
    own[1, 2] = True
    np.testing.assert_array_equal(changed(0), own)
    assert changed(1).all()
    assert changed(2).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_images_of_a_batch_do_not_see_each_other(batch):
    torch.manual_seed(0)
    encoder = DistanceEncoder(channels=4, patch_size=PATCH)
    maps = (torch.rand(batch, 3, 16, 16) < 0.02).float()
    alone = torch.cat([encoder(one[None]) for one in maps])
    torch.testing.assert_close(encoder(maps), alone)


def test_every_weight_is_trained():
    encoder = DistanceEncoder(channels=4, patch_size=PATCH)
    maps = torch.zeros(1, 3, 16, 16)
    maps[0, :, 3, 3] = 1.0
    encoder(maps).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
