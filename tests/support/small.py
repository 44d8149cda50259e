"""A protocol and probes around the fakes, for tests that train and evaluate in a second."""

from __future__ import annotations

from torch import nn

from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone
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
