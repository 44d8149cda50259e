"""Prediction of one object from its clicks: crop, mirror, network, paste back (protocol sections 3.2 to 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.acceleration.cached_probe import Network
from vfm_isbench.clicks import click_maps, points_tensor
from vfm_isbench.evaluation.zoom_in import Box, choose_crop
from vfm_isbench.probe.finite import finite_logits
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Array, Click


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
        pixels = torch.from_numpy(np.array(image, order="C")).to(network.device)
        self.image = pixels.permute(2, 0, 1).float().div(255)[None]
        self.shape: tuple[int, int] = (image.shape[0], image.shape[1])
        self._whole: Any = None

    def encode(self, box: Box) -> Any:
        """Encode a crop (with its mirror image, if the protocol flips), resized to the network's input size."""
        is_whole = box == Box.whole(self.shape)
        if is_whole and self._whole is not None:
            return self._whole
        encoded = self.network.encode(self.resized_crop(self.image, box))
        if is_whole:
            self._whole = encoded
        return encoded

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
    """

    def __init__(self, crops: ImageCrops) -> None:
        self._crops = crops
        self._box: Box | None = None
        self._encoded: Any = None
        self._probability: Tensor | None = None
        self._probability_on_cpu: Array | None = None

    @property
    def box(self) -> Box | None:
        """Crop used by the last prediction."""
        return self._box

    def predict(self, clicks: Sequence[Click]) -> Array:
        """Predict the object from all its clicks so far.

        Returns:
            H×W float32 probabilities, zero outside the crop.
        """
        with torch.no_grad():
            return self.paste_to_image(self._crops.network.logits(*self.prepare_input(clicks)))

    @torch.no_grad()
    def prepare_input(self, clicks: Sequence[Click]) -> tuple[Any, Tensor]:
        """Choose the crop for all clicks so far; returns the network's input: the encoded crop and the click map."""
        crops = self._crops
        box = choose_crop(self._box, self._probability_on_cpu, crops.shape, clicks, crops.protocol)
        if box != self._box or self._encoded is None:
            self._encoded = crops.encode(box)
            self._box = box
        return self._encoded, self._click_map(clicks, box)

    @torch.no_grad()
    def paste_to_image(self, logits: Tensor) -> Array:
        """Paste the logits of the crop just prepared into the image; returns probabilities as :meth:`predict` does.

        Raises:
            NonFiniteError: if a logit is NaN or infinite.
        """
        protocol, box = self._crops.protocol, self._box
        assert box is not None, "prepare_input() comes first"
        logits = finite_logits(logits.float())
        if protocol.flip_test:
            logits = 0.5 * (logits[:1] + logits[1:].flip(3))
        crop = functional.interpolate(
            torch.sigmoid(logits),
            size=(box.height, box.width),
            mode="bilinear",
            align_corners=protocol.align_corners,
        )
        self._probability = crop.new_zeros(1, 1, *self._crops.shape)
        rows, cols = box.slices
        self._probability[..., rows, cols] = crop
        on_cpu: Array = self._probability[0, 0].cpu().numpy()
        self._probability_on_cpu = on_cpu
        return on_cpu

    def _click_map(self, clicks: Sequence[Click], box: Box) -> Tensor:
        protocol, device = self._crops.protocol, self._crops.image.device
        size = protocol.image_size
        mapped = [box.map_click(click, size) for click in clicks]
        views = [mapped]
        if protocol.flip_test:
            views.append([Click(click.row, size - 1 - click.col, click.is_positive) for click in mapped])
        if self._probability is None:
            previous = torch.zeros(len(views), 1, size, size, device=device)
        else:
            previous = self._crops.resized_crop(self._probability, box)
        return click_maps(points_tensor(views).to(device), previous, protocol.disk_radius)
