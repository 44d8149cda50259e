"""The evaluation loop: click, predict, measure, for every object of a data set."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import Protocol as Interface

import numpy as np
import torch

from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.acceleration.feature_cache import open_feature_cache, reporting
from vfm_isbench.acceleration.speed import RunOptions, arithmetic
from vfm_isbench.clicks import PeopleFile
from vfm_isbench.datasets.base import ObjectDataset, read_sample
from vfm_isbench.datasets.content import ContentHash, image_sha256
from vfm_isbench.datasets.sample_checks import check_objects
from vfm_isbench.errors import ProtocolError
from vfm_isbench.evaluation.lockstep import ClickedObject, EvaluationTimes, Lockstep, Outcome
from vfm_isbench.evaluation.predictor import ImageCrops, granularity_of
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.probe import Probe
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers
from vfm_isbench.progress import StopSignals
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.types import AnnotatedImage, Array, ObjectEvidence, ObjectId, ObjectSize

_GLOBAL_STREAM = 5
"""First word of the seed of PyTorch's global random numbers, which only modules of others draw from."""

_GROUPS_IN_FLIGHT = 2
"""Groups of objects clicked by turns where the clicks are placed on the device."""

_KEPT = "The evidence of finished objects is kept, and the same command continues from there."
_NOT_KEPT = "Nothing was kept; with an output (command line: --output PATH), the same command would continue."


class Store(Interface):
    """Keeps evidence while an evaluation goes on; see :class:`vfm_isbench.runs.evidence_store.EvidenceStore`."""

    def done(self, object_id: ObjectId, image: str) -> ObjectEvidence | None:
        """Evidence that is already there for an object of an image with this hash."""

    def append(self, evidence: ObjectEvidence, image: str) -> None:
        """Keep the evidence of an object of an image with this hash."""


@dataclass(frozen=True, slots=True)
class DatasetEvaluation:
    """What the evaluation of a data set gave.

    Attributes:
        evidence: Evidence object by object, in the order of the data set.
        times: Timings of what was evaluated now; evidence that was already there counts nothing.
        content_sha256: Hash of what was evaluated, see :class:`vfm_isbench.datasets.content.ContentHash`.
        notes: Remarks a reader of the numbers should see.
    """

    evidence: tuple[ObjectEvidence, ...]
    times: EvaluationTimes
    content_sha256: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _RunningNoc:
    """NoC90 of the objects so far, for the progress bar."""

    counts: list[int] = field(default_factory=list)

    def add(self, evidence: ObjectEvidence) -> str:
        self.counts.append(int(number_of_clicks(np.array([evidence.ious]), 0.9)[0]))
        return f"{np.mean(self.counts):.2f}"


@dataclass(frozen=True, slots=True)
class _Missing:
    """An object that is still to be evaluated."""

    object_id: ObjectId
    image_sha256: str
    object_: ClickedObject


