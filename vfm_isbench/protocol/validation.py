"""The permitted values of a protocol's fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vfm_isbench.errors import ProtocolError
from vfm_isbench.protocol.clicker import SYNTAX, why_no_clicker
from vfm_isbench.registry.registry import NAME_RULE, is_plain_name
from vfm_isbench.storage.printable import printable
from vfm_isbench.types import is_number

Injection = Literal["early", "late", "pre_upsampler"]
ClickEncoderName = Literal["patch_embedding", "simple_vit"]
"""The built-in click encoders. A protocol may name a plugin's, which need not be installed to read a result."""
HeadName = Literal["conv", "linear", "pyramid", "upsampled_pyramid", "upsampled_pyramid_full"]
GranularityUse = Literal["none", "input", "lora", "gated_lora"]

_MANY = 10**12
"""More of anything is a mistake, or a file that wants to use up the memory. The bounds below are far beyond what runs
need: a result or a checkpoint may come from a stranger, and is loaded before anybody looks at it."""
_LONGEST_NAME = 1000


def check_protocol(protocol: Any) -> None:
    """Raise :class:`ProtocolError` for the first field of a protocol that has an invalid value.

    Args:
        protocol: A :class:`vfm_isbench.Protocol`; not annotated as such, because that class imports this module.
    """
    for field, rule in RULES.items():
        value = getattr(protocol, field)
        if not rule.accepts(value):
            why = f": {rule.why(value)}" if rule.why else ""
            shown = printable(repr(value), 300)
            raise ProtocolError(f"protocol field {field} is {shown}; expected {rule.expected}{why}")
    if protocol.train_backbone and "lora" in protocol.granularity:
        raise ProtocolError(
            f"protocol field granularity is {protocol.granularity!r}, whose adapters need a frozen backbone, but "
            "train_backbone is True; expected granularity 'none' or 'input', or train_backbone False"
        )
    if protocol.schedule == "cosine" and protocol.milestones:
        raise ProtocolError(
            f"protocol field milestones is {protocol.milestones!r}; expected (), because the schedule 'cosine' has "
            "none (command line: --set milestones=[])"
        )
    if protocol.granularity == "none" and protocol.granularity_at_test is not None:
        raise ProtocolError(
            f"protocol field granularity_at_test is {protocol.granularity_at_test!r}; expected None, because "
            "granularity is 'none', so that the probe has no such input (command line: --set granularity=input)"
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """The values that a field accepts.

    Attributes:
        expected: These values in words, for error messages.
        accepts: Whether a value is one of them.
        why: Why a value is not one of them, for error messages; None if that needs no words.
    """

    expected: str
    accepts: Callable[[Any], bool]
    why: Callable[[Any], str] | None = None


def _one_of(choices: tuple[str, ...]) -> Rule:
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


def _whole(least: int, most: int = _MANY) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Rule(f"a whole number from {least} to {most}", accepts)


def _or_none(rule: Rule) -> Rule:
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.accepts(value))


def _number(expected: str, accepts: Callable[[float], bool]) -> Rule:
    return Rule(f"a number{expected}", lambda value: is_number(value) and accepts(value))


