"""Crops, clicks and pasted probabilities equal those recorded from the reference implementation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from parity_models import Deviation
from torch import Tensor
from torch.nn import functional

from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor
from vfm_isbench.evaluation.zoom_in import Box
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Click

PROTOCOL = Protocol.preset("paper").replace(flip_test=False)


class Replay:
    """Stands for the probe: answers every prediction with the recorded one."""

    def __init__(self, probabilities: Tensor) -> None:
        self.device = torch.device("cpu")
        self._answers = iter(torch.logit(probabilities.double()))

    def encode(self, image: Tensor, _features: Tensor | None = None) -> SimpleNamespace:
        return SimpleNamespace(image=image)

    def logits(self, encoded: SimpleNamespace, click_map: Tensor, _small: Tensor | None = None) -> Tensor:
        answer: Tensor = next(self._answers)[None, None].float()
        return answer


@pytest.mark.parametrize("case", range(6))
def test_crop_clicks_and_pasted_probability(parity_root: Path, case: int, deviation: Deviation) -> None:
    with np.load(parity_root / "zoom_in.npz") as content:
        recorded = dict(content)
    has_pixels = case < 2
    shape = recorded[f"image_{case}"].shape[1:] if has_pixels else tuple(recorded[f"image_{case}"])
    placed = [Click(int(row), int(col), bool(sign)) for row, col, sign in recorded[f"clicks_{case}"]]
    probe: Any = Replay(torch.from_numpy(recorded[f"probs_{case}"]))
    crops = ImageCrops(probe, np.zeros((*shape, 3), np.uint8), PROTOCOL)
    predictor = ObjectPredictor(crops)
    for step in range(len(placed)):
        probability = predictor.predict(placed[: step + 1])
        row_min, row_max, col_min, col_max = recorded[f"rois_{case}"][step].tolist()
        assert predictor.box == Box(row_min, row_max, col_min, col_max)
        mapped = [predictor.box.map_click(click, 224) for click in placed[: step + 1]]
        expected = recorded[f"tclicks_{case}_{step}"]
        assert len(mapped) == len(expected)
        differences = np.subtract([(click.row, click.col) for click in mapped], expected)
        deviation("evaluation: clicks in the crop, pixels", np.abs(differences).max(), 1e-9)
        if has_pixels:
            crop = crops.resized_crop(torch.from_numpy(recorded[f"image_{case}"])[None], predictor.box)
            pooled = functional.avg_pool2d(crop, 16)[0].numpy()
            deviation("evaluation: resized crops", np.abs(pooled - recorded[f"crops16_{case}"][step]).max(), 1e-5)
    expected = recorded[f"last_full_prob_{case}"]
    assert probability.shape == expected.shape
    deviation("evaluation: probabilities pasted back", np.abs(probability - expected).max(), 1e-5)
