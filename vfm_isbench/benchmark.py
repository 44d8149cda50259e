"""The benchmark: build the probe, train it, evaluate it, return a result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.backbones import Backbone, load_backbone
from vfm_isbench.click_encoders import check_click_encoder
from vfm_isbench.datasets import ObjectDataset, open_dataset, training_weights
from vfm_isbench.errors import RunError
from vfm_isbench.probe import Probe, build_probe, check_combination
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry.plugins import plugin_origins
from vfm_isbench.results import Result
from vfm_isbench.runs.measure import EvidenceOf, measure
from vfm_isbench.runs.run_folder import RunFolder
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.training import EpochRecord, TrainingSamples, train
from vfm_isbench.upsamplers import (
    ContractReport,
    FeatUpJBU,
    LoadOptions,
    Upsampler,
    UpsamplerIdentity,
    check_upsampler,
    find_module,
    follow_channel_norm,
    identity_of,
    prepare_upsampler,
)


@dataclass(frozen=True)
class TrainedProbe:
    """A probe with what a result must say about it.

    Attributes:
        probe: The network, in eval mode.
        upsampler: Identity of the upsampler.
        contract: Findings of the contract check.
        history: One record per epoch.
        training_seconds: Wall time of the training in this process.
        remarks: What else a reader of its numbers should know.
        plugins: Origins of the data sets that other packages added to the training.
    """

    probe: Probe
    upsampler: UpsamplerIdentity
    contract: ContractReport
    history: tuple[EpochRecord, ...]
    training_seconds: float
    remarks: tuple[str, ...] = ()
    plugins: tuple[Mapping[str, Any], ...] = ()


class Benchmark:
    """Measures upsamplers under one protocol.

    Args:
        protocol: A protocol, or the name of a preset.
        device: "auto" takes CUDA where there is one, else "cpu"; or any PyTorch device.
        data_root: Folder that holds the data sets' own folders (SBD, GrabCut, Berkeley, DAVIS); the embedded ``scenes``
            need none.
        output_dir: Folder for checkpoint, evidence and result. An interrupted run goes on there; None keeps nothing.
        backbone_weights: File or folder with the backbone's weights; None for the hub and its cache.
        workers: Processes that prepare training samples.
        progress: Show progress bars.
        overwrite: Replace another run found in ``output_dir``.
        load_options: How an upsampler given by name may be loaded: its weights, and whether foreign code may run.
        speed: How fast; see :class:`vfm_isbench.Speed`.

    Raises:
        UnknownNameError, DataError, WeightsError, ProtocolError: on the first use, before any training, if a name, a
            folder or the weights are missing.
    """

    def __init__(
        self,
        protocol: Protocol | str = "demo",
        *,
        device: str | torch.device = "auto",
        data_root: str | Path | None = None,
        output_dir: str | Path | None = None,
        backbone_weights: str | Path | None = None,
        workers: int = 0,
        progress: bool = True,
        overwrite: bool = False,
        load_options: LoadOptions | None = None,
        speed: Speed | None = None,
    ) -> None:
        self.protocol = Protocol.preset(protocol) if isinstance(protocol, str) else protocol
        self.device = choose_device(device)
        self.data_root = None if data_root is None else Path(data_root)
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.workers = workers
        self.progress = progress
        self.speed = speed or Speed()
        self._backbone_weights = None if backbone_weights is None else Path(backbone_weights)
        self._overwrite = overwrite
        self._load_options = load_options
        self._backbone: Backbone | None = None
        self._folder: RunFolder | None = None

    def run(self, upsampler: Upsampler | str, name: str | None = None) -> Result:
        """Train and evaluate: :meth:`train`, then :meth:`evaluate`.

        Args:
            upsampler: Callable (features B×C×h×w, image B×3×H×W) → features, or the name of one.
            name: What tables call it; by default its own name.
        """
        self.test_datasets()  # opened first, so that a missing test set is told before hours of training
        return self.evaluate(self.train(upsampler, name))

    def train(self, upsampler: Upsampler | str, name: str | None = None) -> TrainedProbe:
        """Check the upsampler, build the probe around it, and train click encoder and head.

        Raises:
            ContractError: if the upsampler does not keep its contract.
        """
        protocol = self.protocol
        check_click_encoder(protocol.click_encoder)
        backbone = self.backbone()
        check_combination(protocol, backbone)
        training_set = open_dataset(protocol.train_dataset, "train", self.data_root, protocol)
        weights, resolved = training_weights(training_set, protocol, self.data_root)
        protocol = protocol.replace(sample_weights=resolved)
        validation_set = open_dataset(protocol.validation_dataset, "validation", self.data_root, protocol)
        spec = upsampler if isinstance(upsampler, str) else None
        upsampler, protocol, remarks = follow_protocol(prepare_upsampler(upsampler, self._load_options), protocol)
        self.protocol = protocol
        identity = identity_of(upsampler)
        if name is not None:
            identity = dataclasses.replace(identity, name=name)
        contract = check_on_device(upsampler, protocol, backbone, self.device)
        probe = build_probe(protocol, backbone, upsampler).to(self.device)
        origins = plugin_origins(backbone, probe.click_encoder, training_set, validation_set)
        parts = {"backbone_sha256": weights_sha256(backbone), **({"plugins": origins} if origins else {})}
        folder = self._open_folder(identity, parts)
        start = folder.load_checkpoint() if folder else None
        began = time.perf_counter()
        history = train(
            probe,
            TrainingSamples(training_set, protocol, weights),
            TrainingSamples(validation_set, protocol, validation=True),
            start=start,
            keep=folder.save_checkpoint if folder else None,
            upsampler={**dataclasses.asdict(identity), "spec": spec},
            extra={**parts, "precision": self.speed.precision},
            workers=self.workers,
            speed=self.speed,
            progress=self.progress,
        )
        seconds = time.perf_counter() - began
        of_data = tuple(plugin_origins(training_set, validation_set))
        return TrainedProbe(probe, identity, contract, history, seconds, remarks, of_data)

    def evaluate(self, trained: TrainedProbe) -> Result:
        """Evaluate a trained probe click by click on the protocol's test sets."""
        result = measure(
            trained.probe,
            self.protocol,
            self.test_datasets(),
            upsampler={**dataclasses.asdict(trained.upsampler), **dataclasses.asdict(trained.contract)},
            evidence_of=self._evidence_of(trained),
            training=[dataclasses.asdict(record) for record in trained.history],
            timings={"training": trained.training_seconds},
            notes=(*trained.remarks, *trained.contract.warnings),
            plugins=trained.plugins,
            speed=self.speed,
            progress=self.progress,
        )
        if self._folder:
            result.save(self._folder.result_path(self.speed.label()))
        return result

    def backbone(self) -> Backbone:
        """The frozen backbone, loaded once."""
        if self._backbone is None:
            self._backbone = load_backbone(
                self.protocol.backbone,
                self.protocol.image_size,
                position_embedding=self.protocol.position_embedding,
                weights=self._backbone_weights,
            ).to(self.device)
        return self._backbone

    def test_datasets(self) -> list[ObjectDataset]:
        """The test sets, opened."""
        return [open_dataset(name, "test", self.data_root, self.protocol) for name in self.protocol.test_datasets]

    def _evidence_of(self, trained: TrainedProbe) -> EvidenceOf | None:
        if self._folder is None:
            return None
        folder, weights, label = self._folder, weights_sha256(trained.probe.trainable()), self.speed.label()
        return lambda dataset, content: folder.evidence(dataset, f"{weights} {content}", label)

    def _open_folder(self, upsampler: UpsamplerIdentity, parts: Mapping[str, Any]) -> RunFolder | None:
        if self.output_dir is None:
            return None
        belongs_to = {
            "protocol": self.protocol.to_dict(),
            "upsampler": dataclasses.asdict(upsampler),
            "precision": self.speed.precision,
            **parts,
        }
        self._folder = RunFolder(self.output_dir, belongs_to, overwrite=self._overwrite)
        return self._folder