def _numbers(count: int, expected: str, accepts: Callable[[tuple[float, ...]], bool]) -> Rule:
    def accepts_tuple(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == count and all(map(is_number, value)) and accepts(value)

    return Rule(f"{count} numbers{expected}", accepts_tuple)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


_FLAG = Rule("True or False", lambda value: isinstance(value, bool))
_NAME = Rule(f"a name: visible characters, at most {_LONGEST_NAME}", _is_name)
_PROBABILITY = _number(" in [0, 1]", lambda value: 0 <= value <= 1)
_POSITIVE = _number(" above 0", lambda value: value > 0)
_NOT_NEGATIVE = _number(", 0 or more", lambda value: value >= 0)

RULES: dict[str, Rule] = {
    "name": _NAME,
    "version": _whole(1),
    "backbone": _NAME,
    "position_embedding": _one_of(("official", "timm")),
    "image_size": _whole(16, 4096),
    "click_encoder": Rule(f"a name: {NAME_RULE}", is_plain_name),
    "simple_vit_depth": _whole(0, 100),
    "simple_vit_heads": _whole(1, 256),
    "simple_vit_head_width": _whole(1, 4096),
    "simple_vit_hidden": _whole(1, 65_536),
    "injection": _one_of(get_args(Injection)),
    "head": _one_of(get_args(HeadName)),
    "head_layers": _whole(1, 100),
    "pyramid_width": _whole(1, 4096),
    "align_corners": _FLAG,
    "featup_channel_norm": _FLAG,
    "disk_radius": _number(" above 0, at most 1000", lambda value: 0 < value <= 1000),
    "granularity": _one_of(get_args(GranularityUse)),
    "lora_rank": _whole(1, 4096),
    "lora_alpha": _number(" above 0, at most 10000", lambda value: 0 < value <= 10_000),
    "train_dataset": _NAME,
    "validation_dataset": _NAME,
    "validation_samples": _whole(0, 10**7),
    "epochs": _whole(1, 100_000),
    "samples_per_epoch": _or_none(_whole(1, 10**8)),
    "batch_size": _whole(1, 65_536),
    "learning_rate": _POSITIVE,
    "adam_betas": _numbers(2, " in [0, 1)", lambda betas: all(0 <= beta < 1 for beta in betas)),
    "adam_epsilon": _POSITIVE,
    "warmup_steps": _whole(0),
    "schedule": _one_of(("milestones", "cosine")),
    "milestones": Rule(
        "a tuple of epochs",
        lambda epochs: (
            isinstance(epochs, tuple)
            and len(epochs) <= 1000
            and all(type(epoch) is int and 0 <= epoch <= _MANY for epoch in epochs)
        ),
    ),
    "decay": _POSITIVE,
    "average_decay": _number(" in [0, 1)", lambda value: 0 <= value < 1),
    "train_upsampler": _FLAG,
    "train_backbone": _FLAG,
    "fine_tuning_rate": _POSITIVE,
    "sample_weights": _one_of(("ritm", "uniform")),
    "shuffled": _FLAG,
    "sample_weight_gamma": _NOT_NEGATIVE,
    "min_fill_ratio": _PROBABILITY,
    "min_object_area": _whole(0),
    "background_probability": _PROBABILITY,
    "merge_probability": _PROBABILITY,
    "resize_range": _numbers(2, ", 0 < low ≤ high ≤ 100", lambda limits: 0 < limits[0] <= limits[1] <= 100),
    "resize_to_fit": _FLAG,
    "flip": _one_of(("any", "horizontal", "none")),
    "flip_probability": _PROBABILITY,
    "rotate90_probability": _PROBABILITY,
    "affine_probability": _PROBABILITY,
    "shift_limit": _PROBABILITY,
    "rotate_limit": _NOT_NEGATIVE,
    "brightness_contrast_probability": _PROBABILITY,
    "brightness_limit": _PROBABILITY,
    "contrast_limit": _numbers(2, ", low ≤ high", lambda limits: limits[0] <= limits[1]),
    "rgb_shift_probability": _PROBABILITY,
    "rgb_shift_limit": _NOT_NEGATIVE,
    "max_first_clicks": _whole(1, 1000),
    "first_click_decay": _PROBABILITY,
    "erode_probability": _PROBABILITY,
    "erode_iterations": _whole(1, 1000),
    "negative_shares": _numbers(
        3, ", shares that add up to 1", lambda shares: min(shares) >= 0 and math.isclose(sum(shares), 1)
    ),
    "border_ratio": _NOT_NEGATIVE,
    "max_iterative_clicks": _whole(0, 1000),
    "training_threshold": _PROBABILITY,
    "loss_alpha": _PROBABILITY,
    "loss_gamma": _NOT_NEGATIVE,
    "seed": _whole(0, 2**63 - 1),
    "test_datasets": Rule(
        "a tuple of distinct data-set names, at most 100",
        lambda names: isinstance(names, tuple) and all(map(_is_name, names)) and 0 < len(names) == len({*names}) <= 100,
    ),
    "max_clicks": _whole(1, 1000),
    "clicker": Rule(SYNTAX, lambda value: not why_no_clicker(value), why_no_clicker),
    "flip_test": _FLAG,
    "prediction_threshold": _PROBABILITY,
    "zoom_in": _FLAG,
    "zoom_threshold": _PROBABILITY,
    "zoom_expansion": _POSITIVE,
    "zoom_min_size": _whole(1),
    "zoom_recompute_iou": _PROBABILITY,
    "granularity_at_test": _or_none(_number(" in (0, 1]", lambda value: 0 < value <= 1)),
    "object_limit": _or_none(_whole(1)),
}
