"""The evaluation loop: click, predict, measure, for every object of a data set."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Protocol as Interface

import numpy as np
import torch
from tqdm import tqdm

from vfm_isbench.acceleration.cached_probe import Network, logits_in_one_pass, network_for
from vfm_isbench.acceleration.feature_cache import open_feature_cache
from vfm_isbench.acceleration.speed import RunOptions, arithmetic
from vfm_isbench.clicks import next_click
from vfm_isbench.datasets.base import ObjectDataset, read_sample
from vfm_isbench.datasets.content import ContentHash, image_sha256
from vfm_isbench.datasets.sample_checks import check_objects
from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor
from vfm_isbench.metrics import intersection_over_union, number_of_clicks, stopping_click
from vfm_isbench.probe import Probe
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import AnnotatedImage, Array, Click, ObjectEvidence, ObjectId

_GLOBAL_STREAM = 5
"""First word of the seed of PyTorch's global random numbers, which only modules of others draw from."""

_KEPT = "The evidence of finished objects is kept, and the same command continues from there."
_NOT_KEPT = "Nothing was kept; with an output (command line: --output PATH), the same command would continue."


class Store(Interface):
    """Keeps evidence while an evaluation goes on; see :class:`vfm_isbench.runs.evidence_store.EvidenceStore`."""

    def done(self, object_id: ObjectId, image: str) -> ObjectEvidence | None:
        """Evidence that is already there for an object of an image with this hash."""

    def append(self, evidence: ObjectEvidence, image: str) -> None:
        """Keep the evidence of an object of an image with this hash."""


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


@dataclass(frozen=True, slots=True)
class DatasetEvaluation:
    """What the evaluation of a data set gave.

    Attributes:
        evidence: Evidence object by object, in the order of the data set.
        times: Timings of what was evaluated now; evidence that was already there counts nothing.
        content_sha256: Hash of what was evaluated, see :class:`vfm_isbench.datasets.content.ContentHash`.
    """

    evidence: tuple[ObjectEvidence, ...]
    times: EvaluationTimes
    content_sha256: str


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

    name: str
    predictor: ObjectPredictor
    ground_truth: Array
    predicted: Array
    clicked: Array
    clicks: list[Click] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, crops: ImageCrops, ground_truth: Array) -> _Object:
        nothing = np.zeros(ground_truth.shape, dtype=bool)
        return cls(name, ObjectPredictor(crops), ground_truth, nothing, nothing.copy())

    def click(self) -> None:
        click = next_click(self.ground_truth, self.predicted, self.clicked)
        self.clicked[int(click.row), int(click.col)] = True
        self.clicks.append(click)

    def at_click(self) -> AbstractContextManager[None]:
        """Names object and click in the errors of a block."""
        return during(f"{self.name}, click {len(self.clicks)}" if self.name else f"click {len(self.clicks)}")

    def measure(self, probability: Array, threshold: float) -> None:
        self.predicted = probability > threshold
        self.ious.append(intersection_over_union(self.ground_truth, self.predicted))

    def is_done(self, protocol: Protocol, stop_at_iou: tuple[int, ...] | None) -> bool:
        if stop_at_iou is None:
            return len(self.clicks) == protocol.max_clicks
        return stopping_click(self.ious, stop_at_iou, protocol.max_clicks) is not None


@dataclass(frozen=True, slots=True)
class _Missing:
    """An object that is still to be evaluated."""

    object_id: ObjectId
    image_sha256: str
    crops: ImageCrops
    ground_truth: Array


def evaluate_objects(
    network: Network,
    objects: Sequence[tuple[ImageCrops, Array]],
    protocol: Protocol,
    *,
    stop_at_iou: tuple[int, ...] | None = None,
    times: EvaluationTimes | None = None,
    names: Sequence[str] | None = None,
) -> list[tuple[list[Click], list[float]]]:
    """Click objects in lockstep: each has its own clicks and crop, and the network sees all of them at once.

    Args:
        network: The trained network, in eval mode.
        objects: For each object its image, and its ground truth H×W: 1 object, 0 background, -1 ignore.
        protocol: Number of clicks, thresholds, zoom-in.
        stop_at_iou: IoUs in percent at which clicking stops, see :class:`vfm_isbench.Speed`.
        times: Timings are added here.
        names: What errors call the objects.

    Returns:
        For each object its clicks, and the IoU after each of them.

    Raises:
        UpsamplerError: if the upsampler fails.
        NonFiniteError: if a prediction is NaN or infinite.
    """
    times = EvaluationTimes() if times is None else times
    names = names or [""] * len(objects)
    started = [_Object.start(name, *object_) for name, object_ in zip(names, objects, strict=True)]
    active = started
    while active:
        start = time.perf_counter()
        for object_ in active:
            object_.click()
        before = time.perf_counter()
        with torch.no_grad():
            probabilities = _predict(network, active)
        after = time.perf_counter()
        for object_, probability in zip(active, probabilities, strict=True):
            object_.measure(probability, protocol.prediction_threshold)
        times.clicks += len(active)
        active = [object_ for object_ in active if not object_.is_done(protocol, stop_at_iou)]
        times.predicting += after - before
        times.clicking += time.perf_counter() - after + before - start
    return [(object_.clicks, object_.ious) for object_ in started]


