"""Prediction of one object from its clicks: crop, mirror, network, paste back (protocol sections 3.2 to 3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.acceleration.cached_probe import Network
from vfm_isbench.acceleration.transfers import upload
from vfm_isbench.clicks import click_maps, points_tensor
from vfm_isbench.evaluation.zoom_in import Box, choose_crop
from vfm_isbench.probe.finite import finite_logits
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import AnnotatedImage, Array, Click


class ImageCrops:
    """One image and its encoded crops; the crop of the whole image is kept, because every object starts with it.

    Args:
        network: The network, cached or not.
        image: H×W×3 uint8 RGB.
        protocol: All settings of the evaluation.

    Attributes:
        network: As given.
        protocol: As given.
        image: 1×3×H×W in [0, 1], on the network's device.
        shape: (H, W).
    """

    def __init__(self, network: Network, image: Array, protocol: Protocol) -> None:
        self.network = network
        self.protocol = protocol
        # A copy, because PyTorch takes neither read-only arrays nor mirrored views.
        pixels = upload(torch.from_numpy(np.array(image, order="C")), network.device)
        self.image = pixels.permute(2, 0, 1).float().div(255)[None]
        self.shape: tuple[int, int] = (image.shape[0], image.shape[1])
        self._whole: Any = None

    def encoded(self, box: Box) -> Any:
        """The encoded crop, if it is kept; else None."""
        return self._whole if box == Box.whole(self.shape) else None

    def encode(self, box: Box, features: Tensor | None = None) -> Any:
        """Encode a crop (with its mirror image, if the protocol flips), resized to the network's input size.

        Args:
            box: The crop.
            features: The backbone's features of :meth:`crop`, if they are already computed.
        """
        kept = self.encoded(box)
        if kept is not None:
            return kept
        encoded = self.network.encode(self.crop(box), features)
        if box == Box.whole(self.shape):
            self._whole = encoded
        return encoded

    def crop(self, box: Box) -> Tensor:
        """The pixels that the network encodes for a crop: 1×3×S×S, or 2×3×S×S with the mirror image."""
        return self.resized_crop(self.image, box)

    def forget(self) -> None:
        """Drop the encoded crop that is kept."""
        self._whole = None

    def resized_crop(self, maps: Tensor, box: Box) -> Tensor:
        """Cut ``box`` out of 1×K×H×W maps, resize it to the input size, append the mirror image if asked for."""
        size = self.protocol.image_size
        rows, cols = box.slices
        crop = functional.interpolate(
            maps[..., rows, cols], size=(size, size), mode="bilinear", align_corners=self.protocol.align_corners
        )
        return torch.cat([crop, crop.flip(3)]) if self.protocol.flip_test else crop


class ObjectPredictor:
    """Keeps the state of one object between its clicks: crop and previous prediction.

    Args:
        crops: The image, shared by its objects.
        granularity: What the network is told of the object; not used unless the protocol has a granularity.

    Attributes:
        crops: As given.
        granularity: As given.
        extent: Box around the pixels above the protocol's ``zoom_threshold`` in the last prediction; None if there are
            none. Whoever reads the prediction sets it.
        encoded: The crop in use, encoded by the network; None if it is still to be encoded.
    """

    def __init__(self, crops: ImageCrops, granularity: float = 1.0) -> None:
        self.crops = crops
        self.granularity = granularity
        self.extent: Box | None = None
        self.encoded: Any = None
        self._encoded_box: Box | None = None
        self._box: Box | None = None
        self._probability: Tensor | None = None

    @property
    def box(self) -> Box | None:
        """Crop used by the last prediction."""
        return self._box

    def predict(self, clicks: Sequence[Click]) -> Array:
        """Predict the object from all its clicks so far.

        Returns:
            H×W float32 probabilities, zero outside the crop.

        Raises:
            NonFiniteError: if a logit is NaN or infinite.
        """
        with torch.no_grad():
            box = self.choose_box(clicks)
            self.encoded = self.crops.encode(box) if self.encoded is None else self.encoded
            logits = self.crops.network.logits(self.encoded, click_map([self], [clicks]))
            probability: Array = self.paste_to_image(finite_logits(logits)).cpu().numpy()
        self.extent = Box.around(probability > self.crops.protocol.zoom_threshold)
        return probability

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Predictions inside a block leave box and previous prediction as they were.

        A crop that was encoded there is kept, because the next click often has the same one.
        """
        before = self._box, self._probability
        try:
            yield
        finally:
            self._box, self._probability = before

    def forget(self) -> None:
        """Drop the encoded crops of the object and its image; they will be encoded again."""
        self.encoded = None
        self.crops.forget()

    def choose_box(self, clicks: Sequence[Click]) -> Box:
        """Choose the crop for all clicks so far; forgets the encoding of another crop."""
        self._box = box = choose_crop(self._box, self.extent, self.crops.shape, clicks, self.crops.protocol)
        if box != self._encoded_box:
            self._encoded_box, self.encoded = box, None
        return box

    def paste_to_image(self, logits: Tensor) -> Tensor:
        """Paste the logits of the crop in use into the image; returns probabilities H×W, zero outside the crop."""
        protocol, box = self.crops.protocol, self._box
        assert box is not None, "choose_box() comes first"
        logits = logits.float()
        if protocol.flip_test:
            logits = 0.5 * (logits[:1] + logits[1:].flip(3))
        crop = functional.interpolate(
            torch.sigmoid(logits),
            size=(box.height, box.width),
            mode="bilinear",
            align_corners=protocol.align_corners,
        )
        self._probability = crop.new_zeros(1, 1, *self.crops.shape)
        rows, cols = box.slices
        self._probability[..., rows, cols] = crop
        return self._probability[0, 0]

    def views_of(self, clicks: Sequence[Click]) -> list[list[Click]]:
        """The clicks in the pixels of the crop in use, and of its mirror image if the protocol flips."""
        protocol, box = self.crops.protocol, self._box
        assert box is not None, "choose_box() comes first"
        size = protocol.image_size
        mapped = [box.map_click(click, size) for click in clicks]
        if not protocol.flip_test:
            return [mapped]
        return [mapped, [Click(click.row, size - 1 - click.col, click.is_positive) for click in mapped]]

    def previous_mask(self) -> Tensor:
        """The last prediction in the crop in use, 1×1×S×S, or 2×1×S×S with the mirror image; zeros before the first."""
        if self._probability is not None and self._box is not None:
            return self.crops.resized_crop(self._probability, self._box)
        size = self.crops.protocol.image_size
        return self.crops.image.new_zeros(2 if self.crops.protocol.flip_test else 1, 1, size, size)


