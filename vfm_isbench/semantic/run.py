"""From an upsampler to the result of a semantic probe."""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from vfm_isbench.backbones import Backbone, identify_backbone, load_backbone
from vfm_isbench.errors import DataError
from vfm_isbench.probe.preparation import check_and_identify, choose_device, follow_protocol, require_fit
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.progress import RunProgress
from vfm_isbench.results.environment import describe_environment
from vfm_isbench.semantic.data import SemanticDataset, open_classes
from vfm_isbench.semantic.result import SemanticResult
from vfm_isbench.semantic.settings import SemanticSettings
from vfm_isbench.semantic.training import build_linear_probe, count_pixels, train_linear
from vfm_isbench.upsamplers import LoadOptions, Upsampler, load_upsampler, recorded_spec


@benchmark_settings()
def probe_semantic(
    upsampler: Upsampler | str,
    settings: SemanticSettings | str = "demo",
    *,
    name: str | None = None,
    identity: str | None = None,
    device: str | torch.device = "auto",
    data_root: str | Path | None = None,
    backbone_weights: str | Path | None = None,
    random_weights: bool = False,
    load_options: LoadOptions | None = None,
    progress: bool = True,
) -> SemanticResult:
    """Measure an upsampler by semantic segmentation: train a linear layer on frozen features, and count pixels.

    Backbone and upsampler are frozen, loaded and checked as for the benchmark. The only trained part is a 1×1
    convolution from the upsampled features to the classes.

    Args:
        upsampler: Callable (features B×C×h×w, image B×3×H×W) → features, or the name of an upsampler.
        settings: What to measure; the name of a protocol stands for its frozen features and its images.
        name: Name in tables; by default the upsampler's own.
        identity: Which upsampler it is, if its code, settings and weights cannot be hashed.
        device: "auto" for CUDA if available, else the CPU; or any PyTorch device.
        data_root: Where folders of images are looked for.
        backbone_weights: File or folder with the backbone's weights; None for the hub and its cache.
        random_weights: Give the backbone random weights, for a dry run whose scores mean nothing.
        load_options: How an upsampler given by name may be loaded.
        progress: Show on standard error what runs, with the time left.

    Raises:
        ContractError: if the upsampler does not keep its contract.
        UnknownNameError, DataError, WeightsError, ProtocolError: before any training, if a name, a folder or the
            weights are missing.
        UpsamplerError, NonFiniteError: if the upsampler fails later.

    Example:
        >>> from vfm_isbench.semantic import SemanticSettings, probe_semantic
        >>> probe_semantic("bilinear", SemanticSettings.of("demo", seed=1)).mean_iou  # doctest: +SKIP
    """
    chosen = SemanticSettings.of(settings) if isinstance(settings, str) else settings
    on, root = choose_device(device), None if data_root is None else Path(data_root)
    require_fit(upsampler, chosen.backbone)
    training, test = open_classes(chosen.train, "train", root), open_classes(chosen.test, "test", root)
    classes = _shared_classes(training, test)
    with settings_restored():
        loaded = load_upsampler(upsampler, load_options)
    with current_device(on):
        backbone = load_backbone(
            chosen.backbone,
            chosen.image_size,
            position_embedding=chosen.protocol().position_embedding,
            weights=None if backbone_weights is None else Path(backbone_weights),
            pretrained=not random_weights,
        ).to(on)
        loaded, protocol, remarks = follow_protocol(loaded, chosen.protocol())
        chosen = dataclasses.replace(chosen, featup_channel_norm=protocol.featup_channel_norm)
        checked = check_and_identify(loaded, protocol, backbone, on, identity)
        found = checked.identity if name is None else dataclasses.replace(checked.identity, name=name)
        probe = build_linear_probe(backbone, checked.upsampler, len(classes), chosen).to(on)
        began = time.perf_counter()
        with RunProgress(progress) as shown:
            losses = train_linear(probe, training, chosen, shown)
            images = count_pixels(probe, test, chosen, shown)
    spec = upsampler if isinstance(upsampler, str) else None
    return SemanticResult(
        settings=_as_recorded(chosen, training, test),
        upsampler={**dataclasses.asdict(found), **recorded_spec(spec)},
        backbone=_described(backbone),
        classes=classes,
        images=images,
        losses=losses,
        environment=describe_environment(on),
        seconds=time.perf_counter() - began,
        created=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        notes=(*remarks, *checked.notes),
    )


def _described(backbone: Backbone) -> dict[str, Any]:
    described = {"name": backbone.name, "channels": backbone.channels, "patch_size": backbone.patch_size}
    return described | identify_backbone(backbone) | ({"weights": "random"} if backbone.has_random_weights else {})


def _shared_classes(training: SemanticDataset, test: SemanticDataset) -> tuple[str, ...]:
    """The classes of both data sets. A test set may lack the last ones, but not have others."""
    names, others = tuple(training.class_names), tuple(test.class_names)
    if others != names[: len(others)]:
        raise DataError(
            f"the classes of {training.name} ({', '.join(names[:8])}, {len(names)} in all) are not those of "
            f"{test.name} ({', '.join(others[:8])}, {len(others)} in all); train and test on data sets "
            "with the same classes, and name them in classes.txt, one a line"
        )
    return names


def _as_recorded(settings: SemanticSettings, training: SemanticDataset, test: SemanticDataset) -> SemanticSettings:
    """The settings with the names of the data sets in place of paths, because results travel."""
    return dataclasses.replace(settings, train=training.name, test=test.name)
