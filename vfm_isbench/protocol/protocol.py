"""Protocol: one frozen description of everything that changes a number, and of nothing else.

Speed settings (device, workers, folders) are not part of it: they must not change a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vfm_isbench.errors import ProtocolError, UnknownNameError
from vfm_isbench.protocol.clicker import clicks_label
from vfm_isbench.protocol.labels import head_label
from vfm_isbench.protocol.validation import GranularityUse, HeadName, Injection, check_protocol
from vfm_isbench.registry.registry import unknown_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vfm_isbench.protocol.fields import ProtocolFields

PROTOCOL_REVISION = 1
"""Increased when the code changes a number that no field describes; part of every fingerprint."""

NOT_IN_FINGERPRINT = ("name", "version", "seed", "test_datasets")
"""Fields that do not tell protocols apart."""

_ADDED_LATER: Mapping[str, Any] = {
    "featup_channel_norm": True, "shuffled": False, "version": 1, "schedule": "milestones", "average_decay": 0.0,
    "pyramid_width": 128, "clicker": "center",
    "train_upsampler": False, "train_backbone": False, "fine_tuning_rate": 0.1,
    "granularity": "none", "lora_rank": 8, "lora_alpha": 8.0, "granularity_at_test": None,
}  # fmt: skip
"""Fields that earlier versions lacked, with the value that describes what those versions did. Older results thus stay
readable and keep their fingerprint."""

PRESETS: dict[str, Protocol] = {}
"""Protocols by the name that users type, filled by :mod:`vfm_isbench.protocol.presets`. The newest version of a preset
has the plain name ("demo"), older ones have theirs ("demo@1")."""

HEADLINES: dict[tuple[str, int], str] = {}
"""Headline metric by name and version of a preset, where it is not the usual one; see :attr:`Protocol.headline`."""

USUAL_HEADLINE = "noc90"

_SHOWN = 6
"""Changed fields that a ``repr`` shows."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Protocol:
    """Exactly what is measured. Defaults are the paper's; numbers in parentheses are sections of ``docs/protocol.md``.

    Start from a preset with :meth:`preset`, change fields with :meth:`replace`.

    Attributes:
        name: Preset this protocol started from; a label only.
        version: Version of that preset; a label only.
        backbone: Name of the frozen vision foundation model (1.2), see ``vfm-isbench list backbones``.
        position_embedding: How to resize DINOv2's position grid (1.2): "official" as in its own code (bicubic, no
            antialiasing, 0.1 offset; register variants antialiased without offset), "timm" as timm does.
        image_size: Side H = W of the network input in pixels.
        click_encoder: "patch_embedding", "simple_vit", "distances", or the name of a plugin (1.4), see ``vfm-isbench
            list click_encoders``.
        simple_vit_depth: Blocks of SimpleViT (1.4); 0 leaves patches, positions and the last norm.
        simple_vit_heads: Attention heads of SimpleViT (1.4).
        simple_vit_head_width: Channels per head of SimpleViT (1.4).
        simple_vit_hidden: Hidden channels of SimpleViT's MLPs (1.4).
        injection: Where click tokens join the image features (1.5): "early" (after the patch embedding), "late" (after
            the upsampler), "pre_upsampler" (after the backbone).
        head: "conv", "linear", "pyramid", "upsampled_pyramid" or "upsampled_pyramid_full" (1.7).
        head_layers: 3×3 convolutions of the conv head (1.7).
        pyramid_width: Channels of the finest level of a pyramid (1.7).
        align_corners: Convention of every bilinear resize inside the benchmark (features, click tokens, logits, crops).
        featup_channel_norm: Whether FeatUp's JBU gets features normalised over channels (1.6), as in the training of
            its published weights ("reference" omits this, like the paper's code); other upsamplers ignore this field.
        disk_radius: Radius of click disks in pixels at network resolution (1.3).
        granularity: What learns from the granularity of a target (1.8): "none"; "input", the click tokens; "lora", also
            the backbone; "gated_lora", also a copy of the backbone that is added to the click tokens.
        lora_rank: Rank of the low-rank adapters in the attention of the backbone, or of its copy (1.8).
        lora_alpha: The adapters' output is multiplied by ``lora_alpha / lora_rank`` (1.8).
        train_dataset: Data set for training (2.1).
        validation_dataset: Data set for the validation after each epoch (2.6).
        validation_samples: Samples drawn for each validation (2.6); 0 turns validation off.
        epochs: Epochs of training (2.5).
        samples_per_epoch: Samples drawn per epoch (2.1); None means as many as the training set has images.
        batch_size: Samples per step (2.5).
        learning_rate: Adam's learning rate (2.5).
        adam_betas: Adam's β (2.5).
        adam_epsilon: Adam's ε (2.5).
        warmup_steps: Steps over which the learning rate rises linearly from zero (2.5); 0 in the paper.
        schedule: How the learning rate falls (2.5): "milestones" by ``decay`` at each of them, "cosine" from
            ``learning_rate`` to zero by half a cosine over all steps; ``milestones`` are empty then.
        milestones: Epochs after which the learning rate is multiplied by ``decay`` (2.5).
        decay: The factor applied at each milestone (2.5).
        average_decay: Decay of the exponential moving average of the trained weights (2.5), which validation and
            evaluation then use instead of the last weights; 0 turns it off.
        train_upsampler: Train a copy of the upsampler with click encoder and head (2.7), instead of freezing it.
        train_backbone: The same for the backbone.
        fine_tuning_rate: Learning rate of upsampler and backbone if they are trained, as a share of ``learning_rate``.
        sample_weights: "ritm" draws training images by RITM's score file, "uniform" evenly (2.1). If the file is
            missing, a run warns, and its result says "uniform".
        shuffled: With "uniform": whether every image appears once before any appears again, as in the reference code;
            otherwise each is drawn independently (2.1).
        sample_weight_gamma: Exponent on (1 − score) (2.1).
        min_fill_ratio: SBD instances below this area / bounding-box area are dropped as broken (2.1).
        min_object_area: Instances with fewer pixels after augmentation are dropped (2.1).
        background_probability: Probability that a crop without any object is kept instead of redrawn (2.1).
        merge_probability: Probability that the target is the union of two instances (2.1).
        resize_range: Range of the uniform resize factor (2.2).
        resize_to_fit: Raise the factor if needed so that the crop fits into the resized image (2.2).
        flip: Flips drawn (2.2): "any" (horizontal, vertical, both), "horizontal", "none".
        flip_probability: Probability of a flip (2.2).
        rotate90_probability: Probability of a rotation by a random multiple of 90° (2.2).
        affine_probability: Probability of a small shift and rotation (2.2).
        shift_limit: Largest shift, as a share of the side (2.2).
        rotate_limit: Largest rotation in degrees (2.2).
        brightness_contrast_probability: Probability of a change of brightness and contrast (2.2).
        brightness_limit: Largest brightness change, as a share of 255 (2.2).
        contrast_limit: Range of the contrast change (2.2).
        rgb_shift_probability: Probability of a shift per colour channel (2.2).
        rgb_shift_limit: Largest such shift, in levels of 255 (2.2).
        max_first_clicks: Maximum number of first clicks of each sign (2.3).
        first_click_decay: The number of clicks k has probability ∝ decay^k (2.3).
        erode_probability: Probability that positive first clicks keep away from the object's border (2.3).
        erode_iterations: Number of 3×3 erosions in that case (2.3).
        negative_shares: Shares of negative first clicks anywhere outside, on other objects, in the border band (2.3).
        border_ratio: Width of the border band relative to √area (2.3).
        max_iterative_clicks: The number of iterative clicks per step is uniform in 0 … this number (2.4).
        training_threshold: Probability that separates object from background for iterative clicks (2.4); 0.49 in RITM.
        loss_alpha: α of the normalised focal loss (2.5).
        loss_gamma: γ of the normalised focal loss (2.5).
        seed: Seed of the initial weights and of every random draw in training.
        test_datasets: Data sets to evaluate on.
        max_clicks: Clicks per object, the cap of NoC (3.6).
        clicker: Where the simulated user clicks (3.1): "center" as RITM, "random", "boundary", "clustered", "jitter:5",
            "worst_of:5", "best_of:5", "realistic", or a mixture such as "mix:center=0.5,random=0.5".
        flip_test: Average the logits with those of the mirrored crop (3.3).
        prediction_threshold: Probability above which a pixel is predicted as object (3.4).
        zoom_in: Crop around the object; False always uses the whole image (3.2).
        zoom_threshold: Probability above which a pixel counts for the crop (3.2).
        zoom_expansion: Enlargement of the box around its centre (3.2).
        zoom_min_size: Minimum side of the crop in image pixels (3.2).
        zoom_recompute_iou: The crop is replaced when its box IoU with the new box falls below this (3.2).
        granularity_at_test: The granularity that every object is evaluated with (1.8); None for the object's own.
        object_limit: Evaluate only the first objects of each data set; None means all. Such runs are never ranked.
    """

    name: str = "paper"
    version: int = 1
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
    pyramid_width: int = 128
    align_corners: bool = True
    featup_channel_norm: bool = True
    disk_radius: float = 5.0
    granularity: GranularityUse = "none"
    lora_rank: int = 8
    lora_alpha: float = 8.0
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
    schedule: Literal["milestones", "cosine"] = "milestones"
    milestones: tuple[int, ...] = (17,)
    decay: float = 0.1
    average_decay: float = 0.0
    train_upsampler: bool = False
    train_backbone: bool = False
    fine_tuning_rate: float = 0.1
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
    clicker: str = "center"
    flip_test: bool = True
    prediction_threshold: float = 0.5
    zoom_in: bool = True
    zoom_threshold: float = 0.5
    zoom_expansion: float = 1.4
    zoom_min_size: int = 200
    zoom_recompute_iou: float = 0.5
    granularity_at_test: float | None = None
    object_limit: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            usual = 0.0 if field.type == "float | None" else field.default
            object.__setattr__(self, field.name, _normal_form(getattr(self, field.name), usual))
        check_protocol(self)

    @classmethod
    def preset(cls, name: str) -> Protocol:
        """A named protocol: "paper", "paper-early", "reference", "lite", "quick" or "demo".

        A name alone means its newest version; "demo@1" means version 1.

        Raises:
            UnknownNameError: for any other name or version.
        """
        if name in PRESETS:
            return PRESETS[name]
        base, at, version = name.rpartition("@")
        versions = versions_of(base) if at else {}
        if not versions:
            raise unknown_name("protocol", name, list(PRESETS))
        if version not in map(str, versions):
            raise UnknownNameError(
                f"the protocol {base!r} has no version {version!r}. Known: "
                f"{', '.join(f'{base}@{one}' for one in versions)}; {base!r} alone is the newest."
            )
        return versions[int(version)]

    @classmethod
    def of(cls, given: Protocol | str) -> Protocol:
        """A protocol, or the preset of a name.

        Raises:
            UnknownNameError: for the name of no preset.
            ProtocolError: for anything else.
        """
        if isinstance(given, str):
            return cls.preset(given)
        if not isinstance(given, Protocol):
            raise ProtocolError(
                f"expected a protocol or the name of a preset, got {given!r} of type {type(given).__name__}; to change "
                "fields: Protocol.preset('demo').replace(epochs=1)"
            )
        return given

    def replace(self, **changes: Unpack[ProtocolFields]) -> Protocol:
        """A validated copy with some fields changed.

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
        """The inverse of :meth:`to_dict`; fields added since a file was written get the value its version used.

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

    def fingerprint(self, revision: int | None = None) -> str:
        """SHA-256 (hex) over every field that changes a score, and over the revision of the code's own rules.

        A field added in a later version counts only if it differs from what earlier versions did. The fingerprint
        leaves out ``name`` and ``version`` (labels), ``seed`` (seeds of one protocol belong together) and
        ``test_datasets`` (each score names its own data set).

        Args:
            revision: Revision of the rules, to recognise what another version of this library wrote; None for this
                version's.
        """
        revision = PROTOCOL_REVISION if revision is None else revision
        fields = {key: value for key, value in self.to_dict().items() if key not in NOT_IN_FINGERPRINT}
        fields = {key: value for key, value in fields.items() if key not in _ADDED_LATER or value != _ADDED_LATER[key]}
        text = json.dumps({"revision": revision, **fields}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def changed_fields(self) -> list[str]:
        """Fingerprint fields in which this protocol differs from the preset of its name and version."""
        base = versions_of(self.name).get(self.version)
        if base is None:
            return []
        mine, theirs = self.to_dict(), base.to_dict()
        return [key for key in mine if key not in NOT_IN_FINGERPRINT and mine[key] != theirs[key]]

    def __repr__(self) -> str:
        is_preset = bool(versions_of(self.name))
        base = versions_of(self.name).get(self.version, PRESETS.get("paper", self))
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name not in ("name", "version") and getattr(self, field.name) != getattr(base, field.name)
        ]
        if len(changed) > _SHOWN:
            changed[_SHOWN:] = [f"and {len(changed) - _SHOWN} more fields"]
        since = "changed" if is_preset else "changed from 'paper'"
        return f"<Protocol {self.label!r}{f', {since}: ' if changed else ''}{', '.join(changed)}>"

    @property
    def label(self) -> str:
        """The name, with the version if there are several: "paper", "demo@1"."""
        return f"{self.name}@{self.version}" if self.version > 1 or len(versions_of(self.name)) > 1 else self.name

    @property
    def is_outdated(self) -> bool:
        """Whether there is a newer version of the preset that this protocol is named after."""
        return self.version < max(versions_of(self.name), default=0)

    @property
    def trained_parts(self) -> tuple[str, ...]:
        """Which of "upsampler" and "backbone" are trained, instead of being frozen."""
        return tuple(part for part in ("upsampler", "backbone") if getattr(self, f"train_{part}"))

    @property
    def headline(self) -> str:
        """The metric that ranks results of this protocol and judges regressions, unless another one is asked for.

        It belongs to the preset of this name and version: one that is neither at the cap nor at its best for common
        upsamplers. For protocols of other names it is "noc90".
        """
        return HEADLINES.get((self.name, self.version), USUAL_HEADLINE)

    def signature(self, seeds: Sequence[int] | None = None) -> str:
        """One readable line that tells protocols apart, in the style of sacreBLEU.

        Args:
            seeds: Seeds to show when results of several are combined; None shows the protocol's own.

        >>> Protocol.preset("paper").signature()
        'bb:dinov2_vits14|enc:simple_vit|inj:late|head:conv2|px:224|clicks:ritm20|flip:yes|seed:0|proto:paper@1'
        """
        parts = [
            f"bb:{self.backbone}",
            f"enc:{self.click_encoder}",
            f"inj:{self.injection}",
            f"head:{head_label(self)}",
            f"px:{self.image_size}",
            f"clicks:{clicks_label(self.clicker, self.max_clicks)}",
            f"flip:{'yes' if self.flip_test else 'no'}",
            *([f"train:{'+'.join(self.trained_parts)}"] if self.trained_parts else []),
            *([] if self.granularity == "none" else [f"gran:{self._granularity_text()}"]),
            f"seed:{','.join(str(seed) for seed in ((self.seed,) if seeds is None else seeds))}",
            f"proto:{self.name}@{self.version}{'+changed' if self.changed_fields() else ''}",
        ]
        return "|".join(parts)

    def _granularity_text(self) -> str:
        lora = f"{self.lora_rank}" if "lora" in self.granularity else ""
        return f"{self.granularity}{lora}" + (f"@{self.granularity_at_test:g}" if self.granularity_at_test else "")


def versions_of(name: str) -> dict[int, Protocol]:
    """The presets of a name, by version, oldest first; empty if there are none."""
    found = {preset.version: preset for preset in PRESETS.values() if preset.name == name}
    return dict(sorted(found.items()))


def _normal_form(value: Any, default: Any) -> Any:
    """Turn lists into tuples, and whole numbers into floats if the default is a float: equal protocols look equal."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_normal_form(part, default[0]) for part in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