@benchmark_settings()
def evaluate_dataset(
    probe: Probe,
    dataset: ObjectDataset,
    protocol: Protocol,
    *,
    store: Store | None = None,
    options: RunOptions | None = None,
    people: PeopleFile | None = None,
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
        people: Where people clicked, for the pattern "realistic:FILE".

    Raises:
        ProtocolError: if the pattern needs people's clicks that are not given.
        DataError: if an image or a mask cannot be read or fails its check, an object is listed twice, or people did not
            click on any of them.
        UpsamplerError: if the upsampler fails.
        NonFiniteError: if a prediction is NaN or infinite.
        OutOfMemoryError: if memory runs out even with a single object at once.
    """
    options = options or RunOptions()
    speed = options.speed
    objects = dataset.objects[: protocol.object_limit]
    check_objects(dataset.name, objects)
    people_notes = _check_people(protocol, people, dataset, objects)
    found: dict[ObjectId, ObjectEvidence] = {}
    content, times, running = ContentHash(), EvaluationTimes(), _RunningNoc()
    place = f"test set {dataset.name!r} with upsampler {probe.upsampler.name!r}"
    cache = open_feature_cache(probe, speed.feature_cache)
    network = network_for(probe.eval(), speed, cache)
    lockstep = Lockstep(network, protocol, speed, times, boundary_iou=options.boundary_iou)
    in_flight = _GROUPS_IN_FLIGHT if speed.places_clicks_on(probe.device) else 1
    with (
        options.progress_of(dataset.name, len(objects)) as progress,
        reporting(cache),
        arithmetic(speed.precision, probe.device),
        closing(_read_images(dataset, objects, speed.read_ahead)) as images,
        current_device(probe.device),
        own_random_numbers(),
        during(place, lambda: _NOT_KEPT if store is None else _KEPT),
        options.stop.held_back(),
    ):
        torch.manual_seed(int(np.random.default_rng([_GLOBAL_STREAM, protocol.seed]).integers(2**63)))

        def add(evidence: ObjectEvidence, *, is_new: bool = True) -> None:
            found[evidence.object_id] = evidence
            progress.say(f"{len(found)} of {len(objects)} objects")
            (progress.advance if is_new else progress.skip)(NoC90=running.add(evidence))

        def missing() -> Iterator[_Missing]:
            for object_ids, sample, sha256 in images:
                options.stop.stop_here()
                crops: ImageCrops | None = None
                for object_id in object_ids:
                    content.add(object_id, sample)
                    mask = sample.object_mask(object_id.instance)
                    evidence = None if store is None else store.done(object_id, sha256)
                    if evidence is not None and (found_before := _as_asked(evidence, mask, options)) is not None:
                        add(found_before, is_new=False)
                        continue
                    crops = crops or ImageCrops(network, sample.image, protocol)
                    name = f"image {object_id.image!r}, object {object_id}"
                    granularity = granularity_of(sample, object_id.instance, protocol)
                    clicked_by = None if people is None else people.of(dataset.name, object_id)
                    clicked = ClickedObject(crops, mask, name, granularity, object_id, clicked_by)
                    yield _Missing(object_id, sha256, clicked)

        groups = _groups(missing(), lockstep)
        for group, outcome in _by_turns(groups, lockstep, in_flight, options.stop):
            for missed, (clicks, ious, boundary_ious) in zip(group, outcome, strict=True):
                evidence = ObjectEvidence(
                    missed.object_id,
                    tuple(clicks),
                    tuple(ious),
                    None if boundary_ious is None else tuple(boundary_ious),
                    ObjectSize.of(missed.object_.ground_truth),
                )
                if store is not None:
                    store.append(evidence, missed.image_sha256)
                add(evidence)
    ordered = tuple(found[object_id] for object_id in objects)
    return DatasetEvaluation(ordered, times, content.hexdigest(), (*people_notes, *lockstep.notes))


def _check_people(
    protocol: Protocol, people: PeopleFile | None, dataset: ObjectDataset, objects: Sequence[ObjectId]
) -> tuple[str, ...]:
    """Check that the clicks of people that the protocol names are there; returns remarks on them."""
    named = Clicker.parse(protocol.clicker).file
    if named and (people is None or people.name != named):
        raise ProtocolError(
            f"the clicks of {protocol.clicker} are not given: train with another pattern, then evaluate with "
            "vfm-isbench eval RUN --clicker realistic:FILE"
        )
    return (people.check(dataset.name, objects),) if named and people is not None else ()


def _as_asked(evidence: ObjectEvidence, mask: Array, options: RunOptions) -> ObjectEvidence | None:
    """Evidence of an earlier run, as this one would give it; None if it lacks boundary IoUs that are asked for.

    Versions up to 0.4.0 did not keep sizes, which cost nothing to add.
    """
    if options.boundary_iou and evidence.boundary_ious is None:
        return None
    boundary_ious = evidence.boundary_ious if options.boundary_iou else None
    return replace(evidence, boundary_ious=boundary_ious, size=ObjectSize.of(mask))


def _groups(objects: Iterator[_Missing], lockstep: Lockstep) -> Iterator[list[_Missing]]:
    # The size is read anew for each group, because it shrinks when memory runs out.
    while group := list(islice(objects, lockstep.size)):
        yield group


def _by_turns(
    groups: Iterator[list[_Missing]], lockstep: Lockstep, in_flight: int, stop: StopSignals
) -> Iterator[tuple[list[_Missing], Outcome]]:
    """Click several groups by turns, so that a device works for one while the CPU prepares another."""
    running: deque[tuple[list[_Missing], Generator[None, None, Outcome]]] = deque()
    while True:
        while len(running) < in_flight and (group := next(groups, None)):
            running.append((group, lockstep.click([missed.object_ for missed in group])))
        if not running:
            return
        stop.stop_here()
        group, steps = running.popleft()
        try:
            next(steps)
        except StopIteration as end:
            yield group, end.value
        else:
            running.append((group, steps))


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
