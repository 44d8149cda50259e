"""The evaluation loop: click, predict, measure, for every object of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from tqdm import tqdm

from vfm_isbench.acceleration.cached_probe import Network, UncachedProbe, fastest_network, logits_of_several
from vfm_isbench.acceleration.feature_cache import cached_features
from vfm_isbench.acceleration.speed import Speed, arithmetic
from vfm_isbench.clicks import next_click
from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor
from vfm_isbench.metrics import intersection_over_union, number_of_clicks, stopping_click
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import AnnotatedImage, Array, Click, ObjectEvidence, ObjectId


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


@dataclass(slots=True)
class _Object:
    """One object between its clicks."""

    predictor: ObjectPredictor
    ground_truth: Array
    predicted: Array
    clicked: Array
    clicks: list[Click] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, network: Network, crops: ImageCrops, ground_truth: Array, protocol: Protocol) -> _Object:
        nothing = np.zeros(ground_truth.shape, dtype=bool)
        return cls(ObjectPredictor(network, crops, protocol), ground_truth, nothing, nothing.copy())

    def click(self) -> None:
        click = next_click(self.ground_truth, self.predicted, self.clicked)
        self.clicked[int(click.row), int(click.col)] = True
        self.clicks.append(click)

    def measure(self, probability: Array, threshold: float) -> None:
        self.predicted = probability > threshold
        self.ious.append(intersection_over_union(self.ground_truth, self.predicted))

    def is_done(self, protocol: Protocol, stop_at_iou: tuple[int, ...] | None) -> bool:
        if stop_at_iou is None:
            return len(self.clicks) == protocol.max_clicks
        return stopping_click(self.ious, stop_at_iou, protocol.max_clicks) is not None


def evaluate_objects(
    network: Network,
    objects: Sequence[tuple[ImageCrops, Array]],
    protocol: Protocol,
    *,
    stop_at_iou: tuple[int, ...] | None = None,
    times: EvaluationTimes | None = None,
) -> list[tuple[list[Click], list[float]]]:
    """Click objects in lockstep: each has its own clicks and crop, and the network sees all of them at once.

    Args:
        network: The trained network, in eval mode.
        objects: Of each object its image, and its ground truth H×W: 1 object, 0 ground, -1 ignore.
        protocol: Number of clicks, thresholds, zoom-in.
        stop_at_iou: IoUs in percent after which an object is left, see :class:`vfm_isbench.Speed`.
        times: Timings are added here.

    Returns:
        Of each object the clicks, and the IoU after each of them.
    """
    times = EvaluationTimes() if times is None else times
    started = [_Object.start(network, crops, ground_truth, protocol) for crops, ground_truth in objects]
    active = started
    while active:
        start = time.perf_counter()
        for one in active:
            one.click()
        before = time.perf_counter()
        with torch.inference_mode():
            views = [one.predictor.look(one.clicks) for one in active]
            logits = logits_of_several(network, views)
            probabilities = [one.predictor.paste(found) for one, found in zip(active, logits, strict=True)]
        after = time.perf_counter()
        for one, probability in zip(active, probabilities, strict=True):
            one.measure(probability, protocol.prediction_threshold)
        times.clicks += len(active)
        active = [one for one in active if not one.is_done(protocol, stop_at_iou)]
        times.predicting += after - before
        times.clicking += time.perf_counter() - after + before - start
    return [(one.clicks, one.ious) for one in started]


def evaluate_dataset(
    probe: Probe,
    dataset: ObjectDataset,
    protocol: Protocol,
    *,
    done: Mapping[ObjectId, ObjectEvidence] | None = None,
    keep: Callable[[ObjectEvidence], None] | None = None,
    speed: Speed | None = None,
    progress: bool = True,
) -> tuple[list[ObjectEvidence], EvaluationTimes]:
    """Evaluate every object of a data set, in its order.

    Args:
        probe: The trained network; put in eval mode.
        dataset: Where the objects come from.
        protocol: All settings of the evaluation; ``object_limit`` cuts the list of objects.
        done: Evidence of an earlier, interrupted run; such objects are not evaluated again.
        keep: Called with the evidence of each object as soon as it is there.
        speed: How fast; see :class:`vfm_isbench.Speed`.
        progress: Show a progress bar with the running NoC90.

    Returns:
        The evidence, object by object, and the timings of what was evaluated now.
    """
    speed = speed or Speed()
    network = fastest_network(probe.eval()) if speed.shortcut else UncachedProbe(probe.eval())
    device = next(probe.head.parameters()).device
    objects = dataset.objects[: protocol.object_limit]
    found = {object_id: done[object_id] for object_id in objects if object_id in done} if done else {}
    missing = [object_id for object_id in objects if object_id not in found]
    times, running = EvaluationTimes(), _RunningNoc()
    with (
        tqdm(total=len(objects), desc=dataset.name, unit="object", disable=not progress) as bar,
        arithmetic(speed.precision, device),
        cached_features(probe, speed.feature_cache),
        closing(_opened(network, dataset, missing, protocol, speed.read_ahead)) as opened,
    ):
        for earlier in found.values():
            bar.update()
            running.add(earlier)
        for ids in _groups(missing, speed.lockstep(device)):
            group = [next(opened) for _ in ids]
            outcome = evaluate_objects(network, group, protocol, stop_at_iou=speed.stop_at_iou, times=times)
            for object_id, (clicks, ious) in zip(ids, outcome, strict=True):
                found[object_id] = ObjectEvidence(object_id, tuple(clicks), tuple(ious))
                if keep is not None:
                    keep(found[object_id])
                bar.set_postfix({"NoC90": running.add(found[object_id])}, refresh=False)
                bar.update()
    return [found[object_id] for object_id in objects], times


def _groups(ids: Sequence[ObjectId], size: int) -> Iterator[Sequence[ObjectId]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _opened(
    network: Network, dataset: ObjectDataset, ids: Sequence[ObjectId], protocol: Protocol, read_ahead: bool
) -> Generator[tuple[ImageCrops, Array], None, None]:
    """The image and the ground truth of each object; an image is opened once for all its objects that follow."""
    images = [image for image, _ in groupby(ids, key=lambda object_id: object_id.image)]
    with closing(_read(dataset, images, read_ahead)) as samples:
        for _, of_image in groupby(ids, key=lambda object_id: object_id.image):
            sample = next(samples)
            crops = ImageCrops(network, sample.image, protocol)
            for object_id in of_image:
                yield crops, sample.object_mask(object_id.instance)


def _read(dataset: ObjectDataset, images: Sequence[str], ahead: bool) -> Generator[AnnotatedImage, None, None]:
    """Read images in order; the next one in a thread while the caller is busy with the present one."""
    if not ahead:
        yield from map(dataset.read, images)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = [pool.submit(dataset.read, image) for image in images[:1]]
        for image in images[1:]:
            sample = upcoming.pop().result()
            upcoming.append(pool.submit(dataset.read, image))
            yield sample
        for last in upcoming:
            yield last.result()