def click_map(predictors: Sequence[ObjectPredictor], clicks: Sequence[Sequence[Click]]) -> Tensor:
    """The click maps of several objects, one after the other, in one tensor and with one upload.

    Args:
        predictors: The objects, all of one network.
        clicks: All clicks of each.

    Returns:
        K×3×S×S or K×4×S×S, see :func:`vfm_isbench.clicks.click_maps`; K is the number of objects, doubled by mirror
        images.
    """
    first = predictors[0].crops
    per_object = [predictor.views_of(placed) for predictor, placed in zip(predictors, clicks, strict=True)]
    views = [view for of_object in per_object for view in of_object]
    masks = [predictor.previous_mask() for predictor in predictors]
    previous = torch.cat(masks) if masks[1:] else masks[0]
    granularities = None
    if first.protocol.granularity != "none":
        granularities = [p.granularity for p, of_object in zip(predictors, per_object, strict=True) for _ in of_object]
    points = upload(points_tensor(views), first.image.device)
    return click_maps(points, previous, first.protocol.disk_radius, granularities)


def granularity_of(sample: AnnotatedImage, instance: int | None, protocol: Protocol) -> float:
    """What the network is told of an object or part: its own granularity, or the protocol's ``granularity_at_test``."""
    if protocol.granularity == "none":
        return 1.0
    fixed = protocol.granularity_at_test
    return sample.granularity([instance]) if fixed is None else fixed
