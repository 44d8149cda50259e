"""Prediction of one object: mirror, crop, previous mask, and what is computed how often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import SMALL, CallCounter, small_probe
from torch import Tensor
from torch.nn import functional

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.clicks import click_maps, points_tensor
from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor
from vfm_isbench.evaluation.zoom_in import Box
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.types import Array, Click

WHOLE = SMALL.replace(zoom_in=False)
IMAGE = FakeDataset(size=(28, 28)).read("fake0").image
CLICKS = [Click(14, 7, True), Click(3, 20, False), Click(20, 22, True)]


def predict_all(probe: Probe, image: Array, clicks: list[Click], protocol: Protocol) -> list[Array]:
    predictor = ObjectPredictor(ImageCrops(CachedProbe(probe.eval()), image, protocol))
    return [predictor.predict(clicks[: count + 1]) for count in range(len(clicks))]


def mirrored(clicks: list[Click], width: int) -> list[Click]:
    return [Click(click.row, width - 1 - click.col, click.is_positive) for click in clicks]


def test_the_mirrored_image_gives_the_mirrored_prediction() -> None:
    """The network itself does not treat left and right alike; the mean over both views does."""
    for injection in ("late", "early", "pre_upsampler"):
        protocol = WHOLE.replace(injection=injection)
        probe = small_probe(protocol)
        straight = predict_all(probe, IMAGE, CLICKS, protocol)
        other = predict_all(probe, IMAGE[:, ::-1], mirrored(CLICKS, 28), protocol)
        for one, turned in zip(straight, other, strict=True):
            np.testing.assert_allclose(turned[:, ::-1], one, rtol=0, atol=1e-6)
        assert np.ptp(straight[-1]) > 1e-3
        without = protocol.replace(flip_test=False)
        plain = predict_all(probe, IMAGE, CLICKS, without)[-1]
        turned = predict_all(probe, IMAGE[:, ::-1], mirrored(CLICKS, 28), without)[-1]
        assert not np.allclose(turned[:, ::-1], plain, atol=1e-4)


def by_hand(probe: Probe, image: Array, clicks: list[Click], previous: Tensor) -> Tensor:
    """Mean logits of an image of the network's size and of its mirror image, whole, from the forward pass alone."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    radius = WHOLE.disk_radius
    straight = probe(pixels, click_maps(points_tensor([clicks]), previous, radius))
    turned = probe(pixels.flip(3), click_maps(points_tensor([mirrored(clicks, 28)]), previous.flip(3), radius))
    mean: Tensor = (straight + turned.flip(3)) / 2
    return mean


def test_logits_are_averaged_and_the_last_prediction_is_the_previous_mask() -> None:
    probe = small_probe().eval()
    previous = torch.zeros(1, 1, 28, 28)
    with torch.no_grad():
        for count, probability in enumerate(predict_all(probe, IMAGE, CLICKS, WHOLE)):
            previous = torch.sigmoid(by_hand(probe, IMAGE, CLICKS[: count + 1], previous))
            np.testing.assert_allclose(probability, previous[0, 0].numpy(), rtol=0, atol=1e-6)


