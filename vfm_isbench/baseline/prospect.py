"""What a run would record today: everything in a result that can be known without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from vfm_isbench.backbones import input_normalisation
from vfm_isbench.benchmark import Benchmark
from vfm_isbench.datasets import open_dataset, open_training_data
from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.errors import DataError, VfmIsbenchError
from vfm_isbench.probe.behaviour import backbone_behaviour
from vfm_isbench.probe.preparation import check_and_identify, follow_protocol
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.results import DatasetResult, Result, describe_environment
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.types import ObjectEvidence
from vfm_isbench.upsamplers import LoadOptions, load_upsampler

T = TypeVar("T")


@dataclass(frozen=True)
class Prospect:
    """What a run would record today.

    Attributes:
        result: A result without clicks and scores: protocol, hashes and behaviour of backbone and upsampler, object ids
            and content of the test sets, versions, device. What could not be found out is as in the baseline, or None.
        unchecked: What could not be found out, and why.
    """

    result: Result
    unchecked: tuple[str, ...] = ()


def protocol_today(recorded: Protocol) -> Protocol:
    """The protocol that the same options would give today: the newest preset of its name, with the same changes.

    A protocol that is not named after a preset is described by its fields alone, and stays.
    """
    if recorded.name not in PRESETS:
        return recorded
    changes = {field: getattr(recorded, field) for field in recorded.changed_fields()}
    return Protocol.preset(recorded.name).replace(**changes, test_datasets=recorded.test_datasets)


@dataclass(frozen=True, slots=True)
class UpsamplerChoice:
    """The upsampler that would be run.

    Attributes:
        spec: Its name or place; None if unknown.
        load_options: How it may be loaded.
        identity: Which one it is, if it cannot be hashed.
    """

    spec: str | None = None
    load_options: LoadOptions | None = None
    identity: str | None = None


@benchmark_settings()
def prospect_of(baseline: Result, benchmark: Benchmark, upsampler: UpsamplerChoice) -> Prospect:
    """Find out what a run would record today, without training.

    Args:
        baseline: A result of the baseline, for what cannot be found out.
        benchmark: The benchmark that would be run, with its protocol, device and data.
        upsampler: The upsampler that would be run.
    """
    look = _Look(baseline, benchmark)
    with current_device(benchmark.device):
        backbone = look.backbone()
        described, protocol = look.upsampler(upsampler, look.protocol())
        datasets = {name: found for name in protocol.test_datasets if (found := look.dataset(name, protocol))}
    result = Result(
        protocol=protocol.replace(seed=baseline.protocol.seed),
        upsampler=described,
        backbone=backbone,
        datasets=datasets,
        # A file without a record of its training says nothing about the number of epochs.
        training=tuple({"epoch": epoch} for epoch in range(protocol.epochs)) if baseline.training else (),
        environment=describe_environment(benchmark.device),
        speed=benchmark.options.speed.to_record(),
    )
    return Prospect(result, tuple(look.unchecked))


class _Look:
    """Looks at what is here, and notes what is not."""

    def __init__(self, baseline: Result, benchmark: Benchmark) -> None:
        self.baseline = baseline
        self.benchmark = benchmark
        self.unchecked: list[str] = []

    def protocol(self) -> Protocol:
        """The benchmark's protocol, with what the training data decide."""
        protocol, data_root = self.benchmark.protocol, self.benchmark.data_root
        data = self._tried("the training data", DataError, lambda: open_training_data(protocol, data_root))
        weights = self.baseline.protocol.sample_weights if data is None else data.protocol.sample_weights
        return protocol.replace(sample_weights=weights)

    def backbone(self) -> dict[str, Any]:
        """The backbone as a result describes it."""
        protocol = self.benchmark.protocol
        backbone = self._tried("the backbone", VfmIsbenchError, lambda: self.benchmark.backbone)
        if backbone is None:
            return {"name": protocol.backbone}
        behaviour = backbone_behaviour(backbone, protocol.image_size, self.benchmark.device)
        identity = {"name": backbone.name, "sha256": weights_sha256(backbone), **input_normalisation(backbone)}
        return {**identity, "behaviour": behaviour}

    def upsampler(self, choice: UpsamplerChoice, protocol: Protocol) -> tuple[dict[str, Any], Protocol]:
        """The upsampler as a result describes it, and the protocol with what it decides."""
        unknown = {"name": self.baseline.upsampler.get("name")}
        undecided = protocol.replace(featup_channel_norm=self.baseline.protocol.featup_channel_norm)
        spec = choice.spec
        if spec is None:
            self.unchecked.append("the upsampler: the baseline does not say how to load it; give --upsampler")
            return unknown, undecided

        def identified() -> tuple[dict[str, Any], Protocol]:
            with settings_restored():  # importing an upsampler's code may run anything
                loaded = load_upsampler(spec, choice.load_options)
            loaded, decided, _ = follow_protocol(loaded, protocol)
            benchmark = self.benchmark
            found = check_and_identify(loaded, decided, benchmark.backbone, benchmark.device, choice.identity)
            sha256, behaviour = found.identity.sha256, found.behaviour["upsampler"]
            return {**unknown, "sha256": sha256, "behaviour": behaviour}, decided

        return self._tried(f"the upsampler {spec}", VfmIsbenchError, identified) or (unknown, undecided)

    def dataset(self, name: str, protocol: Protocol) -> DatasetResult | None:
        """Ids and content of a test set; as in the baseline if it is not here."""

        def read() -> DatasetResult:
            dataset = open_dataset(name, "test", self.benchmark.data_root, protocol)
            objects = dataset.objects[: protocol.object_limit]
            sha256 = content_sha256(dataset, objects, self.benchmark.options.progress)
            return DatasetResult(name, tuple(ObjectEvidence(one, (), ()) for one in objects), None, sha256)

        found = self._tried(f"data set {name}", DataError, read)
        if found is None and name in self.baseline.datasets:
            return dataclasses.replace(self.baseline.datasets[name], content_sha256=None)
        return found

    def _tried(self, what: str, errors: type[Exception], look: Callable[[], T]) -> T | None:
        try:
            return look()
        except errors as error:
            self.unchecked.append(f"{what}: {error}")
            return None
