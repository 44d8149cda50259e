"""The fields of a protocol as keyword arguments, so that editors complete them and type checkers know them."""

from __future__ import annotations

from typing import Literal, TypedDict

from vfm_isbench.protocol.validation import GranularityUse, HeadName, Injection


class ProtocolFields(TypedDict, total=False):
    """Keyword arguments of :meth:`vfm_isbench.Protocol.replace`: the fields of the protocol, all optional.

    A test keeps names and types equal to those of :class:`vfm_isbench.Protocol`, which describes them.
    """

    name: str
    version: int
    # model
    backbone: str
    position_embedding: Literal["official", "timm"]
    image_size: int
    click_encoder: str
    simple_vit_depth: int
    simple_vit_heads: int
    simple_vit_head_width: int
    simple_vit_hidden: int
    injection: Injection
    head: HeadName
    head_layers: int
    pyramid_width: int
    align_corners: bool
    featup_channel_norm: bool
    disk_radius: float
    granularity: GranularityUse
    lora_rank: int
    lora_alpha: float
    # training
    train_dataset: str
    validation_dataset: str
    validation_samples: int
    epochs: int
    samples_per_epoch: int | None
    batch_size: int
    learning_rate: float
    adam_betas: tuple[float, float]
    adam_epsilon: float
    warmup_steps: int
    schedule: Literal["milestones", "cosine"]
    milestones: tuple[int, ...]
    decay: float
    average_decay: float
    train_upsampler: bool
    train_backbone: bool
    fine_tuning_rate: float
    sample_weights: Literal["ritm", "uniform"]
    shuffled: bool
    sample_weight_gamma: float
    min_fill_ratio: float
    min_object_area: int
    background_probability: float
    merge_probability: float
    resize_range: tuple[float, float]
    resize_to_fit: bool
    flip: Literal["any", "horizontal", "none"]
    flip_probability: float
    rotate90_probability: float
    affine_probability: float
    shift_limit: float
    rotate_limit: float
    brightness_contrast_probability: float
    brightness_limit: float
    contrast_limit: tuple[float, float]
    rgb_shift_probability: float
    rgb_shift_limit: float
    max_first_clicks: int
    first_click_decay: float
    erode_probability: float
    erode_iterations: int
    negative_shares: tuple[float, float, float]
    border_ratio: float
    max_iterative_clicks: int
    training_threshold: float
    loss_alpha: float
    loss_gamma: float
    seed: int
    # evaluation
    test_datasets: tuple[str, ...]
    max_clicks: int
    clicker: str
    flip_test: bool
    prediction_threshold: float
    zoom_in: bool
    zoom_threshold: float
    zoom_expansion: float
    zoom_min_size: int
    zoom_recompute_iou: float
    granularity_at_test: float | None
    object_limit: int | None
