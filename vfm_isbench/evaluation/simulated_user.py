"""The simulated user of several objects: measures each prediction, and clicks where the protocol's pattern says.

On CPUs this runs object by object. On a CUDA device that would keep the device waiting at every click, so there the
pattern "center" runs on the device, for all objects at once, and only a few numbers per object come back. Both ways
place the same clicks. The other patterns run on the CPU everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.transfers import Download, upload
from vfm_isbench.clicks import PeopleClicks, Scene, candidate_clicks, click_generator, next_click, place_click
from vfm_isbench.clicks.distance import squared_inner_distance
from vfm_isbench.evaluation.zoom_in import Box
from vfm_isbench.metrics import intersection_over_union
from vfm_isbench.probe.finite import finite_logits
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.types import IGNORE, Array, Click, ObjectId


@dataclass(frozen=True, slots=True)
class Seen:
    """What the user sees of a prediction.

    Attributes:
        iou: IoU with the ground truth.
        extent: Box around the pixels above the protocol's ``zoom_threshold``; None if there are none.
    """

    iou: float
    extent: Box | None


class SimulatedUser(Interface):
    """Clicks several objects, which are called by their numbers from 0."""

    def click(self, number: int) -> Click:
        """Place the next click on an object, in view of the last prediction shown."""
        ...

    def show(self, numbers: Sequence[int], logits: Sequence[Tensor], probabilities: Sequence[Tensor]) -> None:
        """Show new predictions.

        Args:
            numbers: Their objects.
            logits: What the network answered for each.
            probabilities: For each H×W, on the network's device.
        """
        ...

    def see(self, position: int) -> Seen:
        """What is seen of a prediction, by its position among those shown last.

        Raises:
            NonFiniteError: if a logit is NaN or infinite.
        """
        ...


class UserOnCpu:
    """The simulated user, object by object.

    Args:
        ground_truths: For each object H×W: 1 object, 0 background, -1 ignore.
        protocol: Click pattern and thresholds.
        object_ids: The objects; their random numbers depend on nothing else but seed and number of the click.
        people: Where people clicked on each; None where that is not known.
    """

    def __init__(
        self,
        ground_truths: Sequence[Array],
        protocol: Protocol,
        object_ids: Sequence[ObjectId] = (),
        people: Sequence[PeopleClicks | None] = (),
    ) -> None:
        self._ground_truths = ground_truths
        self._protocol = protocol
        self._clicker = Clicker.parse(protocol.clicker)
        self._object_ids = object_ids or [ObjectId("")] * len(ground_truths)
        self._people = people or [None] * len(ground_truths)
        self._predicted = [np.zeros(truth.shape, dtype=bool) for truth in ground_truths]
        self._clicked = [np.zeros(truth.shape, dtype=bool) for truth in ground_truths]
        self._clicks: list[list[Click]] = [[] for _ in ground_truths]
        self._shown: list[tuple[int, Tensor, Tensor]] = []

    def click(self, number: int) -> Click:
        """See :class:`SimulatedUser`."""
        if self._clicker.name == "center":
            click = next_click(self._ground_truths[number], self._predicted[number], self._clicked[number])
        else:
            click = place_click(self._clicker, self._scene(number), self._generator(number))
        self.place(number, click)
        return click

    def candidates(self, number: int) -> list[Click]:
        """The clicks of which the next one is chosen, if the pattern tries several."""
        return candidate_clicks(self._clicker.candidates, self._scene(number), self._generator(number))

    def place(self, number: int, click: Click) -> None:
        """Place a click that was chosen among :meth:`candidates`."""
        self._clicks[number].append(click)
        self._clicked[number][int(click.row), int(click.col)] = True

    def iou(self, number: int, logits: Tensor, probabilities: Tensor) -> float:
        """IoU of a prediction that is only tried.

        Raises:
            NonFiniteError: if a logit is NaN or infinite.
        """
        finite_logits(logits)
        predicted: Array = probabilities.cpu().numpy() > self._protocol.prediction_threshold
        return intersection_over_union(self._ground_truths[number], predicted)

    def show(self, numbers: Sequence[int], logits: Sequence[Tensor], probabilities: Sequence[Tensor]) -> None:
        """See :class:`SimulatedUser`."""
        self._shown = list(zip(numbers, logits, probabilities, strict=True))

    def see(self, position: int) -> Seen:
        """See :class:`SimulatedUser`."""
        number, logits, shown = self._shown[position]
        finite_logits(logits)
        probability: Array = shown.cpu().numpy()
        predicted = self._predicted[number] = probability > self._protocol.prediction_threshold
        iou = intersection_over_union(self._ground_truths[number], predicted)
        return Seen(iou, Box.around(probability > self._protocol.zoom_threshold))

    def _scene(self, number: int) -> Scene:
        clicks = self._clicks[number]
        return Scene(
            self._ground_truths[number],
            self._predicted[number],
            self._clicked[number],
            clicks[-1] if clicks else None,
            self._people[number],
        )

    def _generator(self, number: int) -> np.random.Generator:
        return click_generator(self._protocol.seed, self._object_ids[number], len(self._clicks[number]))


class UserOnDevice:
    """The simulated user on the device of the predictions, for all objects at once; its pattern is always "center".

    Nothing waits for the device but :meth:`see` and :meth:`click`, and these only for the one download that
    :meth:`show` starts.

    Args:
        ground_truths: For each object H×W: 1 object, 0 background, -1 ignore.
        protocol: Thresholds.
        device: The device.
    """

    def __init__(self, ground_truths: Sequence[Array], protocol: Protocol, device: torch.device) -> None:
        height = max(truth.shape[0] for truth in ground_truths)
        width = max(truth.shape[1] for truth in ground_truths)
        padded = np.full((len(ground_truths), height, width), IGNORE, np.int8)
        for number, truth in enumerate(ground_truths):
            padded[number, : truth.shape[0], : truth.shape[1]] = truth
        truths = upload(torch.from_numpy(padded), device)
        self._is_object, self._counted = truths == 1, truths != IGNORE
        self._clicked = torch.zeros_like(self._counted)
        self._width = width
        # As numpy compares them; devices may differ in how they round a threshold that float32 does not hold.
        self._prediction_threshold = float(np.float32(protocol.prediction_threshold))
        self._zoom_threshold = float(np.float32(protocol.zoom_threshold))
        self._positions: dict[int, int] = {}
        self._logits: Sequence[Tensor] = []
        self._figures: list[list[int]] | None = None
        nothing = truths.new_zeros(truths.shape, dtype=torch.float32)
        self._react(range(len(ground_truths)), nothing, truths.new_ones(len(ground_truths), dtype=torch.bool))

    def click(self, number: int) -> Click:
        """See :class:`SimulatedUser`."""
        place, is_positive, *_ = self._read()[self._positions[number]]
        return Click(place // self._width, place % self._width, bool(is_positive))

    def show(self, numbers: Sequence[int], logits: Sequence[Tensor], probabilities: Sequence[Tensor]) -> None:
        """See :class:`SimulatedUser`."""
        shown = probabilities[0].new_zeros(len(numbers), *self._counted.shape[1:])
        for row, probability in zip(shown, probabilities, strict=True):
            row[: probability.shape[0], : probability.shape[1]] = probability
        self._logits = logits
        # A sum that overflows is looked into by see().
        self._react(numbers, shown, torch.stack([one.sum() for one in logits]).isfinite())

    def see(self, position: int) -> Seen:
        """See :class:`SimulatedUser`."""
        _, _, shared, union, top, bottom, left, right, is_finite = self._read()[position]
        if not is_finite:
            finite_logits(self._logits[position])
        extent = Box(top, bottom, left, right) if bottom >= 0 else None
        return Seen(shared / union if union else 1.0, extent)

    def _react(self, numbers: Sequence[int], shown: Tensor, is_finite: Tensor) -> None:
        """Queue everything that is to be known of predictions B×H×W, the next clicks included."""
        is_object, counted, clicked = (self._of(numbers, maps) for maps in self._maps())
        predicted = shown > self._prediction_threshold
        wrong = torch.cat([is_object & ~predicted, ~is_object & predicted & counted])
        places, is_positive = _deepest(wrong, clicked)
        for number, place in zip(numbers, torch.split(places, 1), strict=True):
            self._clicked[number].view(-1).index_fill_(0, place, True)
        shared = (is_object & predicted).sum(dim=(1, 2))
        union = ((is_object | predicted) & counted).sum(dim=(1, 2))
        extent = _extent(shown > self._zoom_threshold)
        self._positions = {number: position for position, number in enumerate(numbers)}
        self._figures = None
        self._download = Download(torch.stack([places, is_positive.long(), shared, union, *extent, is_finite.long()]))

    def _maps(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._is_object, self._counted, self._clicked

    @staticmethod
    def _of(numbers: Sequence[int], maps: Tensor) -> Tensor:
        return maps if len(numbers) == len(maps) else torch.stack([maps[number] for number in numbers])

    def _read(self) -> list[list[int]]:
        """For each prediction shown last: place and sign of the next click, overlap and union, extent, finiteness."""
        if self._figures is None:
            self._figures = self._download.read().T.tolist()
        return self._figures


def _deepest(wrong: Tensor, clicked: Tensor) -> tuple[Tensor, Tensor]:
    """Where the next clicks go; see :func:`vfm_isbench.clicks.next_click`.

    Args:
        wrong: 2·B×H×W booleans: the false negatives of all objects, then their false positives.
        clicked: B×H×W booleans, True where a click was already placed.

    Returns:
        B indices into the flattened map, and B booleans, True for positive clicks.
    """
    depth = squared_inner_distance(wrong).masked_fill(torch.cat([clicked, clicked]), 0).flatten(1)
    missed, marked = depth.chunk(2)
    most_missed, most_marked = depth.amax(dim=1).chunk(2)
    is_positive = most_missed > most_marked
    depth = torch.where(is_positive[:, None], missed, marked)
    # The first of equally deep pixels; argmax promises none.
    places = torch.arange(depth.shape[1], device=depth.device)
    is_deepest = depth == depth.amax(dim=1, keepdim=True)
    return torch.where(is_deepest, places, depth.shape[1]).amin(dim=1), is_positive


def _extent(masks: Tensor) -> list[Tensor]:
    """First and last row, first and last column of B×H×W masks, each B; the last ones are -1 in an empty mask."""
    found = []
    for along in (2, 1):
        is_used = masks.any(dim=along)
        places = torch.arange(is_used.shape[1], device=masks.device)
        found += [
            torch.where(is_used, places, is_used.shape[1]).amin(dim=1),
            torch.where(is_used, places, -1).amax(dim=1),
        ]
    return found
