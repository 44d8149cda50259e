"""The evaluation loop: click, predict, measure, for every object of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from vfm_isbench.clicks import next_click
from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor
from vfm_isbench.metrics import intersection_over_union, number_of_clicks
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.shortcut import Network, WholeProbe, quickest
from vfm_isbench.types import Array, Click, ObjectEvidence, ObjectId


@dataclass(slots=True)
class EvaluationTimes:
    """Where the seconds of an evaluation went.

    Attributes:
        predicting: Seconds inside the network and its crops.
        clicking: Seconds spent on placing clicks and measuring IoU.
        clicks: Clicks placed.
    """

    predicting: float = 0.0
    clicking: float = 0.0
    clicks: int = 0

    @property
    def seconds_per_click(self) -> float:
        """Mean seconds per click, prediction included."""
        return (self.predicting + self.clicking) / max(self.clicks, 1)


@dataclass(slots=True)
class _RunningNoc:
    """NoC90 of the objects so far, for the progress bar."""

    counts: list[int] = field(default_factory=list)

    def add(self, evidence: ObjectEvidence) -> str:
        self.counts.append(int(number_of_clicks(np.array([evidence.ious]), 0.9)[0]))
        return f"{np.mean(self.counts):.2f}"


def evaluate_object(
    probe: Network,
    crops: ImageCrops,
    ground_truth: Array,
    protocol: Protocol,
    times: EvaluationTimes | None = None,
) -> tuple[list[Click], list[float]]:
    """Place all clicks on one object.

    Args:
        probe: The trained network, in eval mode.
        crops: The object's image.
        ground_truth: H×W: 1 object, 0 ground, -1 ignore.
        protocol: Number of clicks, thresholds, zoom-in.
        times: Timings are added here.

    Returns:
        The clicks, and the IoU after each of them.
    """
    times = EvaluationTimes() if times is None else times
    predictor = ObjectPredictor(probe, crops, protocol)
    clicks: list[Click] = []
    ious: list[float] = []
    predicted = np.zeros(ground_truth.shape, dtype=bool)
    clicked = np.zeros(ground_truth.shape, dtype=bool)
    for _ in range(protocol.max_clicks):
        start = time.perf_counter()
        click = next_click(ground_truth, predicted, clicked)
        clicked[int(click.row), int(click.col)] = True
        clicks.append(click)
        before = time.perf_counter()
        probability = predictor.predict(clicks)
        after = time.perf_counter()
        predicted = probability > protocol.prediction_threshold
        ious.append(intersection_over_union(ground_truth, predicted))
        times.predicting += after - before
        times.clicking += time.perf_counter() - after + before - start
        times.clicks += 1
    return clicks, ious


def evaluate_dataset(
    probe: Probe,
    dataset: ObjectDataset,
    protocol: Protocol,
    *,
    done: Mapping[ObjectId, ObjectEvidence] | None = None,
    keep: Callable[[ObjectEvidence], None] | None = None,
    shortcut: bool = True,
    progress: bool = True,
) -> tuple[list[ObjectEvidence], EvaluationTimes]:
    """Evaluate every object of a data set, in its order.

    Args:
        probe: The trained network; put in eval mode.
        dataset: Where the objects come from.
        protocol: All settings of the evaluation; ``object_limit`` cuts the list of objects.
        done: Evidence of an earlier, interrupted run; such objects are not evaluated again.
        keep: Called with the evidence of each object as soon as it is there.
        shortcut: Do what does not depend on the clicks once per crop, see :class:`vfm_isbench.shortcut.QuickProbe`;
            without it the whole probe runs for every click. Results are equal up to rounding.
        progress: Show a progress bar with the running NoC90.

    Returns:
        The evidence, object by object, and the timings of what was evaluated now.
    """
    probe.eval()
    network = quickest(probe) if shortcut else WholeProbe(probe)
    done = done or {}
    objects: Sequence[ObjectId] = dataset.objects[: protocol.object_limit]
    evidence: list[ObjectEvidence] = []
    times, running = EvaluationTimes(), _RunningNoc()
    image_id, crops, sample = None, None, None
    with tqdm(objects, desc=dataset.name, unit="object", disable=not progress) as bar:
        for object_id in bar:
            found = done.get(object_id)
            if found is None:
                if object_id.image != image_id or crops is None or sample is None:
                    sample = dataset.read(object_id.image)
                    crops = ImageCrops(network, sample.image, protocol)
                    image_id = object_id.image
                clicks, ious = evaluate_object(network, crops, sample.object_mask(object_id.instance), protocol, times)
                found = ObjectEvidence(object_id, tuple(clicks), tuple(ious))
                if keep is not None:
                    keep(found)
            evidence.append(found)
            bar.set_postfix({"NoC90": running.add(found)})
    return evidence, times
