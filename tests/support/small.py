"""A protocol and probes around the fakes, for tests that train and evaluate in a second."""

from __future__ import annotations

from torch import nn

from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.evaluation import EvaluationTimes, evaluate_dataset
from vfm_isbench.evaluation.loop import Store
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.types import ObjectEvidence, ObjectId
from vfm_isbench.upsamplers import Bilinear, Upsampler

SMALL = Protocol.preset("paper").replace(
    name="small",
    backbone="fake",
    image_size=28,
    simple_vit_depth=1,
    simple_vit_heads=2,
    simple_vit_head_width=4,
    simple_vit_hidden=8,
    train_dataset="fake",
    validation_dataset="fake",
    validation_samples=3,
    epochs=3,
    milestones=(2,),
    samples_per_epoch=8,
    batch_size=4,
    learning_rate=1e-2,
    sample_weights="uniform",
    min_object_area=10,
    test_datasets=("fake",),
    max_clicks=4,
    zoom_min_size=20,
)


def small_probe(protocol: Protocol = SMALL, upsampler: Upsampler | None = None) -> Probe:
    """A new probe on a new fake backbone."""
    return build_probe(protocol, FakeBackbone(), Bilinear() if upsampler is None else upsampler)


class CallCounter:
    """Counts the forward calls of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        module.register_forward_hook(self._count)

    def _count(self, *_args: object) -> None:
        self.calls += 1


class MemoryStore:
    """Evidence in memory: what is there already, and what an evaluation adds."""

    def __init__(self, *done: ObjectEvidence) -> None:
        self.found = {evidence.object_id: evidence for evidence in done}
        self.kept: list[ObjectEvidence] = []

    def done(self, object_id: ObjectId, _image: str) -> ObjectEvidence | None:
        """Evidence that is there already, whatever the image."""
        return self.found.get(object_id)

    def append(self, evidence: ObjectEvidence, _image: str) -> None:
        """Keep more."""
        self.kept.append(evidence)


def evaluated(
    probe: Probe, dataset: ObjectDataset, protocol: Protocol, *, store: Store | None = None, speed: Speed | None = None
) -> tuple[list[ObjectEvidence], EvaluationTimes]:
    """Evidence and timings of an evaluation without a progress bar."""
    options = RunOptions(speed=speed or Speed(), progress=False)
    evaluation = evaluate_dataset(probe, dataset, protocol, store=store, options=options)
    return list(evaluation.evidence), evaluation.times
