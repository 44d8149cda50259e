"""LiFT, FeatUp-JBU and LoftUp give the outputs recorded from the original code, alone and in a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity_models import Deviation
from safetensors.torch import load_file
from torch.nn import functional

from vfm_isbench.upsamplers import featup_from_state_dict, lift_from_state_dict, loftup_from_state_dict

LOADERS: dict[str, Callable[..., Any]] = {
    "lift": lift_from_state_dict,
    # Recorded as iSegProbe uses it, without the norm in the file.
    "featup_jbu": functools.partial(featup_from_state_dict, channel_norm=False),
    "loftup_hub_layout": loftup_from_state_dict,
    "loftup_drive_layout": loftup_from_state_dict,
}


@torch.no_grad()
@pytest.mark.parametrize("together", [True, False], ids=["batch", "alone"])
@pytest.mark.parametrize("name", LOADERS)
def test_recorded_outputs(name: str, together: bool, parity_root: Path, deviation: Deviation) -> None:
    recorded = load_file(parity_root / f"{name}.safetensors")
    state = {key.removeprefix("state."): value for key, value in recorded.items() if key.startswith("state.")}
    upsampler = LOADERS[name](state, name)
    pairs = zip(
        recorded["features"].split(2 if together else 1), recorded["image"].split(2 if together else 1), strict=True
    )
    output = torch.cat([upsampler(features, image) for features, image in pairs])
    assert list(output.shape) == recorded["output_size"].tolist()
    pooled = output if output.shape == recorded["output_pooled"].shape else functional.avg_pool2d(output, 7)
    assert pooled.shape == recorded["output_pooled"].shape
    largest = max(
        float((pooled - recorded["output_pooled"]).abs().max()),
        float((output[..., :24, :24] - recorded["output_corner"]).abs().max()),
    )
    deviation(f"upsampler: {name}", largest, 1e-4)
