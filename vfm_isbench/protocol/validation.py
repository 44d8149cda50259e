"""The ranges of a protocol's fields."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from vfm_isbench.errors import ProtocolError
from vfm_isbench.registry.registry import NAME_RULE, is_plain_name

Injection = Literal["early", "late", "pre_upsampler"]
ClickEncoderName = Literal["patch_embedding", "simple_vit"]
"""The built-in ones. A protocol may name others, of packages that need not be installed where a result is read."""
HeadName = Literal["conv", "linear"]


def check_protocol(protocol: Any) -> None:
    """Raise :class:`ProtocolError` for the first field of a protocol that is out of range.

    Args:
        protocol: A :class:`vfm_isbench.Protocol`, which is defined above this module and so cannot be named here.
    """

    def need(holds: bool, field: str, expected: str) -> None:
        if not holds:
            raise ProtocolError(f"protocol field {field} is {getattr(protocol, field)!r}; expected {expected}")

    def is_number(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    for field, choices in _CHOICES.items():
        need(getattr(protocol, field) in choices, field, f"one of {', '.join(choices)}")
    for field in ("align_corners", "featup_channel_norm", "shuffled", "flip_test", "zoom_in", "resize_to_fit"):
        need(isinstance(getattr(protocol, field), bool), field, "True or False")
    for field in ("name", "backbone", "train_dataset", "validation_dataset"):
        value = getattr(protocol, field)
        need(isinstance(value, str) and value != "", field, "a name")
    need(is_plain_name(protocol.click_encoder), "click_encoder", f"a name: {NAME_RULE}")
    for field, least in _WHOLE_NUMBERS.items():
        value = getattr(protocol, field)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        optional = field in ("samples_per_epoch", "object_limit")
        need(whole or (optional and value is None), field, f"a whole number, at least {least}")
    for field in _PROBABILITIES:
        value = getattr(protocol, field)
        need(is_number(value) and 0 <= value <= 1, field, "a number in [0, 1]")
    for field in _POSITIVE:
        value = getattr(protocol, field)
        need(is_number(value) and value > 0, field, "a number above 0")
    for field in _NOT_NEGATIVE:
        value = getattr(protocol, field)
        need(is_number(value) and value >= 0, field, "a number, 0 or more")
    for field, count in (("adam_betas", 2), ("resize_range", 2), ("contrast_limit", 2), ("negative_shares", 3)):
        value = getattr(protocol, field)
        need(isinstance(value, tuple) and len(value) == count and all(map(is_number, value)), field, f"{count} numbers")
    need(0 < protocol.resize_range[0] <= protocol.resize_range[1], "resize_range", "0 < low ≤ high")
    need(all(0 <= beta < 1 for beta in protocol.adam_betas), "adam_betas", "two numbers in [0, 1)")
    shares = protocol.negative_shares
    need(min(shares) >= 0 and math.isclose(sum(shares), 1), "negative_shares", "shares that add up to 1")
    need(protocol.contrast_limit[0] <= protocol.contrast_limit[1], "contrast_limit", "low ≤ high")
    milestones = protocol.milestones
    is_epochs = isinstance(milestones, tuple) and all(type(epoch) is int and epoch >= 0 for epoch in milestones)
    need(is_epochs, "milestones", "a tuple of epochs")
    datasets = protocol.test_datasets
    is_names = (
        isinstance(datasets, tuple) and len(datasets) > 0 and all(type(name) is str and name for name in datasets)
    )
    need(is_names and len(set(datasets)) == len(datasets), "test_datasets", "a tuple of distinct data-set names")


_CHOICES: dict[str, tuple[str, ...]] = {
    "position_embedding": ("official", "timm"),
    "injection": get_args(Injection),
    "head": get_args(HeadName),
    "flip": ("any", "horizontal", "none"),
    "sample_weights": ("ritm", "uniform"),
}
_WHOLE_NUMBERS = {
    "image_size": 16,
    "simple_vit_depth": 1,
    "simple_vit_heads": 1,
    "simple_vit_head_width": 1,
    "simple_vit_hidden": 1,
    "head_layers": 1,
    "validation_samples": 0,
    "epochs": 1,
    "samples_per_epoch": 1,
    "batch_size": 1,
    "warmup_steps": 0,
    "min_object_area": 0,
    "max_first_clicks": 1,
    "erode_iterations": 1,
    "max_iterative_clicks": 0,
    "seed": 0,
    "max_clicks": 1,
    "zoom_min_size": 1,
    "object_limit": 1,
}
_PROBABILITIES = (
    "min_fill_ratio",
    "background_probability",
    "merge_probability",
    "flip_probability",
    "rotate90_probability",
    "affine_probability",
    "brightness_contrast_probability",
    "rgb_shift_probability",
    "first_click_decay",
    "erode_probability",
    "training_threshold",
    "loss_alpha",
    "prediction_threshold",
    "zoom_threshold",
    "zoom_recompute_iou",
    "shift_limit",
    "brightness_limit",
)
_POSITIVE = ("disk_radius", "learning_rate", "adam_epsilon", "decay", "zoom_expansion")
_NOT_NEGATIVE = ("sample_weight_gamma", "rotate_limit", "rgb_shift_limit", "border_ratio", "loss_gamma")
