"""Clicks that are tried with the network before one of them is placed: the worst or the best of several candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Generic, TypeVar
from typing import Protocol as Interface

from torch import Tensor

from vfm_isbench.evaluation.predictor import ObjectPredictor
from vfm_isbench.evaluation.simulated_user import UserOnCpu
from vfm_isbench.types import Click


class Clickable(Interface):
    """An object between its clicks."""

    @property
    def number(self) -> int:
        """What the user calls it."""

    @property
    def predictor(self) -> ObjectPredictor:
        """Predicts it."""

    @property
    def clicks(self) -> list[Click]:
        """Its clicks so far."""

    def at_click(self) -> AbstractContextManager[None]:
        """Names object and click in the errors of a block."""


T = TypeVar("T", bound=Clickable)


class Trials(Generic[T]):
    """Places the worst or the best of several candidate clicks, by the IoU that the network reaches after each.

    Args:
        user: Knows the candidates, and measures predictions.
        predict: Returns logits and probabilities of several objects after their clicks.
        worst: Whether to place the click after which IoU is lowest, rather than highest. Of equals, the first.
    """

    def __init__(
        self, user: UserOnCpu, predict: Callable[[Sequence[T]], tuple[list[Tensor], list[Tensor]]], *, worst: bool
    ) -> None:
        self._user = user
        self._predict = predict
        self._pick = min if worst else max

    def place_clicks(self, active: Sequence[T]) -> None:
        """Try the candidates of every object, and place one each."""
        candidates = {object_.number: self._user.candidates(object_.number) for object_ in active}
        ious: dict[int, list[float]] = {object_.number: [] for object_ in active}
        for turn in range(max(map(len, candidates.values()))):
            trying = [object_ for object_ in active if turn < len(candidates[object_.number])]
            for object_ in trying:
                object_.clicks.append(candidates[object_.number][turn])
            with ExitStack() as stack:
                for object_ in trying:
                    stack.enter_context(object_.predictor.trial())
                for object_, logits, probabilities in zip(trying, *self._predict(trying), strict=True):
                    with object_.at_click():
                        ious[object_.number].append(self._user.iou(object_.number, logits, probabilities))
            for object_ in trying:
                object_.clicks.pop()
        for object_ in active:
            measured = ious[object_.number]
            chosen = candidates[object_.number][measured.index(self._pick(measured))]
            self._user.place(object_.number, chosen)
            object_.clicks.append(chosen)
