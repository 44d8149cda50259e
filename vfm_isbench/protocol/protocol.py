"""Protocol: everything that changes a number, and only that, as one frozen description.

Speed settings (device, workers, folders) are not here: they must not change a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vfm_isbench.errors import ProtocolError
from vfm_isbench.protocol.validation import HeadName, Injection, check_protocol
from vfm_isbench.registry.registry import unknown_name

PROTOCOL_REVISION = 1
"""Raised when code changes a number that no field describes; part of every fingerprint."""

_NOT_IN_FINGERPRINT = ("name", "seed", "test_datasets")
_ADDED_LATER: Mapping[str, Any] = {"featup_channel_norm": True, "shuffled": False}
"""Fields that earlier versions did not have, with what those versions did: so older results stay readable, and
keep their fingerprint."""

PRESETS: dict[str, Protocol] = {}
"""Protocols by name, filled by :mod:`vfm_isbench.protocol.presets`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What is measured, exactly. Defaults are the paper's; section numbers refer to the documentation's protocol page.

    Change fields with :meth:`replace`, start from a named one with :meth:`preset`.

    Attributes:
        name: Preset this protocol started from; a label only.
        backbone: Name of the frozen vision foundation model, see ``vfm-isbench list backbones``.
        position_embedding: How DINOv2's position grid is resized: "official" as in its own code (bicubic, no
            antialiasing, 0.1 offset; register variants antialiased without offset), "timm" as timm does.
        image_size: Side H = W of the network input in pixels.
        click_encoder: "patch_embedding", "simple_vit", or one of another package, see ``vfm-isbench list
            click_encoders``.
        simple_vit_depth: Blocks of SimpleViT.
        simple_vit_heads: Attention heads of SimpleViT.
        simple_vit_head_width: Channels per head of SimpleViT.
        simple_vit_hidden: Hidden channels of SimpleViT's MLPs.
        injection: Where click tokens join the image features: "early" (after the patch embedding), "late" (after the
            upsampler), "pre_upsampler" (after the backbone).
        head: "conv" or "linear".
        head_layers: 3×3 convolutions of the conv head.
        align_corners: Convention of every bilinear resize inside the benchmark (features, click tokens, logits, crops).
        featup_channel_norm: Whether FeatUp's JBU gets features normalised over channels, as its published weights were
            trained ("reference" leaves it out, as the paper's code does); no other upsampler looks at this.
        disk_radius: Radius of click disks in pixels at network resolution.
        train_dataset: Data set trained on.
        validation_dataset: Data set of the validation after each epoch.
        validation_samples: Samples drawn for each validation; 0 leaves validation out.
        epochs: Epochs of training.
        samples_per_epoch: Samples drawn per epoch; None means as many as the training set has images.
        batch_size: Samples per step.
        learning_rate: Adam's learning rate.
        adam_betas: Adam's β.
        adam_epsilon: Adam's ε.
        warmup_steps: Steps over which the learning rate rises linearly from zero (0 in the paper).
        milestones: Epochs after which the learning rate is multiplied by ``decay``.
        decay: That factor.
        sample_weights: "ritm" draws training images by RITM's score file, "uniform" evenly. Where the file is missing,
            a run warns, and its result carries "uniform".
        shuffled: With "uniform": whether every image comes once before any comes again, as in the reference code;
            otherwise each is drawn independently.
        sample_weight_gamma: Exponent on (1 − score).
        min_fill_ratio: SBD instances below this area / bounding-box area are dropped as broken.
        min_object_area: Instances with fewer pixels after augmentation are dropped.
        background_probability: Probability that a crop without any object is kept instead of redrawn.
        merge_probability: Probability that the target is the union of two instances.
        resize_range: Range of the uniform resize factor.
        resize_to_fit: Raise the factor so that the resized image holds the crop.
        flip: Flips drawn: "any" (horizontal, vertical, both), "horizontal", "none".
        flip_probability: Probability of a flip.
        rotate90_probability: Probability of a rotation by a random multiple of 90°.
        affine_probability: Probability of a small shift and rotation.
        shift_limit: Largest shift, as a share of the side.
        rotate_limit: Largest rotation in degrees.
        brightness_contrast_probability: Probability of a change of brightness and contrast.
        brightness_limit: Largest brightness change, as a share of 255.
        contrast_limit: Range of the contrast change.
        rgb_shift_probability: Probability of a shift per colour channel.
        rgb_shift_limit: Largest such shift, in levels of 255.
        max_first_clicks: Most simulated first clicks of each sign.
        first_click_decay: Number of clicks k is drawn with p ∝ decay^k.
        erode_probability: Probability that positive first clicks keep away from the object's border.
        erode_iterations: Erosions by 3×3 in that case.
        negative_shares: Shares of negative first clicks anywhere outside, on other objects, in the border band.
        border_ratio: Width of the border band relative to √area.
        max_iterative_clicks: Iterative clicks per step are uniform in 0 … this number.
        training_threshold: Probability that separates object from ground for iterative clicks (RITM: 0.49).
        loss_alpha: α of the normalised focal loss.
        loss_gamma: γ of the normalised focal loss.
        seed: Seed of initial weights and of every random draw in training.
        test_datasets: Data sets evaluated.
        max_clicks: Clicks per object, the cap of NoC.
        flip_test: Average the logits with those of the mirrored crop.
        prediction_threshold: Probability above which a pixel is predicted as object.
        zoom_in: Crop around the object; False always sees the whole image.
        zoom_threshold: Probability above which a pixel counts for the crop.
        zoom_expansion: Enlargement of the box around its centre.
        zoom_min_size: Least side of the crop in image pixels.
        zoom_recompute_iou: The crop is replaced when its box IoU with the new box falls below this.
        object_limit: Evaluate only the first objects of each data set; None means all. Such runs are never ranked.
    """

    name: str = "paper"
    # model
    backbone: str = "dinov2_vits14"
    position_embedding: Literal["official", "timm"] = "official"
    image_size: int = 224
    click_encoder: str = "simple_vit"
    simple_vit_depth: int = 6
    simple_vit_heads: int = 8
    simple_vit_head_width: int = 64
    simple_vit_hidden: int = 2048
    injection: Injection = "late"
    head: HeadName = "conv"
    head_layers: int = 2
    align_corners: bool = True
    featup_channel_norm: bool = True
    disk_radius: float = 5.0
    # training
    train_dataset: str = "sbd"
    validation_dataset: str = "sbd"
    validation_samples: int = 500
    epochs: int = 20
    samples_per_epoch: int | None = None
    batch_size: int = 8
    learning_rate: float = 5e-5
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    warmup_steps: int = 0
    milestones: tuple[int, ...] = (17,)
    decay: float = 0.1
    sample_weights: Literal["ritm", "uniform"] = "ritm"
    shuffled: bool = False
    sample_weight_gamma: float = 1.25
    min_fill_ratio: float = 0.08
    min_object_area: int = 80
    background_probability: float = 0.01
    merge_probability: float = 0.15
    resize_range: tuple[float, float] = (0.75, 1.25)
    resize_to_fit: bool = False
    flip: Literal["any", "horizontal", "none"] = "any"
    flip_probability: float = 0.5
    rotate90_probability: float = 0.5
    affine_probability: float = 0.75
    shift_limit: float = 0.03
    rotate_limit: float = 3.0
    brightness_contrast_probability: float = 0.75
    brightness_limit: float = 0.25
    contrast_limit: tuple[float, float] = (-0.15, 0.4)
    rgb_shift_probability: float = 0.75
    rgb_shift_limit: float = 10.0
    max_first_clicks: int = 24
    first_click_decay: float = 0.8
    erode_probability: float = 0.9
    erode_iterations: int = 3
    negative_shares: tuple[float, float, float] = (0.1, 0.4, 0.5)
    border_ratio: float = 0.1
    max_iterative_clicks: int = 3
    training_threshold: float = 0.49
    loss_alpha: float = 0.5
    loss_gamma: float = 2.0
    seed: int = 0
    # evaluation
    test_datasets: tuple[str, ...] = ("grabcut", "berkeley", "davis", "sbd")
    max_clicks: int = 20
    flip_test: bool = True
    prediction_threshold: float = 0.5
    zoom_in: bool = True
    zoom_threshold: float = 0.5
    zoom_expansion: float = 1.4
    zoom_min_size: int = 200
    zoom_recompute_iou: float = 0.5
    object_limit: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _normal_form(getattr(self, field.name), field.default))
        check_protocol(self)

    @classmethod
    def preset(cls, name: str) -> Protocol:
        """A named protocol: "paper", "paper-early", "reference" or "demo".

        Raises:
            UnknownNameError: for any other name.
        """
        if name not in PRESETS:
            raise unknown_name("protocol", name, list(PRESETS))
        return PRESETS[name]

    def replace(self, **changes: Any) -> Protocol:
        """A copy with some fields changed, validated anew.

        Raises:
            ProtocolError: if a field does not exist or a value is out of range.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ProtocolError(str(unknown_name("protocol field", name, known)))
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready values."""
        return {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Protocol:
        """The inverse of :meth:`to_dict`.

        Raises:
            ProtocolError: if a field is unknown, missing or out of range.
        """
        fields = {**_ADDED_LATER, **fields}
        missing = [field.name for field in dataclasses.fields(cls) if field.name not in fields]
        if missing:
            raise ProtocolError(
                f"the protocol lacks the fields {', '.join(missing)}; it was written by another version"
            )
        return cls().replace(**fields)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over every field that changes a score, and over the revision of the code's own rules.

        A field added in a later version counts only where it differs from what earlier versions did. Left out are
        ``name`` (a label), ``seed`` (seeds of one protocol belong together) and ``test_datasets`` (each score names its
        own data set).
        """
        fields = {key: value for key, value in self.to_dict().items() if key not in _NOT_IN_FINGERPRINT}
        fields = {key: value for key, value in fields.items() if key not in _ADDED_LATER or value != _ADDED_LATER[key]}
        text = json.dumps({"revision": PROTOCOL_REVISION, **fields}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def changed_fields(self) -> list[str]:
        """Fields of the fingerprint in which this protocol differs from the preset it is named after."""
        base = PRESETS.get(self.name)
        if base is None:
            return []
        mine, theirs = self.to_dict(), base.to_dict()
        return [key for key in mine if key not in _NOT_IN_FINGERPRINT and mine[key] != theirs[key]]

    def signature(self, seeds: Sequence[int] | None = None) -> str:
        """One readable line, in the manner of sacreBLEU's, that tells protocols apart.

        Args:
            seeds: Seeds to name, where results of several stand together; None names the protocol's own.

        >>> Protocol.preset("paper").signature()
        'bb:dinov2_vits14|enc:simple_vit|inj:late|head:conv2|px:224|clicks:ritm20|flip:yes|seed:0|proto:paper@1'
        """
        head = f"{self.head}{self.head_layers if self.head == 'conv' else ''}"
        parts = [
            f"bb:{self.backbone}",
            f"enc:{self.click_encoder}",
            f"inj:{self.injection}",
            f"head:{head}",
            f"px:{self.image_size}",
            f"clicks:ritm{self.max_clicks}",
            f"flip:{'yes' if self.flip_test else 'no'}",
            f"seed:{','.join(str(seed) for seed in ((self.seed,) if seeds is None else seeds))}",
            f"proto:{self.name}@{PROTOCOL_REVISION}{'+changed' if self.changed_fields() else ''}",
        ]
        return "|".join(parts)


def _normal_form(value: Any, default: Any) -> Any:
    """Tuples for lists, floats for whole numbers where the default is such: equal protocols must be written alike."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_normal_form(part, default[0]) for part in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
