"""Objects clicked in lockstep: each has its own clicks and crop, and the network sees all of them at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import CachedProbe, Network
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.clicks import PeopleClicks
from vfm_isbench.errors import OutOfMemoryError, StoppedError, VfmIsbenchWarning
from vfm_isbench.evaluation.predictor import ImageCrops, ObjectPredictor, click_map
from vfm_isbench.evaluation.simulated_user import SimulatedUser, UserOnCpu, UserOnDevice
from vfm_isbench.evaluation.trials import Trials
from vfm_isbench.evaluation.zoom_in import Box
from vfm_isbench.metrics import BoundaryIou, stopping_click
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.memory import first_line, free_memory, is_out_of_memory
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.types import Array, Click, ObjectId

Outcome: TypeAlias = list[tuple[list[Click], list[float], list[float] | None]]
"""For each object its clicks, and the IoU and, if it was asked for, the boundary IoU after each of them."""


@dataclass(slots=True)
class EvaluationTimes:
    """Where the seconds of an evaluation went.

    Attributes:
        predicting: Seconds inside the network and its crops. If clicks are placed on the device, too, the time spent
            waiting for them is in here.
        clicking: Seconds spent on placing clicks and measuring IoU.
        boundaries: Seconds spent on boundary IoU.
        clicks: Clicks placed.
    """

    predicting: float = 0.0
    clicking: float = 0.0
    boundaries: float = 0.0
    clicks: int = 0

    @property
    def seconds_per_click(self) -> float:
        """Mean seconds per click, prediction included and boundary IoU left out."""
        return (self.predicting + self.clicking) / max(self.clicks, 1)


@dataclass(frozen=True, slots=True, eq=False)
class ClickedObject:
    """An object to be clicked.

    Attributes:
        crops: Its image.
        ground_truth: H×W: 1 object, 0 background, -1 ignore.
        name: What errors call it.
        granularity: See :class:`ObjectPredictor`.
        object_id: Which object it is: random clicks depend on it.
        people: Where people clicked on it, if the protocol's pattern asks for that.
    """

    crops: ImageCrops
    ground_truth: Array
    name: str = ""
    granularity: float = 1.0
    object_id: ObjectId = ObjectId("")
    people: PeopleClicks | None = None


@dataclass(slots=True, eq=False)
class _Running:
    """An object between its clicks."""

    number: int
    name: str
    predictor: ObjectPredictor
    boundary: BoundaryIou | None
    clicks: list[Click] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    boundary_ious: list[float] = field(default_factory=list)

    def at_click(self) -> AbstractContextManager[None]:
        """Names object and click in the errors of a block."""
        return during(f"{self.name}, click {len(self.clicks)}" if self.name else f"click {len(self.clicks)}")


@dataclass(slots=True, eq=False)
class _JoinedCrops:
    """The encoded crops of several objects as one batch, kept until one of them changes."""

    parts: list[Any] = field(default_factory=list)
    batch: Any = None

    def forget(self) -> None:
        """Drop the batch."""
        self.parts, self.batch = [], None

    def of(self, network: CachedProbe, running: Sequence[_Running]) -> Any:
        """The batch; None if one pass might change the logits."""
        encoded = [object_.predictor.encoded for object_ in running]
        is_same = len(encoded) == len(self.parts) and all(a is b for a, b in zip(encoded, self.parts, strict=True))
        if not is_same:
            self.forget()
            self.batch = network.join(encoded)
            if self.batch is not None:
                # As views of the batch, so that no crop is in memory twice.
                self.parts = self.batch.split([len(one.image) for one in encoded])
                for object_, part in zip(running, self.parts, strict=True):
                    object_.predictor.encoded = part
        return self.batch


class Lockstep:
    """Clicks objects of one evaluation, group by group.

    If memory runs out, the network sees half as many objects at once from then on.

    Args:
        network: The trained network, in eval mode.
        protocol: Number of clicks, click pattern, thresholds, zoom-in.
        speed: See :class:`vfm_isbench.Speed`.
        times: Timings are added here.
        boundary_iou: Whether to measure boundary IoU, too.

    Attributes:
        size: Number of objects that the network currently sees at once.
        notes: Remarks a reader of the numbers should see.
    """

    def __init__(
        self,
        network: Network,
        protocol: Protocol,
        speed: Speed | None = None,
        times: EvaluationTimes | None = None,
        *,
        boundary_iou: bool = False,
    ) -> None:
        self._network = network
        self._protocol = protocol
        self._speed = speed or Speed()
        self._times = EvaluationTimes() if times is None else times
        self._boundary_iou = boundary_iou
        self._clicker = Clicker.parse(protocol.clicker)
        self._on_device = self._clicker.name == "center" and self._speed.places_clicks_on(network.device)
        self.size = self._speed.lockstep(network.device)
        self.notes: tuple[str, ...] = ()

    def click(self, objects: Sequence[ClickedObject]) -> Generator[None, None, Outcome]:
        """Click a group of objects; pauses whenever it would wait for the device.

        Raises:
            UpsamplerError: if the upsampler fails.
            NonFiniteError: if a prediction is NaN or infinite.
            OutOfMemoryError: if memory runs out even with a single object.
        """
        waiting = "predicting" if self._on_device else "clicking"
        running = [
            _Running(
                number, object_.name, ObjectPredictor(object_.crops, object_.granularity), self._boundary_of(object_)
            )
            for number, object_ in enumerate(objects)
        ]
        active, joined = running, _JoinedCrops()
        with self._timed(waiting):
            user, place_clicks = self._user_of(objects, joined)
        yield
        while active:
            with self._timed(waiting):
                place_clicks(active)
            with self._timed("predicting"):
                logits, probabilities = self._predict(active, joined)
            with self._timed(waiting):
                user.show([object_.number for object_ in active], logits, probabilities)
            yield
            with self._timed(waiting):
                for position, object_ in enumerate(active):
                    with object_.at_click():
                        seen = user.see(position)
                    object_.ious.append(seen.iou)
                    object_.predictor.extent = seen.extent
            if self._boundary_iou:
                with self._timed("boundaries"):
                    self._measure_boundaries(active, probabilities)
            self._times.clicks += len(active)
            active = [object_ for object_ in active if not self._is_done(object_)]
        return [
            (object_.clicks, object_.ious, None if object_.boundary is None else object_.boundary_ious)
            for object_ in running
        ]

    def _user_of(
        self, objects: Sequence[ClickedObject], joined: _JoinedCrops
    ) -> tuple[SimulatedUser, Callable[[Sequence[_Running]], None]]:
        """The simulated user of some objects, and how its next clicks are placed."""
        truths = [object_.ground_truth for object_ in objects]
        user: SimulatedUser
        if self._on_device:
            user = UserOnDevice(truths, self._protocol, self._network.device)
        else:
            ids, people = [one.object_id for one in objects], [one.people for one in objects]
            user = UserOnCpu(truths, self._protocol, ids, people)
            if self._clicker.needs_trials:
                trials: Trials[_Running] = Trials(
                    user, lambda tried: self._predict(tried, joined), worst=self._clicker.name == "worst_of"
                )
                return user, trials.place_clicks

        def place_clicks(active: Sequence[_Running]) -> None:
            for object_ in active:
                object_.clicks.append(user.click(object_.number))

        return user, place_clicks

    def _boundary_of(self, object_: ClickedObject) -> BoundaryIou | None:
        if not self._boundary_iou:
            return None
        with self._timed("boundaries"):
            return BoundaryIou(object_.ground_truth)

    def _measure_boundaries(self, active: Sequence[_Running], probabilities: Sequence[Tensor]) -> None:
        for object_, probability in zip(active, probabilities, strict=True):
            if object_.boundary is not None:
                # Compared as the simulated user on the CPU does.
                predicted: Array = probability.cpu().numpy() > self._protocol.prediction_threshold
                object_.boundary_ious.append(object_.boundary.of(predicted))

    def _is_done(self, object_: _Running) -> bool:
        if self._speed.stop_at_iou is None:
            return len(object_.clicks) == self._protocol.max_clicks
        return stopping_click(object_.ious, self._speed.stop_at_iou, self._protocol.max_clicks) is not None

    @torch.no_grad()
    def _predict(self, active: Sequence[_Running], joined: _JoinedCrops) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and probabilities H×W of objects after their clicks so far, in as many passes as memory demands."""
        logits: list[Tensor] = []
        probabilities: list[Tensor] = []
        while len(logits) < len(active):
            part = active[len(logits) : len(logits) + self.size]
            found = self._in_one_pass(part, joined)
            if found is None or len(part) < len(active):
                # Not all encoded crops fit: each is encoded again when its turn comes.
                joined.forget()
                for object_ in active:
                    object_.predictor.forget()
            if found is None:
                free_memory(self._network.device)
                continue
            for object_, of_object in zip(part, found, strict=True):
                with object_.at_click():
                    probabilities.append(object_.predictor.paste_to_image(of_object))
            logits += found
        return logits, probabilities

    def _in_one_pass(self, part: Sequence[_Running], joined: _JoinedCrops) -> list[Tensor] | None:
        """Logits of objects; None if memory ran out, after which :attr:`size` is smaller."""
        try:
            return self._logits(part, joined)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise self._too_large(error) from error
        self.size = len(part) // 2
        asked_for = self._speed.lockstep(self._network.device)
        note = (
            f"memory ran out with {asked_for} objects at once, so the evaluation went on with {self.size}; the scores "
            f"are the same. Speed(objects_at_once={self.size}) (command line: --objects-at-once {self.size}) starts so"
        )
        warnings.warn(note, VfmIsbenchWarning, stacklevel=2)
        self.notes = (note,)
        return None

    @staticmethod
    def _too_large(error: Exception) -> StoppedError:
        if isinstance(error, StoppedError):
            return error
        return OutOfMemoryError(
            f"memory ran out with a single object ({first_line(error)}): free memory that other "
            "programs use, or choose a device that has more"
        )

    def _logits(self, part: Sequence[_Running], joined: _JoinedCrops) -> list[Tensor]:
        self._encode(part)
        network = self._network
        maps = click_map([object_.predictor for object_ in part], [object_.clicks for object_ in part])
        per_object = torch.split(maps, len(maps) // len(part))
        small: Sequence[Tensor | None] | None = None
        if isinstance(network, CachedProbe) and part[1:]:
            batch = joined.of(network, part)
            if batch is not None:
                return list(torch.split(network.logits(batch, maps), len(maps) // len(part)))
            small = network.small_of([object_.predictor.encoded for object_ in part], maps)
        logits = []
        for object_, of_object, features in zip(part, per_object, small or [None] * len(part), strict=True):
            with object_.at_click():
                logits.append(network.logits(object_.predictor.encoded, of_object, features))
        return logits

    def _encode(self, part: Sequence[_Running]) -> None:
        """Encode the crops that have changed; the backbone sees all of them at once."""
        needed: dict[tuple[ImageCrops, Box], list[_Running]] = {}
        for object_ in part:
            with object_.at_click():
                box = object_.predictor.choose_box(object_.clicks)
            crops = object_.predictor.crops
            if object_.predictor.encoded is None:
                object_.predictor.encoded = crops.encoded(box)
            if object_.predictor.encoded is None:
                needed.setdefault((crops, box), []).append(object_)
        features: Sequence[Tensor | None] | None = None
        if isinstance(self._network, CachedProbe) and len(needed) > 1:
            features = self._network.features_of([crops.crop(box) for crops, box in needed])
        for ((crops, box), objects), of_crop in zip(needed.items(), features or [None] * len(needed), strict=True):
            with objects[0].at_click():
                encoded = crops.encode(box, of_crop)
            for object_ in objects:
                object_.predictor.encoded = encoded

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        setattr(self._times, part, getattr(self._times, part) + time.perf_counter() - began)


def evaluate_objects(
    network: Network,
    objects: Sequence[ClickedObject],
    protocol: Protocol,
    *,
    speed: Speed | None = None,
    times: EvaluationTimes | None = None,
) -> Outcome:
    """Click a single group of objects, see :class:`Lockstep`."""
    steps = Lockstep(network, protocol, speed, times).click(objects)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(Outcome, end.value)
