"""How far adapters have moved a backbone's features from the frozen ones, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ProtocolError
from vfm_isbench.probe import Probe
from vfm_isbench.probe.adapters import blocks_of

FEATURES = "features"
"""Name of the layer after the last: what the backbone returns."""


def distortion(first: Tensor, second: Tensor, dim: int = -1) -> float:
    """Mean of 1 − cosine between two maps of vectors, in [0, 2]; exactly 0 for equal maps without zero vectors.

    Args:
        first: Any shape.
        second: The same shape.
        dim: The dimension of the vectors.
    """
    units = (functional.normalize(maps.double(), dim=dim) for maps in (first, second))
    # Half the squared distance of unit vectors is 1 − cosine, without the rounding of a product that should be 1.
    return float(torch.sub(*units).square().sum(dim).mean() / 2)


@torch.no_grad()
def layer_distortions(probe: Probe, images: Tensor, granularity: float, *, of_copy: bool = False) -> dict[str, float]:
    """The :func:`distortion` of every block of the backbone and of its features, for one granularity.

    Args:
        probe: A probe with adapters; put in eval mode.
        images: B×3×H×W in [0, 1].
        granularity: What the adapters are told.
        of_copy: With granularity "gated_lora", look at the copy that joins the click tokens. Otherwise this is about
            the features that the upsampler gets.

    Returns:
        "block 1", "block 2", … and "features" (see :data:`FEATURES`), each with its distortion.

    Raises:
        ProtocolError: if the probe has no adapters.
    """
    adapters = probe.eval().adapters
    if adapters is None:
        raise ProtocolError("this probe takes no granularity, so there is nothing that could distort its features")
    normalised, _ = probe.normalise(images.to(probe.device))
    values = normalised.new_full((len(images),), granularity)
    frozen = _layers(probe.backbone, lambda: cast(Tensor, probe.backbone(normalised)))
    if adapters.backbone is None or not (adapters.changes_features or of_copy):
        adapted = _layers(probe.backbone, lambda: probe.image_features(normalised, normalised))
    else:
        adapted = _layers(adapters.backbone, lambda: adapters.features(normalised, values))
    return {name: distortion(frozen[name], adapted[name], dim=1 if name == FEATURES else -1) for name in frozen}


def _layers(backbone: nn.Module, run: Callable[[], Tensor]) -> dict[str, Tensor]:
    """What the blocks of a transformer return in a call, B×N×C, and the features B×C×h×w that the call returns."""
    found: dict[str, Tensor] = {}
    with _kept(backbone, found):
        features = run()
    return {**found, FEATURES: features}


@contextmanager
def _kept(backbone: nn.Module, found: dict[str, Tensor]) -> Iterator[None]:
    handles = []
    for number, name in enumerate(blocks_of(backbone), start=1):

        def keep(_module: nn.Module, _inputs: Any, output: Tensor, label: str = f"block {number}") -> None:
            found[label] = output

        handles.append(backbone.get_submodule(name).register_forward_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