class MarksWhatIsBright:
    """A network whose prediction is known, and which keeps what it is shown."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.click_maps: list[Tensor] = []
        self.crops: list[Tensor] = []

    def encode(self, image: Tensor, _features: Tensor | None = None) -> Tensor:
        self.crops.append(image)
        return image

    def logits(self, _encoded: Tensor, click_map: Tensor, _small: Tensor | None = None) -> Tensor:
        self.click_maps.append(click_map)
        return 20 * (self.crops[-1].mean(dim=1, keepdim=True) - 0.5)


def bright_block(shape: tuple[int, int], box: Box) -> Array:
    image = np.zeros((*shape, 3), np.uint8)
    image[box.slices] = 255
    return image


BLOCK = Box(30, 49, 40, 59)
SHAPE = (90, 120)


def zoomed() -> tuple[MarksWhatIsBright, ObjectPredictor]:
    network = MarksWhatIsBright()
    return network, ObjectPredictor(ImageCrops(network, bright_block(SHAPE, BLOCK), SMALL))


def test_outside_the_crop_the_probability_is_zero() -> None:
    _, predictor = zoomed()
    predictor.predict([Click(40, 50, True)])
    assert predictor.box == Box.whole(SHAPE)
    probability = predictor.predict([Click(40, 50, True), Click(5, 5, False)])
    box = predictor.box
    assert box is not None and box.height < 60
    outside = np.ones(SHAPE, bool)
    outside[box.slices] = False
    assert not probability[outside].any()
    assert (probability[~outside] > 0).all()
    assert ((probability > 0.5) == (bright_block(SHAPE, BLOCK)[..., 0] > 0)).mean() > 0.98


def test_the_network_sees_crop_mirror_image_and_previous_mask_at_its_size() -> None:
    probe, predictor = zoomed()
    first = predictor.predict([Click(40, 50, True)])
    predictor.predict([Click(40, 50, True), Click(5, 5, False)])
    box = predictor.box
    assert box is not None
    image = torch.from_numpy(bright_block(SHAPE, BLOCK)).permute(2, 0, 1).float() / 255
    for shown, source in ((probe.crops[1], image), (probe.click_maps[1][:, :1], torch.from_numpy(first)[None])):
        cut = source[None, :, box.row_min : box.row_max + 1, box.col_min : box.col_max + 1]
        expected = functional.interpolate(cut, (28, 28), mode="bilinear", align_corners=True)
        torch.testing.assert_close(shown, torch.cat([expected, expected.flip(3)]))
    mapped = box.map_click(Click(40, 50, True), 28)
    turned = Click(mapped.row, 27 - mapped.col, True)
    outside = box.map_click(Click(5, 5, False), 28)
    outside_turned = Click(outside.row, 27 - outside.col, False)
    disks = click_maps(points_tensor([[mapped, outside], [turned, outside_turned]]), torch.zeros(2, 1, 28, 28), 5.0)
    torch.testing.assert_close(probe.click_maps[1][:, 1:], disks[:, 1:])


def test_a_crop_that_stays_is_encoded_once() -> None:
    probe, predictor = zoomed()
    clicks = [Click(40, 50, True)]
    for number in range(6):
        predictor.predict(clicks)
        clicks.append(Click(2 * number, 3, False))
    # The whole image, then the crop of the first prediction, which fits ever after.
    assert len(probe.crops) == 2
    assert len(probe.click_maps) == 6


def test_a_positive_click_outside_takes_a_new_crop() -> None:
    probe, predictor = zoomed()
    clicks = [Click(40, 50, True)]
    predictor.predict(clicks)
    predictor.predict(clicks)
    narrow = predictor.box
    clicks.append(Click(85, 110, True))
    predictor.predict(clicks)
    assert predictor.box != narrow
    assert len(probe.crops) == 3


@pytest.mark.parametrize(("injection", "calls"), [("late", 1), ("pre_upsampler", 1), ("early", 5)])
def test_clicks_without_a_new_crop_cost_no_new_features(injection: str, calls: int) -> None:
    protocol = WHOLE.replace(injection=injection)
    probe = small_probe(protocol)
    counter = CallCounter(probe.backbone)
    predict_all(probe, IMAGE, CLICKS + [Click(1, 1, False), Click(2, 2, True)], protocol)
    assert counter.calls == calls


def test_all_objects_of_an_image_share_its_whole_crop() -> None:
    probe = small_probe(WHOLE).eval()
    counter = CallCounter(probe.backbone)
    crops = ImageCrops(CachedProbe(probe), IMAGE, WHOLE)
    shared = [ObjectPredictor(crops).predict(CLICKS[:1]) for _ in range(3)]
    assert counter.calls == 1
    assert np.array_equal(shared[0], shared[2])


def test_objects_do_not_see_each_other() -> None:
    """The state of one object stays with it."""
    probe = small_probe(WHOLE).eval()
    alone = predict_all(probe, IMAGE, CLICKS, WHOLE)[-1]
    crops = ImageCrops(CachedProbe(probe), IMAGE, WHOLE)
    one, other = ObjectPredictor(crops), ObjectPredictor(crops)
    for count in range(1, 4):
        together = one.predict(CLICKS[:count])
        other.predict(mirrored(CLICKS, 28)[:count])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
