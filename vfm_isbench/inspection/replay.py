"""Repeats predictions: results keep clicks and IoUs but no masks, and a trained probe turns clicks into masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.datasets import ObjectDataset, read_sample
from vfm_isbench.errors import DataError, PictureError
from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor, granularity_of
from vfm_isbench.metrics import intersection_over_union
from vfm_isbench.probe import Probe
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import benchmark_settings, current_device
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import AnnotatedImage, Array, Click, ObjectEvidence
from vfm_isbench.viz import ShownObject
from vfm_isbench.viz.canvas import plain


@benchmark_settings()
def replay(probe: Probe, image: Array, protocol: Protocol, clicks: Sequence[Click], granularity: float = 1.0) -> Array:
    """Predict an object from recorded clicks, one after the other, because each prediction is an input of the next.

    Args:
        probe: The trained network, in eval mode.
        image: H×W×3 uint8 RGB.
        protocol: Protocol of the evaluation.
        clicks: At least one, in image pixels.
        granularity: What the network was told of the object, see
            :func:`vfm_isbench.evaluation.predictor.granularity_of`.

    Returns:
        H×W booleans: the prediction after the last click.
    """
    predictor = ObjectPredictor(ImageCrops(network_for(probe, Speed()), image, protocol), granularity)
    for number in range(1, len(clicks) + 1):
        with during(f"upsampler {probe.upsampler.name!r}, click {number}"), current_device(probe.device):
            probability = predictor.predict(clicks[:number])
    predicted: Array = probability > protocol.prediction_threshold
    return predicted


def shown_objects(
    evidence: Sequence[ObjectEvidence],
    dataset: ObjectDataset,
    protocol: Protocol,
    *,
    probe: Probe | None = None,
    click: int | None = None,
    percent: int = 90,
) -> list[ShownObject]:
    """Make recorded objects ready for :func:`vfm_isbench.viz.contact_sheet`.

    Args:
        evidence: The objects.
        dataset: Where their images are.
        protocol: Protocol of the evaluation.
        probe: The trained network that repeats the predictions; None leaves them out.
        click: Number of the click after which to show them, from 1; None for each object's last. An object with fewer
            clicks is shown after its last one.
        percent: IoU for which the number of clicks needed is shown.

    Raises:
        PictureError: if ``click`` is out of range.
        DataError: if an image or object is missing, or clicks lie outside the image, so that the data set is not the
            one of the evaluation.
    """
    if click is not None and not 1 <= click <= protocol.max_clicks:
        raise PictureError(f"no click {click}: the protocol has clicks 1 … {protocol.max_clicks}")
    shown = []
    for object_ in evidence:
        sample = read_sample(dataset, object_.object_id.image)
        shown.append(_shown(object_, sample, protocol, probe, click, percent))
    return shown


def _shown(
    evidence: ObjectEvidence,
    sample: AnnotatedImage,
    protocol: Protocol,
    probe: Probe | None,
    click: int | None,
    percent: int,
) -> ShownObject:
    truth = sample.object_mask(evidence.object_id.instance)
    placed = len([iou for iou in evidence.ious if not np.isnan(iou)])
    last = placed if click is None else min(click, placed)
    clicks = evidence.clicks[:last]
    height, width = truth.shape
    if not all(0 <= found.row < height and 0 <= found.col < width for found in clicks):
        raise DataError(
            f"object {evidence.object_id} has clicks outside its image of {height}×{width} pixels: this is not the "
            "data that the result was measured on; give the right folder as data_root=… (command line: --data-root DIR)"
        )
    granularity = granularity_of(sample, evidence.object_id.instance, protocol)
    predicted = None if probe is None else replay(probe, sample.image, protocol, clicks, granularity)
    return ShownObject(
        title=plain(evidence.object_id, 28),
        image=sample.image,
        ground_truth=truth,
        clicks=clicks,
        iou=evidence.ious[last - 1],
        clicks_needed=_clicks_needed(evidence, placed, protocol.max_clicks, percent),
        prediction=predicted,
        replayed_iou=None if predicted is None else intersection_over_union(truth, predicted),
        remark=_remark(truth, clicks, click, last),
    )


def _clicks_needed(evidence: ObjectEvidence, placed: int, cap: int, percent: int) -> str:
    for number, iou in enumerate(evidence.ious[:placed], start=1):
        if iou >= percent / 100:
            return f"NoC{percent} {number}"
    return f"NoC{percent} > {placed}" if placed == cap else f"NoC{percent} unknown, > {placed}"


def _remark(truth: Array, clicks: Sequence[Click], click: int | None, last: int) -> str:
    remarks = []
    if click is not None and last < click:
        remarks.append(f"stopped after click {last}")
    first = clicks[0]
    # The clicker starts inside the object, always.
    if not first.is_positive or truth[int(first.row), int(first.col)] != 1:
        remarks.append("first click is not on this object: other data?")
    return "; ".join(remarks)
