"""What a resolution costs: objects, seeds, and the time that both take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vfm_isbench.results.components import Aim, smallest_difference
from vfm_isbench.results.measured import Cost, Measured

MOST_OBJECTS = 1_000_000
MOST_SEEDS = 20


@dataclass(frozen=True, slots=True)
class Budget:
    """A number of seeds and objects, for one upsampler.

    Attributes:
        seeds: Training seeds.
        objects: Test objects.
        cost: Time of the parts; None if unknown.
    """

    seeds: int
    objects: int
    cost: Cost | None

    @property
    def seconds(self) -> float:
        """Time of one upsampler; infinite if unknown."""
        return float("inf") if self.cost is None else self.cost.seconds(self.objects, self.seeds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"seeds": self.seeds, "objects": self.objects, "seconds": None if self.cost is None else self.seconds}


def cheapest(budgets: Sequence[Budget]) -> Budget | None:
    """The budget that takes the least time; None if times are unknown or there is no budget."""
    known = [budget for budget in budgets if budget.cost is not None]
    return min(known, key=lambda budget: budget.seconds, default=None)


def objects_for(margin: float, found: Measured, metric: str, seeds: int, aim: Aim) -> int | None:
    """The fewest objects whose smallest difference is at most ``margin``; None if seeds alone make it larger."""
    components = found.components[metric]

    def is_enough(objects: int) -> bool:
        return smallest_difference(components, objects, seeds, aim, found.images_freedom(objects)) <= margin

    if not is_enough(MOST_OBJECTS):
        return None
    low, high = 2, MOST_OBJECTS
    while high > low + 1 and high > 1.002 * low:
        middle = int((low * high) ** 0.5) if high > 4 * low else (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