def evaluate(upsampler: Upsampler | str, protocol: Protocol | str = "demo", **options: Any) -> Result:
    """Answer the question: how good is this upsampler?

    Args:
        upsampler: Callable (features B×C×h×w, ImageNet-normalised image B×3×H×W) → features B×C×H'×W', or a name.
        protocol: "demo" (embedded data, minutes on a laptop, not for the leaderboard), "paper", …, or a
            :class:`vfm_isbench.Protocol`.
        options: Passed on to :class:`Benchmark`: ``device``, ``data_root``, ``output_dir``, …

    Returns:
        The result; ``print`` it for the standard table.
    """
    return Benchmark(protocol, **options).run(upsampler)


def follow_protocol(upsampler: Upsampler, protocol: Protocol) -> tuple[Upsampler, Protocol, tuple[str, ...]]:
    """Set what the protocol decides on an upsampler, and let the protocol say what its weights decide.

    That is FeatUp's channel norm: left out if ``featup_channel_norm`` is off; where the weights have none, the field is
    switched off, so that the fingerprint tells. Returns the upsampler, the protocol, and remarks for the result.
    """
    upsampler, remarks = follow_channel_norm(upsampler, protocol.featup_channel_norm)
    source = getattr(upsampler, "upsampler_source", None)
    if isinstance(source, Mapping):
        remarks += tuple(f"loading the upsampler warned: {text}" for text in source.get("warnings", ()))
    if isinstance(upsampler, FeatUpJBU):
        protocol = protocol.replace(featup_channel_norm=upsampler.channel_norm)
    return upsampler, protocol, remarks


def check_on_device(
    upsampler: Upsampler, protocol: Protocol, backbone: Backbone, device: torch.device
) -> ContractReport:
    """Move an upsampler to a device and check that it keeps the contract there.

    Raises:
        ContractError: if it does not.
    """
    module = find_module(upsampler)
    if module is not None:
        module.to(device)
    side = backbone.grid(protocol.image_size)
    return check_upsampler(
        upsampler,
        channels=backbone.channels,
        grid=(side, side),
        image_size=(protocol.image_size, protocol.image_size),
        device=device,
        needs_gradient=protocol.injection != "late",
    )


def choose_device(device: str | torch.device) -> torch.device:
    """The device for "auto", or the one named.

    Raises:
        RunError: if it does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return chosen
