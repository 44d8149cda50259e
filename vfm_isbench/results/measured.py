"""What results of several seeds say about the uncertainty of a benchmark, in numbers that can be stored."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from vfm_isbench.errors import ComparisonError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results.components import Components
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.results.sides import Pair, Side, why_apart
from vfm_isbench.types import Array

STORED = "components.json"
"""Components of committed leaderboard entries, written by ``benchmarks/recipes/components.py``."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of the parts of a run.

    Attributes:
        seconds_per_seed: Training.
        seconds_per_object: Evaluation: predictions and clicks of one object, by one trained probe.
    """

    seconds_per_seed: float
    seconds_per_object: float

    def seconds(self, objects: int, seeds: int) -> float:
        """Time of one upsampler: one training per seed, and one evaluation of every object by each."""
        return seeds * (self.seconds_per_seed + objects * self.seconds_per_object)


@dataclass(frozen=True)
class Measured:
    """Components of the difference between two upsamplers on one data set.

    Attributes:
        dataset: Data set.
        objects: Objects that were evaluated.
        images: Images that contain them.
        seeds: Training seeds: of the pair with the fewest.
        basis: Whose results these are.
        components: By score.
        cost: Time of the parts; None if the results lack it.
        remarks: Remarks for readers.
    """

    dataset: str
    objects: int
    images: int
    seeds: int
    basis: str
    components: Mapping[str, Components]
    cost: Cost | None = None
    remarks: tuple[str, ...] = field(default=())

    def images_freedom(self, objects: int) -> float:
        """Degrees of freedom of this many objects, in images with as many objects as measured."""
        return max(objects * self.images / self.objects - 1, 1.0)

    def heading(self) -> str:
        """One line."""
        return f"{self.dataset}: {self.objects} objects in {self.images} images · {self.seeds} seeds · {self.basis}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self) | {
            "components": {name: dataclasses.asdict(parts) for name, parts in self.components.items()},
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Measured:
        """The inverse of :meth:`to_dict`."""
        fields = {item.name: content[item.name] for item in dataclasses.fields(cls)}
        components = {name: Components(**parts) for name, parts in content["components"].items()}
        cost = None if content["cost"] is None else Cost(**content["cost"])
        return cls(**fields | {"components": components, "cost": cost, "remarks": tuple(content["remarks"])})


def measured_on(sides: Sequence[Side], dataset: str, metrics: Sequence[Metric]) -> Measured:
    """Estimate components from all pairs of upsamplers that have two seeds in common, else from single ones.

    Raises:
        ComparisonError: if no upsampler has two seeds.
    """
    there = [side for side in sides if all(dataset in run.datasets for run in side.results)]
    pairs = list(_pairs(there, dataset))
    if pairs:
        labels = dict.fromkeys(side.label for pair in pairs for side in (pair.first, pair.second))
        basis = f"differences of {', '.join(labels)}"
        tables = [{metric.name: _paired_scores(pair, metric) for metric in metrics} for pair in pairs]
        images, seeds, factor = pairs[0].images, min(len(pair.first.seeds) for pair in pairs), 1.0
        remarks: tuple[str, ...] = ()
    else:
        single = [side for side in there if len(side.seeds) > 1 and not why_apart(side, side, dataset)]
        if not single:
            raise ComparisonError(
                f"{dataset}: components need one upsampler with at least two training seeds, or better two upsamplers "
                "with the same seeds: run with --seed 0, --seed 1 and so on"
            )
        tables = [{metric.name: _own_scores(side, dataset, metric) for metric in metrics} for side in single[:1]]
        images = [object_id.image for object_id in single[0].results[0].datasets[dataset].object_ids]
        seeds, factor = len(single[0].seeds), 2.0
        basis = f"twice the variances of {single[0].label}"
        remarks = (
            f"{dataset}: components are those of one upsampler; that two upsamplers share nothing, so that the "
            "difference has sqrt(2) times the deviation, is an assumption. Objects are usually hard for both, so "
            "their part is then smaller",
        )
    components: dict[str, Components] = {}
    for metric in metrics:
        found = [Components.of(table[metric.name], images) for table in tables]
        known = [parts for parts in found if parts is not None]
        if known:
            components[metric.name] = Components.mean_of(known).times(factor)
    n_images = len(set(images))
    cost = _cost(there, dataset)
    return Measured(dataset, len(images), n_images, seeds, basis, components, cost, remarks)


def stored(protocol: Protocol) -> list[Measured]:
    """Components that are known for a protocol without results.

    Raises:
        ComparisonError: if there are none.
    """
    text = resources.files("vfm_isbench.results").joinpath(STORED).read_text(encoding="utf-8")
    content = json.loads(text)
    if protocol.fingerprint() not in content:
        names = ", ".join(sorted({one["protocol"] for one in content.values()}))
        raise ComparisonError(
            f"no components are stored for the protocol {protocol.label!r} ({protocol.fingerprint()[:12]}); there are "
            f"some for: {names or 'none'}. Give results instead, of one or better two upsamplers with at least two "
            "seeds: vfm-isbench power runs/bilinear-seed* runs/nearest-seed*"
        )
    return [Measured.from_dict(one) for one in content[protocol.fingerprint()]["measured"]]


def _pairs(sides: Sequence[Side], dataset: str) -> Iterator[Pair]:
    for first, second in itertools.combinations(sides, 2):
        if len(set(first.seeds) & set(second.seeds)) > 1 and not why_apart(first, second, dataset):
            yield Pair.of(first, second, dataset)


def _paired_scores(pair: Pair, metric: Metric) -> Array:
    first, second = pair.scores(metric)
    return second - first


def _own_scores(side: Side, dataset: str, metric: Metric) -> Array:
    return np.stack([object_scores(result.datasets[dataset], metric) for result in side.results])


def _cost(sides: Sequence[Side], dataset: str) -> Cost | None:
    """Means over all results; None if any lacks a time."""
    training, evaluation = [], []
    for result in (result for side in sides for result in side.results):
        parts = [result.timings.get(f"{part}.{dataset}") for part in ("predicting", "clicking")]
        if result.timings.get("training") is None or None in parts:
            return None
        training.append(result.timings["training"])
        evaluation.append(sum(part for part in parts if part is not None) / len(result.datasets[dataset].objects))
    return Cost(float(np.mean(training)), float(np.mean(evaluation)))
