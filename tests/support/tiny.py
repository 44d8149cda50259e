"""A protocol that runs end to end in seconds: everything is real, but small."""

from vfm_isbench import Protocol

TINY = Protocol.preset("paper").replace(
    name="tiny",
    backbone="efficientnet_lite0@16",
    image_size=64,
    simple_vit_depth=1,
    simple_vit_heads=2,
    simple_vit_head_width=16,
    simple_vit_hidden=32,
    train_dataset="scenes",
    validation_dataset="scenes",
    validation_samples=2,
    epochs=2,
    samples_per_epoch=4,
    batch_size=2,
    learning_rate=1e-3,
    test_datasets=("scenes",),
    max_clicks=3,
    object_limit=3,
)

_DEMO = Protocol.preset("demo")
TINY_DEMO = TINY.replace(
    name="demo",
    version=_DEMO.version,
    train_dataset=_DEMO.train_dataset,
    validation_dataset=_DEMO.validation_dataset,
    test_datasets=_DEMO.test_datasets,
)
"""Stands in for the demo, where a test runs commands of the documentation."""

UPSAMPLER = """import torch
from torch.nn import functional


class Upsampler(torch.nn.Module):
    def forward(self, features, image):
        return functional.interpolate(features, image.shape[-2:], mode="bilinear")
"""
"""The source of an upsampler, for a file of its own."""