def _predict(network: Network, active: Sequence[_Object]) -> list[Array]:
    """Probabilities H×W of several objects after their clicks so far."""
    inputs = []
    for object_ in active:
        with object_.at_click():
            inputs.append(object_.predictor.prepare_input(object_.clicks))
    logits = logits_in_one_pass(network, inputs)
    if logits is None:
        logits = []
        for object_, view in zip(active, inputs, strict=True):
            with object_.at_click():
                logits.append(network.logits(*view))
    probabilities = []
    for object_, found in zip(active, logits, strict=True):
        with object_.at_click():
            probabilities.append(object_.predictor.paste_to_image(found))
    return probabilities


@benchmark_settings()
def evaluate_dataset(
    probe: Probe,
    dataset: ObjectDataset,
    protocol: Protocol,
    *,
    store: Store | None = None,
    options: RunOptions | None = None,
) -> DatasetEvaluation:
    """Evaluate every object of a data set, in its order.

    Each image is read once, for its hash and for the clicks. A file that cannot be read stops the evaluation there;
    the evidence so far is in the store.

    Args:
        probe: The trained network; put in eval mode.
        dataset: Where the objects come from.
        protocol: All settings of the evaluation; ``object_limit`` cuts the list of objects.
        store: Evidence of an earlier, interrupted run, which is not computed again, and where new evidence is kept.
        options: Speed and progress bars.

    Raises:
        DataError: if an image or a mask cannot be read or fails its check, or an object is listed twice.
        UpsamplerError: if the upsampler fails.
        NonFiniteError: if a prediction is NaN or infinite.
    """
    options = options or RunOptions()
    speed = options.speed
    objects = dataset.objects[: protocol.object_limit]
    check_objects(dataset.name, objects)
    found: dict[ObjectId, ObjectEvidence] = {}
    content, times, running = ContentHash(), EvaluationTimes(), _RunningNoc()
    place = f"test set {dataset.name!r} with upsampler {probe.upsampler.name!r}"
    network = network_for(probe.eval(), speed, open_feature_cache(probe, speed.feature_cache))
    with (
        tqdm(total=len(objects), desc=dataset.name, unit="object", disable=not options.progress) as bar,
        arithmetic(speed.precision, probe.device),
        closing(_read_images(dataset, objects, speed.read_ahead)) as images,
        current_device(probe.device),
        own_random_numbers(),
        during(place, _NOT_KEPT if store is None else _KEPT),
    ):
        torch.manual_seed(int(np.random.default_rng([_GLOBAL_STREAM, protocol.seed]).integers(2**63)))

        def add(evidence: ObjectEvidence) -> None:
            found[evidence.object_id] = evidence
            bar.set_postfix({"NoC90": running.add(evidence)}, refresh=False)
            bar.update()

        def missing() -> Iterator[_Missing]:
            for object_ids, sample, sha256 in images:
                crops: ImageCrops | None = None
                for object_id in object_ids:
                    content.add(object_id, sample)
                    evidence = None if store is None else store.done(object_id, sha256)
                    if evidence is not None:
                        add(evidence)
                        continue
                    crops = crops or ImageCrops(network, sample.image, protocol)
                    yield _Missing(object_id, sha256, crops, sample.object_mask(object_id.instance))

        for group in _groups(missing(), speed.lockstep(probe.device)):
            pairs = [(object_.crops, object_.ground_truth) for object_ in group]
            names = [f"image {object_.object_id.image!r}, object {object_.object_id}" for object_ in group]
            outcome = evaluate_objects(
                network, pairs, protocol, stop_at_iou=speed.stop_at_iou, times=times, names=names
            )
            for object_, (clicks, ious) in zip(group, outcome, strict=True):
                evidence = ObjectEvidence(object_.object_id, tuple(clicks), tuple(ious))
                if store is not None:
                    store.append(evidence, object_.image_sha256)
                add(evidence)
    return DatasetEvaluation(tuple(found[object_id] for object_id in objects), times, content.hexdigest())


def _groups(objects: Iterator[_Missing], size: int) -> Iterator[list[_Missing]]:
    while group := list(islice(objects, size)):
        yield group


def _read_images(
    dataset: ObjectDataset, objects: Sequence[ObjectId], ahead: bool
) -> Generator[tuple[list[ObjectId], AnnotatedImage, str], None, None]:
    """Objects that follow each other on one image, that image, and its hash; each image is read once.

    With ``ahead``, a thread reads the next image while the caller is busy with the current one.
    """
    groups = [list(of_image) for _, of_image in groupby(objects, key=lambda object_id: object_id.image)]

    def read(group: list[ObjectId]) -> tuple[list[ObjectId], AnnotatedImage, str]:
        sample = read_sample(dataset, group[0].image)
        return group, sample, image_sha256(sample)

    if not ahead:
        yield from map(read, groups)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = [pool.submit(read, group) for group in groups[:1]]
        for group in groups[1:]:
            current = upcoming.pop().result()
            upcoming.append(pool.submit(read, group))
            yield current
        for last in upcoming:
            yield last.result()
